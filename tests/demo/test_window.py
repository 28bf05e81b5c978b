"""The window, drawn without a terminal: it fits, it says what it should, and it moves."""

import io
import json
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from kkt_bridge.demo import window as colours
from kkt_bridge.demo.dashboard import Dashboard
from kkt_bridge.demo.screens import COLUMNS_MIN, ROWS_MIN, LineScreen, LiveScreen, save_svg
from kkt_bridge.demo.window import Window
from kkt_bridge.errors import KktBridgeError
from kkt_bridge.wire.examples import EXAMPLES
from kkt_bridge.wire.topics import Topics

TOPICS = Topics("kkt/v1", "store-017")
NOW = 1000.0


def put(dashboard, topic, message, now=NOW):
    dashboard.take(f"{TOPICS.branch}/{topic}", json.dumps(message, ensure_ascii=False).encode(), now)


def an_outage(terminals=5, registers=1, **buffer):
    """A shop in the middle of an outage."""
    dashboard = Dashboard(TOPICS)
    put(dashboard, "state/online", EXAMPLES["state-online"])
    put(dashboard, "state/health", EXAMPLES["state-health"])
    put(dashboard, "state/buffer", EXAMPLES["state-buffer"] | {"percent_full": 86.0, "pending": 172} | buffer)
    put(dashboard, "state/breaker", EXAMPLES["state-breaker"])
    put(dashboard, "state/sync", EXAMPLES["state-sync"])
    for number in range(1, registers + 1):
        put(dashboard, f"state/kkt/kkt-{number}", EXAMPLES["state-kkt"] | {"kkt": f"kkt-{number}"})
    for number in range(1, terminals + 1):
        put(dashboard, f"pos/pos-{number}/receipt", EXAMPLES["receipt-request"])
        put(dashboard, f"pos/pos-{number}/reply", EXAMPLES["reply"])
    put(dashboard, "event/receipt", EXAMPLES["event-receipt"])
    dashboard.add_caption("The demo takes the OFD away")
    return dashboard


def window_on(dashboard):
    window = Window(dashboard, "5 POS → 1 register → OFD", NOW - 75)
    window.catch_up()
    return window


def drawn(window, width, height, now=NOW + 1):
    """The lines of a frame, and the frame as it goes to a terminal."""
    console = Console(
        file=io.StringIO(), record=True, width=width, height=height, force_terminal=True,
        color_system="truecolor", legacy_windows=False,
    )  # fmt: skip
    console.print(window.frame(width, height, now), end="")
    styled = console.export_text(styles=True, clear=False)
    return console.export_text().splitlines(), styled


def test_an_outage_at_80_by_24():
    lines, _ = drawn(window_on(an_outage()), 80, 24)
    assert len(lines) == 24
    assert all(len(line) == 80 for line in lines)
    text = "\n".join(lines)
    for words in (
        "kkt-bridge  store-017  ● degraded",
        "00:01:16",
        "pos-5 ● printed ФД 412   17 891.00 1293 ms".replace("17 891", "17\N{NO-BREAK SPACE}891"),
        "ФН 9999078900000001  ФД 412",
        "shift 12 open, paper ok",
        "ИТОГ               =17891.00",
        "172 of 200 wait for the OFD, first 260 s",
        "taken 126   on paper 126   at the OFD 120",
        "bridge ━━●╱   ●──  OFD OUTAGE   open, 38 s",
        "86 %",
        "The demo takes the OFD away",
    ):
        assert words in text, f"{words}\n{text}"


def test_wider_terminals_are_told_more():
    lines, _ = drawn(window_on(an_outage()), 120, 40)
    text = "\n".join(lines)
    assert "₽" in text
    assert "wait for the OFD, the first for 260 s" in text
    assert "breaker open, asks in 38 s" in text


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (10, 4), (40, 12), (79, 23), (80, 24), (100, 30), (200, 60), (300, 100)]
)
@pytest.mark.parametrize(("terminals", "registers"), [(0, 0), (1, 1), (64, 8)])
def test_any_shop_fits_into_any_terminal(width, height, terminals, registers):
    lines, _ = drawn(window_on(an_outage(terminals, registers)), width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


def test_terminals_that_do_not_fit_are_counted():
    lines, _ = drawn(window_on(an_outage(terminals=20)), 80, 24)
    assert "and 16 more" in "\n".join(lines)


def test_registers_stand_side_by_side_where_there_is_room():
    lines, _ = drawn(window_on(an_outage(registers=2)), 120, 30)
    assert "─ kkt-1 ─" in lines[1]
    assert "─ kkt-2 ─" in lines[1]


@pytest.mark.parametrize(
    ("percent", "colour"),
    [(0, colours.GOOD), (79.9, colours.GOOD), (80, colours.WARN), (90, colours.HIGH), (100, colours.BAD)],
)
def test_the_bar_is_coloured_by_the_thresholds(percent, colour):
    _, styled = drawn(window_on(an_outage(percent_full=percent)), 80, 24)
    rgb = ";".join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))
    assert f"\x1b[1;38;2;{rgb}m {int(percent):3} %" in styled


@pytest.mark.parametrize(
    ("state", "words"), [("closed", "━━●━━━━●━━  OFD online "), ("half_open", "━━●┄┄┄┄●──  OFD  ?  ")]
)
def test_the_breaker_is_drawn_as_the_switch_it_is(state, words):
    dashboard = an_outage()
    put(dashboard, "state/breaker", EXAMPLES["state-breaker"] | {"state": state, "next_probe_at": None})
    put(dashboard, "state/sync", EXAMPLES["state-sync"] | {"network": "online"})
    assert words in "\n".join(drawn(window_on(dashboard), 80, 24)[0])


def test_a_register_in_trouble_says_what_it_is():
    dashboard = an_outage()
    put(dashboard, "state/kkt/kkt-1", EXAMPLES["state-kkt"] | {"problem": "paper_out"})
    assert "paper_out" in "\n".join(drawn(window_on(dashboard), 80, 24)[0])


def test_before_anything_is_known_there_is_a_window_all_the_same():
    text = "\n".join(drawn(window_on(Dashboard(TOPICS)), 80, 24)[0])
    assert "● offline" in text
    assert "waiting for the first customer" in text
    assert "─ register ─" in text


def test_in_its_first_seconds_a_shop_is_starting_and_nothing_is_wrong():
    dashboard = Dashboard(TOPICS)
    put(dashboard, "state/online", EXAMPLES["state-online"])
    put(dashboard, "state/health", EXAMPLES["state-health"])
    put(dashboard, "state/kkt/kkt-1", EXAMPLES["state-kkt"] | {"problem": "not_yet_reached", "shift": None})
    nothing_yet = {"number": 0, "open": False, "opened_at": None}
    put(dashboard, "state/kkt/kkt-2", EXAMPLES["state-kkt"] | {"kkt": "kkt-2", "shift": nothing_yet})
    text = "\n".join(drawn(Window(dashboard, "", NOW), 160, 30)[0])
    assert "● starting" in text
    assert "no shift yet" in text
    for word in ("degraded", "not_yet_reached", "shift 0"):
        assert word not in text
    put(dashboard, "state/health", EXAMPLES["state-health"] | {"status": "healthy"})
    put(dashboard, "state/health", EXAMPLES["state-health"])
    assert "● degraded" in "\n".join(drawn(Window(dashboard, "", NOW), 160, 30)[0])


@pytest.mark.parametrize(("percent", "filled"), [(0, 0), (50, 18), (100, 36)])
def test_without_colours_the_empty_part_of_the_bar_is_blank(percent, filled):
    window = Window(an_outage(percent_full=percent), "", NOW, colours=False)
    window.catch_up()
    (bar,) = (
        line for line in drawn(window, 80, 24)[0] if line.rstrip().endswith(f"{percent} % │") or f"{percent} %" in line
    )
    assert abs(bar.count("━") - filled) <= 1


@pytest.mark.parametrize("registers", [1, 3])
def test_the_smallest_window_has_whole_frames(registers):
    lines, _ = drawn(window_on(an_outage(registers=registers)), COLUMNS_MIN, ROWS_MIN)
    assert [len(line) for line in lines] == [COLUMNS_MIN] * ROWS_MIN
    for corner, other in ("╭╮", "╰╯"):
        rows = [line for line in lines if line.startswith(corner)]
        assert len(rows) == 4
        assert all(line.endswith(other) for line in rows)


def test_a_window_that_is_too_small_says_how_large_it_must_be():
    console = Console(file=io.StringIO(), width=40, height=12, force_terminal=True)
    with LiveScreen(console, window_on(an_outage())) as screen:
        screen.show(an_outage(), NOW)
    assert "40×12" in console.file.getvalue()
    assert "60×20" in console.file.getvalue()
    assert "╭" not in console.file.getvalue()


def test_paper_and_bar_move_towards_what_is():
    window = Window(an_outage(terminals=1), "", NOW)
    texts = ["\n".join(drawn(window, 80, 24)[0]) for _ in range(40)]
    assert ["ПРИХОД" in texts[0], "СДАЧА" in texts[0], "СДАЧА" in texts[-1]] == [True, False, True]
    assert texts[-2] == texts[-1], "it comes to rest"


def test_the_window_is_saved_as_svg_that_needs_no_network(tmp_path):
    file = tmp_path / "demo.svg"
    save_svg(window_on(an_outage()).frame(100, 28, NOW), file, "kkt-bridge demo")
    text = file.read_text(encoding="utf-8")
    root = ET.fromstring(text)
    shown = " ".join(element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))
    shown = shown.replace("\N{NO-BREAK SPACE}", " ")
    assert "OFD OUTAGE" in shown
    assert "=17891.00" in shown
    assert text.count("http") == 1, "only the name of the SVG namespace"


def test_svg_escapes_what_others_wrote(tmp_path):
    dashboard = an_outage()
    dashboard.add_caption("<script> & co")
    save_svg(window_on(dashboard).frame(100, 28, NOW), tmp_path / "demo.svg", "<&>")
    root = ET.parse(tmp_path / "demo.svg")
    texts = [(element.text or "").replace("\N{NO-BREAK SPACE}", " ") for element in root.iter()]
    assert any("<script> & co" in text for text in texts)
    assert "<&>" in texts


def test_a_picture_that_cannot_be_saved_is_one_line(tmp_path):
    with pytest.raises(KktBridgeError, match=r"--screenshot: .* cannot be written: "):
        save_svg(window_on(an_outage()).frame(100, 28, NOW), tmp_path / "no" / "demo.svg", "")


def test_lines_tell_each_caption_once_and_the_counts_now_and_then():
    console = Console(file=io.StringIO(), width=40)
    dashboard = an_outage()
    with LineScreen(console) as screen:
        screen.show(dashboard, 0.0)
        screen.show(dashboard, 1e9)
        dashboard.add_caption("A caption that is longer than such a console is wide")
        screen.show(dashboard, 0.0)
        screen.show(dashboard, 0.0)
    lines = console.file.getvalue().splitlines()
    assert [line[10:] for line in lines] == [
        "The bridge is online",
        "The buffer is 80 % full",
        "The demo takes the OFD away",
        "on paper 126, at the OFD 120, waiting 172 (86 % full)",
        "A caption that is longer than such a console is wide",
    ]

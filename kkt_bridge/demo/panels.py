"""The parts of the window, each a function of the picture: tills, bridge, OFD, register, story."""

from itertools import islice
from math import ceil
from types import MappingProxyType
from typing import Any, Final

from rich import box
from rich.cells import cell_len
from rich.console import RenderableType
from rich.panel import Panel
from rich.text import Text

from kkt_bridge.demo import palette
from kkt_bridge.demo.paper import WIDTH as PAPER_WIDTH
from kkt_bridge.demo.picture import Picture, Register, Till
from kkt_bridge.demo.pulse import SLICE_S, Pulse

BARS: Final = " ▁▂▃▄▅▆▇"
BLINK_S: Final = 0.6
ROOMY: Final = 58
"""The width of a part from which on it speaks in whole sentences; a terminal of 80 columns leaves 42."""

PULSE_SCALE_PER_S: Final = 4.0
"""The least rate that fills a sparkline: a single receipt is no peak."""

_TILL_WORDS: Final = MappingProxyType(
    {
        "free": ("○ free", palette.QUIET),
        "asks": ("◔ asks", palette.INFO),
        "in line": ("◑ in line", palette.INFO),
        "printing": ("◕ prints", palette.INFO),
        "safe": ("◐ safe", palette.WARN),
        "printed": ("● printed", palette.GOOD),
        "rejected": ("✗ refused", palette.BAD),
    }
)
_BREAKER_ART: Final = MappingProxyType(
    {
        "closed": ("━━●━━━━●━━", "closed", palette.GOOD),
        "open": ("━━●╱   ●──", "open", palette.BAD),
        "half_open": ("━━●┄┄┄┄●──", "half open", palette.WARN),
    }
)


def panel(content: RenderableType, title: str, *, height: int | None = None, frame: str = palette.FRAME) -> Panel:
    """A part with its frame."""
    return Panel(
        content,
        title=Text(title, palette.TITLE),
        title_align="left",
        border_style=frame,
        box=box.ROUNDED,
        padding=(0, 1),
        height=height,
    )


def tills(picture: Picture, rows: int, width: int) -> Text:
    """The POS terminals, a line each; those that do not fit are counted."""
    known = sorted(picture.tills.items(), key=lambda item: (len(item[0]), item[0]))
    shown = known if len(known) <= rows else known[: rows - 1]
    name_width = max((len(pos) for pos, _ in shown), default=0) + (3 if width >= ROOMY else 1)
    lines = [_till_line(pos, till, name_width, width) for pos, till in shown]
    if len(shown) < len(known):
        lines.append(Text(f"and {len(known) - len(shown)} more", palette.QUIET))
    return _stack(lines) if lines else Text("waiting for the first customer", palette.QUIET)


def _till_line(pos: str, till: Till, name_width: int, width: int) -> Text:
    word, colour = _TILL_WORDS[till.state]
    line = Text.assemble((f"{pos:<{name_width}}", palette.TEXT), (f"{word:<{12 if width >= ROOMY else 10}}", colour))
    if till.state == "rejected":
        return line.append(till.error, palette.BAD)
    if till.fd_number is not None:
        line.append(f"ФД {till.fd_number:<4}", palette.QUIET)
        amount = roubles(till.total) + (" ₽" if width >= ROOMY else "")
        line.append(f"{amount:>{max(0, width - cell_len(line.plain) - 8)}}", palette.TEXT)
        line.append(f"{_duration(till.latency_ms):>8}", palette.QUIET)
    return line


def buffer(picture: Picture, shown_percent: float, width: int, *, colours: bool) -> Text:
    """The buffer as a bar, and what became of all receipts; without colours the bar's empty part is blank."""
    colour = palette.fill_colour(picture.fill_percent)
    # Cut, not rounded: number and colour are to say the same.
    count = f" {int(picture.fill_percent):3} %"
    bar = _bar(shown_percent, width - len(count), colour, "━" if colours else " ").append(count, f"bold {colour}")
    waiting = Text.assemble(
        (str(picture.buffer("pending")), f"bold {colour}"),
        (f" of {picture.buffer('capacity')} wait for the OFD", palette.TEXT),
    )
    if (seconds := picture.oldest_waits_s()) >= 1:
        words = "the first for" if width >= ROOMY else "first"
        waiting.append(f", {words} {seconds:.0f} s", palette.QUIET)
    return _stack([bar, waiting, _books(picture)])


def _books(picture: Picture) -> Text:
    delivered = picture.buffer("synced")
    on_paper = picture.buffer("printed") + delivered
    taken = on_paper + picture.buffer("buffered") + picture.buffer("printing")
    return Text.assemble(
        ("taken ", palette.QUIET), (f"{taken:<5}", palette.TEXT),
        (" on paper ", palette.QUIET), (f"{on_paper:<5}", palette.GOOD),
        (" at the OFD ", palette.QUIET), (f"{delivered:<5}", palette.INFO),
    )  # fmt: skip


def _bar(percent: float, width: int, colour: str, empty: str) -> Text:
    cells = min(1.0, max(0.0, percent / 100)) * width
    full = int(cells)
    bar = Text("━" * full, colour)
    for limit, track in palette.TRACK:
        bar.append(empty * (round(width * limit / 100) - len(bar.plain)), track)
    return bar


def ofd(picture: Picture, now: float, width: int) -> Text:
    """The way to the OFD with its breaker, and the two streams: onto paper, and on to the OFD."""
    art, state, colour = _BREAKER_ART[picture.breaker]
    words = f"breaker {state}" if width >= ROOMY else state
    if (probe := picture.seconds_to_probe(now)) is not None:
        words += f", asks in {probe:.0f} s" if width >= ROOMY else f", {probe:.0f} s"
    line = Text.assemble(("bridge ", palette.TEXT), (art, colour), " ", _link(picture, now), (f"  {words}", colour))
    cells = max(0, width - 15)
    # The paper sets the scale: what was saved up for the OFD goes out in a burst that would flatten all the rest.
    scale = max(PULSE_SCALE_PER_S * SLICE_S, *picture.printed.latest(max(1, cells), now))
    paper = _stream("paper", picture.printed, now, cells, scale, palette.GOOD)
    return _stack([line, paper, _stream("OFD", picture.delivered, now, cells, scale, palette.INFO)])


def _link(picture: Picture, now: float) -> Text:
    if picture.network == "online" and picture.breaker == "closed":
        return Text(" OFD online ", palette.CALM)
    if picture.breaker == "half_open":
        return Text(" OFD  ?  ", palette.UNSURE)
    blink = int(now / BLINK_S) % 2
    return Text(" OFD OUTAGE ", palette.ALARM_FADED if blink else palette.ALARM)


def _stream(name: str, pulse: Pulse, now: float, cells: int, scale: float, colour: str) -> Text:
    top = len(BARS) - 1
    line = "".join(BARS[min(top, ceil(count * top / scale))] for count in pulse.latest(cells, now))
    rate = f"{pulse.per_second(now):6.1f}/s"
    return Text.assemble((f"{name:<6}", palette.QUIET), (line, colour), (rate, palette.TEXT))


def register(view: Register, shown_lines: int, height: int) -> Text:
    """A register: what it says of itself, and its paper, the newest line at the slot."""
    head = [
        Text.assemble(
            (f"ФН {view.state.get('fn_number') or '…'}", palette.QUIET), (f"  ФД {view.fd_number or '…'}", palette.TEXT)
        ),
        _condition(view.state),
    ]
    rows = max(1, height - len(head) - 1)
    unseen = view.lines_printed - shown_lines
    seen = list(islice(reversed(view.paper), unseen, unseen + rows))[::-1]
    blank = [Text(" " * (PAPER_WIDTH + 2), palette.PAPER)] * (rows - len(seen))
    paper = [Text(f" {line.text:<{PAPER_WIDTH}} ", palette.INK[line.ink]) for line in seen]
    return _stack([*head, *blank, *paper, Text("▄" * (PAPER_WIDTH + 2), palette.SLOT)])


def _condition(state: dict[str, Any]) -> Text:
    problem, shift = state.get("problem"), state.get("shift")
    if problem == "not_yet_reached" or (shift is None and problem is None):
        return Text("starting", palette.QUIET)
    if problem or shift is None:
        return Text(problem or "no shift known", palette.BAD)
    if not shift["number"]:
        return Text("no shift yet", palette.QUIET)
    return Text(
        f"shift {shift['number']} {'open' if shift['open'] else 'closed'}, paper {state['paper']}", palette.GOOD
    )


def story(picture: Picture, rows: int) -> Text:
    """The last captions, the newest last and brightest."""
    last = list(picture.captions)[-rows:]
    lines = []
    for age, caption in enumerate(reversed(last)):
        colour = palette.MOODS[caption.mood]
        words = Text(f"{caption.at}  ", palette.QUIET)
        words.append(caption.text, f"bold {colour}" if age == 0 else colour if age < 3 else palette.QUIET)
        words.no_wrap = True
        lines.append(words)
    return _stack(lines[::-1])


def roubles(amount: str) -> str:
    """`12 990.00`, from the contract's `12990.00`."""
    if not amount:
        return ""
    whole, _, kopecks = amount.partition(".")
    return f"{int(whole):,}".replace(",", "\N{NO-BREAK SPACE}") + f".{kopecks}"


def _duration(ms: float | None) -> str:
    if ms is None:
        return ""
    return f"{ms:.0f} ms" if ms < 10_000 else f"{ms / 1000:.0f} s"


def _stack(lines: list[Text]) -> Text:
    stacked = Text("\n", no_wrap=True, overflow="crop", end="").join(lines)
    stacked.no_wrap, stacked.overflow = True, "crop"
    return stacked

"""The window that one watches the demo through: the dashboard laid out for a terminal of 80 x 24 and more."""

from datetime import timedelta
from itertools import islice
from math import ceil
from types import MappingProxyType
from typing import Any, Final

from rich import box
from rich.cells import cell_len
from rich.console import RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.text import Text

from kkt_bridge.demo.dashboard import SLICE_S, Dashboard, PosTerminal, Rate, Register
from kkt_bridge.demo.paper import WIDTH as PAPER_WIDTH

# -- colours by meaning ------------------------------------------------------------

GOOD: Final = "#7ee787"
WARN: Final = "#f2cc60"
HIGH: Final = "#ffa657"
BAD: Final = "#ff7b72"
INFO: Final = "#79c0ff"
QUIET: Final = "#8b949e"
FRAME: Final = "#3d444d"
TITLE: Final = "bold #d2a8ff"
TEXT: Final = "#e6edf3"

HEADER: Final = "on #21262d"
HEALTH: Final = MappingProxyType(
    {"starting": QUIET, "healthy": GOOD, "degraded": WARN, "unhealthy": BAD, "offline": BAD}
)
ALARM: Final = "bold #ffffff on #b62324"
ALARM_FADED: Final = "bold #ffffff on #7d1a1b"
CALM: Final = "bold #04260f on #56d364"
UNSURE: Final = "bold #341a00 on #e3b341"

PAPER: Final = "on #f4efe1"
INK: Final = MappingProxyType(
    {"plain": "#2b2b2b on #f4efe1", "bold": "bold #111111 on #f4efe1", "faint": "#8a8068 on #f4efe1"}
)
SLOT: Final = "#21262d on #f4efe1"

MOODS: Final = MappingProxyType({"plain": TEXT, "good": GOOD, "warn": WARN, "bad": BAD, "story": INFO})

TRACK: Final = ((80, FRAME), (90, "#6b5a24"), (100, "#7a4a1e"))
"""The empty part of the bar, up to these percents: where it will be yellow and orange can be seen beforehand."""

# -- sizes and signs ------------------------------------------------------------

REGISTER_WIDTH: Final = PAPER_WIDTH + 6
REGISTER_HEIGHT: Final = 8
"""Below this a register's paper shows nothing worth it."""

LEFT_WIDTH: Final = 46
STORY_ROWS: Final = 4
STORY_ROWS_MAX: Final = 8
BUFFER_HEIGHT: Final = 5
OFD_HEIGHT: Final = 5
STARTING_S: Final = 15.0
"""After so long a bridge that has not been well yet is no longer said to be starting."""

EASE: Final = 0.35
"""The part of the way to the new fill that the bar goes in one frame."""

BARS: Final = " ▁▂▃▄▅▆▇"
BLINK_S: Final = 0.6
ROOMY: Final = 58
"""The width of a part from which on it speaks in whole sentences; a terminal of 80 columns leaves 42."""

SCALE_PER_S: Final = 4.0
"""The least rate that fills a sparkline: a single receipt is no peak."""

_POS_WORDS: Final = MappingProxyType(
    {
        "free": ("○ free", QUIET),
        "asks": ("◔ asks", INFO),
        "in line": ("◑ in line", INFO),
        "printing": ("◕ prints", INFO),
        "safe": ("◐ safe", WARN),
        "printed": ("● printed", GOOD),
        "rejected": ("✗ refused", BAD),
    }
)
_BREAKER_ART: Final = MappingProxyType(
    {
        "closed": ("━━●━━━━●━━", "closed", GOOD),
        "open": ("━━●╱   ●──", "open", BAD),
        "half_open": ("━━●┄┄┄┄●──", "half open", WARN),
    }
)


class Window:
    """Frames, one after the other; between them it remembers only the parts that move smoothly."""

    def __init__(self, dashboard: Dashboard, title: str, began: float, *, colours: bool = True) -> None:
        self._dashboard = dashboard
        self._colours = colours
        self._title = title
        self._began = began
        self._shown_percent = 0.0
        self._shown_lines: dict[str, int] = {}

    def catch_up(self) -> None:
        """Show the dashboard as it is at once, without the motion that leads there."""
        self._shown_percent = self._dashboard.fill_percent
        self._shown_lines = {kkt: view.lines_printed for kkt, view in self._dashboard.registers.items()}

    def frame(self, width: int, height: int, now: float) -> Layout:
        """Return the next frame; `now` is the monotonic clock."""
        self._move()
        story_rows = max(STORY_ROWS, min(STORY_ROWS_MAX, height - 20))
        body = max(1, height - 1 - story_rows - 2)
        across = min(len(self._dashboard.registers) or 1, max(0, (width - LEFT_WIDTH) // REGISTER_WIDTH))
        left = Layout()
        self._lay_left(left, width - across * REGISTER_WIDTH - 4, body, now)
        right = Layout(size=across * REGISTER_WIDTH, visible=across > 0)
        self._lay_registers(right, max(1, across), body)
        layout, middle = Layout(), Layout(size=body)
        middle.split_row(left, right)
        layout.split_column(
            Layout(self._header(width, now - self._began), size=1),
            middle,
            Layout(_panel(_captions(self._dashboard, story_rows), "what happens")),
        )
        return layout

    def _lay_left(self, place: Layout, width: int, height: int, now: float) -> None:
        dashboard = self._dashboard
        rows = max(1, height - BUFFER_HEIGHT - OFD_HEIGHT - 2)
        frame = FRAME if dashboard.breaker == "closed" else BAD
        place.split_column(
            Layout(_panel(_terminals(dashboard, rows, width), "POS terminals")),
            Layout(
                _panel(_buffer(dashboard, self._shown_percent, width, colours=self._colours), "the bridge's buffer"),
                size=BUFFER_HEIGHT,
            ),
            Layout(_panel(_ofd(dashboard, now, width), "the way to the OFD", frame=frame), size=OFD_HEIGHT),
        )

    def _header(self, width: int, running_s: float) -> Text:
        health = self._health(running_s)
        left = Text.assemble(
            (" kkt-bridge ", f"bold {INFO}"),
            (f" {self._dashboard.topics.bridge}  ", TEXT),
            (f"● {health}", HEALTH.get(health, BAD)),
        )
        right = f"{self._title}   {timedelta(seconds=int(running_s))!s:0>8}"[-width:] + " "
        left.append(" " * max(1, width - len(left.plain) - len(right)) + right, QUIET)
        left.stylize(HEADER)
        left.no_wrap, left.overflow = True, "crop"
        return left

    def _health(self, running_s: float) -> str:
        if not self._dashboard.started and running_s < STARTING_S:
            return "starting"
        if not self._dashboard.online:
            return "offline"
        return str(self._dashboard.states.get("health", {}).get("status", "offline"))

    def _lay_registers(self, place: Layout, across: int, height: int) -> None:
        """As many as fit, `across` beside each other."""
        registers = sorted(self._dashboard.registers.items())
        rows = max(1, min(-(-len(registers) // across), height // REGISTER_HEIGHT))
        parts = [
            Layout(_panel(_register(view, self._shown_lines.get(kkt, 0), height // rows - 2), kkt))
            for kkt, view in registers[: rows * across]
        ]
        parts = parts or [Layout(_panel(Text("starting", QUIET), "register"))]
        lines = [Layout() for _ in range(rows)]
        for number, line in enumerate(lines):
            line.split_row(*parts[number * across : (number + 1) * across])
        place.split_column(*lines)

    def _move(self) -> None:
        self._shown_percent += (self._dashboard.fill_percent - self._shown_percent) * EASE
        for kkt, view in self._dashboard.registers.items():
            shown = self._shown_lines.get(kkt, 0)
            behind = view.lines_printed - shown
            # A line at a time while the register keeps up with the eye, more when it does not.
            self._shown_lines[kkt] = shown + min(behind, max(1, behind // 4))


# -- the parts of the window ------------------------------------------------------------


def _panel(content: RenderableType, title: str, *, frame: str = FRAME) -> Panel:
    """Return a part with its frame."""
    name = Text(title, TITLE)
    return Panel(content, title=name, title_align="left", border_style=frame, box=box.ROUNDED, padding=(0, 1))


def _terminals(dashboard: Dashboard, rows: int, width: int) -> Text:
    """Return the POS terminals, a line each; those that do not fit are counted."""
    known = sorted(dashboard.terminals.items(), key=lambda item: (len(item[0]), item[0]))
    shown = known if len(known) <= rows else known[: rows - 1]
    name_width = max((len(pos) for pos, _ in shown), default=0) + (3 if width >= ROOMY else 1)
    lines = [_terminal_line(pos, terminal, name_width, width) for pos, terminal in shown]
    if len(shown) < len(known):
        lines.append(Text(f"and {len(known) - len(shown)} more", QUIET))
    return _stack(lines) if lines else Text("waiting for the first customer", QUIET)


def _terminal_line(pos: str, terminal: PosTerminal, name_width: int, width: int) -> Text:
    word, colour = _POS_WORDS[terminal.state]
    line = Text.assemble((f"{pos:<{name_width}}", TEXT), (f"{word:<{12 if width >= ROOMY else 10}}", colour))
    if terminal.state == "rejected":
        return line.append(terminal.error, BAD)
    if terminal.fd_number is not None:
        line.append(f"ФД {terminal.fd_number:<4}", QUIET)
        amount = _roubles(terminal.total) + (" ₽" if width >= ROOMY else "")
        line.append(f"{amount:>{max(0, width - cell_len(line.plain) - 8)}}", TEXT)
        line.append(f"{_duration(terminal.latency_ms):>8}", QUIET)
    return line


def _buffer(dashboard: Dashboard, shown_percent: float, width: int, *, colours: bool) -> Text:
    """Return the buffer as a bar, and what became of all receipts; without colours the bar's empty part is blank."""
    colour = _fill_colour(dashboard.fill_percent)
    # Cut, not rounded: number and colour are to say the same.
    count = f" {int(dashboard.fill_percent):3} %"
    bar = _bar(shown_percent, width - len(count), colour, "━" if colours else " ").append(count, f"bold {colour}")
    waiting = Text.assemble(
        (str(dashboard.buffer("pending")), f"bold {colour}"),
        (f" of {dashboard.buffer('capacity')} wait for the OFD", TEXT),
    )
    if (seconds := dashboard.oldest_waits_s()) >= 1:
        words = "the first for" if width >= ROOMY else "first"
        waiting.append(f", {words} {seconds:.0f} s", QUIET)
    return _stack([bar, waiting, _totals(dashboard)])


def _totals(dashboard: Dashboard) -> Text:
    delivered = dashboard.buffer("synced")
    on_paper = dashboard.buffer("printed") + delivered
    taken = on_paper + dashboard.buffer("buffered") + dashboard.buffer("printing")
    return Text.assemble(
        ("taken ", QUIET), (f"{taken:<5}", TEXT),
        (" on paper ", QUIET), (f"{on_paper:<5}", GOOD),
        (" at the OFD ", QUIET), (f"{delivered:<5}", INFO),
    )  # fmt: skip


def _bar(percent: float, width: int, colour: str, empty: str) -> Text:
    cells = min(1.0, max(0.0, percent / 100)) * width
    full = int(cells)
    bar = Text("━" * full, colour)
    for limit, track in TRACK:
        bar.append(empty * (round(width * limit / 100) - len(bar.plain)), track)
    return bar


def _ofd(dashboard: Dashboard, now: float, width: int) -> Text:
    """Return the way to the OFD with its breaker, and the two rates: onto paper, and on to the OFD."""
    art, state, colour = _BREAKER_ART[dashboard.breaker]
    words = f"breaker {state}" if width >= ROOMY else state
    if (probe := dashboard.seconds_to_probe(now)) is not None:
        words += f", asks in {probe:.0f} s" if width >= ROOMY else f", {probe:.0f} s"
    line = Text.assemble(("bridge ", TEXT), (art, colour), " ", _link(dashboard, now), (f"  {words}", colour))
    cells = max(0, width - 15)
    # The paper sets the scale: what was saved up for the OFD goes out in a burst that would flatten all the rest.
    scale = max(SCALE_PER_S * SLICE_S, *dashboard.printed.latest(max(1, cells), now))
    paper = _stream("paper", dashboard.printed, now, cells, scale, GOOD)
    return _stack([line, paper, _stream("OFD", dashboard.delivered, now, cells, scale, INFO)])


def _link(dashboard: Dashboard, now: float) -> Text:
    if dashboard.network == "online" and dashboard.breaker == "closed":
        return Text(" OFD online ", CALM)
    if dashboard.breaker == "half_open":
        return Text(" OFD  ?  ", UNSURE)
    blink = int(now / BLINK_S) % 2
    return Text(" OFD OUTAGE ", ALARM_FADED if blink else ALARM)


def _stream(name: str, counts: Rate, now: float, cells: int, scale: float, colour: str) -> Text:
    top = len(BARS) - 1
    line = "".join(BARS[min(top, ceil(count * top / scale))] for count in counts.latest(cells, now))
    rate = f"{counts.per_second(now):6.1f}/s"
    return Text.assemble((f"{name:<6}", QUIET), (line, colour), (rate, TEXT))


def _register(view: Register, shown_lines: int, height: int) -> Text:
    """Return a register: its state, and its paper, the newest line at the slot."""
    head = [
        Text.assemble((f"ФН {view.state.get('fn_number') or '…'}", QUIET), (f"  ФД {view.fd_number or '…'}", TEXT)),
        _condition(view.state),
    ]
    rows = max(1, height - len(head) - 1)
    unseen = view.lines_printed - shown_lines
    seen = list(islice(reversed(view.paper), unseen, unseen + rows))[::-1]
    blank = [Text(" " * (PAPER_WIDTH + 2), PAPER)] * (rows - len(seen))
    paper = [Text(f" {line.text:<{PAPER_WIDTH}} ", INK[line.ink]) for line in seen]
    return _stack([*head, *blank, *paper, Text("▄" * (PAPER_WIDTH + 2), SLOT)])


def _condition(state: dict[str, Any]) -> Text:
    problem, shift = state.get("problem"), state.get("shift")
    if problem == "not_yet_reached" or (shift is None and problem is None):
        return Text("starting", QUIET)
    if problem or shift is None:
        return Text(problem or "no shift known", BAD)
    if not shift["number"]:
        return Text("no shift yet", QUIET)
    return Text(f"shift {shift['number']} {'open' if shift['open'] else 'closed'}, paper {state['paper']}", GOOD)


def _captions(dashboard: Dashboard, rows: int) -> Text:
    """Return the last captions, the newest last and brightest."""
    last = list(dashboard.captions)[-rows:]
    lines = []
    for age, caption in enumerate(reversed(last)):
        colour = MOODS[caption.mood]
        words = Text(f"{caption.at}  ", QUIET)
        words.append(caption.text, f"bold {colour}" if age == 0 else colour if age < 3 else QUIET)
        words.no_wrap = True
        lines.append(words)
    return _stack(lines[::-1])


def _roubles(amount: str) -> str:
    """Return `12 990.00` for the contract's `12990.00`."""
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


def _fill_colour(percent: float) -> str:
    """Return the colour of a buffer so full: the thresholds are those of the bridge's own alerts."""
    if percent >= 100:
        return BAD
    if percent >= 90:
        return HIGH
    return WARN if percent >= 80 else GOOD

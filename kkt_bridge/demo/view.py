"""The window that one watches the demo through: the picture laid out for a terminal of 80 x 24 and more."""

from datetime import timedelta
from typing import Final

from rich.layout import Layout
from rich.text import Text

from kkt_bridge.demo import palette, panels
from kkt_bridge.demo.paper import WIDTH as PAPER_WIDTH
from kkt_bridge.demo.picture import Picture

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
"""How much of the way to the new fill the bar goes in one frame."""


class Window:
    """Draws frames, one after the other; it remembers only what moves smoothly between them."""

    def __init__(self, picture: Picture, title: str, began: float, *, colours: bool = True) -> None:
        self._picture = picture
        self._colours = colours
        self._title = title
        self._began = began
        self._shown_percent = 0.0
        self._shown_lines: dict[str, int] = {}

    def catch_up(self) -> None:
        """Be where the picture is, without the motion that leads there."""
        self._shown_percent = self._picture.fill_percent
        self._shown_lines = {kkt: view.lines_printed for kkt, view in self._picture.registers.items()}

    def frame(self, width: int, height: int, now: float) -> Layout:
        """The next frame; `now` is the monotonic clock."""
        self._move()
        story_rows = max(STORY_ROWS, min(STORY_ROWS_MAX, height - 20))
        body = max(1, height - 1 - story_rows - 2)
        across = min(len(self._picture.registers) or 1, max(0, (width - LEFT_WIDTH) // REGISTER_WIDTH))
        left = Layout()
        self._lay_left(left, width - across * REGISTER_WIDTH - 4, body, now)
        right = Layout(size=across * REGISTER_WIDTH, visible=across > 0)
        self._lay_registers(right, max(1, across), body)
        layout, middle = Layout(), Layout(size=body)
        middle.split_row(left, right)
        layout.split_column(
            Layout(self._header(width, now - self._began), size=1),
            middle,
            Layout(panels.panel(panels.story(self._picture, story_rows), "what happens")),
        )
        return layout

    def _lay_left(self, place: Layout, width: int, height: int, now: float) -> None:
        picture = self._picture
        rows = max(1, height - BUFFER_HEIGHT - OFD_HEIGHT - 2)
        frame = palette.FRAME if picture.breaker == "closed" else palette.BAD
        place.split_column(
            Layout(panels.panel(panels.tills(picture, rows, width), "POS terminals")),
            Layout(
                panels.panel(
                    panels.buffer(picture, self._shown_percent, width, colours=self._colours), "the bridge's buffer"
                ),
                size=BUFFER_HEIGHT,
            ),
            Layout(panels.panel(panels.ofd(picture, now, width), "the way to the OFD", frame=frame), size=OFD_HEIGHT),
        )

    def _header(self, width: int, running_s: float) -> Text:
        health = self._health(running_s)
        left = Text.assemble(
            (" kkt-bridge ", f"bold {palette.INFO}"),
            (f" {self._picture.topics.bridge}  ", palette.TEXT),
            (f"● {health}", palette.HEALTH.get(health, palette.BAD)),
        )
        right = f"{self._title}   {timedelta(seconds=int(running_s))!s:0>8}"[-width:] + " "
        left.append(" " * max(1, width - len(left.plain) - len(right)) + right, palette.QUIET)
        left.stylize(palette.HEADER)
        left.no_wrap, left.overflow = True, "crop"
        return left

    def _health(self, running_s: float) -> str:
        if not self._picture.started and running_s < STARTING_S:
            return "starting"
        if not self._picture.online:
            return "offline"
        return str(self._picture.states.get("health", {}).get("status", "offline"))

    def _lay_registers(self, place: Layout, across: int, height: int) -> None:
        """As many as fit, `across` beside each other."""
        registers = sorted(self._picture.registers.items())
        rows = max(1, min(-(-len(registers) // across), height // REGISTER_HEIGHT))
        parts = [
            Layout(panels.panel(panels.register(view, self._shown_lines.get(kkt, 0), height // rows - 2), kkt))
            for kkt, view in registers[: rows * across]
        ]
        parts = parts or [Layout(panels.panel(Text("starting", palette.QUIET), "register"))]
        lines = [Layout() for _ in range(rows)]
        for number, line in enumerate(lines):
            line.split_row(*parts[number * across : (number + 1) * across])
        place.split_column(*lines)

    def _move(self) -> None:
        self._shown_percent += (self._picture.fill_percent - self._shown_percent) * EASE
        for kkt, view in self._picture.registers.items():
            shown = self._shown_lines.get(kkt, 0)
            behind = view.lines_printed - shown
            # A line at a time while the register keeps up with the eye, more when it does not.
            self._shown_lines[kkt] = shown + min(behind, max(1, behind // 4))

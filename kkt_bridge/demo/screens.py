"""The demo's output: a live window, lines of text, nothing, or a picture of the window."""

import io
import re
import time
from pathlib import Path
from typing import Final, Self

from rich.console import CONSOLE_SVG_FORMAT, Console, RenderableType  # type: ignore[attr-defined]
from rich.live import Live
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from kkt_bridge.demo.dashboard import Dashboard
from kkt_bridge.demo.window import QUIET, WARN, Window
from kkt_bridge.errors import KktBridgeError

FRAMES_PER_S: Final = 8.0
PROGRESS_S: Final = 2.0
"""Between two lines of counts."""

COLUMNS_MIN: Final = 60
ROWS_MIN: Final = 20
"""Of a terminal, for the window's parts to keep their frames."""

PICTURE_COLUMNS: Final = 100
PICTURE_ROWS: Final = 28
FONTS: Final = "'DejaVu Sans Mono','Cascadia Mono','JetBrains Mono',Menlo,Consolas,monospace"
FONT_ASPECT_RATIO: Final = 0.6
"""Width of a glyph by its height, as the usual monospaced fonts have it."""

GROUND, FOREGROUND = (13, 17, 23), (230, 237, 243)
"""Of the picture, as red, green and blue."""

_FROM_ELSEWHERE: Final = re.compile(r"<!--.*?-->|@font-face \{\{.*?\}\}", re.DOTALL)
"""Parts of rich's template with addresses: the picture needs nothing from the network."""


class DemoScreen:
    """A place to show the dashboard; a context manager. This one shows nothing."""

    interval_s = 0.2
    """Seconds between two calls of `show`."""

    def show(self, dashboard: Dashboard, now: float) -> None:
        """Show the dashboard as it is at this time of the monotonic clock."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""


class LineScreen(DemoScreen):
    """Lines for a pipe, a log or a plain terminal: each caption once, and the counts every `PROGRESS_S`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed = 0
        self._next_counts = time.monotonic() + PROGRESS_S

    def show(self, dashboard: Dashboard, now: float) -> None:
        """Print what is new."""
        fresh = dashboard.captions_so_far - self._printed
        for caption in list(dashboard.captions)[-fresh:] if fresh else []:
            self._print(f"{caption.at}  {caption.text}")
        self._printed = dashboard.captions_so_far
        if now >= self._next_counts:
            self._next_counts = now + PROGRESS_S
            delivered, waiting = dashboard.buffer("synced"), dashboard.buffer("pending")
            self._print(
                f"          on paper {dashboard.buffer('printed') + delivered}, at the OFD {delivered}, "
                f"waiting {waiting} ({dashboard.fill_percent:.0f} % full)"
            )

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


class LiveScreen(DemoScreen):
    """The window, on the terminal's alternate screen."""

    interval_s = 1 / FRAMES_PER_S

    def __init__(self, console: Console, window: Window) -> None:
        self._console = console
        self._window = window
        self._live = Live(Text("the shop is being built ...", QUIET), console=console, screen=True, auto_refresh=False)

    def show(self, dashboard: Dashboard, now: float) -> None:  # noqa: ARG002 (the window has the dashboard)
        """Draw the next frame."""
        width, height = self._console.size
        if width < COLUMNS_MIN or height < ROWS_MIN:
            words = f"This window is {width}×{height}; the demo needs {COLUMNS_MIN}×{ROWS_MIN}: make it larger."
            self._live.update(Text(words, WARN, overflow="fold"), refresh=True)
            return
        self._live.update(self._window.frame(width, height, now), refresh=True)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def require_writable(path: Path) -> None:
    """KktBridgeError if no picture can be written to this file; one that is there stays as it is."""
    existed = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise KktBridgeError(f"--screenshot: {path} cannot be written: {error.strerror}") from None
    if not existed:
        path.unlink()


def save_svg(frame: RenderableType, path: Path, title: str) -> None:
    """Write a frame of `PICTURE_COLUMNS` x `PICTURE_ROWS` to this file, as a terminal window with this title."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=PICTURE_COLUMNS,
        height=PICTURE_ROWS,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(frame, end="")
    svg = console.export_svg(
        title=title,
        theme=TerminalTheme(GROUND, FOREGROUND, [GROUND] * 8),
        code_format=_FROM_ELSEWHERE.sub("", CONSOLE_SVG_FORMAT).replace("Fira Code, monospace", FONTS),
        font_aspect_ratio=FONT_ASPECT_RATIO,
        unique_id="demo",
    )
    try:
        path.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise KktBridgeError(f"--screenshot: {path} cannot be written: {error.strerror}") from None

"""Where the demo is shown: in a live window, as lines of text, or nowhere."""

import time
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kkt_bridge.demo import palette
from kkt_bridge.demo.picture import Picture
from kkt_bridge.demo.view import Window

FRAMES_PER_S: Final = 8.0
PROGRESS_S: Final = 2.0
"""Between two lines of counts."""

COLUMNS_MIN: Final = 60
ROWS_MIN: Final = 20
"""Of a terminal, for the window's parts to keep their frames."""


class DemoScreen(Protocol):
    """A place to show the picture; a context manager."""

    interval_s: float
    """How often it wants to be shown something."""

    def show(self, picture: Picture, now: float) -> None:
        """Show the picture as it is at this time of the monotonic clock."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class NoScreen:
    """Nobody watches."""

    interval_s = 0.2

    def show(self, picture: Picture, now: float) -> None:
        """Show nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind."""


class LineScreen:
    """Lines for a pipe, a log or a plain terminal: each caption once, and the counts now and then."""

    interval_s = 0.2

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = 0
        self._next_counts = time.monotonic() + PROGRESS_S

    def show(self, picture: Picture, now: float) -> None:
        """Print what is new."""
        fresh = picture.told - self._told
        for caption in list(picture.captions)[-fresh:] if fresh else []:
            self._print(f"{caption.at}  {caption.text}")
        self._told = picture.told
        if now >= self._next_counts:
            self._next_counts = now + PROGRESS_S
            self._print(
                f"          on paper {picture.buffer('printed') + picture.buffer('synced')}, at the OFD "
                f"{picture.buffer('synced')}, waiting {picture.buffer('pending')} ({picture.fill_percent:.0f} % full)"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind."""

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


class LiveScreen:
    """The window, on the terminal's alternate screen."""

    interval_s = 1 / FRAMES_PER_S

    def __init__(self, console: Console, window: Window) -> None:
        self._console = console
        self._window = window
        self._live = Live(
            Text("the shop is being built ...", palette.QUIET), console=console, screen=True, auto_refresh=False
        )

    def show(self, picture: Picture, now: float) -> None:  # noqa: ARG002 (the window has the picture)
        """Draw the next frame."""
        width, height = self._console.size
        if width < COLUMNS_MIN or height < ROWS_MIN:
            words = f"This window is {width}×{height}; the demo needs {COLUMNS_MIN}×{ROWS_MIN}: make it larger."
            self._live.update(Text(words, palette.WARN, overflow="fold"), refresh=True)
            return
        self._live.update(self._window.frame(width, height, now), refresh=True)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

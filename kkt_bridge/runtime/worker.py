"""Loops of steps, and the threads that take them."""

import logging
import threading
from collections.abc import Callable
from typing import Final

Step = Callable[[], float | None]
"""One bounded piece of work; returns after how many seconds to take it again, None for when it is woken."""


class Loop:
    """Steps taken one after the other, again and again: by a thread of their own, or by a scheduler of all loops."""

    def __init__(self, name: str, *steps: Step, wakeup: threading.Event | None = None) -> None:
        self.name = name
        self.steps = steps
        self.wakeup = wakeup or threading.Event()
        """Set it to have the steps taken again at once."""

    def turn(self, take: Callable[[Step], float | None]) -> float | None:
        """Take every step once; return the seconds until the next turn. `take` runs a step and handles its errors."""
        self.wakeup.clear()
        waits = [wait for step in self.steps if (wait := take(step)) is not None]
        return min(waits, default=None)


AFTER_A_BUG_S: Final = 1.0
"""Seconds before the next step of a loop that failed unexpectedly."""

log = logging.getLogger(__name__)


class Worker:
    """A thread that turns a loop, and sleeps as long as its steps say or until it is woken."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=loop.name, daemon=True)

    @property
    def name(self) -> str:
        """The thread's name."""
        return self._thread.name

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let it end after the present step."""
        self._stopping = True
        self._loop.wakeup.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; return False if it does not end in time."""
        if self._thread.ident is None:
            return True
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            wait = self._loop.turn(self._take)
            # A stop whose wake-up was cleared by the turn is seen here.
            if (wait is None or wait > 0) and not self._stopping:
                self._loop.wakeup.wait(wait)

    def _take(self, step: Step) -> float | None:
        try:
            return step()
        except Exception:
            # No input, and no bug that one brings to light, ends a loop.
            log.exception("%s failed; it goes on", self.name)
            return AFTER_A_BUG_S

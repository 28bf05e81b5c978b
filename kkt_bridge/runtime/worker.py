"""A thread that takes the steps of a loop."""

import logging
import threading
from collections.abc import Callable
from typing import Final

Step = Callable[[], float | None]
"""One bounded piece of work; returns how many seconds it may rest, None for as long as nobody wakes it."""


class Loop:
    """Steps taken one after the other, again and again: by a thread of its own, or by a scheduler that has them all."""

    def __init__(self, name: str, *steps: Step, wakeup: threading.Event | None = None) -> None:
        self.name = name
        self.steps = steps
        self.wakeup = wakeup or threading.Event()

    def wake(self) -> None:
        """Have the steps taken again at once."""
        self.wakeup.set()

    def turn(self, take: Callable[[Step], float | None]) -> float | None:
        """Take every step once; return how long the loop may rest. `take` runs a step and minds its errors."""
        self.wakeup.clear()
        waits = [wait for step in self.steps if (wait := take(step)) is not None]
        return min(waits, default=None)


AFTER_A_BUG_S: Final = 1.0
"""How long a part that failed unexpectedly rests before its next step."""

log = logging.getLogger(__name__)


class Worker:
    """A thread that takes steps, and sleeps as long as they say or until its loop is woken."""

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
        """Have it end after the step that it is in."""
        self._stopping = True
        self._loop.wake()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; False if it did not come."""
        if self._thread.ident is None:
            return True
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            wait = self._loop.turn(self._take)
            # A stop that rang before the bell was cleared is seen here.
            if (wait is None or wait > 0) and not self._stopping:
                self._loop.wakeup.wait(wait)

    def _take(self, step: Step) -> float | None:
        try:
            return step()
        except Exception:
            # No input, and no bug that one brings to light, ends a loop.
            log.exception("%s failed; it goes on", self.name)
            return AFTER_A_BUG_S

"""A loop: steps that belong to one thread, and the bell that wakes it."""

import threading
from collections.abc import Callable

Step = Callable[[], float | None]
"""One bounded piece of work; returns how many seconds it may rest, None for as long as nobody wakes it."""


class Loop:
    """Steps taken one after the other, again and again: by a thread of its own, or by a scheduler that has them all."""

    def __init__(self, name: str, *steps: Step, bell: threading.Event | None = None) -> None:
        self.name = name
        self.steps = steps
        self.bell = bell or threading.Event()

    def wake(self) -> None:
        """Have the steps taken again at once."""
        self.bell.set()

    def turn(self, take: Callable[[Step], float | None]) -> float | None:
        """Take every step once; return how long the loop may rest. `take` runs a step and minds its errors."""
        self.bell.clear()
        waits = [wait for step in self.steps if (wait := take(step)) is not None]
        return min(waits, default=None)

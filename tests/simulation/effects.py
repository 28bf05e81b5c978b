"""Effects: the moments at which the outside world can tell that something was done.

Before and after each of them the process may die, or another of its threads may get its turn.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

RARE = 4
"""How much likelier it is to die where a document may come into being, than at one of the many messages."""


class Crash(BaseException):
    """The bridge's process ends here, as SIGKILL ends it: no handler of the program sees this."""


class Effects:
    """The effects by which the bridge touches the world, and what may happen at each."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._inside = 0
        self.seen: Counter[str] = Counter()
        """How often each kind of effect came."""
        self.crashes: Counter[str] = Counter()
        """At how many of them the process died."""
        self.crash_rate = 0.0
        self.switch_rate = 0.0
        self.switch: Callable[[], None] = lambda: None
        """Gives another thread of the bridge a turn."""
        self.trace: Callable[[str], None] = lambda _what: None

    @contextmanager
    def of_the_bridge(self) -> Iterator[None]:
        """Attribute what is done in this block to the bridge; only then can it die of it."""
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @property
    def is_of_others(self) -> bool:
        """Return whether what happens now is somebody else's doing."""
        return not self._inside

    @contextmanager
    def of_others(self) -> Iterator[None]:
        """Attribute what is done in this block to somebody else, although the bridge's own code does it."""
        inside, self._inside = self._inside, 0
        try:
            yield
        finally:
            self._inside = inside

    def at(self, what: str, *, may_switch: bool = False) -> None:
        """An effect is about to happen, or has just happened. `may_switch`: no lock is held here."""
        if not self._inside:
            return
        self.trace(what)
        self.seen[what] += 1
        if self._rng.random() < self.crash_rate * (RARE if what.startswith(("register", "ofd", "paper")) else 1):
            self.crashes[what] += 1
            self.trace(f"CRASH at {what}")
            raise Crash(what)
        if may_switch and self._rng.random() < self.switch_rate:
            self.switch()

"""Clocks: the system's, as an argument; and the hybrid logical clock, whose order never depends on it."""

import time
from typing import NamedTuple, Protocol


class Clock(Protocol):
    """What the program may ask of time."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 by the system clock: may jump either way, so only for people and the HLC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow, from an arbitrary start: for every interval, time-out and back-off."""
        ...

    def processor_s(self) -> tuple[float, float]:
        """Seconds of processor time that this thread has used, and all threads of this process."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now_ms(self) -> int:
        """See `Clock.now_ms`."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    def processor_s(self) -> tuple[float, float]:
        """See `Clock.processor_s`."""
        return time.thread_time(), time.process_time()


class Hlc(NamedTuple):
    """A point of the hybrid logical clock: milliseconds since 1970 as last believed, and a counter within them.

    After Kulkarni et al., "Logical Physical Clocks" (2014), for a single node: the wall part follows the system clock
    while that goes forward, and stands still with the counter running while it does not.
    """

    wall_ms: int
    counter: int

    def next(self, now_ms: int) -> "Hlc":
        """The following point: later than this one whatever the system clock says."""
        return Hlc(now_ms, 0) if now_ms > self.wall_ms else Hlc(self.wall_ms, self.counter + 1)

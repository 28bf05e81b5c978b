"""Time as an argument: the one place that asks the operating system for it."""

import time
from typing import Protocol


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

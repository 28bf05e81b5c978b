"""How often something happened lately: counts by slices of time, for a sparkline."""

from collections import deque
from typing import Final

SLICE_S: Final = 0.5
SLICES_MAX: Final = 400


class Pulse:
    """Counts of the last slices of time; `now` is the monotonic clock."""

    def __init__(self) -> None:
        self._counts: deque[int] = deque([0], maxlen=SLICES_MAX)
        self._slice = 0

    def beat(self, times: int, now: float) -> None:
        """It happened so many times."""
        self._move_on(now)
        self._counts[-1] += times

    def latest(self, width: int, now: float) -> list[int]:
        """The counts of the last `width` slices that are over, oldest first, zeros before the beginning."""
        self._move_on(now)
        over = list(self._counts)[:-1][-width:]
        return [0] * (width - len(over)) + over

    def per_second(self, now: float) -> float:
        """The rate over the last two seconds."""
        slices = int(2 / SLICE_S)
        return sum(self.latest(slices, now)) / (slices * SLICE_S)

    def _move_on(self, now: float) -> None:
        current = int(now / SLICE_S)
        # Before the first beat the slice is 0: the past that was not watched is not filled slice by slice.
        missed = min(current - self._slice, SLICES_MAX) if self._slice else 0
        self._counts.extend([0] * missed)
        self._slice = current

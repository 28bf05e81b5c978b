"""Rates over the last minutes: from samples of a counter, bounded in number."""

from collections import deque
from typing import Final

SAMPLES_MAX: Final = 60


class Trend:
    """How fast a figure grows."""

    def __init__(self, window_s: float) -> None:
        self._spacing_s = window_s / SAMPLES_MAX
        self._window_s = window_s
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX + 1)

    def note(self, value: float, now_s: float) -> None:
        """Take a sample; samples closer together than the spacing are left out."""
        if not self._samples or now_s - self._samples[-1][0] >= self._spacing_s:
            self._samples.append((now_s, value))

    def per_second(self, value: float, now_s: float) -> float:
        """The rate from the oldest sample in the window to this value; 0 while there is none."""
        while len(self._samples) > 1 and now_s - self._samples[0][0] > self._window_s:
            self._samples.popleft()
        if not self._samples or now_s <= self._samples[0][0]:
            return 0.0
        since, then = self._samples[0]
        return (value - then) / (now_s - since)

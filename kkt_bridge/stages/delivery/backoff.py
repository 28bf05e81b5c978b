"""Exponential back-off with jitter: how long to wait before the next attempt."""

from random import Random
from typing import Final

from kkt_bridge.settings import SyncSettings

JITTER: Final = 0.2
"""Up to this share is taken off, so that what failed together does not come back together."""


def backoff_s(failures: int, *, initial_s: float, max_s: float, chance: float) -> float:
    """Return the seconds to wait after this many failures (from 1); `chance` is drawn from [0, 1)."""
    # Bounded before it is raised: 2 to the power of a large number is no number of seconds.
    doubled = initial_s * 2.0 ** min(failures - 1, 64)
    return min(doubled, max_s) * (1 - JITTER * chance)


class DocumentBackoff:
    """The back-off of a document, by `sync.backoff_initial_s` and `sync.backoff_max_s`."""

    def __init__(self, settings: SyncSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng

    def wait_s(self, failures: int) -> float:
        """Return the seconds that a document waits after this many failures."""
        settings, chance = self._settings, self._rng.random()
        return backoff_s(failures, initial_s=settings.backoff_initial_s, max_s=settings.backoff_max_s, chance=chance)

"""How long a document waits before its next attempt: a function of its failures, told everything, sleeping never."""

from typing import Final

JITTER: Final = 0.2
"""Up to this share is taken off, so that what failed together does not come back together."""


def backoff_s(strikes: int, *, initial_s: float, max_s: float, chance: float) -> float:
    """Seconds to wait after the `strikes`-th failure (from 1); `chance` is drawn from [0, 1)."""
    # Bounded before it is raised: 2 to the power of a large number is no number of seconds.
    doubled = initial_s * 2.0 ** min(strikes - 1, 64)
    return min(doubled, max_s) * (1 - JITTER * chance)

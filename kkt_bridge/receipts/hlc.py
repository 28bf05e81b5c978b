"""The hybrid logical clock: order that never depends on the wall clock.

After Kulkarni et al., "Logical Physical Clocks" (2014), for a single node: the wall part follows the
system clock while that goes forward, and stands still with the counter running while it does not.
"""

from typing import NamedTuple


class Hlc(NamedTuple):
    """A point in the bridge's own order: milliseconds since 1970 as last believed, and a counter within them."""

    wall_ms: int
    counter: int

    def next(self, now_ms: int) -> "Hlc":
        """The following point: later than this one whatever the system clock says."""
        return Hlc(now_ms, 0) if now_ms > self.wall_ms else Hlc(self.wall_ms, self.counter + 1)

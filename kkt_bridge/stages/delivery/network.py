"""The state of the way to the OFD: slow to change, so that one lost packet is no event."""

from dataclasses import dataclass
from typing import Final, Literal

NetworkState = Literal["online", "degraded", "offline"]
"""`degraded`: the OFD answers with errors; `offline`: it does not answer."""

EQUAL_OBSERVATIONS: Final = 3
"""A new state is believed when it was seen this often in a row."""


@dataclass(frozen=True, slots=True)
class NetworkChange:
    """A change of state, as it goes into `event/network`."""

    previous: NetworkState
    current: NetworkState


class Network:
    """Observations in, a debounced state out; used by one thread, `state` may be read by others."""

    def __init__(self, hold_s: float) -> None:
        """`hold_s`: seconds that a state lasts at least."""
        self._hold_s = hold_s
        self._changed_at_s: float | None = None
        self._seen: NetworkState = "online"
        self._times = 0
        self.state: NetworkState = "online"

    def observe(self, seen: NetworkState, now_s: float) -> NetworkState | None:
        """Take one observation at a time of the monotonic clock; return the previous state if it changed."""
        self._times = self._times + 1 if seen == self._seen else 1
        self._seen = seen
        return self.reconsider(now_s)

    def reconsider(self, now_s: float) -> NetworkState | None:
        """Believe what was seen often enough, if the hold is over by now; return the previous state if it changed."""
        seen = self._seen
        held = self._changed_at_s is None or now_s - self._changed_at_s >= self._hold_s
        if seen == self.state or self._times < EQUAL_OBSERVATIONS or not held:
            return None
        previous, self.state, self._changed_at_s = self.state, seen, now_s
        return previous

"""What the bridge believes of its way to the OFD: slow to change, so that one lost packet is no news."""

from typing import Final, Literal

NetworkName = Literal["online", "degraded", "offline"]

EQUAL_OBSERVATIONS: Final = 3
"""A new state is believed when it was seen this often in a row."""


class Network:
    """Online, degraded (the OFD answers with errors) or offline (it does not answer)."""

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._since: float | None = None
        self._seen: NetworkName = "online"
        self._times = 0
        self.state: NetworkName = "online"

    def observe(self, seen: NetworkName, now_s: float) -> NetworkName | None:
        """Take one observation at a time of the monotonic clock; return the previous state if it changed."""
        self._times = self._times + 1 if seen == self._seen else 1
        self._seen = seen
        return self.reconsider(now_s)

    def reconsider(self, now_s: float) -> NetworkName | None:
        """Believe what was seen often enough, if it is time for that now; return the previous state if so."""
        seen = self._seen
        held = self._since is None or now_s - self._since >= self._hold_s
        if seen == self.state or self._times < EQUAL_OBSERVATIONS or not held:
            return None
        previous, self.state, self._since = self.state, seen, now_s
        return previous

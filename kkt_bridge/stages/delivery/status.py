"""How delivery stands, for whoever shows or watches it: one value, taken as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kkt_bridge.ofd.network import NetworkName


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """What is known of the way to the OFD. `..._until` and `..._since` are monotonic seconds."""

    network: NetworkName = "online"
    in_progress: bool = False
    """Whether documents are under way, or a sync that was asked for is."""
    sent_total: int = 0
    """Documents that the OFD took since the start."""
    failed_total: int = 0
    """Attempts that came to nothing since the start."""
    last_success_ms: int | None = None
    """When the OFD last took a document, in milliseconds of Unix time; None if it has not since the start."""
    paused_until: float | None = None
    """Until when nothing is sent: the OFD asked for patience, or refuses one document after the other."""
    bridge_refused: str | None = None
    """What the OFD says where it refuses this bridge, and no document was taken since; None otherwise."""
    refuses_all: str | None = None
    """What it said last where it refused many different documents in a row; None otherwise."""
    takes_nothing_since: float | None = None
    """Since when documents are tried again and again and none is taken; None while that is no longer than usual."""
    unsendable: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Documents that cannot be put together as the OFD gets them, by register, zeroes included; empty where nobody has
    looked yet."""

"""Where a fiscal document stands on its way to the OFD, and which state may follow which: data."""

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kkt_bridge.receipts.lifecycle import Status


class DeliveryState(StrEnum):
    """The way of a document to the OFD, as the journal's rows have it."""

    READY = "ready"
    """May be sent now."""
    WAITING = "waiting"
    """Waits out a back-off after a failure."""
    SENT = "sent"
    """The OFD has it."""
    DEAD = "dead"
    """A dead letter: an operator decides, and until then the OFD lacks it."""
    DISCARDED = "discarded"
    """A dead letter that an operator gave up."""
    EXPIRED = "expired"
    """A dead letter on which nobody decided in time."""


DELIVERY_TRANSITIONS: Final = MappingProxyType(
    {
        None: frozenset({DeliveryState.READY}),
        DeliveryState.READY: frozenset({DeliveryState.WAITING, DeliveryState.SENT, DeliveryState.DEAD}),
        # Its time has come, or a sync was forced.
        DeliveryState.WAITING: frozenset({DeliveryState.READY}),
        DeliveryState.DEAD: frozenset({DeliveryState.READY, DeliveryState.DISCARDED, DeliveryState.EXPIRED}),
        DeliveryState.SENT: frozenset(),
        DeliveryState.DISCARDED: frozenset(),
        DeliveryState.EXPIRED: frozenset(),
    }
)

STATUS_OF: Final = MappingProxyType(
    {
        DeliveryState.READY: Status.PRINTED,
        DeliveryState.WAITING: Status.PRINTED,
        DeliveryState.SENT: Status.SYNCED,
        DeliveryState.DEAD: Status.DEAD,
        DeliveryState.DISCARDED: Status.DEAD,
        DeliveryState.EXPIRED: Status.DEAD,
    }
)
"""What the receipt of such a document is."""

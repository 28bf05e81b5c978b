"""The states of a receipt and which may follow which: data, read by the journal, the tests and the docs."""

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kkt_bridge.errors import IllegalTransition


class Status(StrEnum):
    """Where a taken receipt stands."""

    BUFFERED = "buffered"
    """Durable, waiting for its register."""
    PRINTING = "printing"
    """Given to the register; in doubt when found so after a crash."""
    PRINTED = "printed"
    """A fiscal document exists; the OFD does not have it yet."""
    SYNCED = "synced"
    """The OFD has it."""
    REJECTED = "rejected"
    """The register refused it for good."""
    DEAD = "dead"
    """The OFD refused it for good; an operator may send it again."""


TRANSITIONS: Final = MappingProxyType(
    {
        None: frozenset({Status.BUFFERED}),
        Status.BUFFERED: frozenset({Status.PRINTING, Status.REJECTED}),
        # Back to buffered: proven that no document exists, or that nothing was sent to the register.
        Status.PRINTING: frozenset({Status.PRINTED, Status.REJECTED, Status.BUFFERED}),
        Status.PRINTED: frozenset({Status.SYNCED, Status.DEAD}),
        # An operator's requeue.
        Status.DEAD: frozenset({Status.PRINTED}),
        Status.SYNCED: frozenset(),
        Status.REJECTED: frozenset(),
    }
)

PENDING: Final = frozenset({Status.BUFFERED, Status.PRINTING, Status.PRINTED})
"""The receipts that fill the buffer: taken, and still to reach the OFD."""

ENDS: Final = frozenset(Status) - PENDING
"""In these a receipt needs nothing more from the bridge; from `dead` an operator may bring it back."""


def advance(current: Status | None, target: Status) -> Status:
    """The target, if the table allows it; IllegalTransition otherwise."""
    if target not in TRANSITIONS[current]:
        raise IllegalTransition(f"a receipt may not go from {current or 'nothing'} to {target}")
    return target


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

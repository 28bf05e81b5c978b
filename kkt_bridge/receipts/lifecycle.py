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
"""What fills the buffer: taken, and still to reach the OFD."""

ENDS: Final = frozenset(Status) - PENDING
"""Where a receipt needs nothing more from the bridge; from `dead` an operator may bring it back."""


def advance(current: Status | None, target: Status) -> Status:
    """The target, if the table allows it; IllegalTransition otherwise."""
    if target not in TRANSITIONS[current]:
        raise IllegalTransition(f"a receipt may not go from {current or 'nothing'} to {target}")
    return target

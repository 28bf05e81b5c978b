"""Rows that every commit adds, in the order of their columns: as they are written, and as they are handed on."""

from typing import Final, NamedTuple

ID_BITS: Final = 16
"""Bits of an id within its commit; those above are the commit's number."""


class Message(NamedTuple):
    """A row of the outbox: what the broker is to be told."""

    id: int
    topic: str
    payload: bytes
    correlation: bytes | None
    is_event: int
    created_steady_ms: int


class Sale(NamedTuple):
    """What a step tells of the sale itself."""

    type: str | None = None
    total: int | None = None
    """Kopecks."""
    received_ms: int | None = None
    """When the request arrived, by the system clock."""


NO_SALE: Final = Sale()


class Step(NamedTuple):
    """A row of the steps: what happened to a receipt."""

    id: int
    receipt: int | None
    """The row of a receipt that was taken."""
    receipt_id: str | None
    pos_id: str
    kkt: str | None
    from_status: str | None
    to_status: str
    fd_number: int | None
    error: str | None
    at_ms: int
    at_steady_ms: int
    type: str | None = None
    total: int | None = None
    """Like the type and the time of arrival: null in the table where the receipt was taken and its own row tells it."""
    received_ms: int | None = None

    @property
    def commit_no(self) -> int:
        """Steps of one commit share it."""
        return self.id >> ID_BITS

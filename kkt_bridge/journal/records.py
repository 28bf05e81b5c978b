"""What the journal knows, as values."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from kkt_bridge.clock import Hlc
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import Status


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """What is needed of a receipt's row to move it on."""

    id: int
    key: ReceiptKey
    kkt: str
    status: Status


@dataclass(frozen=True, slots=True)
class NewReceipt:
    """A receipt about to be taken. `body` is its canonical form."""

    key: ReceiptKey
    kkt: str
    digest: bytes
    type: str
    total: int
    original_receipt_id: str | None
    body: str
    reply_topic: str
    correlation: bytes | None


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt that was taken, at any time: all that an answer to its POS needs."""

    id: int | None
    """None once purged: only its tombstone is left."""
    key: ReceiptKey
    kkt: str
    status: Status
    digest: bytes
    type: str
    total: int
    hlc: Hlc
    server_time: int | None
    received_ms: int
    printed_ms: int | None
    error_code: str | None
    error_message: str | None
    mark: str | None
    """The fiscal mark as JSON, once there is one."""
    warnings: str | None
    """A JSON list, with the mark."""
    reply_topic: str | None
    correlation: bytes | None


@dataclass(frozen=True, slots=True)
class WaitingReceipt:
    """A receipt that is not on paper yet, and whether its POS has word of that."""

    receipt: StoredReceipt
    received_steady_ms: int
    notified: bool


@dataclass(frozen=True, slots=True)
class PendingReceipt:
    """A receipt that the OFD does not have yet, as an operator sees it."""

    id: int
    key: ReceiptKey
    kkt: str
    status: Status
    received_ms: int
    attempts: int
    """How often its document was sent."""
    last_error: str | None


@dataclass(frozen=True, slots=True)
class PrintTask(ReceiptRow):
    """A receipt that its register is to print, or was printing when something broke."""

    body: str
    reply_topic: str
    correlation: bytes | None
    hlc: Hlc
    received_ms: int
    received_steady_ms: int
    fn_before: str | None
    """The fiscal storage, and the number of its last document, before printing began."""
    fd_before: int | None


@dataclass(frozen=True, slots=True)
class DueDocument(ReceiptRow):
    """A fiscal document on its way to the OFD; `id` is the receipt's, `document` its own."""

    document: int
    body: bytes
    """What is sent, fixed when the document was made."""
    attempts: int
    """How often it was sent."""
    strikes: int
    """How many of those failures count against the document itself."""


@dataclass(frozen=True, slots=True)
class DocumentWithoutBody:
    """A fiscal document of which the OFD's body is still to be made."""

    document: int
    key: ReceiptKey
    kkt: str
    request: str
    """The receipt in its canonical form, as JSON."""
    mark: str
    """The fiscal mark, as JSON."""
    hlc: Hlc
    is_dead: bool = False
    """Whether it is a dead letter."""


@dataclass(frozen=True, slots=True)
class DeadLetter(ReceiptRow):
    """A document that the OFD would not have."""

    document: int
    attempts: int
    strikes: int
    reason: str
    last_error: str | None
    failed_ms: int


@dataclass(frozen=True, slots=True)
class RefundedSale:
    """A sale that a refund names."""

    status: Status
    type: str
    total: int
    refunded: int
    """Kopecks of refunds taken so far and not rejected."""


@dataclass(frozen=True, slots=True)
class TakenCommand:
    """An operator's command that was taken and is to be carried out, or was."""

    id: int
    command_id: str
    name: str
    issued_by: str
    args: str
    reply_topic: str
    correlation: bytes | None
    result: str | None


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

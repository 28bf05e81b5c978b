"""Every message of the contract as a model: what comes in is strict, what goes out may grow fields."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from kkt_bridge.receipts.ffd_codes import ReceiptType
from kkt_bridge.receipts.fiscal_mark import FiscalMark, MoneyText
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.model import PRINTABLE, Receipt, ReceiptId, Strict, line

REQUEST_BYTES_MAX: Final = 256 * 1024
"""A larger request is answered with `too_large` unread."""

ID_SOUGHT_BYTES: Final = 4096
"""Of a payload that is not read as JSON, so much is searched for its id: a POS writes it near the beginning."""

STEPS_PER_EVENT_MAX: Final = 200
"""Steps in one `event/receipt`."""

DOUBTS_SHOWN_MAX: Final = 10
"""Doubts listed in one `state/kkt/{kkt}`. Twenty did not fit into 8 KiB, and some brokers take no more in a packet."""

BEYOND_PROMISE: Final = "x-beyond-promise"
"""Marks what the bridge sends and version 1 of the contract does not promise: no schema requires it."""

_BEYOND: Final = Field(json_schema_extra={BEYOND_PROMISE: True})

Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339 with milliseconds and an offset, as `rfc3339` writes it."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

ErrorCode = Literal[
    "invalid_json",
    "invalid_receipt",
    "too_large",
    "pos_mismatch",
    "idempotency_conflict",
    "buffer_full",
    "storage_unavailable",
    "paused",
    "unknown_kkt",
    "kkt_rejected",
    "fn_exhausted",
    "original_not_found",
    "original_not_synced",
    "refund_exceeds_original",
    "not_found",
]


@lru_cache(maxsize=256)  # what is committed together has the same time
def rfc3339(ms: int, zone: tzinfo = UTC) -> str:
    """Return a time given in milliseconds since 1970 as text, in this zone."""
    # By timedelta, not fromtimestamp: that one rounds a float and fails outside the platform's range.
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone).isoformat(timespec="milliseconds")


def local_date(ms: int, zone: tzinfo) -> date:
    """Return the calendar date of a time given in milliseconds since 1970, in this zone."""
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone).date()


class Query(Strict):
    """`pos/{pos}/query`: what became of a receipt?"""

    receipt_id: ReceiptId


class Command(Strict):
    """`command/{name}`: an operator's request."""

    command_id: ReceiptId
    issued_by: Annotated[str, line(128), PRINTABLE]
    args: dict[str, Any] = Field(default_factory=dict)


class Outgoing(BaseModel):
    """A message from the bridge; consumers ignore fields that they do not know."""

    model_config = ConfigDict(
        frozen=True,
        serialize_by_alias=True,
        validate_by_name=True,
        validate_by_alias=True,
        # A default spares the writer a word; the message holds the field all the same.
        json_schema_serialization_defaults_required=True,
    )

    no_news: ClassVar[frozenset[str]] = frozenset({"at"})
    """Fields whose change alone is no reason to publish retained state again."""

    def payload(self) -> bytes:
        """The message as published."""
        return self.model_dump_json().encode()


class FaultyField(Outgoing):
    """A wrong field: its path as in `items.0.price`."""

    path: str
    message: str


class Error(Outgoing):
    """Why a request was refused, and whether the same request may succeed later."""

    code: ErrorCode
    """What a program goes by."""
    message: str
    """For people: it may change."""
    retryable: bool
    """Whether to keep the receipt and send the same id again later; false: mend it, or drop it."""
    fields: list[FaultyField] = []
    """What is wrong, field by field."""


class HlcStamp(Outgoing):
    """The receipt's place in the bridge's order; `server_time` (Unix seconds) comes from the OFD."""

    wall_ms: int
    counter: int
    server_time: int | None = None


class Reply(Outgoing):
    """`pos/{pos}/reply`: what became of a receipt."""

    receipt_id: str | None
    pos_id: str
    status: Literal["printed", "buffered", "rejected", "unknown"]
    final: bool
    """Whether this message has come to its end. A rejection may be final and retryable: look at `error.retryable`."""
    duplicate: bool = False
    """Whether the receipt had been taken before; nothing was printed for this message."""
    fiscal: FiscalMark | None = None
    error: Error | None = None
    warnings: list[str] = []
    """Codes beside a success: `not_on_paper` (never sell it again), `text_replaced`; more may follow."""
    hlc: HlcStamp | None = None
    received_at: Timestamp | None = None
    printed_at: Timestamp | None = None


class CommandError(Outgoing):
    """Why a command did nothing."""

    code: str
    message: str
    fields: list[FaultyField] = []


class CommandResult(Outgoing):
    """`command/{name}/result`: `result` when ok, `error` when not."""

    command_id: str | None
    ok: bool
    result: Annotated[dict[str, Any] | None, _BEYOND] = None
    error: Annotated[CommandError | None, _BEYOND] = None
    at: Timestamp


class Online(Outgoing):
    """`state/online`, and the last will."""

    online: bool
    since: Timestamp
    version: str
    boot_id: str


class BufferState(Outgoing):
    """`state/buffer`: how full, how old, how long it will last."""

    no_news = frozenset({"at", "full_at"})

    capacity: int
    pending: int
    percent_full: float
    accepting: bool
    paused: Annotated[bool, _BEYOND]
    oldest_pending_at: Timestamp | None
    full_at: Annotated[Timestamp | None, _BEYOND]
    """When the buffer will be full at the rate of the last minutes; null when it does not grow."""
    dlq_size: int
    by_status: dict[Status, int]
    at: Timestamp


class BreakerState(Outgoing):
    """`state/breaker`: the circuit breaker before the OFD."""

    state: Literal["closed", "open", "half_open"]
    failures: int
    fail_max: int
    opened_at: Timestamp | None
    next_probe_at: Timestamp | None
    last_error: str | None
    at: Timestamp


class SyncState(Outgoing):
    """`state/sync`: the delivery to the OFD. `rate_per_s` is over the last minute; totals are since the start."""

    no_news = frozenset({"at", "rate_per_s", "paused_until"})

    network: Literal["online", "degraded", "offline"]
    in_progress: bool
    last_success_at: Timestamp | None
    sent_total: int
    failed_total: int
    rate_per_s: Annotated[float, _BEYOND]
    paused_until: Annotated[Timestamp | None, _BEYOND] = None
    """Until when the OFD has asked to be left alone."""
    unsendable: Annotated[int, _BEYOND] = 0
    """Documents that cannot be put together as the OFD gets them."""
    at: Timestamp


class ShiftState(Outgoing):
    """The shift of a register."""

    number: int
    open: bool
    opened_at: Timestamp | None


class DoubtState(Outgoing):
    """A receipt of which its register cannot tell whether it was printed; `settle` tells it."""

    receipt_id: str
    pos_id: str
    doubt: int
    """The number of the attempt to print it: `settle` names it where it has the receipt printed again."""
    fn_number: str
    """The fiscal storage, and the number of its last document, before printing began."""
    fd_number: int
    total: MoneyText
    since: Timestamp
    """When printing began."""
    reason: str
    """Why the register cannot tell."""
    parked: Annotated[bool, _BEYOND] = False
    """Whether the register goes on with other receipts meanwhile."""


class KktState(Outgoing):
    """`state/kkt/{kkt}`: a register and its fiscal storage. Null where the register has not yet been reached."""

    no_news = frozenset({"at", "clock_drift_s"})

    kkt: str
    driver: str
    ready: bool
    mode: Literal["shift_open", "shift_closed", "shift_expired", "document_open", "blocked"] | None
    model: Annotated[str | None, _BEYOND]
    serial: str | None
    registration_number: Annotated[str | None, _BEYOND]
    fn_number: str | None
    fn_expires: date | None
    last_fd_number: int | None
    ofd_unsent: int
    ofd_first_unsent_at: Timestamp | None
    queue: int
    shift: ShiftState | None
    paper: Literal["ok", "out"] | None
    clock_drift_s: float | None
    problem: str | None
    detail: Annotated[str | None, _BEYOND] = None
    """The problem in words, and what to do."""
    doubts: Annotated[list[DoubtState], Field(max_length=DOUBTS_SHOWN_MAX), _BEYOND] = []
    """The oldest of those that stop this register until a person settles them."""
    doubts_total: Annotated[int, _BEYOND] = 0
    parked: Annotated[int, _BEYOND] = 0
    """How many of them are set aside while the register goes on: the bridge or its driver failed on them."""
    journal_behind: Annotated[int, _BEYOND] = 0
    """Receipts that the fiscal storage held beyond the journal's knowledge, found since the bridge's start."""
    at: Timestamp


HealthStatus = Literal["healthy", "degraded", "unhealthy"]


class ComponentHealth(Outgoing):
    """One part's health, with the reason where it is not healthy."""

    status: HealthStatus
    reason: Annotated[str | None, _BEYOND] = None


class HealthState(Outgoing):
    """`state/health`: the worst of its components."""

    status: HealthStatus
    components: dict[str, ComponentHealth]
    at: Timestamp


Severity = Literal["warning", "critical"]


class Alert(Outgoing):
    """Something that wants a person."""

    code: str
    """Its kind, such as `buffer_fill` or `paper_out`; more may follow."""
    severity: Severity
    since: Timestamp
    message: str
    """What is the matter, and where, in one line."""
    what_to_do: str
    kkt: str | None
    """The register that it is about; null where it is about the bridge."""


class AlertsState(Outgoing):
    """`state/alerts`: the alerts that are raised, the worst and the oldest first."""

    alerts: list[Alert]
    at: Timestamp


class ReceiptStep(Outgoing):
    """One step in the life of a receipt. A refused request has no `from` and carries its error."""

    receipt_id: str | None
    pos_id: str
    kkt: str | None
    from_: Annotated[Status | None, Field(alias="from")]
    to: Status
    fd_number: int | None = None
    error: Annotated[str | None, _BEYOND] = None
    type: ReceiptType | None = None
    """This, the total and the time of arrival are null where a request was too broken to tell, or is long purged."""
    total: MoneyText | None = None
    received_at: Timestamp | None = None
    at: Timestamp


class ReceiptEvent(Outgoing):
    """`event/receipt`: steps that were committed together travel together, in their order."""

    steps: Annotated[list[ReceiptStep], Field(min_length=1, max_length=STEPS_PER_EVENT_MAX)]


class BreakerEvent(Outgoing):
    """`event/breaker`: a change of the circuit breaker."""

    from_: Annotated[Literal["closed", "open", "half_open"], Field(alias="from")]
    to: Literal["closed", "open", "half_open"]
    failures: int
    last_error: str | None
    at: Timestamp


class NetworkEvent(Outgoing):
    """`event/network`: a change of what the bridge believes of its way to the OFD."""

    from_: Annotated[Literal["online", "degraded", "offline"], Field(alias="from")]
    to: Literal["online", "degraded", "offline"]
    at: Timestamp


class AlertEvent(Outgoing):
    """`event/alert`: something wants a person, or no longer does."""

    alert: str
    """The same as `code`."""
    code: Annotated[str, _BEYOND]
    """Its kind, as in `state/alerts`; more may follow."""
    severity: Severity
    state: Literal["raised", "cleared"]
    """An alert that has become worse is raised again."""
    subject: str | None
    """The same as `kkt`."""
    kkt: Annotated[str | None, _BEYOND]
    """The register that it is about; null where it is about the bridge."""
    since: Annotated[Timestamp, _BEYOND]
    """When it was first raised."""
    message: str
    """What is the matter, and where, in one line."""
    what_to_do: Annotated[str | None, _BEYOND]
    """In one line; null when it is over."""
    at: Timestamp


class ShiftEvent(Outgoing):
    """`event/shift`: a shift was opened or closed on a register."""

    kkt: str
    number: int
    open: bool
    fd_number: int
    at: Timestamp


class CommandEvent(Outgoing):
    """`event/command`: an operator's command was carried out or refused."""

    command_id: str | None
    name: str
    issued_by: str | None
    ok: bool
    error: str | None
    reason: Annotated[str | None, _BEYOND] = None
    """Why it was given, where the command takes a reason."""
    at: Timestamp


class OfdDocument(BaseModel):
    """The body of `POST /ofd/v1/receipt`."""

    receipt: Receipt
    fiscal: FiscalMark
    hlc: HlcStamp
    ffd: dict[str, Any]

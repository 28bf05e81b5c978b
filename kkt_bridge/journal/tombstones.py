"""Tombstones: what stays of a purged receipt, for ever, in about a hundred bytes.

A repeat is answered from it as from the full record, so the fiscal mark is taken apart into the figures
that cannot be derived, and put together again when asked for. Where that would not give the same text, as
with a driver that writes something of its own, the text itself is kept.

Of 10,000 usual receipts a row takes 103 bytes so. The same facts as JSON, compressed by zlib with one of them as its
preset dictionary, take 174: figures that differ from row to row compress badly, and each row is kept for ever.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, bindparam, insert, select

from kkt_bridge.clock import Hlc
from kkt_bridge.journal.records import StoredReceipt
from kkt_bridge.journal.statements import PreparedStatement, WhereIn, prepared_insert
from kkt_bridge.journal.tables import storages, tombstones
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.amounts import format_kopecks, parse_kopecks
from kkt_bridge.receipts.ffd_codes import Operation
from kkt_bridge.receipts.fiscal_mark import FiscalMark, qr_text
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import Status

# Words are stored as their places in these: append, never reorder.
_STATUSES: Final = (Status.SYNCED, Status.REJECTED, Status.DEAD)
_OPERATIONS: Final[tuple[Operation, ...]] = ("sale", "refund", "purchase", "purchase_refund")
_TYPES: Final[tuple[str, ...]] = (*_OPERATIONS, "correction")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_WARNINGS: Final = "[]"
_OF_ANOTHER_FORM: Final = (ValueError, StopIteration, OverflowError, TypeError)
"""What the taking apart of a mark raises that was not written as ours are."""


class _Storage(NamedTuple):
    """What the documents of one fiscal storage have in common."""

    kkt: str
    kkt_serial: str = ""
    registration_number: str = ""
    fn_number: str = ""
    utc_offset_min: int = 0


class _Figures(NamedTuple):
    """What of a fiscal mark can be derived from nothing else."""

    fd_number: int
    fiscal_sign: int
    """With a 1 in front, so that its zeros stay."""
    dated_after_s: int
    shift_number: int
    receipt_number: int
    change: int
    operation: int | None
    """Of a correction, its place in `_OPERATIONS`; other receipts have it for a type."""


_NO_FIGURES: Final = dict.fromkeys(_Figures._fields)


def write_tombstones(tx: Transaction, receipts: Sequence[StoredReceipt], originals: Sequence[str | None]) -> None:
    """Lay down the tombstones of these receipts, each with the sale that it refunds, if it names one."""
    stones = [_tombstone_row(tx, receipt, original) for receipt, original in zip(receipts, originals, strict=True)]
    _INSERT(tx.connection, stones)


def find_tombstone(connection: Connection, key: ReceiptKey) -> StoredReceipt | None:
    """What was left of the receipt with this key."""
    row = _FIND(connection, {"receipt_id": _packed(key.receipt_id), "pos_id": key.pos_id}).fetchone()
    return None if row is None else _stored(row)


def find_tombstones_of(connection: Connection, receipt_ids: Sequence[str]) -> dict[ReceiptKey, StoredReceipt]:
    """What was left of the receipts with these ids."""
    rows = _FIND_TOGETHER(connection, [_packed(receipt_id) for receipt_id in receipt_ids])
    return {stone.key: stone for stone in map(_stored, rows)}


def find_tombstones(connection: Connection, receipt_id: str) -> list[StoredReceipt]:
    """What was left of the receipts with this id, whichever POS they came from."""
    return [_stored(row) for row in _FIND_ANY(connection, {"receipt_id": _packed(receipt_id)})]


def refunds_in_tombstones(connection: Connection, receipt_id: str) -> list[tuple[str, int]]:
    """POS and kopecks of each purged refund that names this sale and was not rejected."""
    values = {"receipt_id": _packed(receipt_id), "rejected": _STATUSES.index(Status.REJECTED)}
    return [(row.pos_id, row.total) for row in _REFUNDS(connection, values)]


class TombstoneSummary(NamedTuple):
    """What an audit needs of a tombstone: cheaper than the whole of it."""

    key: ReceiptKey
    kkt: str
    status: Status
    type: str
    total: int
    operation: str | None
    fn_number: str | None
    fd_number: int | None
    fiscal_sign: str | None


SUMMARY_SQL: Final = """
SELECT t.pos_id, t.receipt_id, s.kkt, t.status, t.type, t.total, t.operation, s.fn_number, t.fd_number, t.fiscal_sign,
    t.mark
FROM tombstones AS t JOIN storages AS s ON s.id = t.storage
"""


def summary_of(row: Sequence[Any]) -> TombstoneSummary:
    """A row of `SUMMARY_SQL` in words."""
    pos_id, packed, kkt, status, kind, total, operation, fn_number, fd_number, sign, text = row
    word = _TYPES[kind]
    operation = word if word in _OPERATIONS else None if operation is None else _OPERATIONS[operation]
    named = (ReceiptKey(pos_id, _unpacked(packed)), kkt, _STATUSES[status], word, total, operation)
    if fd_number is not None:
        return TombstoneSummary(*named, fn_number, fd_number, str(sign)[1:])
    if text is None:
        return TombstoneSummary(*named, None, None, None)
    mark = FiscalMark.model_validate_json(text)
    return TombstoneSummary(*named, mark.fn_number, mark.fd_number, mark.fiscal_sign)


def keys_of(rows: Iterable[Mapping[str, Any]]) -> list[ReceiptKey]:
    """Whose tombstones these rows are."""
    return [ReceiptKey(row["pos_id"], _unpacked(row["receipt_id"])) for row in rows]


def _tombstone_row(tx: Transaction, receipt: StoredReceipt, original: str | None) -> dict[str, Any]:
    base_ms = receipt.hlc.wall_ms
    parts = _mark_figures(receipt)
    storage, figures = parts or (_Storage(receipt.kkt), None)
    return {
        "receipt_id": _packed(receipt.key.receipt_id),
        "pos_id": receipt.key.pos_id,
        "storage": _storage_id(tx, storage),
        "status": _STATUSES.index(receipt.status),
        "type": _TYPES.index(receipt.type),
        "digest": receipt.digest,
        "total": receipt.total,
        "original_receipt_id": None if original is None else _packed(original),
        "hlc_wall_ms": base_ms,
        "hlc_counter": receipt.hlc.counter,
        "received_after_ms": receipt.received_ms - base_ms,
        "printed_after_ms": None if receipt.printed_ms is None else receipt.printed_ms - base_ms,
        "server_after_s": None if receipt.server_time is None else receipt.server_time - base_ms // 1000,
        **(_NO_FIGURES if figures is None else figures._asdict()),
        "warnings": None if receipt.warnings == _NO_WARNINGS else receipt.warnings,
        "error_code": receipt.error_code,
        "error_message": receipt.error_message,
        "mark": receipt.mark if parts is None else None,
    }


def _mark_figures(receipt: StoredReceipt) -> tuple[_Storage, _Figures] | None:
    """The parts of a receipt's mark; None where there is none, or they would not make up the same text."""
    if receipt.mark is None:
        return None
    base_s = receipt.hlc.wall_ms // 1000
    try:
        mark = FiscalMark.model_validate_json(receipt.mark)
        at = datetime.fromisoformat(mark.datetime)
        offset_min = (at.utcoffset() or timedelta()) // timedelta(minutes=1)
        is_correction = receipt.type == "correction"
        figures = _Figures(
            fd_number=mark.fd_number,
            fiscal_sign=int(f"1{mark.fiscal_sign}"),
            dated_after_s=(at - _EPOCH) // timedelta(seconds=1) - base_s,
            shift_number=mark.shift_number,
            receipt_number=mark.receipt_number,
            change=parse_kopecks(mark.change),
            operation=_OPERATIONS.index(_operation_of(mark, receipt.total)) if is_correction else None,
        )
        storage = _Storage(receipt.kkt, mark.kkt_serial, mark.registration_number, mark.fn_number, offset_min)
        text = _mark_text(storage, figures, receipt.type, receipt.total, base_s)
    except _OF_ANOTHER_FORM:
        return None
    return (storage, figures) if text == receipt.mark else None


def _operation_of(mark: FiscalMark, total: int) -> Operation:
    """The QR code alone tells it of a correction."""
    return next(operation for operation in _OPERATIONS if _qr_of(mark, total, operation) == mark.qr)


def _mark_text(storage: _Storage, figures: _Figures, kind: str, total: int, base_s: int) -> str:
    """The mark as it was stored."""
    zone = timezone(timedelta(minutes=storage.utc_offset_min))
    at = (_EPOCH + timedelta(seconds=figures.dated_after_s + base_s)).astimezone(zone)
    mark = FiscalMark.model_validate(
        {
            "kkt": storage.kkt,
            "kkt_serial": storage.kkt_serial,
            "registration_number": storage.registration_number,
            "fn_number": storage.fn_number,
            "fd_number": figures.fd_number,
            "fiscal_sign": str(figures.fiscal_sign)[1:],
            "datetime": at.isoformat(),
            "shift_number": figures.shift_number,
            "receipt_number": figures.receipt_number,
            "type": kind,
            "total": format_kopecks(total),
            "change": format_kopecks(figures.change),
            "qr": "",
        }
    )
    operation = _OPERATIONS[_TYPES.index(kind) if figures.operation is None else figures.operation]
    return mark.model_copy(update={"qr": _qr_of(mark, total, operation)}).model_dump_json()


def _qr_of(mark: FiscalMark, total: int, operation: Operation) -> str:
    return qr_text(
        datetime=mark.datetime,
        total=total,
        fn_number=mark.fn_number,
        fd_number=mark.fd_number,
        fiscal_sign=mark.fiscal_sign,
        operation=operation,
    )


def _stored(row: Any) -> StoredReceipt:
    base_ms = row.hlc_wall_ms
    mark = _mark(row)
    return StoredReceipt(
        id=None,
        key=ReceiptKey(row.pos_id, _unpacked(row.receipt_id)),
        kkt=row.kkt,
        status=_STATUSES[row.status],
        digest=row.digest,
        type=_TYPES[row.type],
        total=row.total,
        hlc=Hlc(base_ms, row.hlc_counter),
        server_time=None if row.server_after_s is None else row.server_after_s + base_ms // 1000,
        received_ms=row.received_after_ms + base_ms,
        printed_ms=None if row.printed_after_ms is None else row.printed_after_ms + base_ms,
        error_code=row.error_code,
        error_message=row.error_message,
        mark=mark,
        warnings=row.warnings if mark is None else row.warnings or _NO_WARNINGS,
        reply_topic=None,
        correlation=None,
    )


def _mark(row: Any) -> str | None:
    if row.fd_number is None:
        return None if row.mark is None else str(row.mark)
    storage = _Storage(*(getattr(row, name) for name in _Storage._fields))
    figures = _Figures(*(getattr(row, name) for name in _Figures._fields))
    return _mark_text(storage, figures, _TYPES[row.type], row.total, row.hlc_wall_ms // 1000)


def _storage_id(tx: Transaction, storage: _Storage) -> int:
    _ADD_STORAGE(tx.connection, storage._asdict())
    number = _STORAGE_ID.scalar(tx.connection, storage._asdict(), int)
    assert number is not None
    return number


def _packed(receipt_id: str) -> bytes | str:
    """The 16 bytes of an id; one that is no UUID in the form of the contract stays as it is, and is never confused."""
    try:
        number = UUID(receipt_id)
    except ValueError:
        return receipt_id
    return number.bytes if str(number) == receipt_id else receipt_id


def _unpacked(packed: bytes | str) -> str:
    return packed if isinstance(packed, str) else str(UUID(bytes=packed))


_t, _s = tombstones.c, storages.c
_found = select(
    *(column for column in _t if column.name != "storage"), *(_s[name] for name in _Storage._fields)
).select_from(tombstones.join(storages, _s.id == _t.storage))
_FIND: Final = PreparedStatement(
    _found.where(_t.receipt_id == bindparam("receipt_id"), _t.pos_id == bindparam("pos_id"))
)
_FIND_TOGETHER: Final = WhereIn(_found, _t.receipt_id)
_FIND_ANY: Final = PreparedStatement(_found.where(_t.receipt_id == bindparam("receipt_id")))
_REFUNDS: Final = PreparedStatement(
    select(_t.pos_id, _t.total).where(
        _t.original_receipt_id == bindparam("receipt_id"), _t.status != bindparam("rejected")
    )
)
_INSERT: Final = prepared_insert(insert(tombstones))
_ADD_STORAGE: Final = prepared_insert(insert(storages).prefix_with("OR IGNORE", dialect="sqlite"), without={"id"})
_STORAGE_ID: Final = PreparedStatement(select(_s.id).where(*(_s[name] == bindparam(name) for name in _Storage._fields)))

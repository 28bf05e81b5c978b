"""Taking receipts, and finding what became of them."""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, LargeBinary, Text, bindparam, delete, func, insert, select, update

from kkt_bridge.clock import Hlc
from kkt_bridge.journal.records import NewReceipt, PendingReceipt, RefundedSale, StoredReceipt, WaitingReceipt
from kkt_bridge.journal.statements import BulkInsert, PreparedStatement, WhereIn, prepared_insert
from kkt_bridge.journal.tables import (
    IS_PENDING,
    IS_UNPRINTED,
    IS_UNSENT,
    documents,
    receipts,
    refusals,
    requests,
)
from kkt_bridge.journal.tombstones import (
    find_tombstone,
    find_tombstones,
    find_tombstones_of,
    refunds_in_tombstones,
)
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import DeliveryState, Status

REFUSALS_OF_POS_MAX: Final = 1000
"""Refusals of one POS that are kept for redeliveries, the newest ones."""

REFUSALS_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of the replies among all refusals that are kept."""


def insert_receipt(tx: Transaction, new: NewReceipt) -> int:
    """Take a receipt: buffered, with its body, its step and its place in the order. Returns its row."""
    hlc = tx.tick()
    row_id = tx.new_id()
    tx.rows[_INSERT_RECEIPT].append(
        (
            row_id,
            new.key.receipt_id,
            new.key.pos_id,
            new.kkt,
            Status.BUFFERED.value,
            new.digest,
            new.type,
            new.total,
            new.original_receipt_id,
            new.reply_topic,
            new.correlation,
            0,
            hlc.wall_ms,
            hlc.counter,
            tx.instant.wall_ms,
            tx.instant.steady_ms,
        ),
    )
    tx.rows[_INSERT_BODY].append((row_id, new.body))
    tx.known.pop(new.key, None)
    tx.counts[new.kkt, Status.BUFFERED] += 1
    tx.queues.add(new.kkt)
    tx.step(row_id, new.key, new.kkt, None, Status.BUFFERED)
    return row_id


def look_up(tx: Transaction, keys: Iterable[ReceiptKey]) -> None:
    """Find the receipts with these keys together, for `known_receipt`."""
    wanted = dict.fromkeys(keys)
    ids = [key.receipt_id for key in wanted]
    # An id is hardly ever used by two terminals: what is found of others is no loss.
    tx.known |= wanted
    tx.known |= find_tombstones_of(tx.connection, ids)
    tx.known |= {stored.key: stored for stored in map(_stored, _FIND_TOGETHER(tx.connection, ids))}


def known_receipt(tx: Transaction, key: ReceiptKey) -> StoredReceipt | None:
    """The receipt with this key as it stands in this transaction."""
    if key not in tx.known:
        tx.known[key] = find_receipt(tx.connection, key)
    return tx.known[key]


def find_receipt(connection: Connection, key: ReceiptKey) -> StoredReceipt | None:
    """The receipt with this key, from its row or from what was left of it."""
    row = _FIND(connection, key._asdict()).fetchone()
    return find_tombstone(connection, key) if row is None else _stored(row)


def find_receipts(connection: Connection, receipt_id: str) -> list[StoredReceipt]:
    """Every receipt with this id, whichever POS it came from."""
    living = [_stored(row) for row in _FIND_ANY(connection, {"receipt_id": receipt_id})]
    return living + find_tombstones(connection, receipt_id)


def record_of(connection: Connection, row_id: int) -> StoredReceipt | None:
    """The full record in this row."""
    row = _FIND_ROW(connection, {"row_id": row_id}).fetchone()
    return None if row is None else _stored(row)


def find_refunded_sale(connection: Connection, key: ReceiptKey) -> RefundedSale | None:
    """The sale that a refund means which names this id and comes from this POS, with what was refunded of it so far.

    Several POS may have used the id: the refund means the sale of its own POS, and where that has none, the first.
    """
    sales = [stored for stored in find_receipts(connection, key.receipt_id) if stored.type == "sale"]
    if not sales:
        return None
    sale = next((sale for sale in sales if sale.key == key), sales[0])
    sellers = {other.key.pos_id for other in sales if other is not sale}
    refunds = [(row.pos_id, row.total) for row in _REFUNDS(connection, {"receipt_id": key.receipt_id})]
    refunds += refunds_in_tombstones(connection, key.receipt_id)
    # A refund from the POS of another such sale was one of that sale.
    refunded = sum(kopecks for refunder, kopecks in refunds if refunder not in sellers)
    return RefundedSale(status=sale.status, type=sale.type, total=sale.total, refunded=refunded)


def readdress(tx: Transaction, stored: StoredReceipt, topic: str, correlation: bytes | None) -> None:
    """Send the final reply, when it comes, to whoever asked last."""
    tx.known.pop(stored.key, None)
    _READDRESS(tx.connection, {"row_id": stored.id, "new_topic": topic, "new_correlation": correlation})


def body_of(connection: Connection, row_id: int) -> str:
    """The canonical request of a receipt."""
    return _BODY.scalar(connection, {"receipt": row_id}, str) or ""


def stored_body(connection: Connection, stored: StoredReceipt) -> str | None:
    """The same; None once it was purged."""
    return None if stored.id is None else body_of(connection, stored.id) or None


def pending_page(connection: Connection, status: Status, kkt: str, after: int, limit: int) -> list[PendingReceipt]:
    """A register's receipts in one of the pending states, in the order of their arrival, behind this row id."""
    return [
        PendingReceipt(
            id=row.id,
            key=ReceiptKey(row.pos_id, row.receipt_id),
            kkt=row.kkt,
            status=Status(row.status),
            received_ms=row.received_ms,
            attempts=row.attempts or 0,
            last_error=row.last_error,
        )
        for row in _PENDING_PAGE(connection, {"status": status, "kkt": kkt, "after": after, "limit": limit})
    ]


def oldest_received_ms(connection: Connection, status: Status, kkt: str) -> int | None:
    """When the oldest of a register's receipts in one of the pending states was received."""
    return _OLDEST.scalar(connection, {"status": status, "kkt": kkt}, int)


def oldest_pending_ms(connection: Connection, queues: Iterable[tuple[Status, str]]) -> int | None:
    """When the oldest receipt in any of these queues (status, register) was received."""
    times = (oldest_received_ms(connection, status, kkt) for status, kkt in queues)
    return min((ms for ms in times if ms is not None), default=None)


def first_unsent_ms(connection: Connection, kkt: str) -> int | None:
    """When the oldest of a register's documents that the OFD lacks was printed, undecided dead letters included."""
    printed = _OLDEST_PRINTED.scalar(connection, {"status": Status.PRINTED, "kkt": kkt}, int)
    dead = _OLDEST_DEAD.scalar(connection, {"kkt": kkt}, int)
    return min((ms for ms in (printed, dead) if ms is not None), default=None)


def find_refusal(connection: Connection, digest: bytes) -> bytes | None:
    """The reply with which these very bytes were refused before."""
    return _FIND_REFUSAL.scalar(connection, {"digest": digest}, bytes)


def last_refusal_of(connection: Connection, receipt_id: str, pos_id: str | None) -> tuple[bytes, int] | None:
    """The newest reply that refused this receipt, as far as it is kept, and when it was given, in steady milliseconds.

    Looks through all that are kept, at most `REFUSALS_BYTES_MAX`: for a person's question, not for the intake.
    """
    asked = {"receipt_id": receipt_id.encode(), "pos_id": pos_id}
    row = next(iter(_LAST_REFUSAL(connection, asked)), None)
    return (row.reply, row.refused_steady_ms) if row is not None else None


def remember_refusal(tx: Transaction, *, pos_id: str, digest: bytes, reply: bytes) -> None:
    """Keep a refusal for the broker's redeliveries; a fresh one replaces it."""
    tx.rows[_REMEMBER].append((tx.new_id(), pos_id, digest, reply, tx.instant.steady_ms))


def trim_refusals(tx: Transaction) -> None:
    """Drop the oldest refusals of a POS that has more than `REFUSALS_OF_POS_MAX`, and of all beyond their bytes.

    A redelivery repeats only what was not acknowledged, which is far less.
    """
    _TRIM_REFUSALS_OF_POS(tx.connection, {})
    _TRIM_REFUSALS(tx.connection, {})


def unprinted_after(connection: Connection, status: Status, kkt: str, after: int, limit: int) -> list[WaitingReceipt]:
    """A register's receipts, buffered or printing, in the order of their arrival, behind this row id."""
    rows = _UNPRINTED(connection, {"status": status, "kkt": kkt, "after": after, "limit": limit})
    return [WaitingReceipt(_stored(row), row.received_steady_ms, bool(row.notified)) for row in rows]


def mark_notified(tx: Transaction, row_id: int) -> bool:
    """Note that the POS gets a `buffered` reply; False if the receipt has moved on and needs none."""
    return _MARK_NOTIFIED(tx.connection, {"row_id": row_id}).rowcount == 1


def _stored(row: Any) -> StoredReceipt:
    return StoredReceipt(
        id=row.id,
        key=ReceiptKey(row.pos_id, row.receipt_id),
        kkt=row.kkt,
        status=Status(row.status),
        digest=row.digest,
        type=row.type,
        total=row.total,
        hlc=Hlc(row.hlc_wall_ms, row.hlc_counter),
        server_time=row.server_time,
        received_ms=row.received_ms,
        printed_ms=row.printed_ms,
        error_code=row.error_code,
        error_message=row.error_message,
        mark=row.mark,
        warnings=row.warnings,
        reply_topic=row.reply_topic,
        correlation=row.correlation,
    )


_r = receipts.c
_with_document = receipts.outerjoin(documents, documents.c.id == _r.document)
_live = select(*_r, documents.c.mark, documents.c.warnings).select_from(_with_document)
_INSERT_RECEIPT: Final = BulkInsert(
    prepared_insert(
        insert(receipts),
        without={
            *("server_time", "fn_before", "fd_before", "document", "printed_ms"),
            *("ended_steady_ms", "error_code", "error_message"),
        },
    )
)
_INSERT_BODY: Final = BulkInsert(prepared_insert(insert(requests)))
_FIND: Final = PreparedStatement(
    _live.where(_r.receipt_id == bindparam("receipt_id"), _r.pos_id == bindparam("pos_id"))
)
_FIND_TOGETHER: Final = WhereIn(_live, _r.receipt_id)
_FIND_ROW: Final = PreparedStatement(_live.where(_r.id == bindparam("row_id")))
_FIND_ANY: Final = PreparedStatement(_live.where(_r.receipt_id == bindparam("receipt_id")))
_REFUNDS: Final = PreparedStatement(
    select(_r.pos_id, _r.total).where(_r.original_receipt_id == bindparam("receipt_id"), _r.status != Status.REJECTED)
)
_READDRESS: Final = PreparedStatement(
    update(receipts)
    .where(_r.id == bindparam("row_id"))
    .values(reply_topic=bindparam("new_topic"), correlation=bindparam("new_correlation"))
)
_BODY: Final = PreparedStatement(select(requests.c.body).where(requests.c.receipt == bindparam("receipt")))
_of_register = (_r.status == bindparam("status")) & (_r.kkt == bindparam("kkt"))
_PENDING_PAGE: Final = PreparedStatement(
    select(*_r, documents.c.attempts, documents.c.last_error)
    .select_from(_with_document)
    .where(IS_PENDING, _of_register, _r.id > bindparam("after"))
    .order_by(_r.id)
    .limit(bindparam("limit"))
)
_OLDEST: Final = PreparedStatement(select(_r.received_ms).where(IS_PENDING, _of_register).order_by(_r.id).limit(1))
_OLDEST_DEAD: Final = PreparedStatement(
    select(_r.printed_ms)
    .select_from(documents.join(receipts, _r.id == documents.c.receipt))
    .where(IS_UNSENT, documents.c.delivery == DeliveryState.DEAD, documents.c.kkt == bindparam("kkt"))
    .order_by(documents.c.id)
    .limit(1)
)
_OLDEST_PRINTED: Final = PreparedStatement(
    select(_r.printed_ms).where(IS_PENDING, _of_register).order_by(_r.id).limit(1)
)
_UNPRINTED: Final = PreparedStatement(
    _live.where(IS_PENDING, _of_register, _r.id > bindparam("after")).order_by(_r.id).limit(bindparam("limit"))
)
_FIND_REFUSAL: Final = PreparedStatement(select(refusals.c.reply).where(refusals.c.digest == bindparam("digest")))
_LAST_REFUSAL: Final = PreparedStatement(
    select(refusals.c.reply, refusals.c.refused_steady_ms)
    .where(
        func.instr(refusals.c.reply, bindparam("receipt_id", type_=LargeBinary)) > 0,
        refusals.c.pos_id == func.coalesce(bindparam("pos_id", type_=Text), refusals.c.pos_id),
    )
    .order_by(refusals.c.id.desc())
    .limit(1)
)
_REMEMBER: Final = BulkInsert(prepared_insert(insert(refusals).prefix_with("OR REPLACE", dialect="sqlite")))
_f = refusals.c
_newest_of_pos = select(
    _f.id, func.row_number().over(partition_by=_f.pos_id, order_by=_f.id.desc()).label("place")
).subquery()
_TRIM_REFUSALS_OF_POS: Final = PreparedStatement(
    delete(refusals).where(_f.id.in_(select(_newest_of_pos.c.id).where(_newest_of_pos.c.place > REFUSALS_OF_POS_MAX)))
)
_newest = select(_f.id, func.sum(func.length(_f.reply)).over(order_by=_f.id.desc()).label("bytes")).subquery()
_TRIM_REFUSALS: Final = PreparedStatement(
    delete(refusals).where(_f.id.in_(select(_newest.c.id).where(_newest.c.bytes > REFUSALS_BYTES_MAX)))
)
_MARK_NOTIFIED: Final = PreparedStatement(
    update(receipts).where(_r.id == bindparam("row_id"), _r.notified == 0, IS_UNPRINTED).values(notified=1)
)

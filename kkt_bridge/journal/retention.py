"""Purging: full records go after a while, in small steps; what is left keeps their keys for ever.

Every age is one by the steady clock, which runs only while the bridge does: a wall clock that is years
off ages nothing, and nothing goes before the time that was promised for it.
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Connection, bindparam, delete, select, text

from kkt_bridge.journal.document_queue import expire
from kkt_bridge.journal.receipts import record_of
from kkt_bridge.journal.records import ReceiptRow
from kkt_bridge.journal.statements import PreparedStatement
from kkt_bridge.journal.tables import (
    IS_EVENT,
    IS_FINISHED_COMMAND,
    IS_LOOSE_STEP,
    bodies,
    commands,
    documents,
    outbox,
    receipts,
    refusals,
    requests,
    steps,
)
from kkt_bridge.journal.tombstones import write_tombstones
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import DeliveryState, Status

_FINISHED: Final = (Status.SYNCED, Status.REJECTED)


class PurgeLimits(NamedTuple):
    """Before when something must have ended to go, in milliseconds of the steady clock."""

    synced_before_ms: int
    """Receipts that went their way; refusals; commands that only asked."""
    dead_before_ms: int
    """Dead letters, and what operators did."""
    events_before_ms: int
    """Steps older than this are no news any more, and need not wait for the broker."""
    steps_published: int
    """The last step that the broker has."""


class Page(NamedTuple):
    """What a look at some rows found."""

    aged: list[int]
    """The rows whose time has come."""
    after: int | None
    """The row to go on from; None when there is nothing further that could be old enough."""


class ExpiringRecords(NamedTuple):
    """A kind of record that belongs to no receipt, and how the old ones of it are found and dropped."""

    name: str
    find: PreparedStatement
    drop: PreparedStatement
    limit: str
    """Which of the limits counts for it."""


def aged_receipts(connection: Connection, limits: PurgeLimits, after: int, rows_max: int) -> Page:
    """Look for receipts whose time has come among the next rows behind `after`."""
    rows = list(_ROWS_AFTER(connection, {"after": after, "limit": rows_max}))
    aged = [row.id for row in rows if _is_overdue(row, limits) or _may_go(connection, row, limits)]
    # They stand in the order in which they were received, and none ended before that.
    if len(rows) < rows_max or rows[-1].received_steady_ms >= max(limits.synced_before_ms, limits.dead_before_ms):
        return Page(aged, None)
    return Page(aged, int(rows[-1].id))


def purge_receipts(tx: Transaction, limits: PurgeLimits, aged: list[int]) -> int:
    """Turn these receipts into tombstones, except those that something has happened to since they were found.

    A dead letter on which nobody has decided is only given up now, and goes when the world has been told.
    Returns how many those were.
    """
    rows = [row for row_id in aged if (row := _ROW(tx.connection, {"row_id": row_id}).fetchone())]
    overdue = [row for row in rows if _is_overdue(row, limits)]
    for row in overdue:
        expire(
            tx, ReceiptRow(row.id, ReceiptKey(row.pos_id, row.receipt_id), row.kkt, Status(row.status)), row.document
        )
    going = [row for row in rows if not _is_overdue(row, limits) and _may_go(tx.connection, row, limits)]
    if going:
        records = [record for row in going if (record := record_of(tx.connection, row.id)) is not None]
        write_tombstones(tx, records, [row.original_receipt_id for row in going])
        for statement, key in _PURGE:
            statement(tx.connection, [{"key": getattr(row, key)} for row in going])
    for row in going:
        tx.counts[row.kkt, row.status] -= 1
    return len(overdue)


def expired_keys(connection: Connection, trace: ExpiringRecords, limits: PurgeLimits, batch: int) -> list[Any]:
    """The keys of the oldest records of this kind whose time is over."""
    rows = trace.find(connection, {"before": getattr(limits, trace.limit), "limit": batch})
    return [row[0] for row in rows]


def drop_expired(tx: Transaction, trace: ExpiringRecords, limits: PurgeLimits, batch: int) -> None:
    """Drop so many of them."""
    keys = expired_keys(tx.connection, trace, limits, batch)
    trace.drop(tx.connection, [{"key": key} for key in keys])


def _is_overdue(row: Any, limits: PurgeLimits) -> bool:
    """A dead letter that has waited long enough for somebody to decide on it."""
    return bool(
        row.status == Status.DEAD and row.delivery == DeliveryState.DEAD and row.ended_steady_ms < limits.dead_before_ms
    )


def _may_go(connection: Connection, row: Any, limits: PurgeLimits) -> bool:
    if row.status in _FINISHED:
        is_old = row.ended_steady_ms < limits.synced_before_ms
    else:
        is_old = row.delivery == DeliveryState.EXPIRED or (
            row.delivery == DeliveryState.DISCARDED and row.ended_steady_ms < limits.dead_before_ms
        )
    return is_old and _is_told(connection, row, limits)


def _is_told(connection: Connection, row: Any, limits: PurgeLimits) -> bool:
    """Whether the world knows how it ended: the steps go with the receipt, and events are made of them."""
    if row.ended_steady_ms < limits.events_before_ms:
        return True
    return (_LAST_STEP.scalar(connection, {"row_id": row.id}, int) or 0) <= limits.steps_published


_r, _d = receipts.c, documents.c
_rows = select(*_r, _d.delivery).select_from(receipts.outerjoin(documents, _d.id == _r.document))
_ROW: Final = PreparedStatement(_rows.where(_r.id == bindparam("row_id")))
_ROWS_AFTER: Final = PreparedStatement(
    _rows.where(_r.id > bindparam("after")).order_by(_r.id).limit(bindparam("limit"))
)
_LAST_STEP: Final = PreparedStatement(
    select(steps.c.id).where(steps.c.receipt == bindparam("row_id")).order_by(steps.c.id.desc()).limit(1)
)


def _drop(column: Column[Any]) -> PreparedStatement:
    return PreparedStatement(delete(column.table).where(column == bindparam("key")))


_PURGE: Final = (
    (_drop(requests.c.receipt), "id"),
    (_drop(bodies.c.document), "document"),
    (_drop(_d.id), "document"),
    (_drop(steps.c.receipt), "id"),
    (_drop(_r.id), "id"),
)


def _expiring(name: str, limit: str, age: Column[Any], *is_old: Any) -> ExpiringRecords:
    """The kind of record of which those that are old go, the oldest by `age` first."""
    old = select(age.table.c.id).where(*is_old).order_by(age).limit(bindparam("limit"))
    return ExpiringRecords(name, PreparedStatement(old), _drop(age.table.c.id), limit)


_c, _f, _s, _o = commands.c, refusals.c, steps.c, outbox.c
_before: Any = bindparam("before")
_is_old_command = IS_FINISHED_COMMAND, _c.finished_steady_ms < _before
EXPIRING_RECORDS: Final = (
    _expiring(
        "commands that only asked", "synced_before_ms", _c.finished_steady_ms, *_is_old_command, _c.only_asks == 1
    ),
    _expiring("commands", "dead_before_ms", _c.finished_steady_ms, *_is_old_command, _c.only_asks == 0),
    _expiring("refusals", "synced_before_ms", _f.refused_steady_ms, _f.refused_steady_ms < _before),
    _expiring("steps of refused requests", "steps_published", _s.id, IS_LOOSE_STEP, _s.id <= _before),
    _expiring("events", "events_before_ms", _o.created_steady_ms, IS_EVENT, _o.created_steady_ms < _before),
)
"""Replies are not among them: they wait for the broker for ever."""


STEP_PAGES: Final = 16
"""Pages given back in one commit. Each is moved from the end of the file, and what points at it is changed."""


class Space(NamedTuple):
    """Pages of the file: those that hold nothing, and all."""

    free: int
    pages: int


def space_of(connection: Connection) -> Space:
    """How the file stands."""
    free = _FREE.scalar(connection, {}, int) or 0
    return Space(free, _PAGES.scalar(connection, {}, int) or 0)


def vacuum(tx: Transaction) -> None:
    """Make the file a little shorter; nothing happens where it was made without `auto_vacuum`."""
    for _ in range(STEP_PAGES):
        _GIVE_BACK(tx.connection, {})


_FREE: Final = PreparedStatement(text("PRAGMA freelist_count"))
_PAGES: Final = PreparedStatement(text("PRAGMA page_count"))
# A larger number would do no more: the driver stops behind the first page, as it sees a statement without rows.
_GIVE_BACK: Final = PreparedStatement(text("PRAGMA incremental_vacuum(1)"))

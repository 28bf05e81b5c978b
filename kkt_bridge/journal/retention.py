"""Purging: full records go after a while, in small steps; what is left keeps their keys for ever."""

from typing import Final, NamedTuple

from sqlalchemy import BindParameter, bindparam, delete, insert, select

from kkt_bridge.journal.statements import Prepared
from kkt_bridge.journal.tables import commands, documents, receipts, refusals, requests, steps, tombstones
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.lifecycle import Status

_FINISHED: Final = (Status.SYNCED, Status.REJECTED)


class PurgeLimits(NamedTuple):
    """Before when a record must have ended to be purged, in wall milliseconds."""

    synced_before_ms: int
    dead_before_ms: int
    events_before_ms: int
    """Steps older than this are no news any more, and need not wait for the broker."""
    steps_published: int
    """The last step that the broker has."""


def purge_receipts(tx: Transaction, limits: PurgeLimits, after: int, batch: int) -> int | None:
    """Turn ended receipts among the next `batch` rows behind `after` into tombstones.

    Returns the row id to go on from, or None when there is nothing further that is old enough.
    """
    rows = list(tx.execute(_NEXT_ROWS, {"after": after, "limit": batch}))
    ended = [
        row.id
        for row in rows
        if _may_go(row.status, row.delivery, row.ended_ms, limits) and _is_told(tx, row.id, row.ended_ms, limits)
    ]
    for row_id in ended:
        for statement in _PURGE:
            tx.execute(statement, {"row_id": row_id})
    for row in rows:
        if row.id in ended:
            tx.count(row.kkt, row.status, -1)
    if len(rows) < batch or rows[-1].received_ms >= limits.synced_before_ms:
        return None
    return int(rows[-1].id)


def purge_traces(tx: Transaction, limits: PurgeLimits, batch: int) -> int:
    """Drop refusals and finished commands that are too old; return how many."""
    parameters = {"before": limits.synced_before_ms, "limit": batch}
    return tx.execute(_OLD_COMMANDS, parameters).rowcount + tx.execute(_OLD_REFUSALS, parameters).rowcount


def _may_go(status: str, delivery: str | None, ended_ms: int | None, limits: PurgeLimits) -> bool:
    if ended_ms is None:
        return False
    if status in _FINISHED:
        return ended_ms < limits.synced_before_ms
    return delivery == "discarded" and ended_ms < limits.dead_before_ms


def _is_told(tx: Transaction, row_id: int, ended_ms: int, limits: PurgeLimits) -> bool:
    """Whether the world knows how it ended: the steps go with the receipt, and events are made of them."""
    if ended_ms < limits.events_before_ms:
        return True
    return (tx.execute(_LAST_STEP, {"row_id": row_id}).scalar(int) or 0) <= limits.steps_published


_r, _d, _t = receipts.c, documents.c, tombstones.c
_kept = [
    "receipt_id",
    "pos_id",
    "kkt",
    "status",
    "digest",
    "type",
    "total",
    "original_receipt_id",
    "hlc_wall_ms",
    "hlc_counter",
    "server_time",
    "received_ms",
    "printed_ms",
    "error_code",
    "error_message",
]
_NEXT_ROWS: Final = Prepared(
    select(_r.id, _r.kkt, _r.status, _r.received_ms, _r.ended_ms, _d.delivery)
    .select_from(receipts.outerjoin(documents, _d.id == _r.document))
    .where(_r.id > bindparam("after"))
    .order_by(_r.id)
    .limit(bindparam("limit"))
)
_LAST_STEP: Final = Prepared(
    select(steps.c.id).where(steps.c.receipt == bindparam("row_id")).order_by(steps.c.id.desc()).limit(1)
)
_row_id: BindParameter[int] = bindparam("row_id")
_PURGE: Final = (
    Prepared(
        insert(tombstones).from_select(
            [*_kept, "mark", "warnings"],
            select(*(_r[name] for name in _kept), _d.mark, _d.warnings)
            .select_from(receipts.outerjoin(documents, _d.id == _r.document))
            .where(_r.id == _row_id),
        )
    ),
    Prepared(delete(requests).where(requests.c.receipt == _row_id)),
    Prepared(delete(documents).where(_d.id == select(_r.document).where(_r.id == _row_id).scalar_subquery())),
    Prepared(delete(steps).where(steps.c.receipt == _row_id)),
    Prepared(delete(receipts).where(_r.id == _row_id)),
)
_OLD_COMMANDS: Final = Prepared(
    delete(commands).where(
        commands.c.id.in_(
            select(commands.c.id)
            .where(commands.c.result.is_not(None), commands.c.taken_ms < bindparam("before"))
            .order_by(commands.c.taken_ms)
            .limit(bindparam("limit"))
        )
    )
)
_OLD_REFUSALS: Final = Prepared(
    delete(refusals).where(
        refusals.c.digest.in_(
            select(refusals.c.digest).where(refusals.c.refused_ms < bindparam("before")).limit(bindparam("limit"))
        )
    )
)

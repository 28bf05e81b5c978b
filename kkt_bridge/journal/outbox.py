"""What the broker is still to be told: messages of the outbox, and steps not yet published as events."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, select

from kkt_bridge.journal import tables
from kkt_bridge.journal.records import OutboxMessage, Step
from kkt_bridge.journal.settings import get_setting, set_setting
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.lifecycle import Status

_STEPS_PUBLISHED: Final = "steps_published"


def messages_after(connection: Connection, after: int, limit: int) -> list[OutboxMessage]:
    """Messages behind this id, oldest first."""
    rows = connection.execute(_MESSAGES, {"after": after, "limit": limit})
    return [
        OutboxMessage(row.id, row.topic, row.payload, row.correlation, bool(row.is_event), row.created_ms)
        for row in rows
    ]


def forget_messages(tx: Transaction, ids: Sequence[int]) -> None:
    """The broker has these."""
    tx.execute(_FORGET, [{"message": message} for message in ids])


def drop_old_events(tx: Transaction, created_before_ms: int) -> int:
    """Drop events too old to be news; replies are never dropped."""
    return tx.execute(_DROP_OLD_EVENTS, {"before": created_before_ms}).rowcount


def steps_after(connection: Connection, after: int, limit: int) -> list[Step]:
    """Steps behind this id, in order."""
    return [
        Step(
            row.id,
            row.commit_no,
            row.receipt_id,
            row.pos_id,
            row.kkt,
            Status(row.from_status) if row.from_status else None,
            Status(row.to_status),
            row.fd_number,
            row.error,
            row.at_ms,
        )
        for row in connection.execute(_STEPS, {"after": after, "limit": limit})
    ]


def steps_published(connection: Connection) -> int:
    """The id of the last step that the broker has."""
    return int(get_setting(connection, _STEPS_PUBLISHED) or 0)


def set_steps_published(tx: Transaction, step: int) -> None:
    """The broker has every step up to this one."""
    set_setting(tx, _STEPS_PUBLISHED, str(step))


def last_step_before(connection: Connection, at_ms: int) -> int:
    """The newest step that happened before then, looking at the oldest unpublished ones first; 0 if there is none."""
    return int(connection.execute(_LAST_STEP_BEFORE, {"at_ms": at_ms}).scalar_one() or 0)


_o, _s = tables.outbox.c, tables.steps.c
_MESSAGES: Final = (
    select(_o.id, _o.topic, _o.payload, _o.correlation, _o.is_event, _o.created_ms)
    .where(_o.id > bindparam("after"))
    .order_by(_o.id)
    .limit(bindparam("limit"))
)
_FORGET: Final = delete(tables.outbox).where(_o.id == bindparam("message"))
_DROP_OLD_EVENTS: Final = delete(tables.outbox).where(_o.is_event == 1, _o.created_ms < bindparam("before"))
_STEPS: Final = (
    select(
        _s.id,
        _s.commit_no,
        _s.receipt_id,
        _s.pos_id,
        _s.kkt,
        _s.from_status,
        _s.to_status,
        _s.fd_number,
        _s.error,
        _s.at_ms,
    )
    .where(_s.id > bindparam("after"))
    .order_by(_s.id)
    .limit(bindparam("limit"))
)
_LAST_STEP_BEFORE: Final = select(func.max(_s.id)).where(_s.at_ms < bindparam("at_ms"))

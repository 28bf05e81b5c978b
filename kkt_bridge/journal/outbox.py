"""What the broker is still to be told: replies for ever, events while they are news."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select

from kkt_bridge.journal import tables
from kkt_bridge.journal.records import OutboxMessage
from kkt_bridge.journal.statements import Prepared
from kkt_bridge.journal.transaction import Transaction


def messages_after(connection: Connection, after: int, limit: int) -> list[OutboxMessage]:
    """Messages behind this id, oldest first."""
    rows = _MESSAGES(connection, {"after": after, "limit": limit})
    return [OutboxMessage(row.id, row.topic, row.payload, row.correlation, bool(row.is_event)) for row in rows]


def forget_messages(tx: Transaction, ids: Sequence[int]) -> None:
    """The broker has these."""
    tx.execute(_FORGET, [{"message": message} for message in ids])


_o = tables.outbox.c
_MESSAGES: Final = Prepared(
    select(_o.id, _o.topic, _o.payload, _o.correlation, _o.is_event)
    .where(_o.id > bindparam("after"))
    .order_by(_o.id)
    .limit(bindparam("limit"))
)
_FORGET: Final = Prepared(delete(tables.outbox).where(_o.id == bindparam("message")))

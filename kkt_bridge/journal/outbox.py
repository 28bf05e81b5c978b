"""What the broker is still to be told: replies for ever, events while they are news."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select

from kkt_bridge.journal import tables
from kkt_bridge.journal.rows import Message
from kkt_bridge.journal.statements import Prepared, Together
from kkt_bridge.journal.transaction import Transaction


def messages_after(connection: Connection, after: int, limit: int) -> list[Message]:
    """Messages behind this id, oldest first."""
    rows = _MESSAGES(connection, {"after": after, "limit": limit})
    return [Message(*row) for row in rows]


def message_with(connection: Connection, number: int) -> Message | None:
    """The message with this id; None if it is gone."""
    row = _MESSAGE(connection, {"id": number}).one_or_none()
    return None if row is None else Message(*row)


def messages_on(connection: Connection, topic: str, *, after: int, upto: int, limit: int) -> list[Message]:
    """Messages on this topic behind one id and up to another, oldest first.

    Goes through the outbox itself: an index would cost a page in every commit, for what is rare and read seldom.
    """
    rows = _OF_TOPIC(connection, {"topic": topic, "after": after, "upto": upto, "limit": limit})
    return [Message(*row) for row in rows]


def forget_messages(tx: Transaction, ids: Sequence[int]) -> None:
    """The broker has these."""
    _FORGET.change(tx.connection, ids)


_o = tables.outbox.c
_MESSAGES: Final = Prepared(
    select(*(_o[name] for name in Message._fields))
    .where(_o.id > bindparam("after"))
    .order_by(_o.id)
    .limit(bindparam("limit"))
)
_MESSAGE: Final = Prepared(select(*(_o[name] for name in Message._fields)).where(_o.id == bindparam("id")))
_OF_TOPIC: Final = Prepared(
    select(*(_o[name] for name in Message._fields))
    .where(_o.id > bindparam("after"), _o.id <= bindparam("upto"), _o.topic == bindparam("topic"))
    .order_by(_o.id)
    .limit(bindparam("limit"))
)
_FORGET: Final = Together(delete(tables.outbox), _o.id)

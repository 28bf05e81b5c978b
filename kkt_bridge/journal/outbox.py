"""What the broker is still to be told: replies for ever, events while they are news."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select

from kkt_bridge.journal import tables
from kkt_bridge.journal.records import Message, Step
from kkt_bridge.journal.settings import SET_SETTING, get_setting
from kkt_bridge.journal.statements import PreparedStatement, WhereIn
from kkt_bridge.journal.tables import IS_LOOSE_STEP, receipts, steps
from kkt_bridge.journal.transaction import Transaction


def messages_after(connection: Connection, after: int, limit: int) -> list[Message]:
    """Messages behind this id, oldest first."""
    rows = _MESSAGES(connection, {"after": after, "limit": limit})
    return [Message(*row) for row in rows]


def message_with(connection: Connection, number: int) -> Message | None:
    """The message with this id; None if it is gone."""
    row = _MESSAGE(connection, {"id": number}).fetchone()
    return None if row is None else Message(*row)


def messages_on(connection: Connection, topic: str, *, after: int, upto: int, limit: int) -> list[Message]:
    """Messages on this topic behind one id and up to another, oldest first.

    Goes through the outbox itself: an index would cost a page in every commit, for what is rare and read seldom.
    """
    rows = _OF_TOPIC(connection, {"topic": topic, "after": after, "upto": upto, "limit": limit})
    return [Message(*row) for row in rows]


def forget_messages(tx: Transaction, ids: Sequence[int]) -> None:
    """The broker has these."""
    _FORGET(tx.connection, ids)


_o = tables.outbox.c
_messages = select(*(_o[name] for name in Message._fields))
_behind = _messages.where(_o.id > bindparam("after")).order_by(_o.id).limit(bindparam("limit"))
_MESSAGES: Final = PreparedStatement(_behind)
_MESSAGE: Final = PreparedStatement(_messages.where(_o.id == bindparam("id")))
_OF_TOPIC: Final = PreparedStatement(_behind.where(_o.id <= bindparam("upto"), _o.topic == bindparam("topic")))
_FORGET: Final = WhereIn(delete(tables.outbox), _o.id)


_PUBLISHED: Final = "steps_published"

LOOSE_DROPPED_MAX: Final = 2000
"""Steps of refused requests dropped at once."""


def history_of(connection: Connection, receipt: int) -> list[Step]:
    """Every step of a receipt, in order."""
    return [Step(*row) for row in _HISTORY(connection, {"receipt": receipt})]


def steps_after(connection: Connection, after: int, limit: int) -> list[Step]:
    """Steps behind this id, in order."""
    return [Step(*row) for row in _STEPS(connection, {"after": after, "limit": limit})]


def with_sales(connection: Connection, told: Sequence[Step]) -> list[Step]:
    """These steps with the type, total and time of arrival of their receipts, as far as those are still here."""
    wanted = dict.fromkeys(step.receipt for step in told if step.receipt is not None)
    sales = {sale.id: sale for sale in _SALES(connection, list(wanted))}
    return [
        step._replace(type=sale.type, total=sale.total, received_ms=sale.received_ms)
        if (sale := sales.get(step.receipt)) is not None
        else step
        for step in told
    ]


def steps_published(connection: Connection) -> int:
    """The id of the last step that the broker has."""
    return int(get_setting(connection, _PUBLISHED) or 0)


def set_steps_published(tx: Transaction, step: int) -> None:
    """The broker has every step up to this one: those that belong to no receipt are needed no longer."""
    tx.rows[SET_SETTING].append((_PUBLISHED, str(step)))
    _DROP_LOOSE(tx.connection, {"step": step, "limit": LOOSE_DROPPED_MAX})


_s = steps.c
_columns = select(*(_s[name] for name in Step._fields))
_HISTORY: Final = PreparedStatement(_columns.where(_s.receipt == bindparam("receipt")).order_by(_s.id))
_loose = select(_s.id).where(IS_LOOSE_STEP, _s.id <= bindparam("step")).order_by(_s.id).limit(bindparam("limit"))
_DROP_LOOSE: Final = PreparedStatement(delete(steps).where(_s.id.in_(_loose)))
_STEPS: Final = PreparedStatement(_columns.where(_s.id > bindparam("after")).order_by(_s.id).limit(bindparam("limit")))
_r = receipts.c
_SALES: Final = WhereIn(select(_r.id, _r.type, _r.total, _r.received_ms), _r.id)

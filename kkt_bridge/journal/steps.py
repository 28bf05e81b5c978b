"""The steps of receipts: their history, and the source of `event/receipt`."""

from typing import Final

from sqlalchemy import Connection, bindparam, select

from kkt_bridge.journal.rows import Step
from kkt_bridge.journal.settings import get_setting, set_setting
from kkt_bridge.journal.statements import Prepared
from kkt_bridge.journal.tables import steps
from kkt_bridge.journal.transaction import Transaction

_PUBLISHED: Final = "steps_published"


def history_of(connection: Connection, receipt: int) -> list[Step]:
    """Every step of a receipt, in order."""
    return [Step(*row) for row in _HISTORY(connection, {"receipt": receipt})]


def steps_after(connection: Connection, after: int, limit: int) -> list[Step]:
    """Steps behind this id, in order."""
    return [Step(*row) for row in _STEPS(connection, {"after": after, "limit": limit})]


def steps_published(connection: Connection) -> int:
    """The id of the last step that the broker has."""
    return int(get_setting(connection, _PUBLISHED) or 0)


def set_steps_published(tx: Transaction, step: int) -> None:
    """The broker has every step up to this one."""
    set_setting(tx, _PUBLISHED, str(step))


_s = steps.c
_columns = select(*(_s[name] for name in Step._fields))
_HISTORY: Final = Prepared(_columns.where(_s.receipt == bindparam("receipt")).order_by(_s.id))
_STEPS: Final = Prepared(_columns.where(_s.id > bindparam("after")).order_by(_s.id).limit(bindparam("limit")))

"""The steps of receipts: their history, and the source of `event/receipt`."""

from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from kkt_bridge.journal.records import Step
from kkt_bridge.journal.settings import get_setting, set_setting
from kkt_bridge.journal.statements import Prepared
from kkt_bridge.journal.tables import steps
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.lifecycle import Status

_PUBLISHED: Final = "steps_published"


def history_of(connection: Connection, receipt: int) -> list[Step]:
    """Every step of a receipt, in order."""
    return [_step(row) for row in _HISTORY(connection, {"receipt": receipt})]


def steps_after(connection: Connection, after: int, limit: int) -> list[Step]:
    """Steps behind this id, in order."""
    return [_step(row) for row in _STEPS(connection, {"after": after, "limit": limit})]


def steps_published(connection: Connection) -> int:
    """The id of the last step that the broker has."""
    return int(get_setting(connection, _PUBLISHED) or 0)


def set_steps_published(tx: Transaction, step: int) -> None:
    """The broker has every step up to this one."""
    set_setting(tx, _PUBLISHED, str(step))


def _step(row: Any) -> Step:
    return Step(
        id=row.id,
        receipt_id=row.receipt_id,
        pos_id=row.pos_id,
        kkt=row.kkt,
        from_status=Status(row.from_status) if row.from_status else None,
        to_status=Status(row.to_status),
        fd_number=row.fd_number,
        error=row.error,
        at_ms=row.at_ms,
        at_steady_ms=row.at_steady_ms,
    )


_s = steps.c
_columns = select(
    _s.id,
    _s.receipt_id,
    _s.pos_id,
    _s.kkt,
    _s.from_status,
    _s.to_status,
    _s.fd_number,
    _s.error,
    _s.at_ms,
    _s.at_steady_ms,
)
_HISTORY: Final = Prepared(_columns.where(_s.receipt == bindparam("receipt")).order_by(_s.id))
_STEPS: Final = Prepared(_columns.where(_s.id > bindparam("after")).order_by(_s.id).limit(bindparam("limit")))

"""The steps of receipts: their history, and the source of `event/receipt`."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select

from kkt_bridge.journal.rows import Step
from kkt_bridge.journal.settings import get_setting, set_setting
from kkt_bridge.journal.statements import Prepared, Together
from kkt_bridge.journal.tables import IS_LOOSE_STEP, receipts, steps
from kkt_bridge.journal.transaction import Transaction

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
    return [_with_sale(step, sales.get(step.receipt)) for step in told]


def _with_sale(step: Step, sale: Any) -> Step:
    if sale is None:
        return step
    return step._replace(type=sale.type, total=sale.total, received_ms=sale.received_ms)


def steps_published(connection: Connection) -> int:
    """The id of the last step that the broker has."""
    return int(get_setting(connection, _PUBLISHED) or 0)


def set_steps_published(tx: Transaction, step: int) -> None:
    """The broker has every step up to this one: those that belong to no receipt are needed no longer."""
    set_setting(tx, _PUBLISHED, str(step))
    tx.execute(_DROP_LOOSE, {"step": step, "limit": LOOSE_DROPPED_MAX})


_s = steps.c
_columns = select(*(_s[name] for name in Step._fields))
_HISTORY: Final = Prepared(_columns.where(_s.receipt == bindparam("receipt")).order_by(_s.id))
_loose = select(_s.id).where(IS_LOOSE_STEP, _s.id <= bindparam("step")).order_by(_s.id).limit(bindparam("limit"))
_DROP_LOOSE: Final = Prepared(delete(steps).where(_s.id.in_(_loose)))
_STEPS: Final = Prepared(_columns.where(_s.id > bindparam("after")).order_by(_s.id).limit(bindparam("limit")))
_r = receipts.c
_SALES: Final = Together(select(_r.id, _r.type, _r.total, _r.received_ms), _r.id)

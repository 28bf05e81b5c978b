"""Small facts that outlive the process: whether receipts are taken, how far events were published."""

from typing import Final

from sqlalchemy import Connection, bindparam, insert, select

from kkt_bridge.journal.statements import Prepared, prepared_insert
from kkt_bridge.journal.tables import settings
from kkt_bridge.journal.transaction import Transaction


def get_setting(connection: Connection, name: str) -> str | None:
    """The value kept under this name."""
    return _GET(connection, {"name": name}).scalar(str)


def set_setting(tx: Transaction, name: str, value: str) -> None:
    """Keep a value under this name."""
    tx.execute(_SET, {"name": name, "value": value})


_GET: Final = Prepared(select(settings.c.value).where(settings.c.name == bindparam("name")))
_SET: Final = prepared_insert(insert(settings).prefix_with("OR REPLACE", dialect="sqlite"), "name", "value")

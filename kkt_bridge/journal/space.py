"""The journal's file: how much of it is empty, and giving that back to the disk."""

from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from kkt_bridge.journal.statements import Prepared
from kkt_bridge.journal.transaction import Transaction

STEP_PAGES: Final = 16
"""Pages given back in one commit. Each is moved from the end of the file, and what points at it is changed."""


class Space(NamedTuple):
    """Pages of the file: those that hold nothing, and all."""

    free: int
    pages: int


def space_of(connection: Connection) -> Space:
    """How the file stands."""
    free = _FREE(connection, {}).scalar(int) or 0
    return Space(free, _PAGES(connection, {}).scalar(int) or 0)


def give_back(tx: Transaction) -> None:
    """Make the file a little shorter; nothing happens where it was made without `auto_vacuum`."""
    for _ in range(STEP_PAGES):
        tx.execute(_GIVE_BACK, {})


_FREE: Final = Prepared(text("PRAGMA freelist_count"))
_PAGES: Final = Prepared(text("PRAGMA page_count"))
# A larger number would do no more: the driver stops behind the first page, as it sees a statement without rows.
_GIVE_BACK: Final = Prepared(text("PRAGMA incremental_vacuum(1)"))

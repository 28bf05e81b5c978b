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
    list(tx.execute(_GIVE_BACK, {}))  # each row that is fetched is a page


_FREE: Final = Prepared(text("PRAGMA freelist_count"))
_PAGES: Final = Prepared(text("PRAGMA page_count"))
_GIVE_BACK: Final = Prepared(text(f"PRAGMA incremental_vacuum({STEP_PAGES})"))

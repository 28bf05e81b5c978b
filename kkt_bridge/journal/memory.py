"""Whether what the journal remembers is the last that was known, and which storage each register held under it.

A journal's file that the lock beside it does not know was put there: a copy, one that was made anew, or one of another
machine. Receipts that wait in it may have been printed since it was written. What each register's own storage holds
says so; a storage that has been taken out meanwhile cannot be asked. So the first start on such a file notes in it the
last commit that was in it (`TAKEN_UP`), in the commit that makes the file known. And each lane notes, in the first
commit after it has read its register's storage, which one that was (`HELD`): where that is of a later commit, the
register was read under this memory, and a storage that is exchanged from then on is none of its secrets.
"""

from typing import Final, NamedTuple

from sqlalchemy import Connection

from kkt_bridge.journal.settings import get_setting, set_setting
from kkt_bridge.journal.transaction import Transaction

TAKEN_UP: Final = "taken_up_at"
"""The row of `settings` with the last commit that was in the file when it was put here; missing where it never was."""

HELD: Final = "held/"
"""Before the name of a register: the row of `settings` with what `Held` says, as `commit FN`."""

TAKE_UP: Final = (
    """
    INSERT OR REPLACE INTO settings (name, value)
    SELECT 'taken_up_at', ifnull((SELECT value FROM figures WHERE kkt = '' AND name = 'commit_no'), 0)
    """,
    # A journal that was written before lanes noted it: the storage of the register's newest document.
    """
    INSERT OR IGNORE INTO settings (name, value)
    SELECT 'held/' || kkt, '0 ' || fn_number FROM (SELECT kkt, fn_number, max(id) FROM documents GROUP BY kkt)
    """,
)
"""The statements of the start that finds a file which was put here."""


class Held(NamedTuple):
    """Which storage a register was found to hold, and in which commit that was noted."""

    commit_no: int
    fn_number: str


def taken_up_at(connection: Connection) -> int:
    """The last commit that was in the file when it was put here; 0 where it never was."""
    return int(get_setting(connection, TAKEN_UP) or 0)


def held_by(connection: Connection, kkt: str) -> Held | None:
    """What the register held when it was last read; None where it never was."""
    value = get_setting(connection, HELD + kkt)
    if value is None:
        return None
    commit_no, _, fn_number = value.partition(" ")
    return Held(int(commit_no), fn_number)


def note_held(tx: Transaction, kkt: str, fn_number: str) -> None:
    """The register's storage has been read to its end under this memory."""
    set_setting(tx, HELD + kkt, f"{tx.commit_no} {fn_number}")

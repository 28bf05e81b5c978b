"""Small facts that outlive the process: whether receipts are taken, how far events were published."""

from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select

from kkt_bridge.journal.statements import BulkInsert, PreparedStatement, prepared_insert
from kkt_bridge.journal.tables import settings
from kkt_bridge.journal.transaction import Transaction


def get_setting(connection: Connection, name: str) -> str | None:
    """The value kept under this name."""
    return _GET.scalar(connection, {"name": name}, str)


def set_setting(tx: Transaction, name: str, value: str) -> None:
    """Keep a value under this name."""
    tx.rows[SET_SETTING].append((name, value))


_GET: Final = PreparedStatement(select(settings.c.value).where(settings.c.name == bindparam("name")))
SET_SETTING: Final = BulkInsert(prepared_insert(insert(settings).prefix_with("OR REPLACE", dialect="sqlite")))


RESTORED_AT_COMMIT: Final = "taken_up_at"
"""The row of `settings` with the last commit that was in the file when it was put here; missing where it never was."""

HELD_PREFIX: Final = "held/"
"""Before the name of a register: the row of `settings` with what `HeldStorage` says, as `commit FN`."""

MARK_AS_RESTORED: Final = (
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


class HeldStorage(NamedTuple):
    """Which storage a register was found to hold, and in which commit that was noted."""

    commit_no: int
    fn_number: str


def restored_at_commit(connection: Connection) -> int:
    """The last commit that was in the file when it was put here; 0 where it never was."""
    return int(get_setting(connection, RESTORED_AT_COMMIT) or 0)


def storage_held_by(connection: Connection, kkt: str) -> HeldStorage | None:
    """What the register held when it was last read; None where it never was."""
    value = get_setting(connection, HELD_PREFIX + kkt)
    if value is None:
        return None
    commit_no, _, fn_number = value.partition(" ")
    return HeldStorage(int(commit_no), fn_number)


def note_held_storage(tx: Transaction, kkt: str, fn_number: str) -> None:
    """The register's storage has been read to its end under this memory."""
    set_setting(tx, HELD_PREFIX + kkt, f"{tx.commit_no} {fn_number}")

"""`kkt-bridge restore`: a backup put in the journal's place.

What it does not know, the registers do: before a lane prints, it reads what its storage holds beyond the journal.
"""

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kkt_bridge.errors import JournalDamaged, JournalError, StorageUnavailable
from kkt_bridge.journal.copying import require_whole
from kkt_bridge.journal.generation import BRIDGE, log_of, mark_as_copy
from kkt_bridge.journal.lock import JournalLock, require_one_name
from kkt_bridge.journal.migrate import known_schema, schema_of
from kkt_bridge.journal.permissions import PRIVATE_FILE, not_allowed
from kkt_bridge.recovery.backup import count_receipts
from kkt_bridge.recovery.replace import one_file, put_in_place, working_folder

_TABLES: Final = frozenset({"receipts", "documents", "figures", "settings", "tombstones"})
"""Tables that every journal has had since the first release."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The outcome of a restore."""

    receipts: int
    """In the copy, purged ones included."""
    schema: int
    """Of the copy: an earlier one is brought up to date at the next start."""
    moved: Sequence[str]
    """The names that the files which stood in the journal's place have now."""


def restore(journal: Path, copy: Path, bridge_id: str, *, renamed: bool = False) -> Restored:
    """Put a checked copy in the journal's place; what is there is moved aside. `renamed`: it may be another bridge's.

    Errors: JournalInUse, JournalDamaged (the copy is), JournalError, StorageUnavailable; the old journal is where it
    was, or, if the power failed in between, aside: then no bridge starts until this is done again.
    """
    _require_copy(journal, copy)
    lock = JournalLock(journal)
    lock.take()
    try:
        require_one_name(journal)
        with working_folder(journal, "restore") as folder:
            made = folder / "journal.db"
            _copy_with_log(copy, made)
            receipts, schema = _examine(made, copy, None if renamed else bridge_id)
            one_file(made)
            moved = put_in_place(made, journal, lock.generations)
        lock.remember(frozenset())  # the next start gives it its generation
    except OSError as error:
        raise StorageUnavailable(f"{journal}: could not be restored: {error.strerror or error}") from None
    finally:
        lock.release()
    return Restored(receipts, schema, moved)


def _require_copy(journal: Path, copy: Path) -> None:
    try:
        if not copy.exists():
            raise JournalError(f"{copy}: there is no such file: name a copy that `kkt-bridge backup` made")
        if not copy.is_file():
            raise JournalError(f"{copy}: is no file: name a copy that `kkt-bridge backup` made")
        if journal.exists() and copy.samefile(journal):
            raise JournalError(f"{copy}: is the journal itself: name a copy of it")
        with copy.open("rb"):
            pass
    except PermissionError:
        raise StorageUnavailable(not_allowed(copy)) from None
    except OSError as error:
        raise StorageUnavailable(f"{copy}: cannot be read: {error.strerror}") from None


def _copy_with_log(copy: Path, made: Path) -> None:
    """Copy the file with its log, where it has one (a journal that was moved aside does)."""
    shutil.copyfile(copy, made)
    made.chmod(PRIVATE_FILE)
    if log_of(copy).exists():
        shutil.copyfile(log_of(copy), log_of(made))


def _examine(made: Path, copy: Path, bridge_id: str | None) -> tuple[int, int]:
    """Return how many receipts are in it, and its schema. Errors: JournalDamaged, JournalError, StorageUnavailable."""
    try:
        with closing(sqlite3.connect(made, isolation_level=None)) as connection:
            require_whole(connection)
            _require_journal(connection, copy, bridge_id)
            mark_as_copy(connection)
            return count_receipts(connection), schema_of(connection)
    except sqlite3.OperationalError as error:
        raise StorageUnavailable(f"{copy}: cannot be examined: {error}") from None
    except sqlite3.DatabaseError as error:
        raise JournalDamaged(f"{copy}: is damaged or no journal, and was not used: {error}: take another") from None


def _require_journal(connection: sqlite3.Connection, copy: Path, bridge_id: str | None) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables >= _TABLES:
        raise JournalError(f"{copy}: is no journal of a kkt-bridge: name a copy that `kkt-bridge backup` made")
    schema = schema_of(connection)
    if schema > known_schema():
        raise JournalError(
            f"{copy}: is of a newer kkt-bridge (schema {schema}, known {known_schema()}): install that one first"
        )
    row = connection.execute("SELECT value FROM settings WHERE name = ?", (BRIDGE,)).fetchone()
    if bridge_id is not None and row is not None and row[0] != bridge_id:
        raise JournalError(
            f"{copy}: is the journal of bridge {row[0]}, and this is {bridge_id}: name a copy of its own journal, or "
            "give --renamed where the bridge has got another name since"
        )

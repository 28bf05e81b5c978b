"""A consistent copy of a journal, taken while a bridge goes on writing into it."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kkt_bridge.errors import JournalDamaged, JournalError, StorageUnavailable
from kkt_bridge.journal.copying import copy_pages, finish, unfinished
from kkt_bridge.journal.quarantine import COMPANIONS
from kkt_bridge.journal.readonly import open_readonly


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that was checked and is on the disk."""

    path: Path
    size: int
    """Bytes."""
    receipts: int


def back_up(journal: Path, copy: Path, *, held: bool, replace: bool) -> Copy:
    """Copy a journal to `copy`, whole or not at all; `replace` what is there. `held`: a bridge runs on it.

    Errors: JournalDamaged where the journal is; JournalError says what else is in the way.
    """
    _require_place(journal, copy, replace=replace)
    with closing(open_readonly(journal, held=held)) as source, unfinished(copy) as made:
        try:
            copy_pages(source, made)
            with closing(sqlite3.connect(made)) as connection:
                receipts = count_receipts(connection)
            _require_place(journal, copy, replace=replace)
            size = made.stat().st_size
            finish(made, copy)
        except (OSError, sqlite3.OperationalError) as error:
            raise StorageUnavailable(f"{copy}: the copy of {journal} failed: {error}") from None
        except sqlite3.DatabaseError as error:
            raise JournalDamaged(
                f"{journal}: the journal is damaged, and was not copied: {error}; keep the copies that there are: the "
                "next start of the bridge moves the journal aside and says what to do"
            ) from None
    return Copy(copy, size, receipts)


def _require_place(journal: Path, copy: Path, *, replace: bool) -> None:
    if copy.is_dir():
        raise JournalError(f"{copy}: is a folder: name the file that the copy is to be")
    if not copy.parent.is_dir():
        raise JournalError(f"{copy}: there is no folder {copy.parent}: make it first")
    if copy.exists() and (not replace or copy.samefile(journal)):
        advice = "it is the journal itself: name another file" if copy.samefile(journal) else "--force replaces it"
        raise JournalError(f"{copy}: is there already; {advice}")
    for suffix in COMPANIONS:
        beside = copy.with_name(copy.name + suffix)
        if beside.exists():
            # SQLite would read the log of an old copy into the new one.
            raise JournalError(f"{copy}: {beside.name} stands beside it, of another database: move it away first")


def count_receipts(connection: sqlite3.Connection) -> int:
    """Count the receipts of a journal, purged ones included."""
    counted = connection.execute("SELECT (SELECT count(*) FROM receipts) + (SELECT count(*) FROM tombstones)")
    return int(counted.fetchone()[0])

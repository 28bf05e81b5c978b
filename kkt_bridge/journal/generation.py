"""Which state of its database file a log belongs to.

SQLite reads whatever log (`-wal`) stands beside a database into it. After a crash the log of the old file stays
behind; a copy put in the place of the database would take it in, and be neither the one nor the other. So every start
gives the database file a new random name, its *generation*, and has it on the disk before anything else is written
into the log; the lock's file beside remembers it. A log is only read beside a database whose generation the lock knows.
Until the new name is in the database file itself, the lock also remembers the one that the file has without its log,
and the one that it has with it: a start that is killed, or whose disk takes nothing, may be followed by another such.
`kkt-bridge backup` gives each copy a generation of its own.

A copy that was made in another way, while the same process ran, has the same generation and is not told apart.
"""

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from kkt_bridge.errors import JournalError
from kkt_bridge.journal.lock import generations_in, lock_of

SETTING: Final = "generation"
"""The row of `settings` that holds it."""

BRIDGE: Final = "bridge_id"
"""The row of `settings` that holds whose journal it is."""

NAMELESS: Final = "nameless"
"""Stands for the generation of a file that has been given none."""

FOREIGN: Final = "?"
"""Behind a generation that the lock remembers: the file was put here, and does not know it yet (see `settings.py`)."""

_RANDOM_BYTES: Final = 8
"""Of a generation; twice as many characters."""


def new_generation() -> str:
    """A name that nothing had before."""
    return secrets.token_hex(_RANDOM_BYTES)


def mark_as_copy(connection: sqlite3.Connection) -> None:
    """Give a copy a generation of its own. `connection` is in autocommit mode."""
    connection.execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (SETTING, new_generation()))


def log_of(path: Path) -> Path:
    """The log beside a database."""
    return path.with_name(path.name + "-wal")


def require_own_log(path: Path, known: frozenset[str] | None = None) -> None:
    """See that the log beside this database, if there is one, is its own; look at it without SQLite reading it in.

    `known` are the generations that the lock remembers; None to read them there. Errors: JournalError.
    """
    log = log_of(path)
    if not (path.exists() and log.exists() and log.stat().st_size):
        return
    known = _remembered(path) if known is None else known
    if not known:
        return
    found = generation_of_file(path)
    if found is not None and found not in known:
        raise JournalError(
            f"{path}: {log.name} beside it is the log of another file, and would be read into this one: was a copy put "
            "here by hand? Nothing was changed: run `kkt-bridge restore COPY --config FILE` with the copy, which moves "
            "this file and the log aside"
        )


def _remembered(path: Path) -> frozenset[str]:
    lock = lock_of(path)
    return generations_in(lock.read_bytes()) if lock.exists() else frozenset()


def generation_of_file(path: Path) -> str | None:
    """As `generation_without_log`; None where the file by itself is no journal: missing, empty yet, or damaged.

    Not to be called while this process has the database open: SQLite's locks would go with the descriptor.
    """
    try:
        return generation_without_log(path)
    except sqlite3.Error:
        return None


def generation_without_log(path: Path) -> str:
    """What the database file itself says: opened as immutable, SQLite looks at no log. sqlite3.Error if it cannot."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as connection:
        row = connection.execute("SELECT value FROM settings WHERE name = ?", (SETTING,)).fetchone()
    return NAMELESS if row is None else str(row[0])

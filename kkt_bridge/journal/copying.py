"""A database copied whole, or not at all: through SQLite, checked, and on the disk when it has its name."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.generation import mark_as_copy
from kkt_bridge.journal.quarantine import COMPANIONS, sync_directory


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """An empty file beside the target, readable by its user alone; whatever happens, nothing is left of it."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise StorageUnavailable(f"{target}: cannot be written: {error.strerror}") from None
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        for suffix in ("", *COMPANIONS):
            Path(name + suffix).unlink(missing_ok=True)


def copy_pages(source: sqlite3.Connection, made: Path) -> None:
    """Copy every page into this file, and check it. sqlite3.DatabaseError where it is damaged."""
    with closing(sqlite3.connect(made, isolation_level=None)) as target:
        # In one step: it sees one snapshot, where a copy in several would begin anew at every commit of the bridge.
        source.backup(target)
        # One file is enough to carry away; the bridge turns the log on again.
        target.execute("PRAGMA journal_mode = DELETE")
        mark_as_copy(target)
        require_whole(target)


def require_whole(connection: sqlite3.Connection) -> None:
    """Have SQLite check the file; sqlite3.DatabaseError, with its finding in one line, where it is damaged."""
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise sqlite3.DatabaseError(" ".join(str(finding).split()))


def finish(made: Path, target: Path) -> None:
    """Give the file its name, once all of it is on the disk."""
    with made.open("rb") as file:
        os.fsync(file.fileno())
    made.replace(target)
    sync_directory(target.parent)

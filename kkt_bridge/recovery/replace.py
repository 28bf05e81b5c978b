"""Another file put in the journal's place, so that a power cut anywhere leaves the old one, the new one, or neither.

The new file is made whole in a folder beside. Then the old database is moved aside, and after it its log and index;
then the new one is moved in. In between there is no journal, and a bridge that is started then refuses to begin one.
The log is never left without its database while there is one in its place: SQLite would read it into the new file, or
an old file would open without its last commits.
"""

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from kkt_bridge.journal.generation import generation_without_log
from kkt_bridge.journal.lock import lock_of
from kkt_bridge.journal.quarantine import (
    COMPANIONS,
    REPLACED,
    all_quarantined,
    move_companions,
    quarantine,
    sync_directory,
)


@contextmanager
def working_folder(journal: Path, purpose: str) -> Iterator[Path]:
    """Make a folder on the journal's own disk for the block; remove it, and those that killed processes left."""
    for left in journal.parent.glob(f".{journal.name}.*.{purpose}"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{journal.name}.", suffix=f".{purpose}", dir=journal.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def one_file(path: Path) -> None:
    """Bring a database and its log into one file, with everything on the disk. sqlite3.Error where that fails."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def put_in_place(made: Path, journal: Path, generations: frozenset[str]) -> list[str]:
    """Move what is there aside, and `made` to where it belongs; return the names that the old files have now.

    The new file gets the owner of the old one, or of the folder where there is none. The caller holds the journal's
    lock; `generations` are those that it remembers. Errors: OSError.
    """
    assert not any(made.with_name(made.name + suffix).exists() for suffix in COMPANIONS), "the new file is in use"
    owner = (journal if journal.exists() else journal.parent).stat()
    for path in (made, lock_of(journal)):
        _give_to(path, owner)
    moved = _move_aside(journal, generations)
    made.replace(journal)
    sync_directory(journal.parent)
    return moved


def _give_to(path: Path, owner: os.stat_result) -> None:
    """Make it belong to the bridge's user, also where root runs this; anybody else can give nothing away."""
    is_his = (found := path.stat()).st_uid == owner.st_uid and found.st_gid == owner.st_gid
    if not is_his:
        with suppress(PermissionError):
            os.chown(path, owner.st_uid, owner.st_gid)


def _move_aside(journal: Path, generations: frozenset[str]) -> list[str]:
    if journal.exists():
        target = quarantine(journal, mark=REPLACED)
        beside = (target.with_name(target.name + suffix) for suffix in COMPANIONS)
        return [target.name, *(path.name for path in beside if path.exists())]
    # What was interrupted is finished; a log of anything else keeps to itself.
    if (aside := all_quarantined(journal)) and _is_of(aside[-1], generations):
        move_companions(journal, aside[-1])
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    moved = []
    for suffix in COMPANIONS:
        stray = journal.with_name(journal.name + suffix)
        if stray.exists():
            moved.append(stray.rename(journal.with_name(f"{journal.name}.stray-{stamp}{suffix}")).name)
    sync_directory(journal.parent)
    return moved


def _is_of(database: Path, generations: frozenset[str]) -> bool:
    try:
        return generation_without_log(database) in generations
    except sqlite3.Error:
        return False

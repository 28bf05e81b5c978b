"""A journal looked at from beside: read-only, past its lock, whether a bridge runs on it or not."""

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from kkt_bridge.errors import JournalDamaged, JournalError, JournalLost, StorageUnavailable
from kkt_bridge.journal.database import BUSY_TIMEOUT_MS
from kkt_bridge.journal.generation import log_of, require_own_log
from kkt_bridge.journal.permissions import not_allowed
from kkt_bridge.journal.quarantine import damaged_last, rebuild_advice, signs_of_lost_journal


def open_readonly(path: Path, *, held: bool) -> sqlite3.Connection:
    """A connection for reading, which delays no writer and leaves nothing behind. `held`: a bridge runs on it.

    Where nobody writes and no log waits to be read, the file is opened as immutable: otherwise SQLite would make
    a log and its index beside it, owned by whoever runs this, and the bridge's user may then be unable to write.

    Errors: JournalDamaged where it was moved aside, JournalLost or JournalError where there is none,
    StorageUnavailable where this user may not read it.
    """
    try:
        is_there = path.exists()
    except PermissionError:
        raise StorageUnavailable(not_allowed(path)) from None
    if not is_there:
        if moved := damaged_last(path):
            raise JournalDamaged(f"{path}: there is no journal, and {moved.name} was damaged: {rebuild_advice(path)}")
        if lost := signs_of_lost_journal(path):
            raise JournalLost(lost)
        raise JournalError(f"{path}: there is no journal: a bridge makes it at its first start")
    if not os.access(path, os.R_OK):
        raise StorageUnavailable(not_allowed(path))
    if not held:  # else the bridge has looked
        require_own_log(path)
    log = log_of(path)
    at_rest = not held and not (log.exists() and log.stat().st_size)
    try:
        return sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if at_rest else ''}",
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
    except sqlite3.Error as error:
        raise StorageUnavailable(f"{path}: cannot be read: {error}: run this as the bridge's user") from None

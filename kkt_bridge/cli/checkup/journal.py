"""The journal's file and its lock, looked at beside a running bridge: read-only, lock-free, for a limited time."""

import fcntl
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kkt_bridge.cli.checkup import CheckupFinding, fail, ok, warn
from kkt_bridge.journal.migrate import known_schema, schema_of
from kkt_bridge.journal.quarantine import damaged_last, rebuild_advice, signs_of_lost_journal
from kkt_bridge.journal.readonly import open_readonly

_LOCKS: Final = Path("/proc/locks")


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A file that a process has locked; `pid` where the kernel tells."""

    pid: int | None

    def __str__(self) -> str:
        return f"process {self.pid}" if self.pid else "another process"


def holder(path: Path) -> LockHolder | None:
    """Return who holds the lock on this file; None if nobody does, or there is no file. OSError if it is unreadable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        pid = _pid_in_kernel_table(os.fstat(descriptor))
        return LockHolder(pid) if pid is not None else _try_shared(descriptor)
    finally:
        os.close(descriptor)


def _pid_in_kernel_table(file: os.stat_result) -> int | None:
    """Return the holder as the kernel lists it (proc(5)): `1: FLOCK ADVISORY WRITE 4711 fe:00:2162901 0 EOF`."""
    place = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    try:
        rows = [row.split() for row in _LOCKS.read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    # A row with an arrow is a process that waits.
    return next((int(row[4]) for row in rows if row[1] == "FLOCK" and row[5] == place and int(row[4]) > 0), None)


def _try_shared(descriptor: int) -> LockHolder | None:
    """Try the lock: not every file system shows up in the table. A held lock stays, a free one is let go at once."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return LockHolder(None)
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return None


CHECK_TIME_MAX_S: Final = 10.0
"""A long read keeps a running bridge from tidying up its write-ahead log."""

STEPS_BETWEEN_LOOKS: Final = 10_000
"""Of SQLite's virtual machine, between looks at the time."""

_CHECK: Final = "journal file"


def examine_journal(path: Path, hold: LockHolder | None) -> list[CheckupFinding]:
    """Check who holds the file, that it is whole, and its schema."""
    held = ok("journal lock", f"a bridge is running on it ({hold})" if hold else "free: no bridge is running on it")
    if not path.exists():
        return [held, _missing(path)]
    try:
        with closing(_open(path, hold)) as connection:
            return [held, _examine_pages(connection, path), _examine_schema(connection, path)]
    except sqlite3.OperationalError as error:
        return [held, warn(_CHECK, f"{path} cannot be read: {error}", "run this as root or as the bridge's user")]
    except sqlite3.DatabaseError as error:
        return [held, _damaged(path, str(error))]


def _missing(path: Path) -> CheckupFinding:
    if moved := damaged_last(path):
        reason = f"{path} is not there, and {moved.name} beside it was damaged: no bridge starts like this"
        return fail(_CHECK, reason, rebuild_advice(path))
    if lost := signs_of_lost_journal(path):
        reason, _, advice = lost.partition(": is its disk mounted? Nothing was begun. ")
        return fail(_CHECK, reason, f"see whether its disk is mounted. {advice}")
    return ok(_CHECK, f"{path} is made at the first start")


def _open(path: Path, hold: LockHolder | None) -> sqlite3.Connection:
    """Open a connection that leaves nothing behind, and gives up in time."""
    connection = open_readonly(path, held=hold is not None)
    deadline = time.monotonic() + CHECK_TIME_MAX_S
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)
    return connection


def _examine_pages(connection: sqlite3.Connection, path: Path) -> CheckupFinding:
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        advice = "check it while the bridge is down, or look at the bridge's log: it checks at every start"
        return warn(_CHECK, f"{path} is too large to be checked within {CHECK_TIME_MAX_S:g} s", advice)
    return ok(_CHECK, f"{path} is whole") if verdict == "ok" else _damaged(path, verdict)


def _examine_schema(connection: sqlite3.Connection, path: Path) -> CheckupFinding:
    found, known = schema_of(connection), known_schema()
    if found > known:
        advice = "install the newer kkt-bridge again; an older one does not start on this journal"
        return fail("journal schema", f"{path} has schema {found}, this program knows {known}", advice)
    later = "" if found == known else f", brought to {known} at the next start"
    return ok("journal schema", f"schema {found}{later}")


def _damaged(path: Path, how: str) -> CheckupFinding:
    advice = f"stop the bridge; its next start moves the file aside; then {rebuild_advice(path)}"
    return fail(_CHECK, f"{path} is damaged: {how}", advice)

"""Who holds a file, found out without taking it from anybody."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LOCKS: Final = Path("/proc/locks")


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A file that a process has locked; `pid` where the kernel tells."""

    pid: int | None

    def __str__(self) -> str:
        return f"process {self.pid}" if self.pid else "another process"


def holder(path: Path) -> LockHolder | None:
    """Who holds the lock on this file; None if nobody does, or there is no file. OSError if it cannot be looked at."""
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
    """The holder as the kernel lists it (proc(5)): `1: FLOCK ADVISORY WRITE 4711 fe:00:2162901 0 EOF`."""
    place = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    try:
        rows = [row.split() for row in _LOCKS.read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    # A row with an arrow is a process that waits.
    return next((int(row[4]) for row in rows if row[1] == "FLOCK" and row[5] == place and int(row[4]) > 0), None)


def _try_shared(descriptor: int) -> LockHolder | None:
    """Not every file system shows up in the table. A held lock is not touched by this, a free one let go at once."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return LockHolder(None)
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return None

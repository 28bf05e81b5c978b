"""The lock of a journal: one process at a time; and what is remembered of the journal outside of it.

The file outlives the journal beside it. So it tells that there was one, and which state of the database file the log
beside it belongs to (see `generation.py`).
"""

import fcntl
import logging
import os
from pathlib import Path
from typing import Final

from kkt_bridge.errors import JournalError, JournalInUse, StorageUnavailable
from kkt_bridge.journal.permissions import PRIVATE_FILE, PRIVATE_FOLDER, who_may

KNOWN: Final = b"a kkt-bridge has kept its journal here\n"
"""The first line, from the first start on."""

_GENERATIONS: Final = "generations: "
"""The second line begins so; it is missing until there are any."""

_SIZE_MAX: Final = 4096
"""Bytes of the file that are read: it holds a line or two."""

_MOUNTS: Final = Path("/proc/self/mounts")

log = logging.getLogger(__name__)


def lock_of(journal: Path) -> Path:
    """The lock's file."""
    return journal.with_name(journal.name + ".lock")


def require_one_name(path: Path) -> None:
    """See that the file can be reached by this path alone: lock and log go by the name. Errors: JournalError."""
    if path.exists() and not path.is_dir() and path.stat().st_nlink > 1:
        raise JournalError(
            f"{path}: the file has a second name (a hard link), and under that one it would be locked and logged "
            "apart: remove the other name; a copy is made with `kkt-bridge backup`"
        )
    if str(path) in _mount_points():
        raise JournalError(f"{path}: is mounted by itself, without its log and its lock: mount its folder instead")


class JournalLock:
    """The file `<journal>.lock`, held by whoever has the journal open; it goes with the process."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._descriptor: int | None = None

    def take(self) -> None:
        """Hold the journal for this process alone. Errors: JournalInUse, StorageUnavailable."""
        try:
            self._make_folder()
            self._descriptor = os.open(lock_of(self._journal), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=PRIVATE_FILE)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise JournalInUse(f"{self._journal}: another bridge is running on this journal: stop it first") from None
        except OSError as error:
            self.release()
            whose = f" ({who_may(lock_of(self._journal))})" if isinstance(error, PermissionError) else ""
            raise StorageUnavailable(
                f"{self._journal}: the journal cannot be opened: {error.strerror}{whose}"
            ) from None

    def _make_folder(self) -> None:
        """Make the journal's own folder where it is missing, and no other: above it a disk may not be mounted."""
        folder = self._journal.parent
        if folder.is_dir():
            return
        if not folder.parent.is_dir():
            raise StorageUnavailable(
                f"{self._journal}: there is no folder {folder.parent}: mount its disk, or make the folder if the "
                "journal is really to be there"
            )
        folder.mkdir(mode=PRIVATE_FOLDER)
        log.warning("%s was not there, and was made: if a journal was kept in it, its disk is not mounted", folder)

    @property
    def is_known(self) -> bool:
        """Whether there was a journal here before: then what is no database now was one."""
        return bool(self._read())

    @property
    def generations(self) -> frozenset[str]:
        """What `generation.py` keeps here; empty where there is nothing yet."""
        return generations_in(self._read())

    def note_success(self) -> None:
        """Remember that there is a journal here."""
        if not self.is_known:
            self.remember(frozenset())

    def remember(self, generations: frozenset[str]) -> bool:
        """Keep this, on the disk; False where that takes nothing."""
        assert self._descriptor is not None, "the lock is not held"
        second = f"{_GENERATIONS}{' '.join(sorted(generations))}\n".encode() if generations else b""
        content = KNOWN + second
        try:
            # Written over in place, as the lock is on this very file; within one sector of the disk, so never torn.
            os.pwrite(self._descriptor, content, 0)
            os.ftruncate(self._descriptor, len(content))
            os.fsync(self._descriptor)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Let another process have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _read(self) -> bytes:
        return b"" if self._descriptor is None else os.pread(self._descriptor, _SIZE_MAX, 0)


def generations_in(content: bytes) -> frozenset[str]:
    """The generations in a lock's file."""
    lines = content.decode(errors="replace").splitlines()
    if len(lines) < 2 or not lines[1].startswith(_GENERATIONS):
        return frozenset()
    return frozenset(lines[1].removeprefix(_GENERATIONS).split())


def _mount_points() -> set[str]:
    try:
        rows = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return {row.split()[1].replace("\\040", " ") for row in rows}

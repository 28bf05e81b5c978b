"""The lock of a journal: one process at a time, and a memory of whether there ever was a journal here."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from kkt_bridge.errors import JournalInUse, StorageUnavailable

KNOWN: Final = b"a kkt-bridge has kept its journal here\n"
"""What the file holds from the first start on."""


class JournalLock:
    """The file `<journal>.lock`, held by whoever has the journal open; it goes with the process."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._file: IO[bytes] | None = None

    def take(self) -> None:
        """Hold the journal for this process alone. Errors: JournalInUse, StorageUnavailable."""
        try:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._journal.with_name(self._journal.name + ".lock").open("ab")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise JournalInUse(f"{self._journal}: another bridge is running on this journal: stop it first") from None
        except OSError as error:
            self.release()
            raise StorageUnavailable(f"{self._journal}: the journal cannot be opened: {error.strerror}") from None

    @property
    def is_known(self) -> bool:
        """Whether there was a journal here before: then what is no database now was one."""
        return self._file is not None and os.fstat(self._file.fileno()).st_size > 0

    def note_success(self) -> None:
        """Remember that there is a journal here."""
        if self._file is not None and not self.is_known:
            with suppress(OSError):  # a full disk: then the next start remembers it
                self._file.write(KNOWN)
                self._file.flush()

    def release(self) -> None:
        """Let another process have it."""
        if self._file is not None:
            self._file.close()
            self._file = None

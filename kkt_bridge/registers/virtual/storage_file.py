"""The file under a virtual fiscal storage: append-only lines, one document each, held by one process.

A document is one `write` to a descriptor opened for appending, so whenever the program is killed the
document is there wholly or not at all. Nothing is synced to the disk on the way: a power cut of the
*host* may take the last documents with it, which a real fiscal storage would not allow. A line that such
a cut has torn was never answered for, and is cut off when the file is opened.
"""

import fcntl
import logging
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kkt_bridge.registers.virtual.fiscal_document import REGISTRATION, FiscalDocument

_log = logging.getLogger(__name__)

_FIRST_BYTES: Final = b'{"fd_number":1,"form":1,'
_LINE_FEED: Final = re.compile(b"\n")
_CHUNK: Final = 1 << 20


class StorageError(Exception):
    """A fiscal storage file cannot be used; the message names it."""


class StorageInUse(StorageError):
    """Another process, or another register of this one, has the file open."""


class StorageDamaged(StorageError):
    """The file does not hold what a fiscal storage writes."""


class DocumentFile:
    """The documents by number; only their offsets are kept in memory, 8 bytes each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._ends = array("Q", [0])
        """The end of each line; the line of document n lies between the ends n-1 and n."""
        self._torn = False

    def open(self) -> None:
        """Take the file, creating it if there is none.

        Raises:
            StorageInUse, StorageDamaged, StorageError: The file cannot be taken; it is as it was.
        """
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StorageError(f"{self._path}: cannot open the fiscal storage: {error.strerror}") from None
        try:
            self._lock()
            self._index()
        except OSError as error:
            self._release()
            raise StorageError(f"{self._path}: cannot read the fiscal storage: {error.strerror}") from None
        except BaseException:
            self._release()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageInUse(
                f"{self._path}: another process has this fiscal storage open; "
                "stop it, or give this register a state file of its own"
            ) from None

    def _index(self) -> None:
        ends, offset = array("Q", [0]), 0
        while chunk := os.pread(self._fd, _CHUNK, offset):
            ends.extend(offset + feed.end() for feed in _LINE_FEED.finditer(chunk))
            offset += len(chunk)
        # Nothing is cut off a file that is not a fiscal storage.
        if not _FIRST_BYTES.startswith(os.pread(self._fd, len(_FIRST_BYTES), 0)):
            raise _not_a_storage(self._path)
        self._ends = ends
        if len(self):
            self.read(len(self))  # its number counts all the others
        if offset > ends[-1]:
            _log.warning("%s: cut off %d bytes of a torn last document", self._path, offset - ends[-1])
            os.ftruncate(self._fd, ends[-1])

    def __len__(self) -> int:
        """Return the number of documents, which is also the last one's."""
        return len(self._ends) - 1

    def read(self, fd_number: int) -> FiscalDocument:
        """The document of this number, which must exist; StorageDamaged if its line holds none."""
        start, end = self._ends[fd_number - 1], self._ends[fd_number]
        return _parse(self._path, fd_number, os.pread(self._fd, end - start, start))

    def append(self, document: FiscalDocument) -> None:
        """Write the next document, whole or not at all.

        Raises:
            OSError: It could not be written, and the file is as it was.
        """
        line = document.to_line()
        if self._torn:
            os.ftruncate(self._fd, self._ends[-1])
        self._torn = True
        written = os.write(self._fd, line)
        if written != len(line):
            os.ftruncate(self._fd, self._ends[-1])
            self._torn = False
            raise OSError(f"{self._path}: the disk took only {written} of {len(line)} bytes")
        self._torn = False
        self._ends.append(self._ends[-1] + len(line))

    def sync(self) -> None:
        """Hand everything so far to the disk; a disk that fails here has still been given every document."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            _log.error("%s: a power cut now may lose fiscal documents: %s", self._path, error.strerror)

    def close(self) -> None:
        """Sync, and let another process have the file."""
        self.sync()
        self._release()

    def _release(self) -> None:
        os.close(self._fd)
        self._fd = -1


def read_documents(path: Path) -> Iterator[FiscalDocument]:
    """Every whole document of a file, also while a register has it open.

    Raises:
        StorageError: There is no such file, or it cannot be read.
        StorageDamaged: It is no fiscal storage, or documents are missing from it.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_FIRST_BYTES)) != _FIRST_BYTES:
                raise _not_a_storage(path)
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):  # else it is being written, or torn
                    yield _parse(path, number, line)
    except OSError as error:
        raise StorageError(f"{path}: cannot read the fiscal storage: {error.strerror}") from None


def _parse(path: Path, number: int, line: bytes) -> FiscalDocument:
    try:
        document = FiscalDocument.from_line(line)
    except ValueError as error:
        raise StorageDamaged(f"{path}: line {number}: {error}; move the file away") from None
    if document.fd_number != number or (number == 1) != (document.body.form == REGISTRATION):
        raise StorageDamaged(f"{path}: line {number} is document {document.fd_number}; move the file away")
    return document


def _not_a_storage(path: Path) -> StorageDamaged:
    return StorageDamaged(f"{path}: not a virtual fiscal storage; name another file, or move this one away")

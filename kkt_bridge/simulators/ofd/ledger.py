"""The ledger of the simulated OFD: its documents, how often each came, and the file that keeps them."""

import dataclasses
import enum
import io
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kkt_bridge.simulators.ofd.submission import Submission, SubmissionRefusedError, submission_of


class StateFileError(Exception):
    """The state file cannot be read or written; the message names it."""


class TakeResult(enum.Enum):
    """The ledger's verdict on a submission."""

    NEW = "new"
    REPEAT = "repeat"
    CONFLICT = "conflict"
    """The key came with another document before."""
    TAKEN = "taken"
    """The document came under another key before."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One accepted document: its last submission, how often and when it came (unix seconds)."""

    last: Submission
    order: int
    times: int
    first_at: float
    last_at: float

    def as_json(self, *, full: bool) -> dict[str, Any]:
        """Return the entry as `/_received` shows it; `full` adds the last body."""
        shown = {
            "key": self.last.key,
            "kkt": self.last.kkt,
            "fn_number": self.last.fn_number,
            "fd_number": self.last.fd_number,
            "times": self.times,
            "order": self.order,
            "first_at": _rfc3339(self.first_at),
            "last_at": _rfc3339(self.last_at),
        }
        return shown | {"body": json.loads(self.last.body)} if full else shown


@dataclass(frozen=True, slots=True)
class Conflict:
    """A submission that contradicts an accepted one: a second document under its key, or its document under another.

    The first is a receipt printed twice; the second are two registers, or two shops, with the same fiscal storage.
    """

    accepted: Submission
    refused: Submission
    at: float

    def as_json(self) -> dict[str, Any]:
        """Return the conflict as `/_received` shows it."""
        return {
            "key": self.accepted.key,
            "accepted": _shown(self.accepted),
            "refused": _shown(self.refused),
            "at": _rfc3339(self.at),
        }


def _shown(submission: Submission) -> dict[str, Any]:
    return {"key": submission.key, "fn_number": submission.fn_number, "fd_number": submission.fd_number}


class StateFile:
    """Append-only JSON lines `{"at": unix seconds, "body": the POST body}`, whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: io.FileIO | None = None
        self._size = 0

    def open(self, replay: Callable[[float, Submission], object]) -> None:
        """Give every whole line to `replay`, cut off what a kill left of the last one, and open for writing.

        Raises:
            StateFileError: The file cannot be opened, or holds something else.
        """
        try:
            with self._path.open("a+b") as file:
                self._size = self._replay(file, replay)
                file.truncate(self._size)
            self._file = io.FileIO(self._path, "a")
        except OSError as error:
            raise StateFileError(f"{self._path}: {error.strerror}") from None

    def _replay(self, file: io.BufferedRandom, replay: Callable[[float, Submission], object]) -> int:
        """Return the size of the whole lines."""
        file.seek(0)
        size = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break  # the process was killed in the middle of this write, so nobody was answered
            try:
                content = json.loads(line)
                body = line.partition(b'"body":')[2][:-2]
                replay(float(content["at"]), submission_of(content["body"], body))
            except (ValueError, TypeError, LookupError, AttributeError, SubmissionRefusedError):
                raise StateFileError(
                    f"{self._path}: line {number} is no record of a simulated OFD; move the file away"
                ) from None
            size += len(line)
        return size

    def append(self, at: float, submission: Submission) -> None:
        """Hand one line to the operating system, whole or not at all.

        Raises:
            OSError: It could not be written, and the file is as it was.
        """
        if self._file is None:
            raise OSError("the state file is closed")
        # A line feed can only be white space between tokens here: inside a JSON string it is escaped.
        line = b'{"at":%.3f,"body":%b}\n' % (at, submission.body.replace(b"\n", b" "))
        if self._file.write(line) != len(line):
            os.ftruncate(self._file.fileno(), self._size)
            raise OSError("the disk took only a part of the line")
        self._size += len(line)

    def close(self) -> None:
        """Close the file; every line is with the operating system already."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Ledger:
    """Every document received, by its key; safe to use from many threads."""

    def __init__(self, state: Path | None) -> None:
        self._lock = threading.Lock()
        self._state = StateFile(state) if state is not None else None
        self._entries: dict[str, LedgerEntry] = {}
        self._keys: dict[tuple[str, int], str] = {}
        """Of each document, the key under which it was accepted."""
        self._conflicts: list[Conflict] = []
        self._repeats = 0
        self._requests = 0

    def open(self) -> None:
        """Read the state file, if there is one; without a file the memory stays as it is.

        Raises:
            StateFileError: The file cannot be used.
        """
        if self._state is not None:
            self._entries, self._keys, self._conflicts, self._repeats, self._requests = {}, {}, [], 0, 0
            self._state.open(self._recall)

    def close(self) -> None:
        """Close the state file."""
        if self._state is not None:
            self._state.close()

    def count_request(self) -> None:
        """Count one attempt to hand in a document, whatever becomes of it."""
        with self._lock:
            self._requests += 1

    def take(self, at: float, submission: Submission) -> TakeResult:
        """Decide on a submission and keep it, on disk first.

        Raises:
            OSError: The state file did not take it, so the ledger did not either.
        """
        at = round(at, 3)  # as the file keeps it: the ledger must not change with a restart
        with self._lock:
            if self._state is not None:
                self._state.append(at, submission)
            return self._enter(at, submission)

    def _recall(self, at: float, submission: Submission) -> None:
        self._requests += 1
        self._enter(at, submission)

    def _enter(self, at: float, submission: Submission) -> TakeResult:
        known = self._entries.get(submission.key)
        if known is None:
            if (other := self._keys.get(submission.document)) is not None:
                self._conflicts.append(Conflict(self._entries[other].last, submission, at))
                return TakeResult.TAKEN
            self._keys[submission.document] = submission.key
            self._entries[submission.key] = LedgerEntry(submission, len(self._entries) + 1, 1, at, at)
            return TakeResult.NEW
        if known.last.document != submission.document:
            self._conflicts.append(Conflict(known.last, submission, at))
            return TakeResult.CONFLICT
        self._entries[submission.key] = dataclasses.replace(known, last=submission, times=known.times + 1, last_at=at)
        self._repeats += 1
        return TakeResult.REPEAT

    def as_json(self, *, full: bool) -> dict[str, Any]:
        """Return the ledger as `/_received` shows it, documents in order of arrival."""
        with self._lock:
            entries, conflicts = list(self._entries.values()), list(self._conflicts)
            repeats, requests = self._repeats, self._requests
        return {
            "documents": [entry.as_json(full=full) for entry in entries],
            "total": len(entries),
            "duplicates": repeats,
            "conflicts": [conflict.as_json() for conflict in conflicts],
            "requests": requests,
        }


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")

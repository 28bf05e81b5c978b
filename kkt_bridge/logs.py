"""Log lines: one event a line, with the receipt's ids; for people, or as JSON for machines.

The standard library's queue between those who log and the thread that writes, with two differences. Lines of a moment
are written in one call: one call a line costs a quarter more of the processor, and twice as many changes of thread. And
whoever reads the log and stands still stops neither those who log nor the end of the process.
"""

import json
import logging
import os
import queue
import select
import threading
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import Any, Final

from kkt_bridge.settings import LogSettings

IDS: Final = ("receipt_id", "pos_id", "kkt")
"""The fields of a line about a receipt; nothing of the customer or the goods is ever logged."""

GATHER_S: Final = 0.05
"""Seconds for which a line waits for others, to be written together."""

LINES_MAX: Final = 5000
"""Lines that wait while nobody reads them; more are dropped and counted."""

LINES_AT_ONCE: Final = 500
"""Lines in one write."""

FLUSH_S: Final = 1.0
"""Seconds for which the end of the process waits for a reader who stands still."""

STANDARD_ERROR: Final = 2
"""The file descriptor."""


class TextFormatter(logging.Formatter):
    """For people: time, level, part, message, and the ids as `receipt_id=...`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, or several where a traceback follows."""
        ids = "".join(f" {name}={_one_line(value)}" for name, value in _ids(record).items())
        line = f"{_time(record)} {record.levelname:7} {_part(record)}: {_one_line(record.getMessage())}{ids}"
        return f"{line}\n{_indented(self.formatException(record.exc_info))}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the event with its ids as JSON; a traceback is a field."""
        event: dict[str, Any] = {
            "at": _time(record),
            "level": record.levelname.lower(),
            "part": _part(record),
            "message": record.getMessage(),
            **_ids(record),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False).translate(_ESCAPED)


class LineHandler(QueueHandler):
    """Formats a line in the thread that logs it and hands it to the writer; never waits for whoever reads the log."""

    def __init__(self, lines: "SimpleQueue[str | None]", formatter: logging.Formatter) -> None:
        super().__init__(lines)
        self.setFormatter(formatter)
        self._lines = lines
        self.queued = 0
        """Lines handed over so far."""
        self.dropped = 0
        """Lines that found no room since the writer last reported them."""
        self.hurry = threading.Event()
        """Set when a line should be written at once."""
        self.writer: LineWriter | None = None

    def prepare(self, record: logging.LogRecord) -> str:
        """Return the line; of a record that cannot be formatted, where it was logged."""
        try:
            return self.format(record)
        except Exception:  # noqa: BLE001 (no line is worth a receipt, and standard error is where lines go)
            return f"{_time(record)} ERROR   logs: a line of {record.pathname}:{record.lineno} cannot be formatted"

    def enqueue(self, line: str) -> None:  # type: ignore[override]
        """Hand the line over, or count it as dropped."""
        if self._lines.qsize() >= LINES_MAX:
            self.dropped += 1
        else:
            self.queued += 1
            self._lines.put(line)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        self.enqueue(self.prepare(record))
        if record.levelno >= logging.WARNING:
            self.hurry.set()

    def flush(self) -> None:
        """Wait until all lines so far are written, at most `FLUSH_S`."""
        if self.writer is not None:
            self.hurry.set()
            self.writer.wait_for(self.queued, FLUSH_S)


class LineWriter(QueueListener):
    """Writes the lines of a moment together, in a thread of its own; a warning, and what led to it, at once.

    A line is small, and to write it gives the interpreter to another thread, in the middle of a receipt.
    """

    def __init__(self, lines: "SimpleQueue[str | None]", descriptor: int, source: LineHandler) -> None:
        super().__init__(lines)
        self._lines = lines
        self._descriptor = descriptor
        self._source = source
        self._written = 0
        self._taken = 0
        """Lines in the text that is written next."""
        self._progress = threading.Condition()

    def dequeue(self, block: bool) -> str | None:  # type: ignore[override]  # noqa: FBT001 (the base class has it so)
        """Wait for a line; return it and those of the next moment as one text."""
        first = self._lines.get(block)
        if first is None:
            return None
        self._source.hurry.wait(GATHER_S)
        self._source.hurry.clear()
        lines = [first]
        with suppress(queue.Empty):
            while len(lines) < LINES_AT_ONCE and (line := self._lines.get_nowait()) is not None:
                lines.append(line)
        self._taken = len(lines)
        return "\n".join(lines) + "\n"

    def handle(self, text: str) -> None:  # type: ignore[override]
        """Write it; where nobody reads the log any more, it is lost."""
        with suppress(OSError):
            self._write(text)
            if dropped := self._source.dropped:
                self._source.dropped -= dropped
                self._write(self._source.prepare(_of_dropped(dropped)) + "\n")
        with self._progress:
            self._written += self._taken
            self._progress.notify_all()

    def wait_for(self, lines: int, timeout_s: float) -> bool:
        """Wait until so many lines are written; return False if they were not in time."""
        with self._progress:
            return self._progress.wait_for(lambda: self._written >= lines, timeout_s)

    def _write(self, text: str) -> None:
        # Past the stream of Python: whoever holds its lock while the process ends, ends it with an error.
        left = memoryview(text.encode("utf-8", "backslashreplace"))
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])


def configure_logging(settings: LogSettings, descriptor: int = STANDARD_ERROR) -> None:
    """Log to this file descriptor; libraries from warnings up."""
    lines: SimpleQueue[str | None] = SimpleQueue()
    handler = LineHandler(lines, JsonFormatter() if settings.format == "json" else TextFormatter())
    handler.writer = LineWriter(lines, descriptor, handler)
    handler.writer.start()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("kkt_bridge").setLevel(settings.level.upper())


def _of_dropped(count: int) -> logging.LogRecord:
    message = "%d lines were dropped: whoever reads the log stood still"
    return logging.LogRecord("kkt_bridge.logs", logging.WARNING, __file__, 0, message, (count,), None)


_DRIVES_A_TERMINAL: Final = (*range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
"""Control characters, line separators and changes of direction that JSON would let through as they are."""

_ESCAPED: Final = {code: f"\\u{code:04x}" for code in _DRIVES_A_TERMINAL}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _part(record: logging.LogRecord) -> str:
    return record.name.removeprefix("kkt_bridge.")


def _ids(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(value) for name in IDS if (value := getattr(record, name, None)) is not None}


def _one_line(text: str) -> str:
    """Return it so that text from a peer neither looks like a line of ours nor drives a terminal."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _indented(text: str) -> str:
    """Return a traceback's lines, each marked as a continuation."""
    return "\n".join(f"    | {_one_line(part)}" for part in text.split("\n"))

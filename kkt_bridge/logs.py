"""Log lines: one event a line, with the receipt's ids; for people, or as JSON for machines."""

import json
import logging
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from kkt_bridge.settings import LogSettings

IDS: Final = ("receipt_id", "pos_id", "kkt")
"""What a line about a receipt carries; nothing of the customer or the goods ever does."""


GATHER_S: Final = 0.05
"""How long a line waits for company."""


class TextFormatter(logging.Formatter):
    """For people: time, level, part, message, and the ids as `receipt_id=...`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several where a traceback follows."""
        ids = "".join(f" {name}={value}" for name, value in _ids(record).items())
        line = f"{_time(record)} {record.levelname:7} {_part(record)}: {_one_line(record.getMessage())}{ids}"
        return f"{line}\n{_indented(self.formatException(record.exc_info))}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The event with its ids; a traceback is a field."""
        event: dict[str, Any] = {
            "at": _time(record),
            "level": record.levelname.lower(),
            "part": _part(record),
            "message": record.getMessage(),
            **_ids(record),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False)


class GatheringHandler(logging.Handler):
    """Writes the lines of a moment together, in a thread of its own; a warning, and what led to it, at once.

    A line is small, and to write it gives the interpreter to another thread, in the middle of a receipt.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: list[str] = []
        self._any = threading.Event()
        threading.Thread(target=self._write_for_ever, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line; a record that cannot be formatted is told of on standard error."""
        try:
            self._lines.append(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 (logging's own way: no line is worth a receipt)
            self.handleError(record)
        if record.levelno >= logging.WARNING:
            self.flush()
        elif len(self._lines) == 1:
            self._any.set()

    def flush(self) -> None:
        """Write what was taken; a stream that is gone takes nothing more."""
        self.acquire()
        try:
            lines, self._lines = self._lines, []
            with suppress(OSError, ValueError):
                self._stream.write("".join(lines))
                self._stream.flush()
        finally:
            self.release()

    def _write_for_ever(self) -> None:
        while True:
            self._any.wait()
            time.sleep(GATHER_S)
            self._any.clear()
            with suppress(Exception):  # whatever the stream raises: the next lines are tried again
                self.flush()


def configure_logging(settings: LogSettings, stream: TextIO = sys.stderr) -> None:
    """Log to this stream; libraries speak from warnings up."""
    handler = GatheringHandler(stream)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("kkt_bridge").setLevel(settings.level.upper())


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _part(record: logging.LogRecord) -> str:
    return record.name.removeprefix("kkt_bridge.")


def _ids(record: logging.LogRecord) -> dict[str, str]:
    return {name: value for name in IDS if (value := getattr(record, name, None)) is not None}


def _one_line(text: str) -> str:
    """What a peer wrote must neither look like a line of ours nor drive a terminal."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _indented(text: str) -> str:
    """A traceback's lines, each shown to be none of ours."""
    return "\n".join(f"    | {_one_line(part)}" for part in text.split("\n"))

"""Log lines: one event a line, with the receipt's ids; for people, or as JSON for machines."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from kkt_bridge.settings import LogSettings

IDS: Final = ("receipt_id", "pos_id", "kkt")
"""What a line about a receipt carries; nothing of the customer or the goods ever does."""


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


def configure_logging(settings: LogSettings, stream: TextIO = sys.stderr) -> None:
    """Log to this stream; libraries speak from warnings up."""
    handler = logging.StreamHandler(stream)
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

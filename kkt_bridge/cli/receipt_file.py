"""Receipts in a file as POS programmers write them: one object, an array, JSON lines, or just one after another.

Each is sent in the very bytes that stand in the file, wrong as they may be, so that the bridge judges
them and not this program; only a missing `receipt_id` or `pos_id` is put in.
"""

import json
import re
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final

from kkt_bridge.receipts.model import IDENTIFIER_PATTERN

_BLANK: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder(parse_int=len, parse_float=len)
"""Numbers are only looked past, however large."""

_HINT: Final = "to send the file as it is, say --raw"


class NotReceipts(ValueError):
    """The file is no sequence of JSON values; the text says where, and what to do."""


@dataclass(frozen=True, slots=True)
class FileReceipt:
    """A payload to publish, the POS on whose topic, and the id that was put in, if one was."""

    payload: bytes
    pos: str
    made_id: str | None = None


def read_receipts(content: bytes, pos: str) -> list[FileReceipt]:
    """Return every receipt in a file; `pos` is for those that name no POS of their own.

    Raises:
        NotReceipts: Nothing of it should be sent.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise NotReceipts(f"not UTF-8: byte 0x{content[error.start]:02X} at offset {error.start}; {_HINT}") from None
    try:
        return [_completed(part, value, pos) for part, value in _values(text)]
    except json.JSONDecodeError as error:
        raise NotReceipts(f"line {error.lineno} column {error.colno}: not JSON: {error.msg}; {_HINT}") from None
    except RecursionError:
        raise NotReceipts(f"nested too deep to be looked into; {_HINT}") from None


def raw_receipt(content: bytes, pos: str | None, default_pos: str) -> FileReceipt:
    """Return the whole file as one payload, whatever it is; without `pos`, on the topic of the POS that it names."""
    try:
        value = _DECODER.decode(content.decode())
    except (ValueError, RecursionError):
        value = None
    return FileReceipt(content, pos or _pos_in(value) or default_pos)


def _values(text: str) -> Iterator[tuple[str, Any]]:
    """Yield each value with its text; the elements of an array one by one."""
    at = _skip_blank(text, 0)
    while at < len(text):
        if text[at] == "[":
            at = yield from _elements(text, at + 1)
        else:
            value, end = _DECODER.raw_decode(text, at)
            yield text[at:end], value
            at = end
        at = _skip_blank(text, at)


def _elements(text: str, at: int) -> Generator[tuple[str, Any], None, int]:
    """Yield the elements of an array, whose bracket was just read; return the place behind it."""
    at = _skip_blank(text, at)
    if text[at : at + 1] == "]":
        return at + 1
    while True:
        value, end = _DECODER.raw_decode(text, at)
        yield text[at:end], value
        at = _skip_blank(text, end)
        if text[at : at + 1] == "]":
            return at + 1
        if text[at : at + 1] != ",":
            raise json.JSONDecodeError("expected a comma or the end of the array", text, at)
        at = _skip_blank(text, at + 1)


def _skip_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()


def _completed(part: str, value: Any, pos: str) -> FileReceipt:
    named_pos = _pos_in(value)
    made_id = None
    if isinstance(value, dict):
        if "pos_id" not in value:
            part = _with_field(part, "pos_id", pos, more=bool(value))
        if "receipt_id" not in value:
            made_id = str(uuid.uuid4())
            part = _with_field(part, "receipt_id", made_id, more=True)
    return FileReceipt(part.encode(), named_pos or pos, made_id)


def _with_field(part: str, name: str, value: str, *, more: bool) -> str:
    """Return the object's text with one field more, in front: everything else stays as it was written."""
    return f"{{{json.dumps(name)}: {json.dumps(value)}{', ' if more else ''}{part[1:]}"


def _pos_in(value: Any) -> str | None:
    """Return the POS that it names, if that can stand in a topic."""
    pos = value.get("pos_id") if isinstance(value, dict) else None
    return pos if isinstance(pos, str) and re.fullmatch(IDENTIFIER_PATTERN, pos) else None

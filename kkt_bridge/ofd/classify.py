"""The meaning of an answer of the OFD: status, headers and body in, an `OfdAnswer` out. Pure, standard library only.

The process that carries out exchanges imports this, and is to stay small.
"""

import json
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer
from kkt_bridge.ofd.retry_after import retry_after_s

ANSWER_BYTES_MAX: Final = 64 * 1024
"""Bytes of a body that are read, and of a compressed one that are unpacked; an answer of an OFD is a few dozen."""

TEXT_MAX: Final = 300
"""Characters of an answer's text for people."""

SERVER_TIME_MAX: Final = 2**40
"""Unix seconds beyond which a number is no time (the year 36812)."""

_INTEGER_DIGITS_MAX: Final = 40
"""Digits of a number that are reckoned with; the interpreter refuses to convert very long ones."""

_KINDS: Final[Mapping[int, AnswerKind]] = MappingProxyType(
    {
        408: AnswerKind.SLOW_DOWN,
        425: AnswerKind.SLOW_DOWN,
        429: AnswerKind.SLOW_DOWN,
        401: AnswerKind.BRIDGE_REFUSED,
        403: AnswerKind.BRIDGE_REFUSED,
        404: AnswerKind.BRIDGE_REFUSED,
        405: AnswerKind.BRIDGE_REFUSED,
        407: AnswerKind.BRIDGE_REFUSED,
    }
)
"""The meaning of single statuses."""

_KINDS_BY_HUNDRED: Final[Mapping[int, AnswerKind]] = MappingProxyType(
    {
        3: AnswerKind.BRIDGE_REFUSED,
        4: AnswerKind.DOCUMENT_REFUSED,
        5: AnswerKind.SERVICE_FAILED,
    }
)
"""The meaning of all others, by their first digit."""

_WINDOW_BITS: Final[Mapping[str, int]] = MappingProxyType({"gzip": 31, "x-gzip": 31, "deflate": 47})
"""Content codings that are understood although none is asked for (RFC 9110 section 8.4.1), for zlib."""

_NOT_AN_OBJECT: Final = "not what an OFD says"


def classify(status: int, headers: Mapping[str, str], body: bytes, *, whole: bool, now_s: float) -> OfdAnswer:
    """Return the meaning of a final answer.

    `headers` have names in lower case. `body` is what was read of it, `whole` whether there was no more than that.
    `now_s` are Unix seconds by our clock, for a date in `Retry-After` where the answer does not tell its own.
    """
    body, whole = _unpacked(headers.get("content-encoding", ""), body, whole=whole)
    if 200 <= status < 300:
        if status == 204 or not body.strip():
            return OfdAnswer(AnswerKind.ACCEPTED, str(status), status=status)
        content = _object(body, whole=whole)
        if content is None:
            text = f"{status}, but {_NOT_AN_OBJECT}: {headers.get('content-type', 'no type')}, {_beginning(body)}"
            return OfdAnswer(AnswerKind.NOT_THE_OFD, one_line(text), status=status)
        return OfdAnswer(AnswerKind.ACCEPTED, str(status), _server_time(content), status=status)
    kind = _KINDS.get(status) or _KINDS_BY_HUNDRED.get(status // 100)
    if kind is None:
        return line_failed(f"{status} is no status of an answer")
    where = f"to {headers['location']} " if status // 100 == 3 and "location" in headers else ""
    return OfdAnswer(
        kind,
        one_line(f"{status} {where}{_beginning(body)}"),
        retry_after_s=retry_after_s(headers, now_s),
        status=status,
    )


def line_failed(text: str) -> OfdAnswer:
    """Return the answer where there was no usable one, for this reason."""
    return OfdAnswer(AnswerKind.LINE_FAILED, one_line(text))


def one_line(text: str) -> str:
    """Return a text from outside as one short line that any terminal and log can show."""
    words = "".join(char if char.isprintable() else " " for char in text[: 4 * TEXT_MAX]).split()
    line = " ".join(words)
    return line if len(line) <= TEXT_MAX else line[: TEXT_MAX - 1] + "…"


def _beginning(body: bytes) -> str:
    return body[:200].decode(errors="replace")


def _unpacked(coding: str, body: bytes, *, whole: bool) -> tuple[bytes, bool]:
    """The body without its content coding, at most `ANSWER_BYTES_MAX` of it; as it is where that is not possible."""
    bits = _WINDOW_BITS.get(coding.strip().lower())
    if bits is None or not body:
        return body, whole
    unpacker = zlib.decompressobj(bits)
    try:
        unpacked = unpacker.decompress(body, ANSWER_BYTES_MAX)
    except zlib.error:
        return body, whole
    return unpacked, whole and unpacker.eof


def _object(body: bytes, *, whole: bool) -> dict[str, Any] | None:
    """The JSON object that a body is, or begins as; None if it is something else.

    The syntax is judged leniently: what matters is that no web page passes for an OFD, and that no OFD with a careless
    serializer (a wrong character set, NaN, a key twice) is refused for ever.
    """
    text = body.decode(json.detect_encoding(body), errors="replace").removeprefix("\ufeff").lstrip(" \t\r\n")
    if not text.startswith("{"):
        return None
    if not whole:
        # The rest was not read; what follows the brace tells an object from a script or a template.
        return {} if text[1:].lstrip(" \t\r\n")[:1] == '"' else None
    try:
        content = _DECODER.decode(text)
    except RecursionError:
        return {}  # an object, only deeper than anybody needs to look
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _INTEGER_DIGITS_MAX else float("inf")


_DECODER: Final = json.JSONDecoder(parse_int=_integer)


def _server_time(content: Mapping[str, Any]) -> int | None:
    value = content.get("server_time")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < SERVER_TIME_MAX:
        return None
    return int(value)

"""The frames that the bridge and the process that speaks to the OFD send each other over their socket.

A frame is a head (length of the rest, kind, batch) and its content. Big-endian throughout. Standard library only, see
`kkt_bridge.ofd.child`.
"""

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final

from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer, OfdRequest

CARRY_S: Final = 0.2
"""Seconds after which a batch's answers go back although requests of it are left: they are to be written down."""

READ_BYTES: Final = 256 * 1024
"""Bytes that either side reads from the other at a time."""

ANSWER_FRAME_MAX: Final = 1024 * 1024
"""Bytes of a frame from the child: a batch's answers, each with a line of text, take a few dozen kilobytes."""

_HEAD: Final = struct.Struct("!IBq")
"""Bytes that follow this head, kind, batch."""

_COUNT: Final = struct.Struct("!H")
_REQUEST: Final = struct.Struct("!BHI")
"""1 for a document and 0 for a health check, bytes of the key, bytes of the body."""

_ANSWER: Final = struct.Struct("!BhqdH")
"""Place of the kind, status, server time, seconds to wait, bytes of the text."""

_NONE: Final = -1
"""A number that is not there: a status, a time and a wait are never negative."""

_KINDS: Final = tuple(AnswerKind)


class FrameKind(IntEnum):
    """The content of a frame."""

    OPTIONS = 1
    """To the child, the first one: `Options` as JSON."""
    BATCH = 2
    """To the child: requests to be carried out one after the other."""
    ANSWERS = 3
    """From the child: a batch's answers."""


class WrongFrameError(Exception):
    """The other side sent something that it may not send; nothing after it can be trusted."""


def frame(kind: FrameKind, batch: int, content: bytes) -> bytes:
    """Return one frame."""
    return _HEAD.pack(len(content), kind, batch) + content


def batch_frame(batch: int, requests: Sequence[OfdRequest]) -> bytes:
    """Return the frame of a batch, for the child."""
    parts = [_COUNT.pack(len(requests))]
    for request in requests:
        key = request.key.encode()
        parts += (_REQUEST.pack(request.target == "receipt", len(key), len(request.body)), key, request.body)
    return frame(FrameKind.BATCH, batch, b"".join(parts))


def answers_frame(batch: int, answers: Sequence[OfdAnswer]) -> bytes:
    """Return the frame of a batch's answers, for the bridge."""
    parts = [_COUNT.pack(len(answers))]
    for answer in answers:
        text = answer.text.encode(errors="replace")
        parts += (
            _ANSWER.pack(
                _KINDS.index(answer.kind),
                _NONE if answer.status is None else answer.status,
                _NONE if answer.server_time is None else answer.server_time,
                _NONE if answer.retry_after_s is None else answer.retry_after_s,
                len(text),
            ),
            text,
        )
    return frame(FrameKind.ANSWERS, batch, b"".join(parts))


def requests_in(content: bytes) -> list[OfdRequest]:
    """Return the requests in the content of a BATCH frame."""
    (count,), offset = _COUNT.unpack_from(content), _COUNT.size
    requests = []
    for _ in range(count):
        is_document, key_size, body_size = _REQUEST.unpack_from(content, offset)
        key_at = offset + _REQUEST.size
        body_at = key_at + key_size
        offset = body_at + body_size
        key, body = content[key_at:body_at].decode(), content[body_at:offset]
        requests.append(OfdRequest("receipt" if is_document else "health", key, body))
    return requests


def answers_in(content: bytes) -> list[OfdAnswer]:
    """Return the answers in the content of an ANSWERS frame. WrongFrameError: it holds anything else."""
    try:
        (count,), offset = _COUNT.unpack_from(content), _COUNT.size
        answers = []
        for _ in range(count):
            kind, status, server_time, wait_s, size = _ANSWER.unpack_from(content, offset)
            text_at = offset + _ANSWER.size
            offset = text_at + size
            answers.append(
                OfdAnswer(
                    _KINDS[kind],
                    content[text_at:offset].decode(),
                    None if server_time < 0 else server_time,
                    wait_s if wait_s >= 0 else None,  # not a number is none either
                    None if status < 0 else status,
                )
            )
    except (struct.error, IndexError, ValueError) as error:
        raise WrongFrameError(f"no answers: {error}") from None
    if offset != len(content):
        raise WrongFrameError(f"{len(content) - offset} bytes more or less than answers take")
    return answers


class FrameReader:
    """Bytes in, whole frames out."""

    def __init__(self, content_max: int) -> None:
        """`content_max`: bytes of a frame's content beyond which it is a wrong one."""
        self._content_max = content_max
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield the frames that are whole now: kind, batch, content. WrongFrameError: one is too long."""
        self._data += data
        while len(self._data) >= _HEAD.size:
            size, kind, batch = _HEAD.unpack_from(self._data)
            if size > self._content_max:
                raise WrongFrameError(f"a frame of {size} bytes, at most {self._content_max} are expected")
            end = _HEAD.size + size
            if len(self._data) < end:
                return
            content = bytes(memoryview(self._data)[_HEAD.size : end])
            del self._data[:end]
            yield kind, batch, content

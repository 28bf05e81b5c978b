"""`python -m benchmarks.flooder SPEC`: a POS that has gone mad. A `FloodSpec` goes in, a `Flooded` comes out, as JSON.

It publishes as fast as the broker reads, over a bare socket and MQTT 3.1.1, which has no limit that it would have to
keep, and takes every answer. What an MQTT library would do for each message is not what is measured.
"""

import json
import select
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass

from benchmarks.errors import BenchmarkError
from benchmarks.ports import HOST

READ_BYTES = 256 * 1024
WRITE_BYTES = 256 * 1024
"""Handed to the system at a time, so that what comes is read in between."""

ANSWERS_TIMEOUT_S = 120.0
IDLE_S = 0.5

CONNECT, PUBLISH, PUBACK, SUBSCRIBE = 0x10, 0x32, 0x40, 0x82
"""First bytes of packets (MQTT 3.1.1 section 2.2); PUBLISH and what it is answered with at QoS 1."""


@dataclass(frozen=True)
class FloodSpec:
    """What is to be sent."""

    port: int
    branch: str
    """Of topics, as in `kkt/v1/store-1`."""
    pos: str
    count: int
    size: int
    """Bytes of each message, which is no receipt."""


@dataclass(frozen=True)
class Flooded:
    """When it was over: seconds since the first byte."""

    sent_s: float
    """The system has taken the last message."""
    answered_s: float
    """The last answer has come."""


def flood(spec: FloodSpec) -> Flooded:
    """Send all of it, and wait for an answer to each."""
    topic = f"{spec.branch}/pos/{spec.pos}"
    with socket.create_connection((HOST, spec.port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.sendall(_packet(CONNECT, _text("MQTT") + b"\x04\x02\x00\x00" + _text(f"flood-{spec.pos}")))
        line.sendall(_packet(SUBSCRIBE, b"\x00\x01" + _text(f"{topic}/reply") + b"\x00"))
        reader = _Reader()
        while reader.packets < 2:  # CONNACK and SUBACK
            reader.feed(line.recv(READ_BYTES))
        body = json.dumps({"a": "x" * max(0, spec.size - len('{"a": ""}'))}).encode()
        packets = (
            _packet(PUBLISH, _text(f"{topic}/receipt") + struct.pack(">H", number % 0xFFFF + 1) + body)
            for number in range(spec.count)
        )
        return _pour(line, memoryview(b"".join(packets)), reader, spec.count)


def _pour(line: socket.socket, unsent: memoryview, reader: "_Reader", count: int) -> Flooded:
    line.setblocking(False)
    began, sent_s = time.perf_counter(), None
    while reader.publishes < count:
        readable, writable, _ = select.select([line], [line] if unsent else [], [], IDLE_S)
        if readable:
            if not (data := line.recv(READ_BYTES)):
                raise BenchmarkError("the broker has closed the connection of the flood")
            reader.feed(data)
        if writable:
            unsent = unsent[line.send(unsent[:WRITE_BYTES]) :]
        now = time.perf_counter() - began
        if sent_s is None and not unsent:
            sent_s = now
        if now > ANSWERS_TIMEOUT_S:
            raise BenchmarkError(f"{count - reader.publishes} messages of a flood were not answered")
    assert sent_s is not None, "what was answered was sent"
    return Flooded(sent_s, time.perf_counter() - began)


class _Reader:
    """Counts packets, and those among them that are PUBLISH; at QoS 0 none of them wants an answer."""

    def __init__(self) -> None:
        self.packets = 0
        self.publishes = 0
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Bytes came."""
        self._data += data
        start = 0
        while (end := self._end_of_packet(start)) is not None:
            self.packets += 1
            self.publishes += self._data[start] & 0xF0 == PUBLISH & 0xF0
            start = end
        del self._data[:start]

    def _end_of_packet(self, start: int) -> int | None:
        """Where the packet at this place ends; None if that has not come yet (MQTT 3.1.1 section 2.2.3)."""
        length = 0
        for place, byte in enumerate(self._data[start + 1 : start + 5]):
            length |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                end = start + 2 + place + length
                return end if end <= len(self._data) else None
        return None


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">H", len(encoded)) + encoded


def _packet(first: int, rest: bytes) -> bytes:
    length, left = bytearray(), len(rest)
    while True:
        left, byte = left >> 7, left & 0x7F
        length.append(byte | 0x80 if left else byte)
        if not left:
            return bytes([first, *length]) + rest


def main() -> int:
    """Flood as the argument describes."""
    try:
        flooded = flood(FloodSpec(**json.loads(sys.argv[1])))
    except (BenchmarkError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(flooded)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

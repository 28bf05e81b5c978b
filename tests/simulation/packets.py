"""MQTT packets as far as a broker needs them for one client (OASIS MQTT 5.0 and MQTT 3.1.1, sections 2 and 3).

`modern` is MQTT 5; MQTT 3.1.1 has no properties.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14
NAMES = {
    CONNECT: "CONNECT",
    PUBLISH: "PUBLISH",
    PUBACK: "PUBACK",
    SUBSCRIBE: "SUBSCRIBE",
    PINGREQ: "PINGREQ",
    DISCONNECT: "DISCONNECT",
}
"""Of what a client sends here."""

RECEIVE_MAXIMUM, RESPONSE_TOPIC, CORRELATION_DATA = 0x21, 0x08, 0x09
_WIDTHS = {0x01: 1, 0x02: 4, 0x11: 4, 0x17: 1, 0x18: 4, 0x19: 1, 0x21: 2, 0x22: 2, 0x27: 4}
"""Bytes of the properties that are numbers; all others here are text or binary with a length before it."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet, taken apart as far as its kind."""

    kind: int
    flags: int
    body: bytes


@dataclass(slots=True)
class Publish:
    """A PUBLISH."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    dup: bool = False
    mid: int = 0
    properties: dict[int, Any] = field(default_factory=dict)
    odd: bytes = b""
    """More properties, as their bytes: what a client sent that no client should."""

    def encode(self, *, modern: bool) -> bytes:
        """The packet."""
        flags = self.dup << 3 | self.qos << 1 | self.retain
        mid = self.mid.to_bytes(2) if self.qos else b""
        properties = _properties(self.properties, self.odd) if modern else b""
        return packet(PUBLISH, flags, _text(self.topic) + mid + properties + self.payload)


class Reader:
    """Takes values off the front of a packet's body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, count: int) -> bytes:
        self._at += count
        return self._body[self._at - count : self._at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width))

    def blob(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        return self.blob().decode()

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def properties(self) -> dict[int, Any]:
        end = self.varint() + self._at
        found: dict[int, Any] = {}
        while self._at < end:
            key = self.number(1)
            found[key] = self.number(_WIDTHS[key]) if key in _WIDTHS else self.blob()
        return found

    @property
    def done(self) -> bool:
        return self._at >= len(self._body)

    def rest(self) -> bytes:
        return self._body[self._at :]


def packet(kind: int, flags: int, body: bytes) -> bytes:
    """A packet with its fixed header."""
    return bytes([kind << 4 | flags]) + _varint(len(body)) + body


def split(stream: bytearray) -> list[Packet]:
    """Take the whole packets off a stream."""
    packets = []
    while end := _first_ends(stream):
        packets.append(Packet(stream[0] >> 4, stream[0] & 0xF, bytes(stream[end.head : end.body])))
        del stream[: end.body]
    return packets


def cut(data: bytes) -> Iterator[bytes]:
    """The packets in these bytes, each with its head."""
    while end := _first_ends(data):
        yield data[: end.body]
        data = data[end.body :]
    assert not data, "the bridge sends whole packets"


class _Ends(NamedTuple):
    """The ends of the head and the body of a packet."""

    head: int
    body: int


def _first_ends(stream: bytes | bytearray) -> _Ends | None:
    """The ends of the first packet; None if it is not whole."""
    length = 0
    for at in range(1, len(stream)):
        length |= (stream[at] & 0x7F) << 7 * (at - 1)
        if stream[at] < 0x80:
            return _Ends(at + 1, at + 1 + length) if len(stream) >= at + 1 + length else None
    return None


def read_publish(packet: Packet, *, modern: bool) -> Publish:
    """Take a PUBLISH apart."""
    reader, qos = Reader(packet.body), packet.flags >> 1 & 3
    topic = reader.text()
    mid = reader.number(2) if qos else 0
    properties = reader.properties() if modern else {}
    return Publish(topic, reader.rest(), qos, bool(packet.flags & 1), bool(packet.flags & 8), mid, properties)


def read_connect(packet: Packet) -> tuple[bool, Publish]:
    """Return whether a CONNECT is MQTT 5, and its will."""
    reader = Reader(packet.body)
    reader.text()  # "MQTT"
    modern = reader.number(1) == 5
    reader.take(3)  # flags, keep-alive
    if modern:
        reader.properties()
    reader.text()  # the client's id
    if modern:
        reader.properties()
    return modern, Publish(reader.text(), reader.blob(), retain=True)


def connack(*, session_present: bool, receive_maximum: int, modern: bool) -> bytes:
    """A CONNACK that lets the client in."""
    properties = _properties({RECEIVE_MAXIMUM: receive_maximum}) if modern else b""
    return packet(CONNACK, 0, bytes([session_present, 0]) + properties)


def suback(subscribe: Packet, *, modern: bool) -> bytes:
    """A SUBACK that grants what this SUBSCRIBE asks for."""
    reader, granted = Reader(subscribe.body), b""
    mid = reader.take(2)
    if modern:
        reader.properties()
    while not reader.done:
        reader.text()
        granted += bytes([reader.number(1) & 3])
    return packet(SUBACK, 0, mid + (b"\0" if modern else b"") + granted)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        encoded.append(low | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2) + encoded


def _properties(properties: dict[int, Any], odd: bytes = b"") -> bytes:
    encoded = odd
    for key, value in properties.items():
        body = value.to_bytes(_WIDTHS[key]) if key in _WIDTHS else len(value).to_bytes(2) + value
        encoded += bytes([key]) + body
    return _varint(len(encoded)) + encoded

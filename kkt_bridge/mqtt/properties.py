"""Properties of a received packet, parsed leniently (OASIS MQTT 5.0 section 2.2.2).

Brokers forward what other clients put into the properties of a PUBLISH, and most of them do not judge it. paho does:
over a Payload Format Indicator of 2, a property given twice or a text with U+FEFF it drops the connection, before
anybody could acknowledge the message. So the broker sends it again on every new connection, and one client locks
the bridge out with one message. Here nothing raises: the few properties that are needed are taken, all others skipped
by their type, and where the properties cannot be parsed, the packet counts as having none.
"""

from typing import Any, Final, NamedTuple

_BYTE, _TWO_BYTES, _FOUR_BYTES, _VARIABLE, _BLOB, _TEXT, _PAIR = range(7)

_KINDS: Final = (
    dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), _BYTE)
    | dict.fromkeys((0x13, 0x21, 0x22, 0x23), _TWO_BYTES)
    | dict.fromkeys((0x02, 0x11, 0x18, 0x27), _FOUR_BYTES)
    | {0x0B: _VARIABLE, 0x26: _PAIR}
    | dict.fromkeys((0x09, 0x16), _BLOB)
    | dict.fromkeys((0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F), _TEXT)
)
"""The type of each property (MQTT 5.0 table 2-4)."""

_WIDTHS: Final = {_BYTE: 1, _TWO_BYTES: 2, _FOUR_BYTES: 4}
"""Bytes of an integer."""

_NEEDED: Final = {
    0x08: "ResponseTopic",
    0x09: "CorrelationData",
    0x13: "ServerKeepAlive",
    0x1F: "ReasonString",
    0x21: "ReceiveMaximum",
    0x27: "MaximumPacketSize",
}
"""The properties that are taken, by paho's names."""

VARIABLE_BYTES_MAX: Final = 4
"""Bytes of a variable byte integer (MQTT 5.0 section 1.5.5)."""


class MalformedProperties(Exception):
    """The properties cannot be parsed to their end."""


class PropertyBlock(NamedTuple):
    """The properties at the front of some bytes."""

    found: dict[str, Any]
    """Values by paho's names: text, bytes and numbers, each as it came the first time."""
    size: int
    """Bytes of the block, its length included."""


def read_properties(data: bytes | bytearray) -> PropertyBlock:
    """Read a packet's properties; `data` begins with their length.

    A length that cannot be read, or reaches beyond the packet, takes all of the packet: nobody can say where the
    payload begins.
    """
    try:
        length, start = _variable(data, 0, len(data))
    except MalformedProperties:
        return PropertyBlock({}, len(data))
    end = start + length
    if end > len(data):
        return PropertyBlock({}, len(data))
    try:
        return PropertyBlock(_walk(data, start, end), end)
    except MalformedProperties:
        return PropertyBlock({}, end)


def _walk(data: bytes | bytearray, at: int, end: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while at < end:
        identifier, at = _variable(data, at, end)
        value, at = _value(data, at, end, _KINDS.get(identifier))
        if (name := _NEEDED.get(identifier)) is not None and value is not None:
            found.setdefault(name, value)
    return found


def _value(data: bytes | bytearray, at: int, end: int, kind: int | None) -> tuple[Any, int]:
    """Return a value of this kind, None for a text that is not UTF-8, and where it ends."""
    if kind is None:
        raise MalformedProperties
    if kind == _VARIABLE:
        return _variable(data, at, end)
    if kind in _WIDTHS:
        content, at = _take(data, at, end, _WIDTHS[kind])
        return int.from_bytes(content, "big"), at
    content, at = _sized(data, at, end)
    if kind == _BLOB:
        return content, at
    if kind == _PAIR:
        return None, _sized(data, at, end)[1]
    try:
        return content.decode(), at
    except UnicodeDecodeError:
        return None, at


def _sized(data: bytes | bytearray, at: int, end: int) -> tuple[bytes, int]:
    size, at = _take(data, at, end, 2)
    return _take(data, at, end, int.from_bytes(size, "big"))


def _take(data: bytes | bytearray, at: int, end: int, count: int) -> tuple[bytes, int]:
    if at + count > end:
        raise MalformedProperties
    return bytes(data[at : at + count]), at + count


def _variable(data: bytes | bytearray, at: int, end: int) -> tuple[int, int]:
    value = 0
    for index in range(VARIABLE_BYTES_MAX):
        if at + index >= end:
            raise MalformedProperties
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise MalformedProperties

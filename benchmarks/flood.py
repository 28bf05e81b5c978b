"""`python -m benchmarks.flood SPEC`: a POS that has gone mad, and what its flood costs another POS.

The flood publishes as fast as the broker reads, over a bare socket and MQTT 3.1.1, which has no limit that it would
have to keep, and takes every answer. What an MQTT library would do for each message is not what is measured.
A `FloodSpec` goes in, a `Flooded` comes out, as JSON.
"""

import json
import select
import socket
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from paho.mqtt.client import MQTTMessage

from benchmarks.load import HOST, NOT_YET, BenchmarkError, Connection, Receipts, answered_id, percentile, receipt_ids
from benchmarks.programs import Bridge, BridgeConfig, run_json
from benchmarks.report import Bound, Row
from benchmarks.site import PRINTED, Site

HONEST, FLOODER = "pos-1", "pos-2"
CALM_S = 1.0
"""Of selling before the flood, and after it."""
ANSWER_TIMEOUT_S = 60.0
DELAY_MAX_MS = 1000.0
RUNS_MAX = 3

FLOODS = (
    ("20,000 small messages", 20_000, 30),
    ("6,000 small messages", 6_000, 30),
    ("2,000 messages of 33 KB", 2_000, 33_000),
)
"""Names, numbers of messages, and bytes of each."""

READ_BYTES = 256 * 1024
WRITE_BYTES = 256 * 1024
"""Handed to the system at a time, so that what comes is read in between."""
FLOOD_TIMEOUT_S = 120.0
IDLE_S = 0.5
PROCESS_TIMEOUT_S = FLOOD_TIMEOUT_S + 30.0

CONNECT, PUBLISH, SUBSCRIBE = 0x10, 0x32, 0x82
"""First bytes of packets (MQTT 3.1.1 section 2.2); PUBLISH at QoS 1."""


@dataclass(frozen=True)
class _Sale:
    """A receipt of the honest POS; seconds."""

    at: float
    """From the flood's begin to its publication."""
    took: float


def others_during_a_flood(site: Site) -> list[Row]:
    """One POS sells on, one receipt after the other, while another pours out rubbish: until all of that is answered."""
    return [row for flood in FLOODS for row in _rows(site, *flood)]


def _rows(site: Site, name: str, count: int, size: int) -> list[Row]:
    runs = []
    for _ in range(min(site.runs, RUNS_MAX)):
        with site.bridge(BridgeConfig(site.away, terminals=2)) as bridge:
            runs.append(_run(site, bridge, FloodSpec(site.broker.port, bridge.branch, FLOODER, count, size)))
    took_ms = [sorted(sale.took * 1000 for sale in sales) for sales, _ in runs]
    notes: dict[str, object] = {
        "flood": [asdict(flooded) for _, flooded in runs],
        "slowest (s since the flood began, ms)": [_slowest(sales) for sales, _ in runs],
    }
    about = f"receipt of another POS during a flood of {name}"
    bound = Bound(DELAY_MAX_MS, unit="ms", at_most=True)
    return [
        Row(f"{about}: median", "ms", [percentile(times, 50) for times in took_ms]),
        Row(f"{about}: p99", "ms", [percentile(times, 99) for times in took_ms]),
        Row(f"{about}: the slowest", "ms", [times[-1] for times in took_ms], bound=bound, notes=notes),
    ]


def _slowest(sales: list[_Sale]) -> list[tuple[float, float]]:
    slowest = sorted(sales, key=lambda sale: sale.took, reverse=True)[:10]
    return [(round(sale.at, 3), round(sale.took * 1000, 1)) for sale in sorted(slowest, key=lambda sale: sale.at)]


def _run(site: Site, bridge: Bridge, spec: "FloodSpec") -> "tuple[list[_Sale], Flooded]":
    """Return the sales from the flood's first moment to its last answer."""
    cashier = _Cashier(site, bridge)
    cashier.sell_for(CALM_S)
    with ThreadPoolExecutor(1) as pool:
        began = time.perf_counter()
        flooding = pool.submit(run_json, "the flood", PROCESS_TIMEOUT_S, "benchmarks.flood", json.dumps(asdict(spec)))
        while not flooding.done():
            cashier.sell()
        ended = time.perf_counter()
        flooded = Flooded(**flooding.result())
    cashier.sell_for(CALM_S)
    cashier.close()
    bridge.check_runs()
    # Its process starts a while before its first byte, and ends right after its last answer.
    first_byte = max(began, ended - flooded.answered_s)
    sales = [_Sale(sale.at - first_byte, sale.took) for sale in cashier.sales]
    return [sale for sale in sales if -sale.took < sale.at < flooded.answered_s], flooded


class _Cashier:
    """Sells one receipt after the other, and notes how long each took."""

    def __init__(self, site: Site, bridge: Bridge) -> None:
        self.sales: list[_Sale] = []
        """By the clock of this process."""
        self._receipts = Receipts(HONEST)
        self._ids = receipt_ids(0)
        self._topic = f"{bridge.branch}/pos/{HONEST}/receipt"
        self._answered: set[bytes] = set()
        replies = [f"{bridge.branch}/pos/{HONEST}/reply"]
        self._connection = Connection(site.broker.port, site.protocol, f"cashier-{bridge.id}", replies, self._take)

    def sell_for(self, seconds: float) -> None:
        """Sell that long."""
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self.sell()

    def sell(self) -> None:
        """Sell one, and wait for its final reply."""
        receipt_id, at = next(self._ids), time.perf_counter()
        self._connection.client.publish(self._topic, self._receipts.payload(receipt_id), qos=1)
        self._connection.write()
        while receipt_id not in self._answered:
            if time.perf_counter() - at > ANSWER_TIMEOUT_S:
                raise BenchmarkError(f"a receipt beside a flood has no answer after {ANSWER_TIMEOUT_S:g} s")
            if select.select([self._connection], [], [], 1.0)[0]:
                self._connection.read_and_write()
        self._answered.clear()
        self.sales.append(_Sale(at, time.perf_counter() - at))

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def _take(self, message: MQTTMessage) -> None:
        if NOT_YET in message.payload:
            return
        if PRINTED.encode() not in message.payload:
            raise BenchmarkError(f"a wrong answer: {message.payload[:500].decode(errors='replace')}")
        self._answered.add(answered_id(message.payload) or b"")


@dataclass(frozen=True)
class FloodSpec:
    """A flood to send."""

    port: int
    branch: str
    """Of topics, as in `kkt/v1/store-1`."""
    pos: str
    count: int
    size: int
    """Bytes of each message, which is no receipt."""


@dataclass(frozen=True)
class Flooded:
    """The end of a flood, in seconds since its first byte."""

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
        if now > FLOOD_TIMEOUT_S:
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
        """Return the end of the packet at this place; None if it has not come yet (MQTT 3.1.1 section 2.2.3)."""
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

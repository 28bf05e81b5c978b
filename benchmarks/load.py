"""`python -m benchmarks.load SPEC`: the load, one thread. A `LoadSpec` goes in, a `Loaded` comes out, as JSON.

Bridge and echo get the very same load: the same clients, the same requests, the same matching of answers.
"""

import json
import re
import select
import selectors
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from math import ceil
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from kkt_bridge.mqtt.paho_client import set_nodelay
from kkt_bridge.wire.examples import EXAMPLES

HOST = "127.0.0.1"
CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 60

NOT_YET = b'"status":"buffered"'
"""In a reply that a final one follows."""

TICK_S = 0.5
"""Between two looks after the connections and the deadline."""

IDS_PER_S = 6000
"""Made before the clock starts: more than any bridge or echo has taken."""

_ID = "\x00"
_RECEIPT_ID = re.compile(rb'"receipt_id":\s*"([0-9a-f-]{36})"')


class BenchmarkError(Exception):
    """Something did not do what is measured, so there is no figure to report."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the least value that so many percent do not exceed: one that was really seen, not interpolated."""
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


class Receipts:
    """Receipts of one POS: the contract's example with two items and two payments, about 530 bytes.

    All are alike but for their ids, so that making them costs the load next to nothing.
    """

    def __init__(self, pos_id: str) -> None:
        request = EXAMPLES["receipt-request"] | {"receipt_id": _ID, "pos_id": pos_id}
        text = json.dumps(request, ensure_ascii=False, separators=(",", ":"))
        self._head, self._tail = (part.encode() for part in text.split(json.dumps(_ID)[1:-1]))

    def payload(self, receipt_id: bytes) -> bytes:
        """Return the request with this id."""
        return self._head + receipt_id + self._tail


def receipt_ids(ready: int) -> Iterator[bytes]:
    """Yield random ids without end; so many are made before this returns."""
    return chain([_receipt_id() for _ in range(ready)], iter(_receipt_id, None))


def _receipt_id() -> bytes:
    return str(uuid.uuid4()).encode()


def answered_id(payload: bytes) -> bytes | None:
    """Return the id of the receipt that a reply, or an echo, is about."""
    found = _RECEIPT_ID.search(payload)
    return found[1] if found else None


class Connection:
    """A paho client without a thread: its owner reads and writes it. Subscribed once made; never reconnects.

    The tests' client would not do: its thread and what it keeps of each message would be part of the figures.
    """

    def __init__(
        self,
        port: int,
        protocol: int,
        client_id: str,
        topics: Iterable[str],
        on_message: Callable[[MQTTMessage], None],
    ) -> None:
        subscribed: list[bool] = []
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion(protocol),
            reconnect_on_failure=False,
        )
        self.client.max_inflight_messages = 0  # the window is the load's own; paho would stop at 20
        self.client.on_socket_open = set_nodelay
        # Being set, it keeps paho from writing by itself: what a callback publishes goes out in one go, after it.
        self.client.on_socket_register_write = lambda *_: None
        self.client.on_subscribe = lambda *_: subscribed.append(True)
        self.client.on_message = lambda _client, _userdata, message: on_message(message)
        self.client.connect(HOST, port, KEEPALIVE_S)
        self._wait_for(self.client.is_connected, "CONNACK")
        self.client.subscribe([(topic, 1) for topic in topics])
        self._wait_for(lambda: bool(subscribed), "SUBACK")

    def fileno(self) -> int:
        """Return the socket's, for a selector."""
        sock: Any = self.client.socket()
        if sock is None:
            raise BenchmarkError("the broker has closed a connection of the load")
        return int(sock.fileno())

    def read_and_write(self) -> None:
        """Read what has come, and write what is to go."""
        self.client.loop_read()
        self.write()

    def write(self) -> None:
        """Write what is to go."""
        while self.client.want_write():
            self.client.loop_write()
            if self.client.want_write():
                select.select([], [self.fileno()], [], KEEPALIVE_S)

    def close(self) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.write()

    def _wait_for(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not done():
            if time.monotonic() > deadline:
                raise BenchmarkError(f"no {what} from the broker within {CONNECT_TIMEOUT_S:g} s")
            self.write()
            if select.select([self.fileno()], [], [], 0.1)[0]:
                self.client.loop_read()


@dataclass(frozen=True)
class LoadSpec:
    """Requests to send, and answers to expect."""

    port: int
    protocol: int
    branch: str
    """Of topics, as in `kkt/v1/store-1`."""
    expect: str
    """Stands in every right answer."""
    terminals: int = 1
    window: int = 64
    """Requests in flight, over all terminals."""
    warm_up_s: float = 0.5
    measure_s: float = 2.5
    count: int | None = None
    """So many requests in all, without a warm-up, instead of `measure_s`."""
    rate: float | None = None
    """Requests a second at fixed times, whatever comes back, instead of a window."""
    answer_timeout_s: float = 20.0
    """For one answer; a missing one fails the whole run."""
    sample_every: int = 0
    """Note the time of every so many answers."""


@dataclass
class Loaded:
    """The result of a load."""

    answered: int
    """In all, warm-up included."""
    measured: int
    seconds: float
    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    samples: list[tuple[int, float]] = field(default_factory=list)
    """(answers so far, seconds since the measuring began)."""
    processor_ms: float = 0.0
    """Processor time of each answer in the process under load, where that is measured."""
    child_processor_ms: float = 0.0
    """The same of the process that speaks to the OFD: on another core, and on an account of its own."""
    family_mb: float = 0.0
    """Resident memory of both together, after the run."""


class Load:
    """Terminals that publish requests and hold every answer against its request."""

    def __init__(self, spec: LoadSpec) -> None:
        self._spec = spec
        self._expect = spec.expect.encode()
        self._names = [f"pos-{number}" for number in range(1, spec.terminals + 1)]
        self._receipts = [Receipts(name) for name in self._names]
        self._topics = [f"{spec.branch}/pos/{name}/receipt" for name in self._names]
        ready = spec.count if spec.count is not None else int(IDS_PER_S * (spec.warm_up_s + spec.measure_s))
        self._ids = receipt_ids(ready)
        self._due: dict[bytes, float] = {}
        """The time at which each unanswered request was to be sent."""
        self._idle: deque[int] = deque()
        """Terminals that may send, once for each request."""
        self._answered = 0
        self._measured: list[float] = []
        self._samples: list[tuple[int, float]] = []
        self._measure_from: float | None = None
        self._selector = selectors.DefaultSelector()
        self._connections = [self._connect(number) for number in range(spec.terminals)]

    def run(self) -> Loaded:
        """Warm up, measure, and wait for what is still out."""
        spec = self._spec
        start = time.perf_counter()
        if spec.rate is None:
            self._idle.extend(number % spec.terminals for number in range(spec.window))
        if spec.count is None:
            self._go_on(start, until=start + spec.warm_up_s)
        self._measure_from = begin = time.perf_counter()
        self._go_on(start, until=begin + spec.measure_s if spec.count is None else float("inf"))
        seconds, measured = time.perf_counter() - begin, len(self._measured)
        self._finish()
        for connection in self._connections:
            connection.close()
        latencies = sorted(self._measured)
        return Loaded(
            answered=self._answered,
            measured=measured,
            seconds=seconds,
            rate=measured / seconds,
            p50_ms=percentile(latencies, 50) * 1000,
            p99_ms=percentile(latencies, 99) * 1000,
            max_ms=latencies[-1] * 1000,
            samples=self._samples,
        )

    def _connect(self, number: int) -> Connection:
        spec, name = self._spec, self._names[number]
        client_id = f"load-{spec.branch.rsplit('/', 1)[-1]}-{name}"
        reply = f"{spec.branch}/pos/{name}/reply"
        connection = Connection(
            spec.port, spec.protocol, client_id, [reply], lambda message: self._take(number, message)
        )
        self._selector.register(connection, selectors.EVENT_READ)
        return connection

    def _go_on(self, start: float, until: float) -> None:
        """Send and receive until that time, or until the count is reached."""
        looked = time.perf_counter()
        while (now := time.perf_counter()) < until and not self._is_enough():
            self._send(start, now)
            self._receive(min(TICK_S, max(0.0, min(until, self._next_due(start)) - time.perf_counter())))
            if now - looked > TICK_S:
                looked = now
                self._look_after()

    def _is_enough(self) -> bool:
        count = self._spec.count
        return count is not None and len(self._measured) >= count

    def _may_send(self) -> bool:
        """Return whether a count leaves room: the last answer to come is the last one wanted."""
        count = self._spec.count
        return count is None or len(self._measured) + len(self._due) < count

    def _next_due(self, start: float) -> float:
        rate = self._spec.rate
        return float("inf") if rate is None else start + (self._answered + len(self._due)) / rate

    def _send(self, start: float, now: float) -> None:
        if self._spec.rate is not None:
            while (due := self._next_due(start)) <= now:
                self._publish((self._answered + len(self._due)) % self._spec.terminals, due)
        written = set()
        while self._idle and self._may_send():
            number = self._idle.popleft()
            self._publish(number, time.perf_counter())
            written.add(number)
        for number in written if self._spec.rate is None else range(self._spec.terminals):
            self._connections[number].write()

    def _publish(self, number: int, due: float) -> None:
        receipt_id = next(self._ids)
        self._due[receipt_id] = due
        payload = self._receipts[number].payload(receipt_id)
        self._connections[number].client.publish(self._topics[number], payload, qos=1)

    def _receive(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            connection: Connection = key.fileobj  # type: ignore[assignment]
            connection.read_and_write()

    def _take(self, number: int, message: MQTTMessage) -> None:
        payload, now = message.payload, time.perf_counter()
        if NOT_YET in payload:
            return
        due = self._due.pop(answered_id(payload) or b"", None)
        if due is None or self._expect not in payload:
            raise BenchmarkError(f"a wrong answer on {message.topic}: {payload[:500].decode(errors='replace')}")
        self._answered += 1
        if self._measure_from is not None:
            self._note(now, now - due)
        if self._spec.rate is None:
            self._idle.append(number)

    def _note(self, now: float, latency: float) -> None:
        assert self._measure_from is not None
        self._measured.append(latency)
        every = self._spec.sample_every
        if every and len(self._measured) % every == 0:
            self._samples.append((len(self._measured), now - self._measure_from))

    def _look_after(self) -> None:
        for connection in self._connections:
            connection.client.loop_misc()
            connection.write()
        oldest = next(iter(self._due.values()), None)
        if oldest is not None and time.perf_counter() - oldest > self._spec.answer_timeout_s:
            missing = len(self._due)
            raise BenchmarkError(f"{missing} answers are missing, the oldest for {self._spec.answer_timeout_s:g} s")

    def _finish(self) -> None:
        while self._due:
            self._receive(TICK_S)
            self._look_after()


def main() -> int:
    """Run the load that the argument describes."""
    try:
        loaded = Load(LoadSpec(**json.loads(sys.argv[1]))).run()
    except (BenchmarkError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(loaded)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

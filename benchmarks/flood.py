"""What a flood of one POS costs another: how long its receipts take, from the flood's first moment on."""

import json
import select
import subprocess
import time
from dataclasses import asdict, dataclass

from paho.mqtt.client import MQTTMessage

from benchmarks.bridge import PRINTED, Bridge, Shop
from benchmarks.errors import BenchmarkError
from benchmarks.flooder import Flooded, FloodSpec
from benchmarks.load import NOT_YET
from benchmarks.medians import percentile
from benchmarks.mqtt import Connection
from benchmarks.payloads import Till, answered_id, receipt_ids
from benchmarks.ports import HOST
from benchmarks.processes import ROOT, python
from benchmarks.site import Site
from benchmarks.table import Bound, Row

HONEST, FLOODER = "pos-1", "pos-2"
CALM_S = 1.0
"""Of selling before the flood, and after it."""

ANSWER_TIMEOUT_S = 60.0
DELAY_MAX_MS = 1000.0
RUNS_MAX = 3


@dataclass(frozen=True)
class _Kind:
    """A flood."""

    name: str
    count: int
    size: int


KINDS = (
    _Kind("20,000 small messages", 20_000, 30),
    _Kind("6,000 small messages", 6_000, 30),
    _Kind("2,000 messages of 33 KB", 2_000, 33_000),
)


@dataclass(frozen=True)
class _Sale:
    """A receipt of the honest POS; seconds."""

    at: float
    """From the flood's begin to its publication."""
    took: float


def others_during_a_flood(site: Site) -> list[Row]:
    """One POS sells on, one receipt after the other, while another pours out rubbish: until all of that is answered."""
    return [row for kind in KINDS for row in _rows(site, kind)]


def _rows(site: Site, kind: _Kind) -> list[Row]:
    runs = []
    for _ in range(min(site.runs, RUNS_MAX)):
        with site.bridge(Shop(site.away, terminals=2)) as bridge:
            runs.append(_run(site, bridge, kind))
    figures = [[sale.took * 1000 for sale in sales] for sales, _ in runs]
    notes: dict[str, object] = {
        "flood": [asdict(flooded) for _, flooded in runs],
        "slowest (s since the flood began, ms)": [_slowest(sales) for sales, _ in runs],
    }
    about = f"receipt of another POS during a flood of {kind.name}"
    return [
        Row(f"{about}: median", "ms", [percentile(sorted(took), 50) for took in figures]),
        Row(f"{about}: p99", "ms", [percentile(sorted(took), 99) for took in figures]),
        Row(
            f"{about}: the slowest",
            "ms",
            [max(took) for took in figures],
            bound=Bound(DELAY_MAX_MS, unit="ms", at_most=True),
            notes=notes,
        ),
    ]


def _slowest(sales: list[_Sale]) -> list[tuple[float, float]]:
    slowest = sorted(sales, key=lambda sale: sale.took, reverse=True)[:10]
    return [(round(sale.at, 3), round(sale.took * 1000, 1)) for sale in sorted(slowest, key=lambda sale: sale.at)]


def _run(site: Site, bridge: Bridge, kind: _Kind) -> tuple[list[_Sale], Flooded]:
    """The sales from the flood's first moment to its last answer."""
    spec = FloodSpec(site.broker.port, bridge.branch, FLOODER, kind.count, kind.size)
    cashier = _Cashier(site, bridge)
    cashier.sell_for(CALM_S)
    program = subprocess.Popen(
        python("benchmarks.flooder", json.dumps(asdict(spec))),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with program:
        began = time.perf_counter()
        while program.poll() is None:
            cashier.sell()
        ended = time.perf_counter()
        said, complaint = program.communicate()
    if program.returncode != 0:
        raise BenchmarkError(f"the flood: {complaint.strip()}")
    flooded = Flooded(**json.loads(said))
    cashier.sell_for(CALM_S)
    cashier.close()
    bridge.check()
    # Its process starts a while before its first byte, and ends right after its last answer.
    first_byte = max(began, ended - flooded.answered_s)
    sales = [_Sale(sale.at - first_byte, sale.took) for sale in cashier.sales]
    return [sale for sale in sales if -sale.took < sale.at < flooded.answered_s], flooded


class _Cashier:
    """Sells one receipt after the other, and notes how long each took."""

    def __init__(self, site: Site, bridge: Bridge) -> None:
        self.sales: list[_Sale] = []
        """By the clock of this process."""
        self._till = Till(HONEST)
        self._ids = receipt_ids(0)
        self._topic = f"{bridge.branch}/pos/{HONEST}/receipt"
        self._answered: set[bytes] = set()
        replies = [f"{bridge.branch}/pos/{HONEST}/reply"]
        self._line = Connection(HOST, site.broker.port, site.broker.protocol, f"cashier-{bridge.id}", replies)
        self._line.on_message(self._take)

    def sell_for(self, seconds: float) -> None:
        """Sell that long."""
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self.sell()

    def sell(self) -> None:
        """Sell one, and wait for its final reply."""
        receipt_id, at = next(self._ids), time.perf_counter()
        self._line.client.publish(self._topic, self._till.payload(receipt_id), qos=1)
        self._line.write()
        while receipt_id not in self._answered:
            if time.perf_counter() - at > ANSWER_TIMEOUT_S:
                raise BenchmarkError(f"a receipt beside a flood has no answer after {ANSWER_TIMEOUT_S:g} s")
            if select.select([self._line], [], [], 1.0)[0]:
                self._line.turn()
        self._answered.clear()
        self.sales.append(_Sale(at, time.perf_counter() - at))

    def close(self) -> None:
        """Take leave."""
        self._line.close()

    def _take(self, message: MQTTMessage) -> None:
        if NOT_YET in message.payload:
            return
        if PRINTED.encode() not in message.payload:
            raise BenchmarkError(f"a wrong answer: {message.payload[:500].decode(errors='replace')}")
        self._answered.add(answered_id(message.payload) or b"")

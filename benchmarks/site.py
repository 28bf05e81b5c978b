"""The place of all measurements, and the load on a bridge or an echo there."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from support.brokers import BrokerProcess, free_port

from benchmarks.load import HOST, BenchmarkError, Loaded, LoadSpec
from benchmarks.programs import TOPIC_ROOT, Bridge, BridgeConfig, Echo, processor_s, resident_mb, run_json

T = TypeVar("T")

MQTT_5, MQTT_311 = 5, 4
"""As paho numbers the protocol's versions."""
ANY_ANSWER = '"receipt_id"'
"""Stands in what an echo answers: the request itself."""
PRINTED = '"status":"printed"'
"""Stands in the reply to a receipt that was printed."""
SLACK_S = 30.0
SLOWEST_PER_S = 50
"""Receipts a second below which a run of a fixed count is given up."""


@dataclass(frozen=True)
class LoadPoint:
    """Throughput and latency with so many requests in flight."""

    in_flight: int
    rate: float
    p50_ms: float
    p99_ms: float


@dataclass
class Curves:
    """Points of the two plots, noted by the benchmarks on their way."""

    load: list[LoadPoint] = field(default_factory=list)
    rows: list[tuple[int, float]] = field(default_factory=list)
    """(receipts stored, receipts a second)."""


@dataclass(frozen=True)
class Site:
    """One broker, which runs already, and a directory for all that the programs keep."""

    directory: Path
    broker: BrokerProcess
    runs: int
    """Of each figure, interleaved with its reference."""
    quick: bool = False
    """True if short measurements will do."""
    protocol: int = MQTT_5
    curves: Curves = field(default_factory=Curves)
    away: str = field(default_factory=lambda: f"http://{HOST}:{free_port()}")
    """The address of an OFD that is never there: nobody listens, as after the loss of a network."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def bridge(self, config: BridgeConfig, directory: Path | None = None) -> Bridge:
        """Return a bridge with a name that the broker does not know yet; not started."""
        name = f"bench-{next(self._numbers)}"
        return Bridge(name, directory or self.directory / name, self.broker.port, config)

    def echo(self) -> Echo:
        """Return an echo; not started."""
        branch = f"{TOPIC_ROOT}/echo-{next(self._numbers)}"
        return Echo(self.directory, self.broker.port, self.protocol, branch)

    def load(self) -> LoadSpec:
        """Return a load on the broker, still without a target."""
        return LoadSpec(port=self.broker.port, protocol=self.protocol, branch="", expect=ANY_ANSWER)


def load_bridge(bridge: Bridge, spec: LoadSpec) -> Loaded:
    """Put a bridge under load once; BenchmarkError unless as many receipts are printed and counted as were answered."""
    before, own = bridge.printed, bridge.own_process()
    spent, spent_by_children = processor_s(own), processor_s(bridge.children())
    loaded = run_load(replace(spec, branch=bridge.branch, expect=PRINTED))
    spent, spent_by_children = processor_s(own) - spent, processor_s(bridge.children()) - spent_by_children
    family_mb = resident_mb(own + bridge.children())
    bridge.check_runs()
    after = bridge.count_printed()
    for what, increase in (
        ("fiscal documents", after.fiscal_documents - before.fiscal_documents),
        ("receipts in the journal", after.journal_receipts - before.journal_receipts),
    ):
        if increase != loaded.answered:
            raise BenchmarkError(f"{bridge.id}: {loaded.answered} replies, but {increase} more {what}")
    return replace(
        loaded,
        processor_ms=spent / loaded.answered * 1000,
        child_processor_ms=spent_by_children / loaded.answered * 1000,
        family_mb=family_mb,
    )


def load_echo(branch: str, spec: LoadSpec) -> Loaded:
    """Put an echo under load once."""
    return run_load(replace(spec, branch=branch))


def run_load(spec: LoadSpec) -> Loaded:
    """Run the load in a process of its own; BenchmarkError if an answer was missing or wrong."""
    measure_s = spec.measure_s if spec.count is None else spec.count / SLOWEST_PER_S
    timeout_s = spec.warm_up_s + measure_s + spec.answer_timeout_s + SLACK_S
    return Loaded(**run_json(f"the load on {spec.branch}", timeout_s, "benchmarks.load", json.dumps(asdict(spec))))


def interleaved(contenders: Sequence[Callable[[], T]], rounds: int) -> list[list[T]]:
    """Give each one run a round, so that a drifting machine hits them all; return the runs of each.

    Each round begins with another one: nobody always comes after the same neighbour, with what that leaves behind.
    """
    runs: list[list[T]] = [[] for _ in contenders]
    for number in range(rounds):
        first = number % len(contenders)
        for index in (*range(first, len(contenders)), *range(first)):
            runs[index].append(contenders[index]())
    return runs

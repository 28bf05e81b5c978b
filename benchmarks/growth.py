"""`python -m benchmarks.growth`: the cost of a shop, a farm and a country, from sizes measured on a real run."""

import argparse
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from support.brokers import MosquittoProcess, find_mosquitto
from support.mqtt_client import Message, MqttClient
from support.processes import wait_until
from support.simulated_ofd import OfdProcess

from benchmarks.load import HOST, BenchmarkError
from benchmarks.programs import Bridge, BridgeConfig
from benchmarks.report import GROWTH, fill, number
from benchmarks.site import Site, load_bridge

RECEIPTS_A_REGISTER_AND_DAY = 300
OPEN_HOURS = 12
PEAK_FACTOR = 5
"""The busiest minute of the year against the mean of the open hours."""
TELEMETRY_S = 30
"""`telemetry.interval_s`: how often state goes out again."""
FULL_RECORD_DAYS = 7
"""`retention.synced_days`; after it a tombstone is left."""
TOMBSTONE_BYTES = 150
"""A tombstone's row, its indexes included."""
POINTS = ("request", "reply")
"""Messages through the broker for each receipt, beside its events."""

RATE = 20.0
"""Receipts a second: slow enough that each has its own commits and events, as in a shop."""
MEASURE_S = 10.0
QUIET_S = 30.0


@dataclass(frozen=True)
class Sizes:
    """For each receipt, topics and bodies included, protocols' headers not; state for each bridge."""

    request_bytes: float
    reply_bytes: float
    event_bytes: float
    events: float
    state_topics: int
    state_bytes: float
    """Of all its retained state together."""
    journal_bytes: float
    storage_bytes: float
    """In the register's own file."""
    ofd_bytes: float
    """Of a document's body."""


def measure_sizes(site: Site) -> Sizes:
    """Let a bridge take receipts one by one, deliver them, and stop; and count what it took."""
    ofd = OfdProcess(site.directory)
    bridge = site.bridge(BridgeConfig(ofd.url))
    with ofd:
        with MqttClient(HOST, site.broker.port, [f"{bridge.branch}/#"]) as client, bridge:
            # Files are as large as that before the first receipt.
            empty = _file_bytes(bridge)
            receipts = load_bridge(bridge, replace(site.load(), rate=RATE, measure_s=MEASURE_S)).answered
            wait_until(lambda: ofd.received()["total"] == receipts, QUIET_S, "every document at the OFD")
        bodies = [entry["body"] for entry in ofd.received(full=True)["documents"]]
    grown = {name: size - empty.get(name, 0) for name, size in _file_bytes(bridge).items()}
    numbers, lengths, states = Counter[str](), Counter[str](), {}
    for message in client.messages:
        kind = _kind(message.topic)
        numbers[kind] += 1
        lengths[kind] += _bytes(message)
        if kind == "state":
            states[message.topic] = _bytes(message)
    return Sizes(
        request_bytes=lengths["receipt"] / receipts,
        reply_bytes=lengths["reply"] / receipts,
        event_bytes=lengths["event"] / receipts,
        events=numbers["event"] / receipts,
        state_topics=len(states),
        state_bytes=sum(states.values()),
        journal_bytes=grown["journal.db"] / receipts,
        storage_bytes=grown["kkt-1.fn"] / receipts,
        ofd_bytes=sum(len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()) for body in bodies)
        / receipts,
    )


def _file_bytes(bridge: Bridge) -> dict[str, int]:
    files = [bridge.journal, *bridge.storages]
    return {file.name: file.stat().st_size for file in files if file.exists()}


def _kind(topic: str) -> str:
    levels = topic.split("/")
    return levels[-1] if "pos" in levels else next(level for level in levels if level in {"event", "state"})


def _bytes(message: Message) -> int:
    return len(message.topic.encode()) + len(message.payload)


@dataclass(frozen=True)
class Trade:
    """A number of registers with a terminal each, and the bridges that they share."""

    name: str
    registers: int
    bridges: int


TRADES = (
    Trade("one shop, 3 registers", registers=3, bridges=1),
    Trade("a farm of 500 registers", registers=500, bridges=10),
    Trade("a country of 100,000 shops", registers=300_000, bridges=100_000),
)


@dataclass(frozen=True)
class Cost:
    """The cost of a trade; rates in the busiest minute."""

    receipts_a_day: float
    receipts_a_s: float
    messages_a_s: float
    mb_a_s: float
    broker_connections: float
    ofd_requests_a_s: float
    ofd_mb_a_s: float
    full_records_gb: float
    """Of the retention's days, in all journals together."""
    tombstones_gb_a_year: float
    fiscal_storages_gb_a_year: float
    journal_mb_of_each_bridge: float
    """After one year."""


def cost_of(trade: Trade, sizes: Sizes) -> Cost:
    """The figures of a trade. Each message is counted once, as published."""
    a_day = trade.registers * RECEIPTS_A_REGISTER_AND_DAY
    a_second = a_day / (OPEN_HOURS * 3600) * PEAK_FACTOR
    states_a_second = trade.bridges / TELEMETRY_S
    receipt_bytes = sizes.request_bytes + sizes.reply_bytes + sizes.event_bytes
    full_records = a_day * FULL_RECORD_DAYS * sizes.journal_bytes
    tombstones = a_day * 365 * TOMBSTONE_BYTES
    return Cost(
        receipts_a_day=a_day,
        receipts_a_s=a_second,
        messages_a_s=a_second * (len(POINTS) + sizes.events) + states_a_second * sizes.state_topics,
        mb_a_s=(a_second * receipt_bytes + states_a_second * sizes.state_bytes) / 1e6,
        broker_connections=trade.bridges + trade.registers,
        ofd_requests_a_s=a_second,
        ofd_mb_a_s=a_second * sizes.ofd_bytes / 1e6,
        full_records_gb=full_records / 1e9,
        tombstones_gb_a_year=tombstones / 1e9,
        fiscal_storages_gb_a_year=a_day * 365 * sizes.storage_bytes / 1e9,
        journal_mb_of_each_bridge=(full_records + tombstones) / trade.bridges / 1e6,
    )


def as_text(sizes: Sizes) -> str:
    """Sizes, assumptions and the table."""
    measured = ", ".join(f"{name} {number(value)}" for name, value in asdict(sizes).items())
    assumed = (
        f"{RECEIPTS_A_REGISTER_AND_DAY} receipts a register and day, {OPEN_HOURS} open hours, the busiest minute "
        f"{PEAK_FACTOR} times their mean, state every {TELEMETRY_S} s, full records for {FULL_RECORD_DAYS} days, "
        f"{TOMBSTONE_BYTES} bytes for ever after, one broker for all"
    )
    costs = [asdict(cost_of(trade, sizes)) for trade in TRADES]
    head = f"| | {' | '.join(trade.name for trade in TRADES)} |"
    rows = [f"| {name.replace('_', ' ')} | {' | '.join(number(cost[name]) for cost in costs)} |" for name in costs[0]]
    return "\n".join(
        [f"Measured: {measured}.", "", f"Assumed: {assumed}.", "", head, "|---" * (len(TRADES) + 1) + "|", *rows]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, reckon and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the table there too")
    args = parser.parse_args(argv)
    if find_mosquitto() is None:
        print("benchmarks: mosquitto is not installed: apt-get install mosquitto")
        return 2
    directory = Path(tempfile.mkdtemp(prefix="kkt-growth-"))
    try:
        with MosquittoProcess(directory) as broker:
            reckoned = as_text(measure_sizes(Site(directory, broker, runs=1)))
        print(reckoned)
        if args.page:
            fill(args.page, GROWTH, reckoned)
    except BenchmarkError as error:
        print(f"benchmarks: {error}")
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

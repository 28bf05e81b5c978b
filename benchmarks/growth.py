"""`python -m benchmarks.growth`: what a shop, a farm and a country cost, from sizes measured on a real run."""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.brokers import Mosquitto
from benchmarks.errors import BenchmarkError, MissingProgramError
from benchmarks.page import GROWTH, fill
from benchmarks.site import Site
from benchmarks.sizes import Sizes, measure_sizes
from benchmarks.table import number

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
"""What passes the broker for each receipt beside its events."""


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
    """What it comes to; rates in the busiest minute."""

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
    directory = Path(tempfile.mkdtemp(prefix="kkt-growth-"))
    try:
        with Mosquitto(directory) as broker:
            reckoned = as_text(measure_sizes(Site(directory, broker, runs=1)))
        print(reckoned)
        if args.page:
            fill(args.page, GROWTH, reckoned)
    except MissingProgramError as missing:
        print(f"benchmarks: {missing}")
        return 2
    except BenchmarkError as error:
        print(f"benchmarks: {error}")
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Whether a long past slows the present: receipts a second beside those with an empty journal."""

from statistics import median

from benchmarks.bridge import Shop
from benchmarks.contenders import load_bridge, load_of
from benchmarks.medians import pairwise_ratio
from benchmarks.past import bridge_with
from benchmarks.rounds import interleaved
from benchmarks.site import Site
from benchmarks.table import Bound, Row

STORED = 1_000_000
PENDING = 100_000


def with_a_past(site: Site) -> list[Row]:
    """64 in flight, OFD away: an empty journal, a million delivered receipts, and 100,000 that wait for the OFD."""
    load = load_of(site)
    with (
        bridge_with(site, "stored", STORED, pending=False) as stored,
        bridge_with(site, "pending", PENDING, pending=True) as pending,
        site.bridge(Shop(site.away)) as empty,
    ):
        columns = interleaved([lambda b=bridge: load_bridge(b, load) for bridge in (empty, stored, pending)], site.runs)
    site.curves.rows.append((STORED, median(loaded.rate for loaded in columns[1])))
    without, *others = ([loaded.rate for loaded in column] for column in columns)
    return [
        Row(
            f"receipts/s with {what}",
            "receipts/s",
            rates,
            "empty journal",
            without,
            pairwise_ratio(rates, without),
            Bound(0.95, 0.98),
        )
        for what, rates in zip((f"{STORED:,} stored", f"{PENDING:,} pending"), others, strict=True)
    ]

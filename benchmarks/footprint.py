"""What a bridge costs the machine: the start, memory, and processor time when nothing happens."""

import time
from dataclasses import replace

from benchmarks.bridge import Shop
from benchmarks.contenders import load_bridge, load_of
from benchmarks.curves import rates_between
from benchmarks.past import past_of
from benchmarks.site import Site
from benchmarks.stored import PENDING
from benchmarks.table import Bound, Row
from benchmarks.usage import processor_s, resident_mb

CALM_S = 5.0
"""After a start, until everything that comes with it is over."""
IDLE_S, IDLE_QUICK_S = 60.0, 10.0
WARM_RECEIPTS = 10_000
RECEIPTS = 200_000
GROWTH_SAMPLES = 40


def idle(site: Site) -> list[Row]:
    """Memory and processor time of a bridge to which nobody sends anything, the OFD away."""
    watch_s = IDLE_QUICK_S if site.quick else IDLE_S
    with site.bridge(Shop(site.away)) as bridge:
        time.sleep(CALM_S)
        memory = resident_mb(bridge.pid)
        before, began = processor_s(bridge.pid), time.perf_counter()
        time.sleep(watch_s)
        share = (processor_s(bridge.pid) - before) / (time.perf_counter() - began) * 100
    return [
        Row("resident memory, idle", "MB", [memory], bound=Bound(80, unit="MB", at_most=True)),
        Row(
            f"processor time when idle, {watch_s:g} s",
            "% of a core",
            [share],
            bound=Bound(0.5, 0.2, unit="%", at_most=True),
        ),
    ]


def start_with_pending(site: Site) -> list[Row]:
    """From the process to its word that it is there, with 100,000 receipts that wait for the OFD; and its memory."""
    directory = past_of(site, "pending", PENDING, pending=True)
    starts, memory = [], []
    for _ in range(site.runs):
        with site.bridge(Shop(site.away), directory) as bridge:
            starts.append(bridge.start_s)
            time.sleep(CALM_S if len(starts) == 1 else 0)
            memory.append(resident_mb(bridge.pid))
    return [
        Row(
            f"start to ready with {PENDING:,} pending",
            "s",
            starts,
            bound=Bound(1.5, 0.7, unit="s", at_most=True),
        ),
        Row(
            f"resident memory with {PENDING:,} pending",
            "MB",
            memory[:1],
            bound=Bound(110, unit="MB", at_most=True),
            notes={"right after each start": memory[1:]},
        ),
    ]


def growth(site: Site) -> list[Row]:
    """What memory a long day's receipts leave behind, and how the rate goes on the way."""
    load = replace(load_of(site), answer_timeout_s=30)
    with site.bridge(Shop(site.away)) as bridge:
        load_bridge(bridge, replace(load, count=WARM_RECEIPTS))
        time.sleep(CALM_S)
        before = resident_mb(bridge.pid)
        loaded = load_bridge(bridge, replace(load, count=RECEIPTS, sample_every=RECEIPTS // GROWTH_SAMPLES))
        time.sleep(CALM_S)
        grown = resident_mb(bridge.pid) - before
    site.curves.rows += rates_between(loaded.samples, WARM_RECEIPTS)
    return [
        Row(
            f"resident memory, growth over {RECEIPTS:,} receipts",
            "MB",
            [grown],
            bound=Bound(8, unit="MB", at_most=True),
            notes={"before": before, "rate": loaded.rate},
        )
    ]

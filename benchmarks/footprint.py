"""The bridge's cost to the machine: the start, memory, and processor time when nothing happens."""

import time
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.past import PENDING, past_of
from benchmarks.programs import BridgeConfig, processor_s, resident_mb
from benchmarks.report import Bound, Row
from benchmarks.site import Site, load_bridge

CALM_S = 5.0
"""After a start, until everything that comes with it is over."""
IDLE_S, IDLE_QUICK_S = 60.0, 10.0
WARM_RECEIPTS = 10_000
RECEIPTS = 200_000
GROWTH_SAMPLES = 40


def idle(site: Site) -> list[Row]:
    """Memory and processor time of a bridge to which nobody sends anything, the OFD away."""
    watch_s = IDLE_QUICK_S if site.quick else IDLE_S
    with site.bridge(BridgeConfig(site.away)) as bridge:
        time.sleep(CALM_S)
        own = bridge.own_process()
        memory = resident_mb(own)
        before, began = processor_s(own), time.perf_counter()
        time.sleep(watch_s)
        share = (processor_s(own) - before) / (time.perf_counter() - began) * 100
    share_bound = Bound(0.5, 0.2, unit="%", at_most=True)
    return [
        Row("resident memory, idle", "MB", [memory], bound=Bound(80, unit="MB", at_most=True)),
        Row(f"processor time when idle, {watch_s:g} s", "% of a core", [share], bound=share_bound),
    ]


def start_with_pending(site: Site) -> list[Row]:
    """From the process to its word that it is there, with 100,000 receipts that wait for the OFD; and its memory."""
    directory = past_of(site, "pending", PENDING, pending=True)
    starts_s, memory = [], []
    for _ in range(site.runs):
        with site.bridge(BridgeConfig(site.away), directory) as bridge:
            starts_s.append(bridge.start_s)
            time.sleep(CALM_S if len(starts_s) == 1 else 0)
            memory.append(resident_mb(bridge.own_process()))
    start_bound, memory_bound = Bound(1.5, 0.7, unit="s", at_most=True), Bound(110, unit="MB", at_most=True)
    notes: dict[str, object] = {"right after each start": memory[1:]}
    return [
        Row(f"start to ready with {PENDING:,} pending", "s", starts_s, bound=start_bound),
        Row(f"resident memory with {PENDING:,} pending", "MB", memory[:1], bound=memory_bound, notes=notes),
    ]


def growth(site: Site) -> list[Row]:
    """Growth of memory over a long day's receipts, and the rate on the way."""
    load = replace(site.load(), answer_timeout_s=30)
    with site.bridge(BridgeConfig(site.away)) as bridge:
        load_bridge(bridge, replace(load, count=WARM_RECEIPTS))
        time.sleep(CALM_S)
        before = resident_mb(bridge.own_process())
        loaded = load_bridge(bridge, replace(load, count=RECEIPTS, sample_every=RECEIPTS // GROWTH_SAMPLES))
        time.sleep(CALM_S)
        grown = resident_mb(bridge.own_process()) - before
    site.curves.rows += rates_between(loaded.samples, WARM_RECEIPTS)
    title, bound = f"resident memory, growth over {RECEIPTS:,} receipts", Bound(8, unit="MB", at_most=True)
    return [Row(title, "MB", [grown], bound=bound, notes={"before": before, "rate": loaded.rate})]


def rates_between(samples: Sequence[tuple[int, float]], stored_before: int) -> list[tuple[int, float]]:
    """Turn (receipts so far, seconds so far) into receipts stored, and the rate at which the last of them came."""
    before = [(0, 0.0), *samples]
    return [
        (stored_before + count, (count - last_count) / (at - last_at))
        for (last_count, last_at), (count, at) in zip(before, samples, strict=False)
    ]

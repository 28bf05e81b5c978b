"""The time from a request to its `printed` reply."""

from dataclasses import replace
from statistics import median

from benchmarks.programs import BridgeConfig
from benchmarks.references import commit_p50_ms
from benchmarks.report import Bound, Row
from benchmarks.site import Site, load_bridge, load_echo

COMMITS_A_RECEIPT = 3
"""Taken, leased, printed: each on the disk before the next."""
ALONE_S = 2.0
SHARE_OF_TOP = 0.5
"""Of the top rate: a shop that is busy, not one that is drowned."""
TOP_S, BUSY_S = 2.0, 3.0


def one_at_a_time(site: Site) -> list[Row]:
    """One request, its reply, the next: against the way through the broker and the commits that it needs."""
    load = replace(site.load(), window=1, measure_s=ALONE_S)
    printed, echoed, commits = [], [], []
    with site.echo() as echo, site.bridge(BridgeConfig(site.away)) as bridge:
        for _ in range(site.runs):
            printed.append(load_bridge(bridge, load).p50_ms)
            echoed.append(load_echo(echo.branch, load).p50_ms)
            commits.append(commit_p50_ms(site.directory / "commits.db"))
    needed = [way + COMMITS_A_RECEIPT * commit for way, commit in zip(echoed, commits, strict=True)]
    return [
        Row.against(
            "latency p50, one at a time",
            "ms",
            printed,
            ("echo p50 + 3 commits p50", needed),
            Bound(1.8, 1.3, at_most=True),
            echo_p50_ms=echoed,
            commit_p50_ms=commits,
        )
    ]


def at_half_of_the_top(site: Site) -> list[Row]:
    """Requests at fixed times, each timed from when it was due, so that a stall shows in all that it delays."""
    load = replace(site.load(), measure_s=TOP_S)
    with site.bridge(BridgeConfig(site.away)) as bridge:
        top = median(load_bridge(bridge, load).rate for _ in range(min(site.runs, 3)))
        busy = replace(load, rate=top * SHARE_OF_TOP, measure_s=BUSY_S)
        runs = [load_bridge(bridge, busy) for _ in range(site.runs)]
    return [
        Row.against(
            f"latency p99 at half of the top rate ({top * SHARE_OF_TOP:.0f} receipts/s)",
            "ms",
            [loaded.p99_ms for loaded in runs],
            ("its own p50", [loaded.p50_ms for loaded in runs]),
            Bound(6, 4, at_most=True),
            top_rate=top,
            max_ms=[loaded.max_ms for loaded in runs],
        )
    ]

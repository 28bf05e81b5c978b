"""Receipts a second, publish to `printed` reply, against an echo through the same broker."""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.bridge import Shop
from benchmarks.contenders import load_bridge, load_echo, load_of
from benchmarks.errors import BenchmarkError
from benchmarks.load import Loaded
from benchmarks.medians import pairwise_ratio
from benchmarks.ofd import Ofd
from benchmarks.rounds import interleaved
from benchmarks.site import Site
from benchmarks.table import Bound, Row

UNIT = "receipts/s"
WARM_UP_S = 1.0
"""Of a bridge that has only just started, which the others have not."""


def ofd_away_and_there(site: Site) -> list[Row]:
    """64 in flight from one terminal, with the OFD away, and with documents going there all the while."""
    load = load_of(site)
    with site.echo() as echo, site.bridge(Shop(site.away)) as bridge:
        away, there, echoed = interleaved(
            [
                lambda: load_bridge(bridge, load),
                lambda: _with_ofd(site),
                lambda: load_echo(echo, load),
            ],
            site.runs,
        )
    return [
        row("receipts/s, 64 in flight, OFD away", away, echoed, Bound(0.4, 0.6)),
        row("the same, documents going to the OFD", there, echoed, Bound(0.25, 0.4)),
        *_cost_of_the_ofd(away, there),
    ]


def _cost_of_the_ofd(away: Sequence[Loaded], there: Sequence[Loaded]) -> list[Row]:
    """What delivery takes from the receipts, and what it takes beside them."""
    with_ofd, without = [loaded.rate for loaded in there], [loaded.rate for loaded in away]
    return [
        Row(
            "receipts/s with the OFD taking documents all the while, against without",
            UNIT,
            with_ofd,
            "OFD away",
            without,
            pairwise_ratio(with_ofd, without),
            Bound(0.9),
        ),
        Row(
            "processor time of the process that speaks to the OFD, a receipt",
            "ms",
            [loaded.child_processor_ms for loaded in there],
            notes={"of the bridge's own process": [loaded.processor_ms for loaded in there]},
        ),
        Row(
            "resident memory of both processes, documents going to the OFD",
            "MB",
            [loaded.family_mb for loaded in there],
            bound=Bound(105, unit="MB", at_most=True),
        ),
    ]


def eight_registers(site: Site) -> list[Row]:
    """64 terminals with a request each, mapped to 8 registers; the echo answers 64 terminals too."""
    load = replace(load_of(site), terminals=64)
    with site.echo() as echo, site.bridge(Shop(site.away, registers=8, terminals=64)) as bridge:
        printed, echoed = interleaved([lambda: load_bridge(bridge, load), lambda: load_echo(echo, load)], site.runs)
    return [row("receipts/s, 8 registers, 64 terminals, OFD away", printed, echoed, Bound(0.4, 0.6))]


def on_every_core(site: Site) -> list[Row]:
    """The bridge's threads on every core, against all of them on one, which is the default (not in a full run)."""
    load = load_of(site)
    everywhere = Shop(site.away, settings={"process": {"cores": "all"}})
    with site.bridge(everywhere) as spread, site.bridge(Shop(site.away)) as bridge:
        rates = interleaved([lambda: load_bridge(spread, load), lambda: load_bridge(bridge, load)], site.runs)
        alone = replace(load, window=1)
        p50s = interleaved([lambda: load_bridge(spread, alone), lambda: load_bridge(bridge, alone)], site.runs)
    spread_rates, rates_on_one = ([loaded.rate for loaded in runs] for runs in rates)
    spread_p50s, p50s_on_one = ([loaded.p50_ms for loaded in runs] for runs in p50s)
    ratio, p50_ratio = pairwise_ratio(spread_rates, rates_on_one), pairwise_ratio(spread_p50s, p50s_on_one)
    return [
        Row("receipts/s, threads on every core", UNIT, spread_rates, "on one core", rates_on_one, ratio),
        Row(
            "latency p50, one at a time, threads on every core",
            "ms",
            spread_p50s,
            "on one core",
            p50s_on_one,
            p50_ratio,
        ),
    ]


def row(figure: str, values: Sequence[Loaded], references: Sequence[Loaded], bound: Bound) -> Row:
    """Rates against the echo's."""
    rates, echoed = [loaded.rate for loaded in values], [loaded.rate for loaded in references]
    notes: dict[str, object] = {
        "processor_ms_a_receipt": [loaded.processor_ms for loaded in values],
        "p50_ms": [loaded.p50_ms for loaded in values],
        "p99_ms": [loaded.p99_ms for loaded in values],
    }
    return Row(figure, UNIT, rates, "echo", echoed, pairwise_ratio(rates, echoed), bound, notes)


def _with_ofd(site: Site) -> Loaded:
    # Both are new for each run: what is left to deliver must not burden the echo that is next.
    with Ofd(site.directory) as ofd, site.bridge(Shop(ofd.url)) as bridge:
        loaded = load_bridge(bridge, replace(load_of(site), warm_up_s=WARM_UP_S))
        if not ofd.books()["total"]:
            raise BenchmarkError(f"no document has reached the OFD\n{bridge.tail()}")
    return loaded

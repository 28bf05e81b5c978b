"""Receipts a second, publish to `printed` reply, against an echo through the same broker."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from support.brokers import AmqttProcess
from support.simulated_ofd import OfdProcess

from benchmarks.load import BenchmarkError, Loaded
from benchmarks.past import PENDING, STORED, past_of
from benchmarks.programs import BridgeConfig
from benchmarks.report import Bound, Row
from benchmarks.site import MQTT_311, LoadPoint, Site, interleaved, load_bridge, load_echo

UNIT = "receipts/s"
WARM_UP_S = 1.0
"""Of a bridge that has only just started, which the others have not."""

SLOW_REGISTERS = 50
PRINT_TIME_S = 1.0
"""Of a register of paper and mechanics, for one receipt."""
SLOW_WARM_UP_S = 2.5
SLOW_MEASURE_S = 8.0
SLOW_RUNS_MAX = 2

WINDOWS = (1, 4, 16, 64, 128)
"""Requests in flight, to more than the bridge can use."""


def ofd_away_and_there(site: Site) -> list[Row]:
    """64 in flight from one terminal, with the OFD away, and with documents going there all the while."""
    load = site.load()
    with site.echo() as echo, site.bridge(BridgeConfig(site.away)) as bridge:
        away, there, echoed = interleaved(
            [lambda: load_bridge(bridge, load), lambda: _with_ofd(site), lambda: load_echo(echo.branch, load)],
            site.runs,
        )
    return [
        _against_echo("receipts/s, 64 in flight, OFD away", away, echoed, Bound(0.4, 0.6)),
        _against_echo("the same, documents going to the OFD", there, echoed, Bound(0.25, 0.4)),
        Row.against(
            "receipts/s with the OFD taking documents all the while, against without",
            UNIT,
            _rates(there),
            ("OFD away", _rates(away)),
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


def _with_ofd(site: Site) -> Loaded:
    # Both are new for each run: what is left to deliver must not burden the echo that is next.
    with OfdProcess(site.directory) as ofd, site.bridge(BridgeConfig(ofd.url)) as bridge:
        loaded = load_bridge(bridge, replace(site.load(), warm_up_s=WARM_UP_S))
        if not ofd.received()["total"]:
            raise BenchmarkError(f"no document has reached the OFD\n{bridge.tail()}")
    return loaded


def eight_registers(site: Site) -> list[Row]:
    """64 terminals with a request each, mapped to 8 registers; the echo answers 64 terminals too."""
    load = replace(site.load(), terminals=64)
    with site.echo() as echo, site.bridge(BridgeConfig(site.away, registers=8, terminals=64)) as bridge:
        printed, echoed = interleaved(
            [lambda: load_bridge(bridge, load), lambda: load_echo(echo.branch, load)], site.runs
        )
    return [_against_echo("receipts/s, 8 registers, 64 terminals, OFD away", printed, echoed, Bound(0.4, 0.6))]


def through_embedded(site: Site) -> list[Row]:
    """64 in flight through the embedded broker, with MQTT 3.1.1, bridge and echo alike."""
    directory = site.directory / "embedded"
    with AmqttProcess(directory) as broker:
        inner = Site(directory, broker, site.runs, protocol=MQTT_311)
        load = inner.load()
        with inner.echo() as echo, inner.bridge(BridgeConfig(inner.away)) as bridge:
            printed, echoed = interleaved(
                [lambda: load_bridge(bridge, load), lambda: load_echo(echo.branch, load)], inner.runs
            )
    return [_against_echo("receipts/s through the embedded broker", printed, echoed, Bound(0.5))]


def fifty_slow_registers(site: Site) -> list[Row]:
    """50 registers that take 1 s for each receipt, each with a terminal that always has the next one waiting."""
    config = BridgeConfig(site.away, registers=SLOW_REGISTERS, terminals=SLOW_REGISTERS, print_time_s=PRINT_TIME_S)
    load = replace(
        site.load(),
        terminals=SLOW_REGISTERS,
        window=2 * SLOW_REGISTERS,
        warm_up_s=SLOW_WARM_UP_S,
        measure_s=SLOW_MEASURE_S,
    )
    most = SLOW_REGISTERS / PRINT_TIME_S
    with site.bridge(config) as bridge:
        rates = [load_bridge(bridge, load).rate for _ in range(min(site.runs, SLOW_RUNS_MAX))]
    ratio = sorted(rates)[len(rates) // 2] / most
    return [Row("50 registers that take 1 s each", UNIT, rates, f"{most:g} receipts/s", (), ratio, Bound(0.97))]


def with_a_past(site: Site) -> list[Row]:
    """64 in flight, OFD away: an empty journal, a million delivered receipts, and 100,000 that wait for the OFD."""
    load, config = site.load(), BridgeConfig(site.away)
    with (
        site.bridge(config, past_of(site, "stored", STORED, pending=False)) as stored,
        site.bridge(config, past_of(site, "pending", PENDING, pending=True)) as pending,
        site.bridge(config) as empty,
    ):
        columns = interleaved([lambda b=bridge: load_bridge(b, load) for bridge in (empty, stored, pending)], site.runs)
    without, with_stored, with_pending = map(_rates, columns)
    site.curves.rows.append((STORED, median(with_stored)))
    return [
        Row.against(f"receipts/s with {past}", UNIT, rates, ("empty journal", without), Bound(0.95, 0.98))
        for past, rates in ((f"{STORED:,} stored", with_stored), (f"{PENDING:,} pending", with_pending))
    ]


def against_load(site: Site) -> list[Row]:
    """From one request at a time to more than the bridge can use, the OFD away: points for a plot, no row."""
    with site.bridge(BridgeConfig(site.away)) as bridge:
        for window in WINDOWS:
            loaded = load_bridge(bridge, replace(site.load(), window=window))
            site.curves.load.append(LoadPoint(window, loaded.rate, loaded.p50_ms, loaded.p99_ms))
    return []


def on_every_core(site: Site) -> list[Row]:
    """The bridge's threads on every core, against all of them on one, which is the default (not in a full run)."""
    load = site.load()
    alone = replace(load, window=1)
    everywhere = BridgeConfig(site.away, settings={"process": {"cores": "all"}})
    with site.bridge(everywhere) as spread, site.bridge(BridgeConfig(site.away)) as bridge:
        busy = interleaved([lambda: load_bridge(spread, load), lambda: load_bridge(bridge, load)], site.runs)
        calm = interleaved([lambda: load_bridge(spread, alone), lambda: load_bridge(bridge, alone)], site.runs)
    rates, rates_on_one = map(_rates, busy)
    p50s, p50s_on_one = ([loaded.p50_ms for loaded in runs] for runs in calm)
    title = "latency p50, one at a time, threads on every core"
    return [
        Row.against("receipts/s, threads on every core", UNIT, rates, ("on one core", rates_on_one)),
        Row.against(title, "ms", p50s, ("on one core", p50s_on_one)),
    ]


def _rates(runs: Sequence[Loaded]) -> list[float]:
    return [loaded.rate for loaded in runs]


def _against_echo(figure: str, runs: Sequence[Loaded], echoed: Sequence[Loaded], bound: Bound) -> Row:
    return Row.against(
        figure,
        UNIT,
        _rates(runs),
        ("echo", _rates(echoed)),
        bound,
        processor_ms_a_receipt=[loaded.processor_ms for loaded in runs],
        p50_ms=[loaded.p50_ms for loaded in runs],
        p99_ms=[loaded.p99_ms for loaded in runs],
    )

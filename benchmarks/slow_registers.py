"""Registers of paper and mechanics: the bridge must not be what they wait for."""

from dataclasses import replace

from benchmarks.bridge import Shop
from benchmarks.contenders import load_bridge, load_of
from benchmarks.site import Site
from benchmarks.table import Bound, Row

REGISTERS = 50
PRINT_TIME_S = 1.0
WARM_UP_S = 2.5
MEASURE_S = 8.0
RUNS_MAX = 2


def fifty(site: Site) -> list[Row]:
    """50 registers that take 1 s for each receipt, each with a terminal that always has the next one waiting."""
    shop = Shop(site.away, registers=REGISTERS, terminals=REGISTERS, print_time_s=PRINT_TIME_S)
    load = replace(load_of(site), terminals=REGISTERS, window=2 * REGISTERS, warm_up_s=WARM_UP_S, measure_s=MEASURE_S)
    most = REGISTERS / PRINT_TIME_S
    with site.bridge(shop) as bridge:
        rates = [load_bridge(bridge, load).rate for _ in range(min(site.runs, RUNS_MAX))]
    ratio = sorted(rates)[len(rates) // 2] / most
    return [
        Row(
            "50 registers that take 1 s each",
            "receipts/s",
            rates,
            f"{most:g} receipts/s",
            (),
            ratio,
            Bound(0.97),
        )
    ]

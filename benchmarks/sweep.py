"""The load from one request at a time to more than the bridge can use."""

from dataclasses import replace

from benchmarks.bridge import Shop
from benchmarks.contenders import load_bridge, load_of
from benchmarks.curves import LoadPoint
from benchmarks.site import Site
from benchmarks.table import Row

WINDOWS = (1, 4, 16, 64, 128)


def against_load(site: Site) -> list[Row]:
    """One run at each load, the OFD away: points for a plot, no row."""
    with site.bridge(Shop(site.away)) as bridge:
        for window in WINDOWS:
            loaded = load_bridge(bridge, replace(load_of(site), window=window))
            site.curves.load.append(LoadPoint(window, loaded.rate, loaded.p50_ms, loaded.p99_ms))
    return []

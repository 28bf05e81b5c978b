"""Documents to the OFD after an outage, against a bare httpx loop to the same server."""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from sqlite3 import connect
from statistics import median

from benchmarks.bridge import Bridge, Shop
from benchmarks.contenders import load_bridge, load_of
from benchmarks.errors import BenchmarkError
from benchmarks.medians import pairwise_ratio
from benchmarks.ofd import Ofd
from benchmarks.processes import ROOT, python, wait_until
from benchmarks.rounds import interleaved
from benchmarks.site import Site
from benchmarks.table import Bound, Row

DOCUMENTS = 1000
REGISTERS = 8
REAL_LATENCY_S = 0.02
"""Of an answer from an OFD that is not on this machine."""
SLOW_DOCUMENTS = 320
RETURN_DOCUMENTS = 200
PROMPT = {"breaker": {"reset_timeout_s": 0.1}}
"""A breaker that is half-open as soon as the OFD is back."""
TOGETHER_S = 2.0
"""Until all processes are there: they are to begin at the same time."""
DRAIN_TIMEOUT_S = 120.0
UNIT = "documents/s"


def after_an_outage(site: Site) -> list[Row]:
    """What waits on one register, and on eight, goes to an OFD that is back; how fast the server could take it."""
    ofd = Ofd(site.directory)
    shops = [Shop(ofd.url, registers=number, terminals=number, settings=PROMPT) for number in (1, REGISTERS)]
    with site.bridge(shops[0]) as one, site.bridge(shops[1]) as eight:
        contenders = [
            lambda: drain(site, ofd, one, 1, DOCUMENTS),
            lambda: drain(site, ofd, eight, REGISTERS, DOCUMENTS),
            lambda: bare(ofd, processes=1, threads=1),
            lambda: bare(ofd, processes=1, threads=REGISTERS),
            lambda: bare(ofd, processes=REGISTERS, threads=1),
        ]
        single, several, loop, threads, processes = interleaved(contenders, site.runs)
        slow_one = drain(site, ofd, one, 1, SLOW_DOCUMENTS, REAL_LATENCY_S)
        slow_eight = drain(site, ofd, eight, REGISTERS, SLOW_DOCUMENTS, REAL_LATENCY_S)
    limit = threads if median(threads) > median(processes) else processes
    return [
        Row(
            "documents/s to the OFD after an outage, 1 register",
            UNIT,
            single,
            "bare httpx loop",
            loop,
            pairwise_ratio(single, loop),
            Bound(0.6, 0.8),
        ),
        Row(
            f"the same, {REGISTERS} registers",
            UNIT,
            several,
            "1 register",
            single,
            pairwise_ratio(several, single),
            Bound(3),
        ),
        Row(
            f"what the server takes: {REGISTERS} bare httpx loops",
            UNIT,
            limit,
            "bare httpx loop",
            loop,
            pairwise_ratio(limit, loop),
            None,
            {"threads": threads, "processes": processes},
        ),
        Row(
            f"{REGISTERS} registers, OFD answers after {REAL_LATENCY_S * 1000:g} ms",
            UNIT,
            [slow_eight],
            "1 register",
            [slow_one],
            slow_eight / slow_one,
            Bound(3),
        ),
    ]


def after_its_return(site: Site) -> list[Row]:
    """From an OFD that listens again to the last of 200 documents that have waited."""
    ofd = Ofd(site.directory)
    took = []
    with site.bridge(Shop(ofd.url, settings=PROMPT)) as bridge:
        for _ in range(site.runs):
            fill(site, bridge, 1, RETURN_DOCUMENTS)
            with ofd:
                back = time.time()
                _, last = _emptied(ofd, bridge, RETURN_DOCUMENTS)
            took.append(last - back)
    return [
        Row(f"{RETURN_DOCUMENTS} pending documents after the OFD's return", "s", took, bound=_within(1, 0.5)),
    ]


def fill(site: Site, bridge: Bridge, terminals: int, documents: int) -> None:
    """Print so many receipts."""
    load_bridge(bridge, replace(load_of(site), terminals=terminals, count=documents))


def drain(site: Site, ofd: Ofd, bridge: Bridge, terminals: int, documents: int, latency_s: float = 0) -> float:
    """Print at least so many receipts while the OFD is away, let it come back; documents a second, first to last."""
    fill(site, bridge, terminals, documents)
    with ofd:
        if latency_s:
            ofd.set_faults(latency_s=latency_s)
        first, last = _emptied(ofd, bridge, documents)
        return (ofd.books()["total"] - 1) / (last - first)


def bare(ofd: Ofd, *, processes: int, threads: int) -> float:
    """Documents a second from so many bare clients."""
    together = time.time() + (TOGETHER_S if processes > 1 else 0)
    options = [
        "--at",
        str(together),
        "--url",
        ofd.url,
        "--count",
        str(DOCUMENTS // processes),
        "--threads",
        str(threads),
    ]
    with ofd, ThreadPoolExecutor(processes) as pool:
        runs = list(pool.map(lambda _: _run(options), range(processes)))
    documents = sum(run["documents"] for run in runs)
    return documents / (max(run["ended"] for run in runs) - min(run["began"] for run in runs))


def _run(options: list[str]) -> dict[str, float]:
    run = subprocess.run(
        python("benchmarks.submissions", *options),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DRAIN_TIMEOUT_S,
        check=False,
    )
    if run.returncode != 0:
        raise BenchmarkError(f"the bare httpx loop: {run.stderr.strip()}")
    return dict(json.loads(run.stdout))


def _emptied(ofd: Ofd, bridge: Bridge, documents: int) -> tuple[float, float]:
    """When the OFD, which was new, got the first and the last of what had waited; each once and none amiss."""
    wait_until(lambda: not _undelivered(bridge), DRAIN_TIMEOUT_S, f"{bridge.name} with nothing left to deliver")
    books = ofd.books()
    if books["total"] < documents or books["duplicates"] or books["conflicts"]:
        raise BenchmarkError(
            f"{documents} documents waited, the OFD has {books['total']} and sees {books['duplicates']} repeats"
        )
    times = [datetime.fromisoformat(entry["first_at"]).timestamp() for entry in books["documents"]]
    return min(times), max(times)


def _undelivered(bridge: Bridge) -> int:
    # Asked of the journal: the OFD's books would cost the OFD the time that is measured.
    query = "SELECT coalesce(sum(value), 0) FROM figures WHERE name = 'printed'"
    with closing(connect(f"file:{bridge.journal}?mode=ro", uri=True)) as connection:
        return int(connection.execute(query).fetchone()[0])


def _within(reach_s: float, beyond_s: float) -> Bound:
    return Bound(reach_s, beyond_s, unit="s", at_most=True)

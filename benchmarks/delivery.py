"""Documents to the OFD after an outage, against a bare httpx loop to the same server."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from statistics import median

from support.processes import wait_until
from support.simulated_ofd import OfdProcess

from benchmarks.load import BenchmarkError
from benchmarks.programs import Bridge, BridgeConfig, run_json
from benchmarks.report import Bound, Row
from benchmarks.site import Site, interleaved, load_bridge

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
    """Documents of one register, and of eight, to an OFD that is back; how fast the server could take them."""
    ofd = OfdProcess(site.directory)
    configs = [BridgeConfig(ofd.url, registers=number, terminals=number, settings=PROMPT) for number in (1, REGISTERS)]
    with site.bridge(configs[0]) as one, site.bridge(configs[1]) as eight:
        contenders = [
            lambda: _drain(site, ofd, one, 1, DOCUMENTS),
            lambda: _drain(site, ofd, eight, REGISTERS, DOCUMENTS),
            lambda: _bare(ofd, processes=1, threads=1),
            lambda: _bare(ofd, processes=1, threads=REGISTERS),
            lambda: _bare(ofd, processes=REGISTERS, threads=1),
        ]
        single, several, loop, threads, processes = interleaved(contenders, site.runs)
        slow_one = _drain(site, ofd, one, 1, SLOW_DOCUMENTS, REAL_LATENCY_S)
        slow_eight = _drain(site, ofd, eight, REGISTERS, SLOW_DOCUMENTS, REAL_LATENCY_S)
    limit = threads if median(threads) > median(processes) else processes
    bare = "bare httpx loop", loop
    server = f"what the server takes: {REGISTERS} bare httpx loops"
    slow = f"{REGISTERS} registers, OFD answers after {REAL_LATENCY_S * 1000:g} ms"
    return [
        Row.against("documents/s to the OFD after an outage, 1 register", UNIT, single, bare, Bound(0.6, 0.8)),
        Row.against(f"the same, {REGISTERS} registers", UNIT, several, ("1 register", single), Bound(3)),
        Row.against(server, UNIT, limit, bare, threads=threads, processes=processes),
        Row.against(slow, UNIT, [slow_eight], ("1 register", [slow_one]), Bound(3)),
    ]


def after_its_return(site: Site) -> list[Row]:
    """From an OFD that listens again to the last of 200 documents that have waited."""
    ofd = OfdProcess(site.directory)
    took_s = []
    with site.bridge(BridgeConfig(ofd.url, settings=PROMPT)) as bridge:
        for _ in range(site.runs):
            _print(site, bridge, 1, RETURN_DOCUMENTS)
            with ofd:
                back = time.time()
                _, last, _ = _emptied(ofd, bridge, RETURN_DOCUMENTS)
            took_s.append(last - back)
    bound = Bound(1, 0.5, unit="s", at_most=True)
    return [Row(f"{RETURN_DOCUMENTS} pending documents after the OFD's return", "s", took_s, bound=bound)]


def _print(site: Site, bridge: Bridge, terminals: int, receipts: int) -> None:
    load_bridge(bridge, replace(site.load(), terminals=terminals, count=receipts))


def _drain(site: Site, ofd: OfdProcess, bridge: Bridge, terminals: int, documents: int, latency_s: float = 0) -> float:
    """Print at least so many receipts while the OFD is away, let it come back; documents a second, first to last."""
    _print(site, bridge, terminals, documents)
    with ofd:
        if latency_s:
            ofd.set_faults(latency_s=latency_s)
        first, last, received = _emptied(ofd, bridge, documents)
        return (received - 1) / (last - first)


def _emptied(ofd: OfdProcess, bridge: Bridge, documents: int) -> tuple[float, float, int]:
    """Return when the OFD, which was new, got the first and the last of what had waited, and their number.

    BenchmarkError unless each came once and none amiss.
    """
    # Asked of the journal: reading what the OFD has would cost the OFD the time that is measured.
    wait_until(lambda: not bridge.figure("printed"), DRAIN_TIMEOUT_S, f"{bridge.id} with nothing left to deliver")
    received = ofd.received()
    if received["total"] < documents or received["duplicates"] or received["conflicts"]:
        raise BenchmarkError(
            f"{documents} documents waited, the OFD has {received['total']} and sees {received['duplicates']} repeats"
        )
    times = [datetime.fromisoformat(entry["first_at"]).timestamp() for entry in received["documents"]]
    return min(times), max(times), received["total"]


def _bare(ofd: OfdProcess, *, processes: int, threads: int) -> float:
    """Return documents a second from so many bare clients."""
    together = time.time() + (TOGETHER_S if processes > 1 else 0)
    options = {"--at": together, "--url": ofd.url, "--count": DOCUMENTS // processes, "--threads": threads}
    command = ["benchmarks.references", "submissions", *(str(part) for option in options.items() for part in option)]
    with ofd, ThreadPoolExecutor(processes) as pool:
        posting = [pool.submit(run_json, "the bare httpx loop", DRAIN_TIMEOUT_S, *command) for _ in range(processes)]
        runs = [future.result() for future in posting]
    documents = sum(run["documents"] for run in runs)
    return float(documents / (max(run["ended"] for run in runs) - min(run["began"] for run in runs)))

"""`python -m benchmarks`: what the bridge achieves on this machine, as a table and as JSON."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from support.brokers import MosquittoProcess, find_mosquitto

from benchmarks import delivery, flood, footprint, latency, throughput
from benchmarks.load import BenchmarkError
from benchmarks.report import FIGURES, Row, as_text, fill, links, machine, versions, write_json, write_plots
from benchmarks.site import Site

FULL_RUNS, QUICK_RUNS = 5, 2

Benchmark = Callable[[Site], list[Row]]
BENCHMARKS: dict[str, Benchmark] = {
    "throughput": throughput.ofd_away_and_there,
    "registers": throughput.eight_registers,
    "alone": latency.one_at_a_time,
    "busy": latency.at_half_of_the_top,
    "stored": throughput.with_a_past,
    "outage": delivery.after_an_outage,
    "return": delivery.after_its_return,
    "flood": flood.others_during_a_flood,
    "fifty": throughput.fifty_slow_registers,
    "start": footprint.start_with_pending,
    "idle": footprint.idle,
    "growth": footprint.growth,
    "embedded": throughput.through_embedded,
    "load": throughput.against_load,
    "cores": throughput.on_every_core,
}
FULL = tuple(name for name in BENCHMARKS if name != "cores")
QUICK = ("throughput", "alone", "return", "idle")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0 when there are figures, 1 when something failed, 2 when it cannot be run."""
    args = _arguments(argv)
    if args.list:
        print(
            "\n".join(f"{name:12}{(benchmark.__doc__ or '').splitlines()[0]}" for name, benchmark in BENCHMARKS.items())
        )
        return 0
    if find_mosquitto() is None:
        _say("benchmarks: mosquitto is not installed: apt-get install mosquitto")
        return 2
    directory = Path(tempfile.mkdtemp(prefix="kkt-bench-"))
    try:
        _measure(args, directory)
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except (BenchmarkError, AssertionError) as error:
        _say(f"benchmarks: {error}")
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def _measure(args: argparse.Namespace, directory: Path) -> None:
    rows: list[Row] = []
    with MosquittoProcess(directory) as broker:
        runs = args.runs or (QUICK_RUNS if args.quick else FULL_RUNS)
        site = Site(directory, broker, runs, args.quick)
        for name in args.only or (QUICK if args.quick else FULL):
            began = time.monotonic()
            rows += BENCHMARKS[name](site)
            _say(f"{name}: {time.monotonic() - began:.0f} s")
    facts = machine(directory), versions()
    print(as_text(*facts, rows))
    if args.out:
        write_json(args.out, *facts, rows, site.curves)
    if args.plots:
        write_plots(args.plots, site.curves)
    if args.page:
        write_plots(args.page.parent, site.curves)
        fill(args.page, FIGURES, "\n\n".join([as_text(*facts, rows), *links(site.curves)]))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the figures of everyday use, in under a minute")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help="only these; see --list")
    parser.add_argument("--runs", type=int, help="interleaved runs of each figure")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every run of every figure there, as JSON")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write the plots there, as SVG")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the table and the plots of a whole run there")
    parser.add_argument("--list", action="store_true", help="say what there is to measure")
    args = parser.parse_args(argv)
    if args.page and (args.quick or args.only):
        parser.error("--page takes a whole run, neither --quick nor --only")
    return args


def _say(text: str) -> None:
    # Beside the table, so that this can be piped.
    print(text, file=sys.stderr, flush=True)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _interrupt)
    raise SystemExit(main())

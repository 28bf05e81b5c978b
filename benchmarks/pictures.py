"""The two plots of docs/performance.md."""

from pathlib import Path

from benchmarks.curves import Curves
from benchmarks.load import LoadSpec
from benchmarks.plot import Line, Plot

LOAD_FILE, ROWS_FILE = "performance-load.svg", "performance-rows.svg"


LOAD_TITLE = "Throughput and latency against load"
ROWS_TITLE = "Throughput and latency against receipts stored"


def links(curves: Curves) -> list[str]:
    """Of a page that lies beside the plots: the Markdown that shows those of which there are points."""
    plots = ((LOAD_TITLE, LOAD_FILE, curves.load), (ROWS_TITLE, ROWS_FILE, curves.rows))
    return [f"![{title}]({file})" for title, file, points in plots if points]


def write_plots(directory: Path, curves: Curves) -> None:
    """Write those of which there are points."""
    directory.mkdir(parents=True, exist_ok=True)
    if curves.load:
        (directory / LOAD_FILE).write_text(_load_plot(curves).svg(), encoding="utf-8")
    if curves.rows:
        (directory / ROWS_FILE).write_text(_rows_plot(curves).svg(), encoding="utf-8")


def _load_plot(curves: Curves) -> Plot:
    return Plot(
        title=LOAD_TITLE,
        x_label="requests in flight",
        left_label="receipts/s",
        right_label="latency, ms",
        places=[point.in_flight for point in curves.load],
        lines=[
            Line("receipts/s", [point.rate for point in curves.load]),
            Line("latency p50", [point.p50_ms for point in curves.load], right=True),
            Line("latency p99", [point.p99_ms for point in curves.load], right=True),
        ],
        even=True,
    )


def _rows_plot(curves: Curves) -> Plot:
    rows = sorted(curves.rows)
    return Plot(
        title=ROWS_TITLE,
        x_label="receipts stored",
        left_label="receipts/s",
        right_label="latency, ms",
        places=[stored for stored, _ in rows],
        lines=[
            Line("receipts/s, 64 in flight", [rate for _, rate in rows]),
            # Little's law: what is in flight is the rate times the mean time that it takes.
            Line("mean latency", [LoadSpec.window / rate * 1000 for _, rate in rows], right=True),
        ],
    )

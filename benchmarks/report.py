"""Figures for people and for programs: ratios and bounds, the table, the plots, the JSON, the page."""

import json
import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Self

import psutil
from matplotlib import rc_context
from matplotlib.figure import Figure
from support.brokers import mosquitto_program

from benchmarks.load import BenchmarkError, LoadSpec
from benchmarks.site import Curves

BEYOND, REACH, SHORT = "beyond", "reach", "short"
HEAD = ["figure", "median (min–max)", "reference, same run", "ratio", "reach", "beyond", ""]
PACKAGES = ("paho-mqtt", "pydantic", "SQLAlchemy", "httpx", "amqtt")

FIGURES, GROWTH = "figures", "growth"
"""The names of the two places in docs/performance.md."""

LOAD_FILE, ROWS_FILE = "performance-load.svg", "performance-rows.svg"
LOAD_TITLE = "Throughput and latency against load"
ROWS_TITLE = "Throughput and latency against receipts stored"


def pairwise_ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """Return the median of the ratios of neighbours in time, so that a drifting machine does not show in it."""
    return median(value / reference for value, reference in zip(values, references, strict=True))


@dataclass(frozen=True)
class Bound:
    """The limits that a ratio, or a bare figure, is to keep: at least or at most so much."""

    reach: float
    beyond: float | None = None
    unit: str = "×"
    at_most: bool = False

    def mark(self, value: float) -> str:
        """Return how far this value gets."""
        if self.beyond is not None and self._keeps(value, self.beyond):
            return BEYOND
        return REACH if self._keeps(value, self.reach) else SHORT

    def cells(self, value: float) -> list[str]:
        """Return the last three cells of a row with this value."""
        sign = "≤" if self.at_most else "≥"
        bounds = ["" if bound is None else f"{sign} {bound:g} {self.unit}" for bound in (self.reach, self.beyond)]
        return [*bounds, self.mark(value)]

    def _keeps(self, value: float, bound: float) -> bool:
        return value <= bound if self.at_most else value >= bound


@dataclass(frozen=True)
class Row:
    """One figure: every run of it, every run of its reference beside it, and what became of both."""

    figure: str
    unit: str
    values: Sequence[float]
    reference: str = "–"
    references: Sequence[float] = ()
    ratio: float | None = None
    """None where the figure stands for itself."""
    bound: Bound | None = None
    notes: dict[str, object] = field(default_factory=dict)
    """Further measurements, for the JSON."""

    @classmethod
    def against(
        cls,
        figure: str,
        unit: str,
        values: Sequence[float],
        reference: tuple[str, Sequence[float]],
        bound: Bound | None = None,
        **notes: object,
    ) -> Self:
        """Return a figure whose ratio is that of each run to the run of its reference beside it."""
        name, references = reference
        return cls(figure, unit, values, name, references, pairwise_ratio(values, references), bound, notes)

    @property
    def judged(self) -> float:
        """The value that the bound is about."""
        return median(self.values) if self.ratio is None else self.ratio

    def cells(self) -> list[str]:
        """Return the row of the table."""
        return [
            self.figure,
            spread(self.values, self.unit),
            f"{self.reference}: {spread(self.references, self.unit)}" if self.references else self.reference,
            "" if self.ratio is None else f"{self.ratio:.2f} ×",
            *(["", "", ""] if self.bound is None else self.bound.cells(self.judged)),
        ]


def table(rows: Iterable[Row]) -> str:
    """Return the figures as a Markdown table."""
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def spread(values: Sequence[float], unit: str) -> str:
    """Return the median, and how far the runs lie apart."""
    middle = f"{number(median(values))} {unit}"
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}–{number(max(values))})"


def number(value: float) -> str:
    """Return three digits that count; thousands in groups."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine(directory: Path) -> dict[str, str]:
    """Return processor, kernel, and the filesystem under the directory in which everything is kept."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    mounts = psutil.disk_partitions(all=True)
    above = [mount for mount in mounts if directory.resolve().is_relative_to(mount.mountpoint)]
    return {
        "processor": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": max(above, key=lambda mount: len(mount.mountpoint)).fstype if above else "unknown",
    }


def versions() -> dict[str, str]:
    """Return the versions of everything that the figures depend on."""
    help_text = subprocess.run([mosquitto_program(), "-h"], capture_output=True, text=True, timeout=10, check=False)
    return {
        "kkt-bridge": version("kkt-bridge"),
        "python": platform.python_version(),
        "mosquitto": help_text.stdout.partition("\n")[0].removeprefix("mosquitto version ").strip(),
        "sqlite": sqlite3.sqlite_version,
        **{package: version(package) for package in PACKAGES},
    }


def as_text(machine: Mapping[str, str], versions: Mapping[str, str], rows: Sequence[Row]) -> str:
    """Return the table, under the machine and the versions."""
    facts = [", ".join(f"{name} {value}" for name, value in about.items()) for about in (machine, versions)]
    return "\n".join([*facts, "", table(rows)])


def write_json(
    file: Path, machine: Mapping[str, str], versions: Mapping[str, str], rows: Sequence[Row], curves: Curves
) -> None:
    """Write every run of every figure."""
    content = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "versions": versions,
        "figures": [
            asdict(row) | {"judged": row.judged, "mark": None if row.bound is None else row.bound.mark(row.judged)}
            for row in rows
        ],
        "curves": asdict(curves),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def fill(page: Path, name: str, measured: str) -> None:
    """Put this between `<!-- NAME: begin … -->` and `<!-- NAME: end -->`; BenchmarkError without such a place."""
    text = page.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- {name}: begin\b[^>]*-->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    if len(place.findall(text)) != 1:
        raise BenchmarkError(f'{page} needs one place for results, between "{name}: begin" and "{name}: end"')
    today = datetime.now(UTC).date().isoformat()
    filled = place.sub(lambda marks: f"{marks[1]}\n{today}. {measured.strip()}\n\n{marks[2]}", text)
    page.write_text(filled, encoding="utf-8")


def links(curves: Curves) -> list[str]:
    """Return the Markdown of a page beside the plots that shows those of which there are points."""
    plots = ((LOAD_TITLE, LOAD_FILE, curves.load), (ROWS_TITLE, ROWS_FILE, curves.rows))
    return [f"![{title}]({file})" for title, file, points in plots if points]


def write_plots(directory: Path, curves: Curves) -> None:
    """Write the plots of which there are points, as SVG."""
    directory.mkdir(parents=True, exist_ok=True)
    if points := curves.load:
        # At even distances, whatever the numbers: they are names.
        in_flight = [str(point.in_flight) for point in points]
        latencies = {"p50": [point.p50_ms for point in points], "p99": [point.p99_ms for point in points]}
        rates = [point.rate for point in points]
        _plot(directory / LOAD_FILE, LOAD_TITLE, "requests in flight", in_flight, ("receipts/s", rates), latencies)
    if curves.rows:
        stored, rates = zip(*sorted(curves.rows), strict=True)
        # Little's law: what is in flight is the rate times the mean time that it takes.
        mean = {"mean": [LoadSpec.window / rate * 1000 for rate in rates]}
        _plot(directory / ROWS_FILE, ROWS_TITLE, "receipts stored", stored, ("receipts/s, 64 in flight", rates), mean)


def _plot(
    file: Path,
    title: str,
    x_label: str,
    places: Sequence[object],
    rates: tuple[str, Sequence[float]],
    latencies_ms: Mapping[str, Sequence[float]],
) -> None:
    """Draw rates on the left scale and latencies on the right one, over the same places."""
    # Text stays text, and the same points give the same file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": file.name}):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        left = figure.subplots()
        right = left.twinx()
        lines = left.plot(places, rates[1], "o-", color="C0", label=rates[0])
        for index, (name, values) in enumerate(latencies_ms.items(), start=1):
            lines += right.plot(places, values, "o-", color=f"C{index}", label=f"latency {name}")
        left.set(title=title, xlabel=x_label, ylabel="receipts/s", ylim=(0, None))
        right.set(ylabel="latency, ms", ylim=(0, None))
        if not isinstance(places[0], str):
            left.xaxis.set_major_formatter("{x:,.0f}")
        left.grid(visible=True, axis="y")
        left.legend(handles=lines, loc="best", fontsize="small")
        figure.savefig(file, metadata={"Date": None})

"""The programs that take part beside the broker, each a process of its own: the bridge, the OFD and the echo."""

import json
import sqlite3
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from support.bridge import BridgeProcess
from support.processes import ChildProcess, python

from benchmarks.load import HOST, BenchmarkError
from kkt_bridge.registers.virtual.fiscal_document import RECEIPT
from kkt_bridge.registers.virtual.storage_file import read_documents

ROOT = Path(__file__).resolve().parents[1]
TOPIC_ROOT = "kkt/v1"
CAPACITY = 10_000_000
"""Of the buffer, in receipts: nothing may be refused because the OFD is away."""


def run_json(what: str, timeout_s: float, module: str, *arguments: str) -> dict[str, Any]:
    """Run a module to its end, and return what it printed as JSON; BenchmarkError if it failed."""
    try:
        run = subprocess.run(
            python(module, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{what} did not end within {timeout_s:g} s") from None
    if run.returncode != 0:
        raise BenchmarkError(f"{what}: {run.stderr.strip()}")
    return dict(json.loads(run.stdout))


def processor_s(processes: Sequence[psutil.Process]) -> float:
    """Return the processor time of these processes so far, in user and system mode."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def resident_mb(processes: Sequence[psutil.Process]) -> float:
    """Return their resident memory in megabytes; what they share is counted for each."""
    return float(sum(process.memory_info().rss for process in processes)) / 1e6


class Echo(ChildProcess):
    """The reference through the same broker, for requests below `branch`."""

    def __init__(self, directory: Path, port: int, protocol: int, branch: str) -> None:
        self.branch = branch
        self._options = ["--port", port, "--protocol", protocol, "--branch", branch]
        super().__init__("the echo", directory / f"{branch.replace('/', '-')}.log")

    def command(self) -> list[str]:
        """See `ChildProcess`."""
        return python("benchmarks.references", "echo", *self._options)

    def is_ready(self) -> bool:
        """True once it has said so."""
        return b"ready" in self.output()


@dataclass(frozen=True)
class Printed:
    """Receipts that a bridge has really printed, by its registers and by its journal."""

    fiscal_documents: int = 0
    journal_receipts: int = 0


@dataclass(frozen=True)
class BridgeConfig:
    """Configuration of a bridge, beside its broker and directory."""

    ofd_url: str
    registers: int = 1
    terminals: int = 1
    print_time_s: float = 0.0
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """More, by table and key."""


class Bridge(BridgeProcess):
    """`kkt-bridge run`, its journal and fiscal storages in a directory of its own, where it may find some."""

    def __init__(self, name: str, directory: Path, broker_port: int, config: BridgeConfig) -> None:
        directory.mkdir(exist_ok=True)
        self.journal = directory / "journal.db"
        kkts = [f"kkt-{number}" for number in range(1, config.registers + 1)]
        self.storages = [directory / f"{kkt}.fn" for kkt in kkts]
        register = {"driver": "virtual", "print_time_s": config.print_time_s}
        values = {
            "bridge_id": name,
            "mqtt": {"host": HOST, "port": broker_port},
            "journal": {"url": f"sqlite:///{self.journal}"},
            "buffer": {"capacity": CAPACITY},
            "ofd": {"url": config.ofd_url},
            "pos": {f"pos-{number + 1}": kkts[number % config.registers] for number in range(config.terminals)},
            "kkt": [{"id": kkt, "state": str(path)} | register for kkt, path in zip(kkts, self.storages, strict=True)],
            **config.settings,
        }
        super().__init__(values, directory)
        self.start_s = 0.0
        """From its process to its word on the broker that it is there."""
        self.printed = Printed()
        """As last counted."""

    def __enter__(self) -> Self:
        began = time.perf_counter()
        self.start()
        self.start_s = time.perf_counter() - began
        self.count_printed()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.terminate()
        else:
            self.kill()

    def own_process(self) -> list[psutil.Process]:
        """Return its own process, without those that it has started."""
        return [psutil.Process(self.process.pid)]

    def children(self) -> list[psutil.Process]:
        """Return the processes that it has started and that still run."""
        return list(psutil.Process(self.process.pid).children())

    def count_printed(self) -> Printed:
        """Count what it has printed; BenchmarkError if a fiscal storage has a receipt twice."""
        marks = [
            document.body.requisite_1192
            for path in self.storages
            if path.exists() and path.stat().st_size  # a register that is only just switched on
            for document in read_documents(path)
            if document.body.form == RECEIPT
        ]
        if len(set(marks)) != len(marks):
            raise BenchmarkError(f"{self.id} has printed {len(marks) - len(set(marks))} receipts twice")
        self.printed = Printed(len(marks), self.figure("printed") + self.figure("synced"))
        return self.printed

    def figure(self, status: str) -> int:
        """Return how many receipts have this status by the journal's counters."""
        query = "SELECT coalesce(sum(value), 0) FROM figures WHERE name = ?"
        with closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)) as connection:
            return int(connection.execute(query, (status,)).fetchone()[0])

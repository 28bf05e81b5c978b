"""The programs that take part beside the broker, each a process of its own: the bridge, the OFD and the echo."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
from support.bridge import BridgeProcess
from support.brokers import free_port
from support.processes import wait_until

from benchmarks.load import HOST, BenchmarkError
from kkt_bridge.registers.virtual.fiscal_document import RECEIPT
from kkt_bridge.registers.virtual.storage_file import read_documents

ROOT = Path(__file__).resolve().parents[1]
TOPIC_ROOT = "kkt/v1"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 15.0
OFD_TIMEOUT_S = 30.0
CAPACITY = 10_000_000
"""Of the buffer, in receipts: nothing may be refused because the OFD is away."""


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this checkout in an interpreter of its own."""
    return [sys.executable, "-m", module, *arguments]


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


class Child:
    """A process with a log that is started by a `with` block, and ended with it."""

    def __init__(self, name: str, command: Sequence[str], log: Path, is_ready: Callable[[], bool]) -> None:
        self._name = name
        self._command = command
        self._is_ready = is_ready
        self.log = log

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
        try:
            wait_until(self._runs_and_is_ready, START_TIMEOUT_S, f"{self._name} that is ready")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _runs_and_is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise BenchmarkError(f"{self._name} ended by itself: {self.log.read_text(encoding='utf-8')}")
        return self._is_ready()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Echo(Child):
    """The reference through the same broker, for requests below `branch`."""

    def __init__(self, directory: Path, port: int, protocol: int, branch: str) -> None:
        self.branch = branch
        log = directory / f"{branch.replace('/', '-')}.log"
        options = ["--port", str(port), "--protocol", str(protocol), "--branch", branch]
        command = python("benchmarks.references", "echo", *options)
        super().__init__("the echo", command, log, lambda: b"ready" in log.read_bytes())


class Ofd(Child):
    """`kkt-bridge sim ofd` on a port that is known before it runs: until then the OFD is away."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        command = python("kkt_bridge", "sim", "ofd", "--port", str(port))
        super().__init__("the OFD", command, directory / "ofd.log", self._answers)

    def set_faults(self, **faults: Any) -> None:
        """Put these faults on it, instead of all others."""
        self._ask("PUT", "/_faults", json=faults)

    def received(self, *, full: bool = False) -> dict[str, Any]:
        """Return the documents that it has received; `full` with their bodies."""
        return self._ask("GET", "/_received?full=1" if full else "/_received")

    def _answers(self) -> bool:
        try:
            self._ask("GET", "/_faults")
        except httpx.TransportError:
            return False
        return True

    def _ask(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        answer = httpx.request(method, self.url + path, timeout=OFD_TIMEOUT_S, trust_env=False, **content)
        return dict(answer.raise_for_status().json())


@dataclass(frozen=True)
class Printed:
    """Receipts that a bridge has really printed, by its registers and by its journal."""

    fiscal_documents: int = 0
    journal_receipts: int = 0


@dataclass(frozen=True)
class Shop:
    """Configuration of a bridge, beside its broker and directory."""

    ofd_url: str
    registers: int = 1
    terminals: int = 1
    print_time_s: float = 0.0
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """More, by table and key."""


class Bridge(BridgeProcess):
    """`kkt-bridge run`, its journal and fiscal storages in a directory of its own, where it may find some."""

    def __init__(self, name: str, directory: Path, broker_port: int, shop: Shop) -> None:
        directory.mkdir(exist_ok=True)
        self.journal = directory / "journal.db"
        kkts = [f"kkt-{number}" for number in range(1, shop.registers + 1)]
        self.storages = [directory / f"{kkt}.fn" for kkt in kkts]
        register = {"driver": "virtual", "print_time_s": shop.print_time_s}
        config = {
            "bridge_id": name,
            "mqtt": {"host": HOST, "port": broker_port},
            "journal": {"url": f"sqlite:///{self.journal}"},
            "buffer": {"capacity": CAPACITY},
            "ofd": {"url": shop.ofd_url},
            "pos": {f"pos-{number + 1}": kkts[number % shop.registers] for number in range(shop.terminals)},
            "kkt": [{"id": kkt, "state": str(path)} | register for kkt, path in zip(kkts, self.storages, strict=True)],
            **shop.settings,
        }
        super().__init__(config, directory)
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

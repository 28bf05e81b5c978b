"""Processes that a benchmark starts, and ends whatever happens."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.errors import BenchmarkError

ROOT = Path(__file__).resolve().parents[1]
STOP_TIMEOUT_S = 15.0
POLL_S = 0.005
TAIL_LINES = 20


def python(module: str, *arguments: str) -> list[str]:
    """A module of this checkout in an interpreter of its own."""
    return [sys.executable, "-m", module, *arguments]


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return when the condition holds; BenchmarkError, saying what was awaited, when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)


class Child:
    """One process with a log; a context manager that leaves nothing running."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it; it need not be ready on return."""
        assert self._process is None, f"{self.name} runs already"
        # Nothing that configures a bridge from outside may change what is measured.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KKT_BRIDGE__")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=environment
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    def check(self) -> None:
        """BenchmarkError, with the end of its log, if it ended by itself."""
        if self._process is not None and (status := self._process.poll()) is not None:
            raise BenchmarkError(f"{self.name} ended by itself, status {status}\n{self.tail()}")

    def wait(self, timeout_s: float) -> int:
        """Its exit status, when it ends by itself; BenchmarkError if it does not in time."""
        assert self._process is not None, f"{self.name} does not run"
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"{self.name} has not ended within {timeout_s:g} s\n{self.tail()}") from None
        self._process = None
        return status

    def stop(self) -> None:
        """End it in good order, or else by force; does nothing when it does not run."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([f"-- the log of {self.name}:", *lines[-TAIL_LINES:]])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

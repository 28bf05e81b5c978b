"""Programs that tests and benchmarks run as processes of their own: started, watched, and ended by signals."""

import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
TAIL_LINES = 30


class EndedByItselfError(AssertionError):
    """A program ended that was to run; the message has the end of its log."""


def python(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of this checkout in an interpreter of its own."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def clean_environment(*, measured: bool = True) -> dict[str, str]:
    """Return our environment without what configures a bridge.

    Not `measured`: without coverage too, which slows each start, and of which SIGKILL leaves nothing.
    """
    unwanted = ("KKT_BRIDGE__",) if measured else ("KKT_BRIDGE__", "COV")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return when the condition holds; raises TimeoutError, saying what was awaited, when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        time.sleep(0.01)  # between two looks: the condition ends the wait, or the deadline


class ChildProcess(ABC):
    """A program that appends to a log, and can be started again as often as it has ended."""

    def __init__(self, name: str, log: Path, environment: Mapping[str, str] | None = None) -> None:
        """`environment` replaces ours."""
        self.name = name
        self.log = log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._log_began = 0

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether it does its work; asked while it runs."""

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process, which was started and not ended from here."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process

    @property
    def pid(self) -> int:
        """Id of the running process."""
        return self.process.pid

    @property
    def is_started(self) -> bool:
        """Return whether it was started and not ended from here; it may have ended by itself."""
        return self._process is not None

    def launch(self) -> None:
        """Run it, and do not wait for anything."""
        assert self._process is None, f"{self.name} is running already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_began = log.tell()
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    def start(self) -> None:
        """Run it, and return when it is ready. EndedByItselfError, or TimeoutError, if it never is."""
        self.launch()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self) -> None:
        """Return when it is ready. EndedByItselfError, or TimeoutError, if it never is."""

        def is_ready() -> bool:
            self.check_runs()
            return self.is_ready()

        wait_until(is_ready, START_TIMEOUT_S, f"{self.name} that is ready\n{self.tail()}")

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL); does nothing when it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it in good order (SIGTERM), whatever its exit status; does nothing when it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        finally:
            self.kill()

    def wait_end(self, timeout_s: float = START_TIMEOUT_S) -> int:
        """Its exit status, where it is to end by itself."""
        status = self.process.wait(timeout_s)
        self._process = None
        return status

    def restart(self) -> None:
        """Stop it in good order and start it again."""
        self.stop()
        self.start()

    def check_runs(self) -> None:
        """EndedByItselfError, with the log, if it ended by itself."""
        if self._process is not None and (status := self._process.poll()) is not None:
            raise EndedByItselfError(f"{self.name} ended by itself, status {status}\n{self.tail()}")

    def output(self, bytes_max: int = -1) -> bytes:
        """Return what it has written to its log since it was started last."""
        if not self.log.exists():
            return b""
        with self.log.open("rb") as log:
            log.seek(self._log_began)
            return log.read(bytes_max)

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

"""The demo's child processes: started one by one, watched, and ended by their ids."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kkt_bridge.errors import KktBridgeError

READY_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 4.0
"""For a clean end after SIGTERM; then comes SIGKILL."""

POLL_S: Final = 0.1


class ChildEnded(KktBridgeError):
    """A process that the demo needs ended by itself, or never became ready."""


class Stopped(Exception):
    """Whoever watches has seen enough."""


class Child:
    """One `kkt-bridge` command as a process; what it says on standard error stays in its log."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self._name = name
        self._log = log
        with log.open("wb") as file:
            # In a session of its own: Ctrl-C is for the demo, which ends its children in good order.
            self._process = subprocess.Popen(  # noqa: S603 (this program itself, with arguments of ours)
                [sys.executable, "-m", "kkt_bridge", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
            )

    def ready(self, stopping: Callable[[], bool]) -> dict[str, Any]:
        """The JSON line that the process prints when it is ready; ChildEnded or Stopped if that does not come."""
        assert self._process.stdout is not None
        pipe, line = self._process.stdout.fileno(), b""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not line.endswith(b"\n"):
            if stopping():
                raise Stopped
            if time.monotonic() > deadline:
                raise ChildEnded(f"{self._name} was not ready within {READY_TIMEOUT_S:g} s; {self._last_words()}")
            if not select.select([pipe], [], [], POLL_S)[0]:
                continue
            chunk = os.read(pipe, 4096)
            if not chunk:
                self._process.wait(STOP_TIMEOUT_S)
                self.check()
            line += chunk
        ready: dict[str, Any] = json.loads(line)
        return ready

    def check(self) -> None:
        """Return if the process runs; ChildEnded with its last words if not."""
        status = self._process.poll()
        if status is not None:
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            raise ChildEnded(f"{self._name} ended with {how}; {self._last_words()}")

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process.poll() is None:
            self._process.terminate()

    def end(self) -> None:
        """Return when it has ended, by force if it takes its time."""
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        spoken = [line.strip() for line in lines if line.strip()]
        return f"{self._log.name} ends: {spoken[-1]}" if spoken else f"{self._log.name} is empty"


class Children:
    """All of them, ended in reverse order of their start."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []

    def start(self, name: str, *arguments: str) -> Child:
        """Start `kkt-bridge` with these arguments; its log is named after it."""
        child = Child(name, list(arguments), self._logs / f"{name.replace(' ', '-')}.log")
        self._children.append(child)
        return child

    def check(self) -> None:
        """Return if all run; ChildEnded about the first that does not."""
        for child in self._children:
            child.check()

    def stop(self) -> None:
        """End the last one, the bridge, while it can still talk to the others; then these."""
        while self._children:
            last = self._children.pop()
            last.terminate()
            last.end()

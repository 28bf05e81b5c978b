"""The demo's parts: its directory with the configuration of its bridge, its child processes, its OFD."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.mqtt.client import BridgeAddress
from kkt_bridge.registers.virtual.fiscal_document import CORRECTION, RECEIPT, FiscalDocument
from kkt_bridge.registers.virtual.storage_file import read_documents
from kkt_bridge.wire.topics import Topics

BRIDGE_ID: Final = "demo-shop"
TOPICS: Final = Topics("kkt/v1", BRIDGE_ID)
READY_TIMEOUT_S: Final = 30.0
"""For a child process to say that it is ready."""

STOP_TIMEOUT_S: Final = 4.0
"""For a clean end after SIGTERM; then comes SIGKILL."""

POLL_S: Final = 0.1
OFD_TIMEOUT_S: Final = 10.0

_RECEIPT_FORMS: Final = frozenset({RECEIPT, CORRECTION})


class SiteInUse(KktBridgeError):
    """The directory holds files: a demo counts what it finds there, and leaves everything of its own."""


@dataclass(frozen=True, slots=True)
class DemoSpeed:
    """The speed of a demo; times in seconds."""

    rate: float
    """Receipts a second over all POS; 0: as fast as they are answered."""
    print_time_s: float
    breaker_reset_s: float
    sync_interval_s: float


BRISK: Final = DemoSpeed(rate=0.0, print_time_s=0.02, breaker_reset_s=0.5, sync_interval_s=0.2)
"""For counting: over in seconds."""

WATCHABLE: Final = DemoSpeed(rate=5.0, print_time_s=0.12, breaker_reset_s=4.0, sync_interval_s=1.0)
"""For watching: an eye can follow."""


class Site:
    """The demo's files in one directory."""

    def __init__(self, directory: Path, registers: int) -> None:
        self.directory = directory.resolve()
        self.config = self.directory / "bridge.toml"
        self.ofd_state = self.directory / "ofd.jsonl"
        self.registers = [f"kkt-{number}" for number in range(1, registers + 1)]

    def prepare(self) -> None:
        """Make the directory; SiteInUse if there is anything in it."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            in_use = self.config.exists() or any(self.directory.iterdir())
            probe = self.directory / ".kkt-bridge-demo"
            if not in_use:
                probe.touch(exist_ok=False)
                probe.unlink()
        except OSError as error:
            raise KktBridgeError(f"--dir: {self.directory} cannot be used: {error.strerror}") from None
        if in_use:
            held = "an earlier demo" if self.config.exists() else "files already"
            raise SiteInUse(f"--dir: {self.directory} holds {held}; choose a directory that is new or empty")

    def configure(self, broker: BridgeAddress, ofd_url: str, *, pos: int, capacity: int, speed: DemoSpeed) -> None:
        """Write the bridge's configuration, with times of seconds."""
        mapping = "\n".join(
            f'"pos-{number + 1}" = "{self.registers[number % len(self.registers)]}"' for number in range(pos)
        )
        registers = "\n".join(
            f'[[kkt]]\nid = "{kkt}"\ndriver = "virtual"\nstate = {self._quoted(f"{kkt}.fn")}\n'
            f'print_time_s = {speed.print_time_s}\nsender_email = "receipts@example.com"\n'
            for kkt in self.registers
        )
        self.config.write_text(
            f"""\
bridge_id = "{BRIDGE_ID}"

[mqtt]
host = {json.dumps(broker.host)}
port = {broker.port}
session_expiry_s = 60

[journal]
url = {json.dumps(f"sqlite:///{self.directory}/journal.db", ensure_ascii=False)}

[buffer]
capacity = {capacity}

{registers}
[pos]
{mapping}

[ofd]
url = "{ofd_url}"
timeout_s = 2

[sync]
interval_s = {speed.sync_interval_s}
backoff_initial_s = 0.2
backoff_max_s = 1
network_hold_s = 0.5

[breaker]
fail_max = 3
reset_timeout_s = {speed.breaker_reset_s}
success_threshold = 2

[telemetry]
interval_s = 5
""",
            encoding="utf-8",
        )

    def receipts(self) -> Iterator[FiscalDocument]:
        """Yield every receipt and correction in the fiscal storages."""
        for kkt in self.registers:
            path = self.directory / f"{kkt}.fn"
            if path.exists():
                yield from (document for document in read_documents(path) if document.body.form in _RECEIPT_FORMS)

    def _quoted(self, name: str) -> str:
        return json.dumps(str(self.directory / name), ensure_ascii=False)


class ChildEnded(KktBridgeError):
    """A process that the demo needs ended by itself, or never became ready."""


class Stopped(Exception):
    """The user has asked for the end."""


class Child:
    """One `kkt-bridge` command as a process; its standard error goes to a log that is named after it."""

    def __init__(self, name: str, arguments: Sequence[str], logs: Path) -> None:
        self._name = name
        self._log = logs / f"{name}.log"
        with self._log.open("wb") as file:
            # In a session of its own: Ctrl-C is for the demo, which ends its children in good order.
            self._process = subprocess.Popen(  # noqa: S603 (this program itself, with arguments of ours)
                [sys.executable, "-m", "kkt_bridge", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
            )

    def ready(self, stopping: Callable[[], bool]) -> dict[str, Any]:
        """Return the JSON line that says that the process is ready; ChildEnded or Stopped if that does not come."""
        assert self._process.stdout is not None
        pipe, line = self._process.stdout.fileno(), b""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not line.endswith(b"\n"):
            if stopping():
                raise Stopped
            if time.monotonic() > deadline:
                raise ChildEnded(f"{self._name} was not ready within {READY_TIMEOUT_S:g} s; {self._end_of_log()}")
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
        """Return if the process runs; ChildEnded with the end of its log if not."""
        status = self._process.poll()
        if status is not None:
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            raise ChildEnded(f"{self._name} ended with {how}; {self._end_of_log()}")

    def stop(self) -> None:
        """End it with SIGTERM, and by force if it takes its time."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _end_of_log(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        spoken = [line.strip() for line in lines if line.strip()]
        return f"{self._log.name} ends: {spoken[-1]}" if spoken else f"{self._log.name} is empty"


class OfdControl:
    """The simulated OFD at this URL, by its `/_faults` and `/_received`."""

    def __init__(self, url: str) -> None:
        self._netloc = urlsplit(url).netloc
        self._url = url

    def begin_outage(self) -> None:
        """Make it answer 503 to everything, its health check included."""
        self._ask("PUT", "/_faults", {"outage": True, "status": 503})

    def end_outage(self) -> None:
        """Let it answer again."""
        self._ask("PUT", "/_faults", {})

    def received(self) -> dict[str, Any]:
        """Return what it has received: `documents`, `duplicates`, `conflicts` (other documents under one key)."""
        return self._ask("GET", "/_received")

    def _ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = HTTPConnection(self._netloc, timeout=OFD_TIMEOUT_S)
        try:
            connection.request(method, path, None if content is None else json.dumps(content))
            answer = connection.getresponse()
            body: dict[str, Any] = json.loads(answer.read())
        except (OSError, HTTPException, ValueError) as error:
            raise KktBridgeError(f"the simulated OFD at {self._url} does not answer on {path}: {error}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise KktBridgeError(f"the simulated OFD refuses {method} {path}: {answer.status} {body.get('error')}")
        return body

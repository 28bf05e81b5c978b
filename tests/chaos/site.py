"""The shop under fire: broker, bridge and OFD as processes of their own, and the registers' files.

The virtual registers live in the bridge's process, so whatever kills it cuts their power too; what befalls a
register alone (power, a lost answer, the line) is ordered through its fault file.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from chaos.line import Line
from chaos.plan import BRIDGE, BROKER, OFD, Plan
from support.bridge import BridgeProcess
from support.brokers import HOST, MosquittoProcess, free_port, wait_until

from kkt_bridge.registers.virtual.faults import clear_faults, write_faults

START_S = 30.0
DESK_TIMEOUT_S = 20.0
BRIDGE_ID = "store-chaos"
UP = f"bridge {BRIDGE_ID} is up".encode()


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """Ours without the measuring of coverage: it slows each start, and SIGKILL leaves nothing of what it measured."""
    return {name: value for name, value in environment.items() if not name.startswith("COV")}


class Part(Protocol):
    """A process that can be started again as often as it is killed."""

    def launch(self) -> None:
        """Start it; it need not be ready on return."""

    def kill(self) -> None:
        """End it by SIGKILL, if it runs."""

    @property
    def running(self) -> "subprocess.Popen[bytes] | None":
        """The process, unless it was killed."""


class Broker(MosquittoProcess):
    """Mosquitto with the repository's settings: a kill costs it what came after its last save."""

    def launch(self) -> None:
        """Run it until it takes connections."""
        self.start()

    @property
    def running(self) -> "subprocess.Popen[bytes] | None":
        """See `Part`."""
        return self._process


class Bridge(BridgeProcess):
    """`kkt-bridge run`, which says in its log when it is up."""

    def __init__(self, config: Mapping[str, Any], directory: Path) -> None:
        super().__init__(config, directory)
        self._environment = unmeasured(self._environment)
        self._log_began = 0

    def launch(self) -> None:
        """Run it, and remember where its new log begins."""
        self._log_began = self.log.stat().st_size if self.log.exists() else 0
        super().launch()

    @property
    def running(self) -> "subprocess.Popen[bytes] | None":
        """See `Part`."""
        return self._process

    def is_up(self) -> bool:
        """Whether this start has got as far as working."""
        if self._process is None:
            return False
        with self.log.open("rb") as log:
            log.seek(self._log_began)
            return UP in log.read(64 * 1024)


class Ofd:
    """`kkt-bridge sim ofd`: every document that it answered for is in its file."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.log = directory / "ofd.log"
        self._state = directory / "ofd.jsonl"
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Run it, and do not wait."""
        command = [sys.executable, "-m", "kkt_bridge", "sim", "ofd", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--state", str(self._state)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=unmeasured(os.environ),
            )

    def kill(self) -> None:
        """See `Part`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def running(self) -> "subprocess.Popen[bytes] | None":
        """See `Part`."""
        return self._process

    def answers(self) -> bool:
        """Whether it takes requests."""
        try:
            self.ask("GET", "/ofd/v1/health")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def ask(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What it answers there. OSError or HTTPException if it is away."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=DESK_TIMEOUT_S)
        try:
            connection.request(method, path, None if content is None else json.dumps(content).encode())
            return dict(json.loads(connection.getresponse().read()))
        finally:
            connection.close()


@dataclass(slots=True)
class Outage:
    """When a process was away, by the wall clock: from its death until it was started again."""

    name: str
    since: float
    until: float = float("inf")


class Site:
    """Everything that runs, and who was killed when. A context manager that leaves nothing running."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.directory = directory
        self.broker = Broker(directory)
        self.line = Line(self.broker.port)
        self.ofd = Ofd(directory)
        self.registers = {kkt: directory / f"{kkt}.fn" for kkt in plan.kkts}
        self.journal = directory / "journal.db"
        self.copy = directory / "copy.db"
        self.bridge = Bridge(self._config(plan), directory)
        self.parts: dict[str, Part] = {BROKER: self.broker, OFD: self.ofd, BRIDGE: self.bridge}
        self.kills: Counter[str] = Counter()
        """SIGKILLs that hit a living process."""
        self.outages: list[Outage] = []
        self.losses: list[float] = []
        """When the journal was put back to an older state, or to none, by the wall clock."""
        self.deaths: list[str] = []
        """Processes that ended by themselves or never came back, which none may."""

    def _config(self, plan: Plan) -> dict[str, Any]:
        # One register faster than the disk, where one commit leases several receipts; the others take their time.
        return {
            "bridge_id": BRIDGE_ID,
            "mqtt": {"host": self.broker.host, "port": self.line.port},
            "journal": {"url": f"sqlite:///{self.journal}"},
            "buffer": {"capacity": 1_000_000},
            "kkt": [
                {"id": kkt, "driver": "virtual", "state": str(path), "print_time_s": 0.02 if number else 0}
                for number, (kkt, path) in enumerate(self.registers.items())
            ],
            "pos": plan.tills,
            "ofd": {"url": self.ofd.url, "timeout_s": 2},
            "sync": {"interval_s": 0.5, "backoff_initial_s": 0.05, "backoff_max_s": 0.5, "max_attempts": 1000},
            "breaker": {"reset_timeout_s": 0.3},
            "reply": {"buffered_after_s": 0.5},
            "telemetry": {"interval_s": 5},
        }

    def start(self) -> None:
        """Run everything, and wait until it works."""
        for part in self.parts.values():
            part.launch()
        self.bridge.wait_online()
        wait_until(self.ofd.answers, START_S, "an OFD that answers")

    def kill(self, name: str) -> bool:
        """End a process by SIGKILL; False if it does not run."""
        part = self.parts[name]
        process = part.running
        if process is None:
            return False
        at = time.time()
        part.kill()
        hit = process.returncode == -signal.SIGKILL
        if hit:
            self.kills[name] += 1
        else:
            self.deaths.append(f"the {name} ended by itself with status {process.returncode}")
        self.outages.append(Outage(name, at))
        return hit

    def revive(self, name: str) -> None:
        """Start a process that was killed; does nothing where it runs."""
        if self.parts[name].running is not None:
            return
        self.parts[name].launch()
        for outage in self.outages:
            if outage.name == name:
                outage.until = min(outage.until, time.time())

    def back_up(self) -> None:
        """Copy the journal while the bridge works."""
        self._run("backup", str(self.copy), "--force")

    def restore(self) -> None:
        """Kill the bridge, put the copy in the journal's place, and start it again."""
        self.kill(BRIDGE)
        self._run("restore", str(self.copy))
        self.losses.append(time.time())
        self.revive(BRIDGE)

    def lose_journal(self) -> None:
        """Kill the bridge, and start it as on a new machine: nothing is left but the registers."""
        self.kill(BRIDGE)
        for path in self.directory.glob("journal.db*"):
            path.unlink()
        self.losses.append(time.time())
        self.revive(BRIDGE)

    def _run(self, *command: str) -> None:
        ran = subprocess.run(
            [sys.executable, "-m", "kkt_bridge", *command, "--config", str(self.bridge.file)],
            capture_output=True,
            text=True,
            timeout=START_S,
            env=unmeasured(os.environ),
            check=False,
        )
        if ran.returncode != 0:
            self.deaths.append(f"{command[0]} ended with status {ran.returncode}: {ran.stderr.strip()}")

    def fault(self, kkt: str, faults: Mapping[str, Any]) -> None:
        """Put these faults on a register, instead of all others."""
        write_faults(self.registers[kkt], faults)

    def cure(self, kkt: str) -> None:
        """End a register's faults."""
        clear_faults(self.registers[kkt])

    def heal(self) -> None:
        """Everything runs, and nothing is wrong with it any more."""
        for name in self.parts:
            self.revive(name)
        for kkt in self.registers:
            self.cure(kkt)
        self.line.cut()
        if self.expect(self.ofd.answers, START_S, "an OFD that answers"):
            self.ofd.ask("PUT", "/_faults", {})
        self.expect(self.bridge.is_up, START_S, "a bridge that is up")

    def expect(self, condition: Callable[[], bool], within_s: float, what: str) -> bool:
        """Whether it comes to pass; if not, it is noted among the deaths."""
        try:
            wait_until(condition, within_s, what)
        except TimeoutError as never:
            self.deaths.append(str(never))
            return False
        return True

    def watch(self) -> None:
        """Note which processes ended by themselves."""
        for name, part in self.parts.items():
            if part.running is not None and part.running.poll() is not None:
                self.kill(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in self.parts.values():
            part.kill()
        self.line.close()

"""The shop under fire: broker, bridge and OFD as processes of their own, and the registers' files.

The virtual registers live in the bridge's process, so whatever kills it cuts their power too; what befalls a
register alone (power, a lost answer, the line) is ordered through its fault file.
"""

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaos.plan import BRIDGE, BROKER, OFD, Plan
from support.bridge import BridgeProcess
from support.brokers import MosquittoProcess
from support.lossy_line import LossyLine
from support.processes import ChildProcess, clean_environment, python, wait_until
from support.simulated_ofd import OfdProcess

from kkt_bridge.registers.virtual.faults import clear_faults, write_faults

START_S = 30.0
BRIDGE_ID = "store-chaos"


@dataclass(slots=True)
class Outage:
    """A time without a process, by the wall clock: from its death until it was started again."""

    name: str
    since: float
    until: float = float("inf")


class Site:
    """Everything that runs, and who was killed when. A context manager that leaves nothing running."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.directory = directory
        self.broker = MosquittoProcess(directory)
        self.line = LossyLine(self.broker.port)
        self.ofd = OfdProcess(directory, directory / "ofd.jsonl", measured=False)
        self.registers = {kkt: directory / f"{kkt}.fn" for kkt in plan.kkts}
        self.journal = directory / "journal.db"
        self.copy = directory / "copy.db"
        self.bridge = BridgeProcess(self._config(plan), directory, measured=False)
        self.parts: dict[str, ChildProcess] = {BROKER: self.broker, OFD: self.ofd, BRIDGE: self.bridge}
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
        for name in self.parts:
            self._launch(name)
        self.bridge.wait_online()
        self.ofd.wait_ready()

    def _launch(self, name: str) -> None:
        """Start a process; only the broker, which the others need, is waited for."""
        if name == BROKER:
            self.broker.start()
        else:
            self.parts[name].launch()

    def kill(self, name: str) -> bool:
        """End a process by SIGKILL; False if it does not run."""
        part = self.parts[name]
        if not part.is_started:
            return False
        process, at = part.process, time.time()
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
        if self.parts[name].is_started:
            return
        self._launch(name)
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
            python("kkt_bridge", *command, "--config", self.bridge.file),
            capture_output=True,
            text=True,
            timeout=START_S,
            env=clean_environment(measured=False),
            check=False,
        )
        if ran.returncode != 0:
            self.deaths.append(f"{command[0]} ended with status {ran.returncode}: {ran.stderr.strip()}")

    def fault(self, kkt: str, faults: Mapping[str, Any]) -> None:
        """Put these faults on a register, instead of all others."""
        write_faults(self.registers[kkt], faults)

    def repair(self, kkt: str) -> None:
        """End a register's faults."""
        clear_faults(self.registers[kkt])

    def heal(self) -> None:
        """Everything runs, and nothing is wrong with it any more."""
        for name in self.parts:
            self.revive(name)
        for kkt in self.registers:
            self.repair(kkt)
        self.line.cut()
        if self.expect(self.ofd.answers, START_S, "an OFD that answers"):
            self.ofd.set_faults()
        self.expect(self.bridge.is_ready, START_S, "a bridge that is up")

    def expect(self, condition: Callable[[], bool], within_s: float, what: str) -> bool:
        """Return whether it comes to pass; if not, it is noted among the deaths."""
        try:
            wait_until(condition, within_s, what)
        except TimeoutError as never:
            self.deaths.append(str(never))
            return False
        return True

    def watch(self) -> None:
        """Note which processes ended by themselves."""
        for name, part in self.parts.items():
            if part.is_started and part.process.poll() is not None:
                self.kill(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in self.parts.values():
            part.kill()
        self.line.close()

"""Real brokers for the tests: processes on free ports of 127.0.0.1, with what they keep in a test's directory."""

import getpass
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import pytest

MOSQUITTO_CONF = Path(__file__).resolve().parents[2] / "mosquitto.conf"
HOST = "127.0.0.1"
PORTS = range(20_000, 30_000)
"""Below the ports that the kernel lends to outgoing connections: one found free here is still free after a restart."""
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 15.0
EMBEDDED = (
    "import argparse; from kkt_bridge.cli import broker; p = argparse.ArgumentParser(); "
    "broker.add_arguments(p); raise SystemExit(broker.run(p.parse_args()))"
)

_lent: set[int] = set()


def free_port() -> int:
    """A TCP port that nobody uses and that this process was not given before."""
    for port in random.SystemRandom().sample(PORTS, 200):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if port not in _lent and probe.connect_ex((HOST, port)) != 0 and _can_bind(port):
                _lent.add(port)
                return port
    raise OSError(f"no free port among 200 of {PORTS.start} to {PORTS.stop - 1}")


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return when the condition holds; raises TimeoutError, saying what was awaited, when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        time.sleep(0.01)  # between two looks: the condition ends the wait, or the deadline


class BrokerProcess(ABC):
    """A broker with MQTT on ``port`` and MQTT over WebSockets on ``ws_port``; both stay the same over restarts."""

    def __init__(self, directory: Path, port: int | None = None, ws_port: int | None = None) -> None:
        self.host = HOST
        self.port = port or free_port()
        self.ws_port = ws_port or free_port()
        self.directory = directory
        self.log = directory / f"broker-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it takes connections on both ports."""

    @property
    def pid(self) -> int:
        """Id of the running process."""
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    def start(self) -> None:
        """Run it and return when it takes connections; raises RuntimeError with its log when it ends instead."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until(self._is_ready_or_ended, START_TIMEOUT_S, f"a broker on port {self.port}")
        except BaseException:
            self.kill()
            raise
        if self._process.poll() is not None:
            raise RuntimeError(f"the broker ended with {self._process.returncode}: {self.log.read_text()}")

    def stop(self) -> None:
        """End it in good order (SIGTERM); does nothing when it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL); does nothing when it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop it in good order and start it again on the same ports."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _is_ready_or_ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None or self.is_ready()


class MosquittoProcess(BrokerProcess):
    """Mosquitto with the repository's ``mosquitto.conf``, but its own ports, directory and user."""

    def command(self) -> list[str]:
        """Mosquitto with a file derived afresh, so that a test may start it again."""
        file = self.directory / f"mosquitto-{self.port}.conf"
        file.write_text(derived_conf(self.port, self.ws_port, self._storage()), encoding="utf-8")
        return [mosquitto_program(), "-c", str(file)]

    def is_ready(self) -> bool:
        """Whether both listeners answer."""
        return _accepts(self.port) and _accepts(self.ws_port)

    def _storage(self) -> Path:
        storage = self.directory / f"mosquitto-{self.port}"
        storage.mkdir(exist_ok=True)
        return storage


class AmqttProcess(BrokerProcess):
    """The embedded broker, as `kkt-bridge broker` runs it."""

    def command(self) -> list[str]:
        """The command in an interpreter of its own."""
        ports = ["--port", str(self.port), "--ws-port", str(self.ws_port)]
        return [sys.executable, "-c", EMBEDDED, "--host", self.host, *ports, "--json"]

    def is_ready(self) -> bool:
        """Whether it has printed its line."""
        ready = json.dumps({"host": self.host, "port": self.port, "ws_port": self.ws_port})
        return ready in self.log.read_text(encoding="utf-8").splitlines()


def derived_conf(port: int, ws_port: int, storage: Path) -> str:
    """The repository's ``mosquitto.conf`` with only what would collide on a user's machine replaced."""
    text = MOSQUITTO_CONF.read_text(encoding="utf-8")
    for line, replacement in (
        (r"listener 1883 127\.0\.0\.1", f"listener {port} 127.0.0.1"),
        (r"listener 9001 127\.0\.0\.1", f"listener {ws_port} 127.0.0.1"),
        (r"persistence_location /var/lib/mosquitto/", f"persistence_location {storage}/"),
        (r"user mosquitto", f"user {getpass.getuser()}"),
    ):
        text, count = re.subn(rf"^{line}$", replacement, text, flags=re.MULTILINE)
        assert count == 1, f"mosquitto.conf has {count} lines {line!r}, expected one"
    return text


def find_mosquitto() -> str | None:
    """Path of the broker, which Debian installs where an ordinary user's PATH does not look; None if there is none."""
    return shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


def mosquitto_program() -> str:
    """Path of the broker; without one the test is left out."""
    return find_mosquitto() or left_out("mosquitto")


def left_out(package: str) -> NoReturn:
    """Leave a test out on a newcomer's machine that lacks this system package; in CI nothing is left out."""
    reason = f"{package} is not installed: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _accepts(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex((HOST, port)) == 0

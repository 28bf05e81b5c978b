"""The brokers that everything goes through: Mosquitto as the repository configures it, and the embedded one."""

import getpass
import os
import re
import shutil
from pathlib import Path

from benchmarks.errors import BenchmarkError, MissingProgramError
from benchmarks.ports import HOST, free_port, is_open
from benchmarks.processes import ROOT, Child, python, wait_until

START_TIMEOUT_S = 15.0
MQTT_5 = 5
MQTT_311 = 4


class Broker(Child):
    """A broker on a free port; `protocol` is the MQTT version that its clients should speak."""

    protocol = MQTT_5
    port: int

    def start(self) -> None:
        """Run it, and return when it takes connections."""
        super().start()
        wait_until(self._is_ready, START_TIMEOUT_S, f"{self.name} on port {self.port}")

    def _is_ready(self) -> bool:
        self.check()
        return is_open(self.port)


class Mosquitto(Broker):
    """Mosquitto with the repository's `mosquitto.conf`, but its own ports, directory and user."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        storage = directory / "mosquitto"
        storage.mkdir()
        file = directory / "mosquitto.conf"
        file.write_text(_derived_conf(self.port, storage), encoding="utf-8")
        super().__init__("mosquitto", [mosquitto_program(), "-c", str(file)], directory / "mosquitto.log")


class Embedded(Broker):
    """`kkt-bridge broker`, which speaks MQTT 3.1.1."""

    protocol = MQTT_311

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        command = python("kkt_bridge", "broker", "--host", HOST, "--port", str(self.port), "--no-ws")
        super().__init__("the embedded broker", command, directory / "embedded-broker.log")


def mosquitto_program() -> str:
    """Path of Mosquitto, which Debian installs where an ordinary user's PATH does not look."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    program = shutil.which("mosquitto", path=path)
    if program is None:
        raise MissingProgramError("mosquitto is not installed: apt-get install mosquitto")
    return program


def _derived_conf(port: int, storage: Path) -> str:
    text = (ROOT / "mosquitto.conf").read_text(encoding="utf-8")
    for line, replacement in (
        (r"listener 1883 127\.0\.0\.1", f"listener {port} {HOST}"),
        (r"listener 9001 127\.0\.0\.1", f"listener {free_port()} {HOST}"),
        (r"persistence_location /var/lib/mosquitto/", f"persistence_location {storage}/"),
        (r"user mosquitto", f"user {getpass.getuser()}"),
    ):
        text, count = re.subn(rf"^{line}$", replacement, text, flags=re.MULTILINE)
        if count != 1:
            raise BenchmarkError(f"mosquitto.conf has {count} lines {line!r}, expected one")
    return text

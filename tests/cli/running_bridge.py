"""A shop for the command line: a broker, an OFD, and a bridge in a process of its own."""

import json
import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from support.bridge import BridgeProcess
from support.brokers import BrokerProcess, MosquittoProcess
from support.processes import clean_environment, python, wait_until
from support.simulated_ofd import OfdClient

from kkt_bridge.cli.connection import BridgeClient
from kkt_bridge.mqtt.client import BridgeAddress, BrokerClient
from kkt_bridge.registers.virtual.faults import write_faults
from kkt_bridge.simulators.ofd import OfdSimulator
from kkt_bridge.wire.topics import Topics

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
COMMAND_TIMEOUT_S = 60.0
BRIDGE = "store-017"
ENVIRONMENT = clean_environment()

CONFIG = """
bridge_id = "{bridge}"
mqtt = {{ host = "127.0.0.1", port = {port} }}
journal = {{ url = "sqlite:///{directory}/journal.db" }}
ofd = {{ url = "{ofd}", timeout_s = 2 }}
sync = {{ interval_s = 0.5 }}
reply = {{ buffered_after_s = 0.2 }}
telemetry = {{ interval_s = 2 }}

[[kkt]]
id = "{kkt}"
driver = "virtual"
state = "{directory}/kkt-1.fn"
print_time_s = 0
sender_email = "shop@example.com"
"""


def command(*args: object) -> list[str]:
    return python("kkt_bridge", *args)


def run(*args: object, stdin: bytes = b"") -> "subprocess.CompletedProcess[str]":
    """A command's outcome; what it leaves on standard error is never a traceback."""
    done = subprocess.run(
        command(*args), input=stdin, capture_output=True, timeout=COMMAND_TIMEOUT_S, env=ENVIRONMENT, check=False
    )
    outcome = subprocess.CompletedProcess(args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in outcome.stderr, outcome.stderr
    return outcome


class RunningBridge:
    """A bridge in a process of its own, on a broker, with everything that it keeps in one directory."""

    def __init__(self, directory: Path, broker: BrokerProcess) -> None:
        self.directory = directory
        self.broker = broker
        self.ofd = OfdSimulator()
        self.config = Path()
        self.journal = directory / "journal.db"
        self.storage = directory / "kkt-1.fn"
        self.log = directory / "bridge.log"
        self.bridge: BridgeProcess

    def start(self) -> None:
        self.ofd.start()
        self.config = self.config_with()
        self.start_bridge()

    def config_with(self, **changes: object) -> Path:
        """A configuration that differs from the bridge's in these values."""
        values = {
            "bridge": BRIDGE,
            "port": self.broker.port,
            "directory": self.directory,
            "kkt": "kkt-1",
            "ofd": self.ofd.url,
        }
        path = self.directory / f"{'-'.join(changes) or 'bridge'}.toml"
        path.write_text(CONFIG.format(**(values | changes)), encoding="utf-8")
        return path

    def start_bridge(self) -> None:
        bridge = self.bridge = BridgeProcess(self.config.read_text(encoding="utf-8"), self.directory)
        with self.client("state/#") as client:
            bridge.launch()
            self._wait_for_readiness(client)

    def _wait_for_readiness(self, client: BrokerClient) -> None:
        """Return when this start, not one before it, has said that it is online and its register is ready."""
        awaited = {"state/online": "online", "state/kkt/kkt-1": "ready"}
        deadline = time.monotonic() + START_TIMEOUT_S
        while awaited:
            message = client.get(0.2)
            self.bridge.check_runs()
            assert time.monotonic() < deadline, f"not ready: {awaited}\n{self.bridge.tail()}"
            if message is None or message.retain:
                continue
            below = message.topic.removeprefix(f"kkt/v1/{BRIDGE}/")
            if below in awaited and json.loads(message.payload)[awaited[below]]:
                del awaited[below]

    def client(self, *below: str) -> "Listening":
        return Listening(self.broker, [f"kkt/v1/{BRIDGE}/{name}" for name in below])

    def kill_bridge(self) -> None:
        """As a power cut would, and wait until the broker has told of it."""
        with self.client("state/online") as client:
            self.bridge.kill()
            wait_until(lambda: says_offline(client), STOP_TIMEOUT_S, "the bridge's last will")

    def stop_bridge(self) -> None:
        """In good order; nothing where it does not run."""
        if self.bridge.is_started:
            self.bridge.terminate()

    def stop(self) -> None:
        try:
            self.stop_bridge()
        finally:
            self.bridge.kill()
            self.ofd.stop()

    def run(self, *args: object, stdin: bytes = b"") -> "subprocess.CompletedProcess[str]":
        """A command on this shop's bridge."""
        return run(*args, "--config", self.config, stdin=stdin)

    def json(self, *args: object) -> Any:
        """Return the answer with --json of a command that must succeed."""
        outcome = self.run(*args, "--json")
        assert (outcome.returncode, outcome.stderr) == (0, ""), outcome.stderr
        return json.loads(outcome.stdout)

    def break_register(self, **faults: Any) -> None:
        """Put these faults on the register, instead of all others."""
        write_faults(self.storage, faults)

    def fill_disk(self) -> None:
        """Let no file of the bridge grow any more."""
        resource.prlimit(self.bridge.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def break_ofd(self, faults: Mapping[str, Any]) -> None:
        """Put these faults on the OFD, instead of all others."""
        OfdClient(self.ofd.url).set_faults(**faults)

    def until(self, condition: Callable[[dict[str, Any]], bool], what: str) -> None:
        """Return when the bridge's state, asked for afresh each time, is so."""
        with BridgeClient(BridgeAddress(self.broker.host, self.broker.port, Topics("kkt/v1", BRIDGE))) as line:
            line.listen("status")
            wait_until(
                lambda: condition(line.exchange("status", {}, "test", COMMAND_TIMEOUT_S)), COMMAND_TIMEOUT_S, what
            )

    def until_published(self, name: str, condition: Callable[[Any], bool], what: str) -> None:
        """Return when the bridge has published this state so, retained or anew; it need not take a command for that."""
        with self.client(f"state/{name}") as client:

            def says_so() -> bool:
                message = client.get(0.1)
                return message is not None and condition(json.loads(message.payload))

            wait_until(says_so, COMMAND_TIMEOUT_S, what)

    def dead_letters(self) -> int:
        """How many there are."""
        return len(self.json("dlq", "list")["letters"])


class Listening(BrokerClient):
    """A client with these subscriptions, while it is entered."""

    def __init__(self, broker: BrokerProcess, filters: list[str]) -> None:
        super().__init__(broker.host, broker.port)
        self._filters = filters

    def __enter__(self) -> Self:
        super().__enter__()
        if self._filters:
            self.subscribe(self._filters)
        return self

    def payloads(self, count: int) -> list[bytes]:
        """The payloads of the next messages."""
        found = [self.get(COMMAND_TIMEOUT_S) for _ in range(count)]
        return [message.payload for message in found if message is not None]


def says_offline(client: BrokerClient) -> bool:
    message = client.get(0.1)
    return message is not None and json.loads(message.payload)["online"] is False


@contextmanager
def opened(directory: Path, kind: type[BrokerProcess] = MosquittoProcess) -> Iterator[RunningBridge]:
    """A bridge with a broker of its own."""
    with kind(directory / "broker") as broker:
        shop = RunningBridge(directory, broker)
        try:
            shop.start()
            yield shop
        finally:
            shop.stop()

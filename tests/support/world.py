"""A shop in small: broker, OFD, bridge process, POS, and an observer who holds the bridge to the contract."""

import copy
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.bridge import BridgeProcess
from support.brokers import BrokerProcess
from support.conversation import Conversation
from support.invariants import check_lives, check_papers, check_verdicts
from support.mqtt_client import SOON_S
from support.processes import wait_until
from support.receipts import POS
from support.simulated_ofd import OfdClient

from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.registers.virtual.faults import clear_faults, write_faults
from kkt_bridge.registers.virtual.fiscal_document import CORRECTION, RECEIPT, FiscalDocument
from kkt_bridge.registers.virtual.storage_file import read_documents
from kkt_bridge.simulators.ofd import OfdSimulator

FAST: dict[str, Any] = {
    "sync.interval_s": 0.2,
    "sync.backoff_initial_s": 0.05,
    "sync.backoff_max_s": 0.2,
    "sync.network_hold_s": 0,
    "breaker.reset_timeout_s": 0.3,
    "ofd.timeout_s": 2,
    "telemetry.interval_s": 5,
}
"""Short times for what takes seconds and minutes in a shop; a test overrides those that it is about."""


class World(Conversation):
    """Starts everything but the broker; `close` stops it, and fails where anything broke what must always hold."""

    def __init__(
        self,
        directory: Path,
        broker: BrokerProcess,
        settings: Mapping[str, Any] | None = None,
        *,
        registers: Sequence[str] = ("kkt-1",),
        pos: Mapping[str, str] | None = None,
        print_time_s: float = 0,
        mqtt_port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`settings` go over `FAST` by dotted key; `mqtt_port` is where the bridge finds the broker, if elsewhere."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.broker = broker
        self.ofd = OfdSimulator(state=directory / "ofd.jsonl")
        self.ofd.start()
        config: dict[str, Any] = {
            "bridge_id": f"store-{uuid.uuid4().hex[:8]}",
            "mqtt": {"host": broker.host, "port": mqtt_port or broker.port},
            "journal": {"url": f"sqlite:///{directory / 'journal.db'}"},
            "kkt": [
                {
                    "id": kkt,
                    "driver": "virtual",
                    "sender_email": "shop@example.org",
                    "state": str(directory / f"{kkt}.fn"),
                    "print_time_s": print_time_s,
                }
                for kkt in registers
            ],
            "pos": dict(pos or {}),
            "ofd": {"url": self.ofd.url},
        }
        self.config = overlaid(config, FAST | dict(settings or {}))
        super().__init__(broker, BridgeProcess(self.config, directory, environment))
        self.registers = {kkt: directory / f"{kkt}.fn" for kkt in registers}
        self.sees_everything = True
        """True if the observer was there all the time; else an event may be missing from what it saw."""

    def start(self) -> "World":
        """Connect the observer, then start the bridge."""
        self.connect()
        self.bridge.start()
        return self

    # -- registers and OFD -----------------------------------------------------------------------------------

    def fault(self, register: str, faults: Mapping[str, Any]) -> None:
        """Put these faults on a register, instead of all others."""
        write_faults(self.registers[register], faults)

    def heal(self, register: str) -> None:
        """End a register's faults."""
        clear_faults(self.registers[register])

    def dump(self, register: str = "kkt-1") -> list[FiscalDocument]:
        """Every document in a register's fiscal storage."""
        path = self.registers[register]
        return list(read_documents(path)) if path.exists() else []

    def receipts_on(self, register: str = "kkt-1") -> list[FiscalDocument]:
        """The receipts and corrections among them."""
        return [document for document in self.dump(register) if document.body.form in {RECEIPT, CORRECTION}]

    def documents_of(self, receipt_id: str, pos: str = POS) -> list[FiscalDocument]:
        """The fiscal documents of this receipt on any register; there should be one."""
        requisite = requisite_1192(ReceiptKey(pos, receipt_id))
        return [
            document
            for register in self.registers
            for document in self.dump(register)
            if document.body.requisite_1192 == requisite
        ]

    def ofd_faults(self, **faults: Any) -> None:
        """Put these faults on the OFD, instead of all others; none heal it."""
        OfdClient(self.ofd.url).set_faults(**faults)

    def ofd_books(self, *, full: bool = False) -> dict[str, Any]:
        """Return what the OFD has received; `full` with the bodies."""
        return OfdClient(self.ofd.url).received(full=full)

    def at_ofd(self, receipt_id: str, pos: str = POS) -> dict[str, Any] | None:
        """The OFD's entry of this receipt."""
        key = f"{pos}:{receipt_id}"
        return next((entry for entry in self.ofd_books()["documents"] if entry["key"] == key), None)

    def wait_ofd(self, wanted: Callable[[dict[str, Any]], bool], what: str, *, timeout_s: float = SOON_S) -> None:
        """Return when the OFD's books are as wanted."""
        wait_until(lambda: wanted(self.ofd_books()), timeout_s, what)

    # -- what must always hold ---------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """AssertionError where anything happened that never may, whatever broke."""
        self.check_contract()
        check_papers(document for register in self.registers for document in self.dump(register))
        check_verdicts(
            message.content for message in self.observer.messages if self._is_reply_topic(message.topic, None)
        )
        if self.sees_everything:
            check_lives(step for event in self.events("receipt") for step in event["steps"])
        assert self.ofd_books()["conflicts"] == []
        assert "Traceback" not in self.bridge.log.read_text(encoding="utf-8", errors="replace"), self.bridge.tail()

    def close(self, *, check: bool = True) -> None:
        """Stop everything; with `check` in good order, and with a last look at what must always hold."""
        try:
            if check:
                self.check_invariants()
        finally:
            self.bridge.kill()
            self.hang_up()
            self.ofd.stop()


def overlaid(config: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the configuration with settings by dotted key over it."""
    config = copy.deepcopy(config)
    for path, value in settings.items():
        *tables, key = path.split(".")
        table = config
        for name in tables:
            table = table.setdefault(name, {})
        table[key] = value
    return config

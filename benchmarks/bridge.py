"""The bridge as a shop runs it, with registers that take no time, and what it has really done."""

import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.ports import HOST
from benchmarks.processes import Child, python
from kkt_bridge.mqtt.client import BrokerClient
from kkt_bridge.registers.virtual.fiscal_document import RECEIPT
from kkt_bridge.registers.virtual.storage_file import read_documents

START_TIMEOUT_S = 60.0
TOPIC_ROOT = "kkt/v1"
CAPACITY = 10_000_000
"""Of the buffer: nothing may be refused because the OFD is away."""
PRINTED = '"status":"printed"'
"""In the reply to a receipt that was printed."""


@dataclass(frozen=True)
class Account:
    """What a bridge has really done, by its own books and by its registers'."""

    fiscal_documents: int = 0
    journal_receipts: int = 0


@dataclass(frozen=True)
class Shop:
    """What a bridge is configured with, beside broker and directory."""

    ofd_url: str
    registers: int = 1
    terminals: int = 1
    print_time_s: float = 0.0
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """More, by table and key."""


class Bridge(Child):
    """`kkt-bridge run` with its journal and fiscal storages in a directory of its own, where it may find some."""

    def __init__(self, name: str, directory: Path, broker_port: int, shop: Shop) -> None:
        directory.mkdir(exist_ok=True)
        self.id = name
        self.branch = f"{TOPIC_ROOT}/{name}"
        self.journal = directory / "journal.db"
        self.storages = {f"kkt-{number}": directory / f"kkt-{number}.fn" for number in range(1, shop.registers + 1)}
        self.start_s = 0.0
        """From its process to its word on the broker that it is there."""
        self.account = Account()
        """As it was last taken."""
        self._port = broker_port
        file = directory / "bridge.toml"
        file.write_text(self._toml(shop), encoding="utf-8")
        super().__init__(f"bridge {name}", python("kkt_bridge", "run", "--config", str(file)), directory / "bridge.log")

    def start(self) -> None:
        """Run it, and return when everybody on the broker is told that it is there."""
        with BrokerClient(HOST, self._port) as client:
            client.subscribe([f"{self.branch}/state/online"])
            began = time.perf_counter()
            super().start()
            while not self._says_online(client):
                self.check()
                if time.perf_counter() - began > START_TIMEOUT_S:
                    raise BenchmarkError(f"{self.name} is not there after {START_TIMEOUT_S:g} s\n{self.tail()}")
            self.start_s = time.perf_counter() - began
        self.take_account()

    @staticmethod
    def _says_online(client: BrokerClient) -> bool:
        # A retained message is of an earlier start.
        message = client.get(0.2)
        return message is not None and not message.retain and json.loads(message.payload)["online"]

    def take_account(self) -> Account:
        """Read the books."""
        self.account = Account(self._fiscal_documents(), self._journal_receipts())
        return self.account

    def _fiscal_documents(self) -> int:
        """Receipts in the fiscal storages; BenchmarkError if one is there twice."""
        marks = [
            document.body.requisite_1192
            for path in self.storages.values()
            if path.exists() and path.stat().st_size  # a register that is only just switched on
            for document in read_documents(path)
            if document.body.form == RECEIPT
        ]
        if len(set(marks)) != len(marks):
            raise BenchmarkError(f"{self.name} has printed {len(marks) - len(set(marks))} receipts twice")
        return len(marks)

    def _journal_receipts(self) -> int:
        """Receipts that the journal's counters call printed or more."""
        query = "SELECT sum(value) FROM figures WHERE name IN ('printed', 'synced')"
        with closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)) as connection:
            return int(connection.execute(query).fetchone()[0] or 0)

    def _toml(self, shop: Shop) -> str:
        tables: dict[str, Any] = {
            "mqtt": {"host": HOST, "port": self._port},
            "journal": {"url": f"sqlite:///{self.journal}"},
            "buffer": {"capacity": CAPACITY},
            "ofd": {"url": shop.ofd_url},
            "pos": {
                f"pos-{number}": f"kkt-{(number - 1) % shop.registers + 1}" for number in range(1, shop.terminals + 1)
            },
            **shop.settings,
        }
        lines = [f"bridge_id = {json.dumps(self.id)}"]
        for name, table in tables.items():
            lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
        for kkt, path in self.storages.items():
            register = {"id": kkt, "driver": "virtual", "state": str(path), "print_time_s": shop.print_time_s}
            lines += ["", "[[kkt]]", *(f"{key} = {json.dumps(value)}" for key, value in register.items())]
        return "\n".join(lines) + "\n"

"""A register on the bench: what a contract test may do to the world around a driver."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

from kkt_bridge.clock import SystemClock
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.model import Cashier, Receipt
from kkt_bridge.registers.base import PrintJob
from kkt_bridge.registers.virtual.driver import VirtualRegister
from kkt_bridge.registers.virtual.faults import clear_faults, write_faults
from kkt_bridge.registers.virtual.fiscal_document import FiscalDocument
from kkt_bridge.registers.virtual.storage_file import read_documents

ZONE = ZoneInfo("Europe/Moscow")
NOON_MS = 1_795_338_180_000
"""2026-11-22T12:03:00+03:00."""
CASHIER = Cashier(name="Иванова А. П.", inn="500100732259")

_RECEIPT = {
    "receipt_id": "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11",
    "pos_id": "pos-1",
    "type": "sale",
    "items": [
        {"name": "Оправа Ray-Ban RB5154", "price": "12990.00", "quantity": "1", "total": "12990.00", "vat": "22"},
        {"name": "Линза 1.6 HMC", "price": "2450.50", "quantity": 2, "total": "4901.00", "vat": "22"},
    ],
    "payments": [{"type": "card", "amount": "10000.00"}, {"type": "cash", "amount": "8000.00"}],
    "cashier": {"name": "Иванова А. П.", "inn": "500100732259"},
    "customer": {"contact": "buyer@example.com"},
}


@dataclass
class ManualClock:
    """Time that passes when a test says so."""

    ms: int = NOON_MS
    elapsed_s: float = 0.0

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.elapsed_s

    def advance(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)
        self.elapsed_s += seconds


@dataclass
class VirtualBench:
    """A virtual register, its fiscal storage and its faults in a folder."""

    folder: Path
    print_time_s: float = 0.0
    clock: ManualClock | SystemClock = field(default_factory=ManualClock)
    waited_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = self.folder / "kkt-1.fn"
        self.register = self._connect()

    def _connect(self) -> VirtualRegister:
        return VirtualRegister("kkt-1", self.state, ZONE, self.clock, self.print_time_s, wait=self._wait)

    def _wait(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        self.clock.advance(seconds)

    def restart(self) -> None:
        """End the program that the driver lives in, and start it again."""
        self.register.close()
        self.register = self._connect()

    def break_with(self, **faults) -> None:
        """Put these faults in force instead of all others."""
        write_faults(self.state, faults)

    def heal(self) -> None:
        """Put no fault in force."""
        clear_faults(self.state)

    def spoil(self, fd_number: int) -> None:
        """Have a stored document be unreadable from now on."""
        lines = self.state.read_bytes().splitlines(keepends=True)
        with self.state.open("r+b") as file:
            file.seek(sum(map(len, lines[: fd_number - 1])))
            file.write(b"?" * (len(lines[fd_number - 1]) - 1))

    def documents(self) -> list[FiscalDocument]:
        """Every document in the fiscal storage, read past the driver."""
        return list(read_documents(self.state))


def a_receipt(**changes) -> Receipt:
    return Receipt.model_validate_json(json.dumps(_RECEIPT | changes))


def a_job(receipt: Receipt | None = None, **changes) -> PrintJob:
    receipt = receipt or a_receipt(**changes)
    return PrintJob(receipt, requisite_1192(receipt.key), "osn")


def an_item(name: str = "Линза", total: str = "100.00") -> dict[str, str]:
    return {"name": name, "price": total, "quantity": "1", "total": total, "vat": "22"}


def a_correction(operation: str = "sale", **order) -> dict:
    correction = {"operation": operation, "kind": "voluntary", "date": "2026-11-20"} | order
    return {"type": "correction", "correction": correction}

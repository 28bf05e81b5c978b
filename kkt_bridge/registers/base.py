"""The port between a print lane and a fiscal register.

Cut along what register protocols offer (Shtrih-M commands in brackets): every call either returns,
or raises one of four errors that say what the lane may do next:

- `RegisterAway`      no answer, nothing was begun: try again later;
- `RegisterNotReady`  an answer, but no: nothing was fiscalised, an operator or time heals it;
- `ReceiptRefused`    this receipt never: nothing was fiscalised;
- `InDoubt`           the line broke where a document may have come into being: look, do not repeat.

A driver opens its line in the call that needs it and closes it on any error: a register is there when
it answered, not when a port is open. A driver is used by one thread, its lane's.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

from kkt_bridge.receipts.codes import Operation, TaxSystem
from kkt_bridge.receipts.fiscal import FiscalMark
from kkt_bridge.receipts.model import Cashier, Receipt

Mode = Literal["shift_open", "shift_closed", "shift_expired", "document_open", "blocked"]


@dataclass(frozen=True, slots=True)
class PrintJob:
    """A receipt on its way to paper. `requisite` is FFD tag 1192, by which it is recognised again."""

    receipt: Receipt
    requisite: str
    tax_system: TaxSystem


@dataclass(frozen=True, slots=True)
class Printed:
    """A fiscal document that exists. `warnings` are the contract's: `not_on_paper`, `text_replaced`."""

    mark: FiscalMark
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentHeader:
    """What the fiscal storage says of a document at once [FF0A]. `form` is the FFD's: 3 receipt, 31 correction."""

    fd_number: int
    form: int
    operation: Operation | None
    total: int | None
    """Kopecks; None where the form has none."""


@dataclass(frozen=True, slots=True)
class ShiftReport:
    """A shift that was opened or closed, and its fiscal document."""

    number: int
    open: bool
    fd_number: int


@dataclass(frozen=True, slots=True)
class RegisterStatus:
    """A register and its fiscal storage as they answered [10h, 11h, FF01, FF40]."""

    model: str
    serial: str
    registration_number: str
    fn_number: str
    fn_expires: date
    last_fd_number: int
    mode: Mode
    shift_number: int
    shift_opened_at: datetime | None
    paper: Literal["ok", "out"]
    clock: datetime
    """The register's own clock, with the shop's offset."""
    problem: str | None
    """Why it cannot print now, in one word for telemetry (`paper_out`, `busy`, `fn_exhausted`, ...); None if it can."""


class FiscalRegister(Protocol):
    """A register with its fiscal storage, spoken to by one lane."""

    def status(self) -> RegisterStatus:
        """Ask the register how it is; it also finishes what a paper jam interrupted [10h, 11h, FF01, B0h]."""
        ...

    def print_receipt(self, job: PrintJob) -> Printed:
        """Make one fiscal document [8Dh, FF0C, FF46, FF45]. A shift must be open, no document may be."""
        ...

    def find_document(self, fd_number: int) -> DocumentHeader | None:
        """The header of a stored document [FF0A], or None if the storage has none of this number."""
        ...

    def read_requisite(self, fd_number: int) -> str | None:
        """FFD tag 1192 of a stored document [FF3A, FF3B]: slow, so only asked in doubt."""
        ...

    def read_back(self, fd_number: int, job: PrintJob) -> Printed:
        """The result that `print_receipt` would have returned for this job, from the stored document [FF0A, FF3A]."""
        ...

    def cancel_document(self) -> None:
        """Cancel whatever document is open and not yet fiscal [88h, FF08]; nothing if none is."""
        ...

    def open_shift(self, cashier: Cashier | None) -> ShiftReport:
        """Open a shift [E0h]; RegisterNotReady if one is open."""
        ...

    def close_shift(self, cashier: Cashier | None) -> ShiftReport:
        """Close the shift [41h]; RegisterNotReady if none is open."""
        ...

    def x_report(self) -> None:
        """Print a report of the shift so far [40h]: no fiscal document."""
        ...

    def print_copy(self, fd_number: int | None) -> None:
        """Print a non-fiscal copy of a document, of the last one for None [8Ch]; RegisterNotReady if it cannot."""
        ...

    def close(self) -> None:
        """Let go of the line; the next call opens it again."""
        ...

"""The port between a print lane and a fiscal register: what a driver has to offer.

It is cut along what register protocols offer (Shtrih-M commands in brackets).

What a call may raise:

- `RegisterAway`      no answer, nothing was begun: the lane tries again later;
- `RegisterNotReady`  an answer, but no: nothing was fiscalised, an operator or time heals it;
- `ReceiptRefused`    the register will never take this receipt: nothing was fiscalised;
- `InDoubt`           the line broke where a document may have come into being: the lane looks, and does not repeat.

Anything else that is raised is a bug of the driver: it is shown, and the call tried again later and later.

What an answer proves:

- `print_receipt` returned: the document exists, and its mark is final. The receipt is never printed again.
- `print_receipt` raised: nothing. The lane does not take a driver's word for what was *not* done; it reads the fiscal
  storage, and the kind of the error only says what becomes of the receipt once it is proven that no document came of
  it: after `ReceiptRefused` it is rejected, after three bugs of the driver parked, after anything else it waits again.
- `read_document` or `documents` showed a document: it exists, whatever else is going on.
- They showed none: it does not exist at this moment. Only two equal answers of `status` around the reading, both
  `at_rest`, prove that none will come of what was sent before.
- `status` answered: what it says held while it answered. The lane believes it for `telemetry.interval_s`, and counts on
  from there the documents that it prints itself.

A driver's duties:

- It opens its line in the call that needs it and closes it on any error: a register is there when it answered, not
  when a port is open. A call after `close` opens it again.
- It never sends a command that changes something a second time by itself. Questions it may repeat.
- No call blocks for longer than `CALL_MAX_S`, but for the time that paper takes: where the register needs longer, the
  call ends with `InDoubt` (`RegisterAway`, where it only asked), and `status` says `busy` until the register is done.
- Of a document that is not of `SALE_FORMS` it reads the header only: all of it takes a register half a second.
- Times are those of the register's clock, with the shop's offset; it does not set that clock.
- It is used by one thread, its lane's, and needs no lock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal, Protocol

from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.receipts.ffd_codes import Operation, TaxSystem
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.receipts.model import Cashier, Receipt

CALL_MAX_S: Final = 8.0
"""Seconds that one call may wait for its register: the program has to be able to stop within 10."""

Mode = Literal["shift_open", "shift_closed", "shift_expired", "document_open", "blocked"]


@dataclass(frozen=True, slots=True)
class PrintJob:
    """A receipt to print. `requisite` goes into FFD tag 1192, by which the document is recognised again."""

    receipt: Receipt
    requisite: str
    tax_system: TaxSystem


@dataclass(frozen=True, slots=True)
class Expected:
    """The fiscal storage and the number that the next document is to get."""

    fn_number: str
    fd_number: int


@dataclass(frozen=True, slots=True)
class Printed:
    """A fiscal document that exists. `warnings` are the reply's: `not_on_paper`, `text_replaced`."""

    mark: FiscalMark
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as its fiscal storage keeps it [FF0A, FF3A, FF3B]."""

    fn_number: str
    fd_number: int
    form: int
    """The FFD's number."""
    operation: Operation | None
    total: int | None
    """Kopecks; None where the form has none."""
    requisite: str | None
    """FFD tag 1192; None where the document was read whole and has none."""
    at: datetime
    """By the register's clock, with the shop's offset; whole minutes."""
    shift_number: int
    mark: FiscalMark | None
    """Of a document of `SALE_FORMS`. Storages keep no change; where the register has none to tell, it says 0.00."""
    on_paper: bool = True
    """False where it is known that the paper ran out under it."""

    def mark_for(self, receipt: Receipt) -> FiscalMark:
        """Return the mark of the receipt that this document was made of, with the change that was given."""
        assert self.mark is not None
        return self.mark.model_copy(update={"change": format_kopecks(receipt.change)})


@dataclass(frozen=True, slots=True)
class UnreadableDocument:
    """A document that is there and cannot be read: it may be any receipt's. Nothing is printed until a person looks."""

    fd_number: int
    reason: str
    """In one line."""


@dataclass(frozen=True, slots=True)
class ShiftReport:
    """A shift that was opened or closed, and its fiscal document."""

    number: int
    open: bool
    fd_number: int


@dataclass(frozen=True, slots=True)
class RegisterStatus:
    """A register and its fiscal storage as they answered [10h, 11h, FF01, FF39, FF40]."""

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
    busy: bool = False
    """Whether an earlier command may still be at work [10h submodes 4 and 5, error 50h].

    While it is, or a document is open, the storage may yet get a document: nothing is absent.
    """
    ofd_unsent: int | None = None
    """Documents that the storage still keeps for the OFD [FF39]; None where the register does not tell."""
    ofd_first_unsent_at: datetime | None = None
    """The date of the first of those."""

    @property
    def at_rest(self) -> bool:
        """Whether what the storage holds now is all that earlier commands will ever have made."""
        return not self.busy and self.mode != "document_open"


class FiscalRegister(Protocol):
    """A register with its fiscal storage, used by one lane. Errors of any call: see above."""

    def status(self) -> RegisterStatus:
        """Ask for the status, and let the register finish what a lack of paper interrupted [10h, 11h, FF01, B0h].

        Errors: RegisterAway; RegisterNotReady where it answers and tells nothing. Anything it can tell is an answer: a
        register that cannot print says so in `problem`, one that is at work in `busy`.
        """
        ...

    def print_receipt(self, job: PrintJob, expected: Expected) -> Printed:
        """Make one fiscal document [8Dh, FF0C, FF46, FF45]. A shift must be open, no document may be.

        It returns when the document is in the fiscal storage; where its paper ran out, with the warning `not_on_paper`.
        The mark has the number that the storage gave, even if that is not the expected one.

        Errors: RegisterNotReady with the problem `storage_changed`, before anything is begun, where the storage is
        another one than expected, or its next document would have another number. ReceiptRefused only for what lies in
        the receipt itself. InDoubt where a command may have reached the register and no answer came.
        """
        ...

    def read_document(self, fd_number: int) -> StoredDocument | UnreadableDocument | None:
        """Return a stored document [FF0A, FF3A, FF3B]; None if the storage has none of this number.

        Errors: RegisterAway; RegisterNotReady, where it cannot be asked now (`busy`).
        """
        ...

    def documents(self, first: int, last: int) -> Iterator[StoredDocument | UnreadableDocument]:
        """Yield the stored documents from `first` to `last`, read as they are asked for; end where there is none.

        Errors: as `read_document`, at any element; what was yielded before counts.
        """
        ...

    def cancel_document(self) -> None:
        """Cancel the document that is open and not yet fiscal [88h, FF08]; do nothing if none. Errors: RegisterAway."""
        ...

    def open_shift(self, cashier: Cashier | None) -> ShiftReport:
        """Open a shift [E0h]. Errors: RegisterNotReady if one is open, InDoubt where the answer was lost."""
        ...

    def close_shift(self, cashier: Cashier | None) -> ShiftReport:
        """Close the shift [41h]. Errors: RegisterNotReady if none is open, InDoubt where the answer was lost."""
        ...

    def x_report(self) -> None:
        """Print a report of the shift so far [40h]: no fiscal document."""
        ...

    def print_copy(self, fd_number: int | None) -> None:
        """Print a non-fiscal copy of a document, of the last one for None [8Ch]. Errors: RegisterNotReady."""
        ...

    def close(self) -> None:
        """Close the line; the next call opens it again. Raises nothing."""
        ...

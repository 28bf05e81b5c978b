"""Manual resolution: what a person decides about a receipt in doubt that the register cannot tell of.

A document on the storage in the register is read back through the register, so nothing is typed that could be
read. One on a storage that is gone is taken from its paper, or from the storage's report. Absence is the
person's word. In each case the machine refuses what it knows to be wrong.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.print_queue import document_owner, hold_in_doubt, last_document_before, release, unprinted_task
from kkt_bridge.journal.receipts import find_receipt
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.recovered import forget_recovered, recovered_owner
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.receipts.fiscal_mark import FiscalMark, qr_text
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.registers.base import FiscalRegister, Printed, RegisterStatus, StoredDocument, UnreadableDocument
from kkt_bridge.stages.printing.in_doubt import InDoubtResolver
from kkt_bridge.stages.printing.leases import PrintOutcome, as_printed, could_be, ids_of, readable, record_outcomes
from kkt_bridge.stages.printing.requests import Requests
from kkt_bridge.stages.printing.status import InDoubtReceipt, LaneSettings
from kkt_bridge.stages.printing.storage_reader import FiscalStorageReader

log = logging.getLogger(__name__)


class SettleRefused(KktBridgeError):
    """What a person decided cannot be so. `code` is for the command's answer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class AdoptFromStorage:
    """Its document is this one: read it from the fiscal storage that is in the register now."""

    fd_number: int


@dataclass(frozen=True, slots=True)
class AdoptFromPaper:
    """Its document is this one: take it as the paper or the storage's report shows it."""

    fn_number: str
    fd_number: int
    fiscal_sign: str
    at: datetime
    shift_number: int
    receipt_number: int


@dataclass(frozen=True, slots=True)
class PrintAgain:
    """It has no document: a person made sure of that, for this attempt to print it.

    An order may come late: by then the receipt may have been printed again, and be in doubt again.
    """

    doubt: int


@dataclass(frozen=True, slots=True)
class ManualResolution:
    """What a person decided about one receipt, and why."""

    key: ReceiptKey
    decision: AdoptFromStorage | AdoptFromPaper | PrintAgain
    reason: str

    @property
    def remark(self) -> str:
        """For the receipt's history."""
        return f"settled by hand: {self.reason}"


@dataclass(frozen=True, slots=True)
class PassUnreadable:
    """A person looked at what this unreadable document is: no receipt that waits, or that a POS may send again."""

    fn_number: str
    fd_number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ManuallyResolved:
    """The receipt that an order settled, and how."""

    task: PrintTask
    printed: Printed | None
    """The document that was adopted; None where the receipt waits again."""


class ManualResolver:
    """Carries out what persons decide about the receipts in doubt of one lane."""

    def __init__(
        self,
        settings: LaneSettings,
        register: FiscalRegister,
        journal: Journal,
        reader: FiscalStorageReader,
        in_doubt: InDoubtResolver,
    ) -> None:
        self._settings = settings
        self._kkt = settings.kkt
        self._register = register
        self._journal = journal
        self._reader = reader
        self._in_doubt = in_doubt

    def carry_out(
        self,
        orders: Requests[ManualResolution | PassUnreadable, ManuallyResolved | None],
        in_doubt: Sequence[InDoubtReceipt],
        status: RegisterStatus,
    ) -> list[InDoubtReceipt]:
        """Carry out the orders on these receipts; return those that are left.

        Errors: those of the register and of the journal. They are the answer of their order too.
        """
        left = {each.task.id: each for each in in_doubt}

        def settle(order: ManualResolution | PassUnreadable) -> ManuallyResolved | None:
            if isinstance(order, PassUnreadable):
                self._require_passable(order, left.values(), status)
                self._reader.pass_document(order.fd_number, order.reason)
                return None
            settled = self._resolve(order, left.values(), status)
            self._journal.write(lambda tx: _record(tx, order, settled, self._settings))
            task = settled.task
            log.warning("%s", order.remark, extra=ids_of(task))
            if left.pop(task.id, None) is None:
                return settled  # it waited; what blocked the storage is looked at again
            self._in_doubt.forget(task)
            self._reader.pass_settled(requisite_1192(task.key), is_last=all(each.parked for each in left.values()))
            return settled

        orders.serve(settle)
        return list(left.values())

    def _resolve(
        self, order: ManualResolution, doubts: Iterable[InDoubtReceipt], status: RegisterStatus
    ) -> ManuallyResolved:
        """Return what the order comes to, to be recorded. Errors: SettleRefused, and those of the register."""
        doubt = next((doubt for doubt in doubts if doubt.task.key == order.key), None)
        task = doubt.task if doubt is not None else self._waiting(order, status)
        match order.decision:
            case PrintAgain(number):
                assert doubt is not None  # what was never begun can only be adopted
                if doubt.number != number:
                    raise SettleRefused(
                        "another_doubt",
                        f"doubt {number} is over: receipt {task.key.receipt_id} was begun again since, and is in doubt "
                        f"{doubt.number} now; look again whether it has a document",
                    )
                return ManuallyResolved(task, None)
            case AdoptFromStorage(fd_number):
                if status.fn_number != task.fn_before:
                    raise SettleRefused(
                        "document_mismatch",
                        f"printing began on fiscal storage {task.fn_before}, and {status.fn_number} is in the register "
                        f"now: say of which one document {fd_number} is (--fn, with what its paper shows)",
                    )
                printed = self._read(task, _receipt(task), fd_number, status)
            case AdoptFromPaper() as paper:
                printed = self._from_paper(task, _receipt(task), paper, status)
        return ManuallyResolved(task, printed)

    def _require_passable(
        self, order: PassUnreadable, doubts: Iterable[InDoubtReceipt], status: RegisterStatus
    ) -> None:
        """Raise SettleRefused where that document is not in the way, or may be that of a receipt in doubt."""
        where = f"FD {order.fd_number} of fiscal storage {order.fn_number}"
        found = [blocker for blocker in self._reader.blockers if blocker.fd_number == order.fd_number]
        if status.fn_number != order.fn_number or not found:
            raise SettleRefused("not_in_the_way", f"{where} is not in the way of {self._kkt}: look at its state again")
        open_doubts = [doubt.task for doubt in doubts if not doubt.parked]
        if open_doubts or found[0].requisite is not None:
            first = f": {open_doubts[0].key.receipt_id} of {open_doubts[0].key.pos_id}" if open_doubts else ""
            raise SettleRefused(
                "still_in_doubt",
                f"{where} may be a receipt's that is in doubt on {self._kkt}{first}; settle that first, with "
                "`kkt-bridge settle adopt` or `print-again`",
            )

    def _waiting(self, order: ManualResolution, status: RegisterStatus) -> PrintTask:
        """Return the task of a buffered receipt, where the paper is that of a document that blocks; else refuse."""
        stored = self._journal.read(lambda connection: find_receipt(connection, order.key))
        paper = order.decision
        if (
            stored is not None
            and (row_id := stored.id) is not None
            and (stored.status, stored.kkt) == (Status.BUFFERED, self._kkt)
            and isinstance(paper, AdoptFromPaper)
            and paper.fn_number == status.fn_number
            and any(each.requisite is None and each.fd_number == paper.fd_number for each in self._reader.blockers)
        ):
            return self._journal.read(lambda connection: unprinted_task(connection, row_id))
        raise not_in_doubt(order.key, stored.status if stored is not None else None)

    def _read(self, task: PrintTask, receipt: Receipt, fd_number: int, status: RegisterStatus) -> Printed:
        document = self._register.read_document(fd_number)
        if document is None or isinstance(document, UnreadableDocument):
            why = f"cannot be read: {document.reason}" if document else f"the last one is {status.last_fd_number}"
            raise SettleRefused(
                "no_document", f"fiscal storage {status.fn_number} in {self._kkt} shows no document {fd_number}: {why}"
            )
        if not could_be(document, receipt):
            raise SettleRefused(
                "document_mismatch",
                f"document {fd_number} on {self._kkt} is {_in_words(document)}, the receipt is a {receipt.type} "
                f"({receipt.operation}) of {format_kopecks(receipt.total)}",
            )
        self._require_free(task, status.fn_number, fd_number)
        own = requisite_1192(task.key)
        if document.requisite and document.requisite != own:
            raise SettleRefused(
                "document_taken",
                f"document {fd_number} carries the mark {document.requisite} (FFD tag 1192), not {own}",
            )
        self._require_not_earlier(task, document.at, fd_number)
        return as_printed(document, receipt)

    def _require_free(self, task: PrintTask, fn_number: str, fd_number: int) -> None:
        """Refuse a document that is another receipt's, or that was there before this one was begun."""
        owner = self._journal.read(lambda connection: document_owner(connection, fn_number, fd_number))
        _require_nobodys(owner, fd_number)
        awaited = self._journal.read(lambda connection: recovered_owner(connection, fn_number, fd_number))
        if awaited not in {None, requisite_1192(task.key)}:
            raise SettleRefused(
                "document_taken",
                f"document {fd_number} is a receipt's that a POS has still to repeat: its mark is {awaited}",
            )
        if fn_number == task.fn_before and fd_number <= (task.fd_before or 0):
            raise SettleRefused(
                "document_mismatch",
                f"document {fd_number} was there before printing began, which was after document {task.fd_before}",
            )

    def _require_not_earlier(self, task: PrintTask, at: datetime, fd_number: int) -> None:
        """Refuse a document older than the last one before printing began: the register's own clock tells."""
        fn_before, fd_before = task.fn_before, task.fd_before
        if fn_before is None or fd_before is None:
            return
        last = self._journal.read(lambda connection: last_document_before(connection, fn_before, fd_before))
        if last is not None and at < datetime.fromisoformat(last.datetime):
            raise SettleRefused(
                "document_mismatch",
                f"document {fd_number} is of {at.isoformat()}, and printing began later: the document before it, "
                f"FD {last.fd_number}, is of {last.datetime}",
            )

    def _from_paper(self, task: PrintTask, receipt: Receipt, paper: AdoptFromPaper, status: RegisterStatus) -> Printed:
        is_here = paper.fn_number == status.fn_number
        # Of one that the register has and cannot read, the paper is all that there is.
        if is_here and not isinstance(self._register.read_document(paper.fd_number), UnreadableDocument):
            printed = self._read(task, receipt, paper.fd_number, status)
            if printed.mark.fiscal_sign.lstrip("0") != paper.fiscal_sign.lstrip("0"):
                raise SettleRefused(
                    "document_mismatch",
                    f"document {paper.fd_number} on {self._kkt} has the fiscal sign {printed.mark.fiscal_sign}, "
                    f"not {paper.fiscal_sign}",
                )
            return printed
        self._require_free(task, paper.fn_number, paper.fd_number)
        self._require_not_earlier(task, paper.at, paper.fd_number)
        return Printed(self._mark(receipt, paper, status))

    def _mark(self, receipt: Receipt, paper: AdoptFromPaper, status: RegisterStatus) -> FiscalMark:
        at = paper.at.astimezone(self._settings.zone).isoformat(timespec="seconds")
        return FiscalMark(
            kkt=self._kkt,
            kkt_serial=status.serial,
            registration_number=status.registration_number,
            fn_number=paper.fn_number,
            fd_number=paper.fd_number,
            fiscal_sign=paper.fiscal_sign,
            datetime=at,
            shift_number=paper.shift_number,
            receipt_number=paper.receipt_number,
            type=receipt.type,
            total=format_kopecks(receipt.total),
            change=format_kopecks(receipt.change),
            qr=qr_text(
                datetime=at,
                total=receipt.total,
                fn_number=paper.fn_number,
                fd_number=paper.fd_number,
                fiscal_sign=paper.fiscal_sign,
                operation=receipt.operation,
            ),
        )


def _record(tx: Transaction, order: ManualResolution, settled: ManuallyResolved, settings: LaneSettings) -> None:
    """Record what a person decided as if the register had told it; the history says that it had not.

    Errors: SettleRefused where the document turns out to be another receipt's.
    """
    task = settled.task
    if settled.printed is None:
        release(tx, task, order.remark)
        return
    mark = settled.printed.mark
    _require_nobodys(document_owner(tx.connection, mark.fn_number, mark.fd_number), mark.fd_number)
    if tx.may_be_recovered:
        forget_recovered(tx, requisite_1192(task.key))
    if task.status == Status.BUFFERED:
        hold_in_doubt(tx, task, mark.fn_number, mark.fd_number - 1)
        task = replace(task, status=Status.PRINTING)
    record_outcomes(tx, [PrintOutcome(task, printed=settled.printed, remark=order.remark)], settings)


def _require_nobodys(owner: ReceiptKey | None, fd_number: int) -> None:
    """Raise SettleRefused where a document belongs to a receipt already."""
    if owner is not None:
        raise SettleRefused(
            "document_taken", f"document {fd_number} belongs to receipt {owner.receipt_id} of {owner.pos_id}"
        )


def not_in_doubt(key: ReceiptKey, status: Status | None) -> SettleRefused:
    """Return the refusal to settle a receipt that is not in doubt."""
    return SettleRefused(
        "not_in_doubt",
        f"receipt {key.receipt_id} of {key.pos_id} is {status or 'unknown'}: only one whose doubt the register cannot "
        "settle is settled by hand",
    )


def _receipt(task: PrintTask) -> Receipt:
    if (receipt := readable(task)) is None:
        raise SettleRefused(
            "document_mismatch",
            f"the request of receipt {task.key.receipt_id} can no longer be read, so no document can be compared with "
            "it",
        )
    return receipt


def _in_words(document: StoredDocument) -> str:
    if document.total is None:
        return f"no receipt (form {document.form})"
    return f"a {document.operation} of {format_kopecks(document.total)} (form {document.form})"

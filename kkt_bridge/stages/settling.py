"""Stage 0: settling doubts. What was being printed when something broke: does it exist or not?

The register's own storage decides (never a guess, never a blind repeat): among the documents made since
printing began, ours is the one of the same form, operation and total that carries our digest in FFD tag
1192. Found: adopted. Not found among documents that could all be read: proven absent, and printed again.
A foreign fiscal storage proves nothing, nor does one that lacks a document: what these leave open is left
to a person, see `kkt_bridge.stages.hand_settling`.
"""

import logging
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import ValidationError

from kkt_bridge.errors import RegisterError, RegisterNotReady
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.printing import known_fd_numbers, last_known_fd, tasks_in_doubt
from kkt_bridge.journal.receipts import find_receipt
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.rows import ID_BITS
from kkt_bridge.journal.steps import history_of
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.receipts.print_warnings import print_warnings
from kkt_bridge.registers.base import (
    CORRECTION_FORM,
    RECEIPT_FORM,
    SALE_FORMS,
    FiscalRegister,
    Printed,
    RegisterStatus,
    StoredDocument,
    Unreadable,
)
from kkt_bridge.stages.lane import Doubt

log = logging.getLogger(__name__)


class Unsettled(RegisterError):
    """There are doubts that only a person can settle; the lane stops."""


class Undecidable(Exception):
    """The register cannot tell of this receipt; the text says why."""


class _Facts(NamedTuple):
    """What a doubt shows of its receipt: the number of the attempt, kopecks, and when it began."""

    number: int
    total: int
    since_ms: int


class Settler:
    """Settles the doubts of one lane."""

    def __init__(self, kkt: str, register: FiscalRegister, journal: Journal) -> None:
        self._kkt = kkt
        self._register = register
        self._journal = journal
        self._facts: dict[int, _Facts] = {}
        """Of each receipt that was in doubt the last time."""

    def settle(self, status: RegisterStatus) -> Iterator[tuple[PrintTask, Printed | Doubt | None]]:
        """Each receipt in doubt with its document, with None when it is proven that there is none, or as a doubt.

        `status` is the register's answer of just now, with no document open. Errors: those of the register.
        """
        tasks = self._journal.read(lambda connection: tasks_in_doubt(connection, self._kkt))
        self._note(tasks)
        for task in tasks:
            try:
                found = self._find(task, status)
            except Undecidable as why:
                yield task, Doubt(task, *self._facts[task.id], f"receipt {task.pos_id}:{task.receipt_id} {why}")
            else:
                del self._facts[task.id]  # another doubt about it would be a new one
                yield task, found

    def require_whole(self, status: RegisterStatus | None) -> None:
        """RegisterNotReady if the storage lacks documents that it is known to have made.

        Its next ones would have numbers that belong to other receipts already: none of them could be recorded.
        """
        assert status is not None
        known = self._journal.read(lambda connection: last_known_fd(connection, status.fn_number))
        if status.last_fd_number < known:
            raise RegisterNotReady(
                "fn_lost_documents",
                f"fiscal storage {status.fn_number} ends with FD {status.last_fd_number}, but has made FD {known}: "
                "put back the storage that has it, or another one",
            )

    def _note(self, tasks: list[PrintTask]) -> None:
        """Keep what a doubt shows of its receipt, and log each once: a lane in doubt looks every second."""
        new = [task for task in tasks if task.id not in self._facts]
        known = {task.id: self._facts[task.id] for task in tasks if task.id in self._facts}
        for task in new:
            log.warning(
                "in doubt whether it was printed: asking %s",
                self._kkt,
                extra={"receipt_id": task.receipt_id, "pos_id": task.pos_id, "kkt": task.kkt},
            )
        self._facts = known | {task.id: self._facts_of(task) for task in new}

    def _facts_of(self, task: PrintTask) -> "_Facts":
        stored = self._journal.read(lambda connection: find_receipt(connection, task.receipt_id, task.pos_id))
        steps = self._journal.read(lambda connection: history_of(connection, task.id))
        begun = [step for step in steps if step.to_status == Status.PRINTING]
        assert stored is not None
        if not begun:  # a journal made anew from a damaged one may lack that step
            return _Facts(task.id >> ID_BITS, stored.total, task.received_ms)
        return _Facts(begun[-1].commit_no, stored.total, begun[-1].at_ms)

    def _find(self, task: PrintTask, status: RegisterStatus) -> Printed | None:
        assert task.fd_before is not None
        if status.fn_number != task.fn_before:
            raise Undecidable(
                f"was being printed on fiscal storage {task.fn_before}, but {self._kkt} now holds "
                f"{status.fn_number}: only the old storage can tell whether it exists"
            )
        if status.last_fd_number < task.fd_before:
            raise Undecidable(
                f"was being printed after FD {task.fd_before}, but {self._kkt} now ends with "
                f"FD {status.last_fd_number}: a storage that lost documents proves nothing"
            )
        receipt, taken = _readable(task), self._taken(status.fn_number, task.fd_before)
        unread: str | None = None
        for fd_number in range(task.fd_before + 1, status.last_fd_number + 1):
            if fd_number in taken:
                continue
            try:
                document = self._read(fd_number)
                if self._is_ours(document, task, receipt):
                    assert receipt is not None
                    return as_printed(document, receipt)
            except Undecidable as why:
                # Another document may still be the one: only if none is does this one stand in the way.
                unread = unread or str(why)
        if unread is not None:
            raise Undecidable(unread)
        return None

    def _read(self, fd_number: int) -> StoredDocument:
        match self._register.read_document(fd_number):
            case None:
                raise Undecidable(f"may be FD {fd_number}, which {self._kkt} does not show")
            case Unreadable(reason=reason):
                raise Undecidable(f"may be FD {fd_number}, which cannot be read ({reason})")
            case document:
                return document

    def _is_ours(self, document: StoredDocument, task: PrintTask, receipt: Receipt | None) -> bool:
        if document.form not in SALE_FORMS or document.requisite != requisite_1192(task.pos_id, task.receipt_id):
            return False
        if receipt is None:
            raise Undecidable(f"is FD {document.fd_number} on {self._kkt}, but the request can no longer be read")
        if not could_be(document, receipt):
            raise Undecidable(
                f"has its mark on FD {document.fd_number} of {self._kkt}, which is another sale: look at the paper"
            )
        return True

    def _taken(self, fn_number: str, after_fd: int) -> set[int]:
        return self._journal.read(lambda connection: known_fd_numbers(connection, fn_number, after_fd))


def could_be(document: StoredDocument, receipt: Receipt) -> bool:
    """Whether a document has the form, the operation and the total of this receipt."""
    form = CORRECTION_FORM if receipt.type == "correction" else RECEIPT_FORM
    return (document.form, document.operation, document.total) == (form, receipt.operation, receipt.total)


def as_printed(document: StoredDocument, receipt: Receipt) -> Printed:
    """What `print_receipt` would have returned for this receipt, from its stored document."""
    return Printed(document.mark_for(receipt), print_warnings(receipt, on_paper=document.on_paper))


def _readable(task: PrintTask) -> Receipt | None:
    """The request; None where an earlier release took what this one cannot read."""
    try:
        return Receipt.model_validate_json(task.body)
    except ValidationError:
        return None

"""The receipts that a lane has leased from the journal, what became of each, and the commits that record that.

A receipt is written `printing`, with the register's last document number, before the first byte goes out. Its outcome
(printed, rejected or adopted) is recorded in the same commit that leases the next, so a busy lane costs one commit a
receipt; where a register is faster than the disk, one commit covers several. An idle lane's next receipt is leased in
the very commit that takes it, which saves that receipt a commit.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import ValidationError

from kkt_bridge.errors import ReceiptRefused, StorageUnavailable
from kkt_bridge.journal.journal import Journal, LeaseRequest
from kkt_bridge.journal.print_queue import lease, record_printed, record_rejected, release, reply_addresses
from kkt_bridge.journal.records import DocumentWithoutBody, PrintTask
from kkt_bridge.journal.recovered import REMARK, RecoveredDocument, find_recovered, forget_recovered
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.checks import print_warnings
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.registers.base import Expected, Printed, StoredDocument
from kkt_bridge.stages import replies
from kkt_bridge.stages.delivery.document_body import body_or_none
from kkt_bridge.stages.printing.status import LaneSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PrintOutcome:
    """The outcome of a receipt, not yet recorded: `printed` or `refused`."""

    task: PrintTask
    printed: Printed | None = None
    refused: ReceiptRefused | None = None
    remark: str | None = None
    """For the receipt's history; None where it was printed in the ordinary way."""


def record_outcomes(tx: Transaction, outcomes: Sequence[PrintOutcome], settings: LaneSettings) -> None:
    """Write the transitions, the documents with what the OFD will be sent, and the final replies."""
    zone = settings.zone
    addresses = reply_addresses(tx, [outcome.task for outcome in outcomes])
    for outcome in outcomes:
        task, printed = outcome.task, outcome.printed
        if printed is not None:
            mark, body = printed.mark, None
            if mark.kkt == task.kkt:  # else delivery puts the body together: it knows the requisites of every register
                # The document gets its number when it is recorded.
                unfixed = DocumentWithoutBody(0, task.key, task.kkt, task.body, mark.model_dump_json(), task.hlc)
                body = body_or_none(unfixed, settings.requisites)
            record_printed(tx, task, mark, printed.warnings, outcome.remark, body=body)
            reply = replies.printed(task, mark, printed.warnings, tx.instant.wall_ms, zone)
        else:
            assert outcome.refused is not None
            code, message = outcome.refused.code, str(outcome.refused)
            record_rejected(tx, task, code, message)
            reply = replies.rejected(task, code, message, zone)
        topic, correlation = addresses[task.id]
        tx.publish(topic, reply.payload(), correlation)


def log_outcome(outcome: PrintOutcome) -> None:
    """Write the receipt's line in the log."""
    if outcome.printed is not None:
        mark = outcome.printed.mark
        log.info("printed as FD %d on FN %s", mark.fd_number, mark.fn_number, extra=ids_of(outcome.task))
    else:
        log.warning("rejected: %s", outcome.refused, extra=ids_of(outcome.task))


def ids_of(task: PrintTask) -> dict[str, str]:
    """Return the fields of a log line about the receipt."""
    return {**task.key._asdict(), "kkt": task.kkt}


class Leases:
    """The leased receipts of one lane, and outcomes that are not yet recorded."""

    def __init__(
        self, settings: LaneSettings, journal: Journal, note_unrecordable: Callable[[PrintTask, Exception], None]
    ) -> None:
        """`note_unrecordable` is told of a receipt whose outcome the journal will not have: it is in doubt."""
        self._settings = settings
        self._journal = journal
        self._note_unrecordable = note_unrecordable
        self._lease_request: LeaseRequest[list[PrintTask]] | None = None
        self.tasks: deque[PrintTask] = deque()
        """Leased, and not begun."""
        self.size = 1
        """Receipts leased at once."""
        self.outcomes: list[PrintOutcome] = []
        """Not yet recorded."""

    def lease_on_arrival(self, expected: Expected, is_allowed: Callable[[], bool]) -> None:
        """Have the next receipts leased in the commit that takes them; the lane is idle until `collect`.

        `is_allowed` is asked in the thread of whoever commits.
        """
        self._lease_request = self._journal.request_lease(
            self._settings.kkt, lambda tx: self._lease(tx, expected) if is_allowed() else []
        )

    def collect(self) -> bool:
        """Take over what was leased on arrival, and end that; False while a commit is under way that may lease."""
        request = self._lease_request
        if request is not None:
            if not self._journal.withdraw_lease(request):
                return False
            self._lease_request = None
            self.tasks.extend(request.result or [])
        return True

    def record(self, expected: Expected | None) -> bool:
        """Record the outcomes; in the same commit, lease the next receipts, if it is given where they will stand.

        Returns False where an outcome could not be recorded, and its receipt is in doubt. Errors: JournalError.
        """
        if not self.outcomes and expected is None:
            return True
        outcomes = self.outcomes

        def operation(tx: Transaction) -> list[PrintTask]:
            record_outcomes(tx, outcomes, self._settings)
            return self._lease(tx, expected) if expected is not None else []

        try:
            self.tasks.extend(self._journal.write(operation))
        except StorageUnavailable:
            raise
        except Exception:
            if not outcomes:
                raise
            log.exception("%d outcomes could not be recorded together", len(outcomes))
            self._record_one_by_one()
            return False
        self.outcomes = []
        for outcome in outcomes:
            log_outcome(outcome)
        return True

    def give_back(self) -> None:
        """Release receipts not begun, to their old places; one that cannot be released is in doubt by its row."""
        tasks = list(self.tasks)
        if not tasks:
            return
        self.tasks.clear()

        def operation(tx: Transaction) -> None:
            for task in tasks:
                release(tx, task)

        try:
            self._journal.write(operation)
        except Exception as error:  # noqa: BLE001 (whatever it was: their rows still say `printing`)
            log.warning("%d receipts could not be given back, and are in doubt: %s", len(tasks), error)

    def _lease(self, tx: Transaction, expected: Expected) -> list[PrintTask]:
        """Lease receipts, and return those of which no document is known: another lane may have found one elsewhere."""
        leased = lease(tx, self._settings.kkt, expected.fn_number, expected.fd_number - 1, self.size)
        if not tx.may_be_recovered:
            return leased
        unprinted = []
        for task in leased:
            found = find_recovered(tx.connection, requisite_1192(task.key))
            if (outcome := adopt_recovered(tx, task)) is not None:
                record_outcomes(tx, [outcome], self._settings)
            elif mark_conflict(found, task) is None:  # else its row leaves it in doubt
                unprinted.append(task)
        return unprinted

    def _record_one_by_one(self) -> None:
        """Record the others where the journal will not have one of them; a person looks at that one."""
        while self.outcomes:
            outcome = self.outcomes[0]
            try:
                self._journal.write(partial(record_outcomes, outcomes=[outcome], settings=self._settings))
            except StorageUnavailable:
                raise
            except Exception as error:
                log.exception("its outcome cannot be recorded", extra=ids_of(outcome.task))
                self._note_unrecordable(outcome.task, error)
            else:
                log_outcome(outcome)
            del self.outcomes[0]


def adopt_recovered(tx: Transaction, task: PrintTask) -> PrintOutcome | None:
    """Return the outcome of a receipt whose document another lane found on its storage; that waits no longer."""
    requisite = requisite_1192(task.key)
    document = find_recovered(tx.connection, requisite) if tx.may_be_recovered else None
    receipt = readable(task)
    if document is None or receipt is None or not document.could_be(receipt):
        return None
    forget_recovered(tx, requisite)
    return PrintOutcome(task, printed=Printed(document.mark, print_warnings(receipt)), remark=REMARK)


def mark_conflict(found: RecoveredDocument | None, task: PrintTask) -> str | None:
    """Return why a document that another lane found leaves this receipt to a person, in words that follow its name."""
    if found is None or ((receipt := readable(task)) is not None and found.could_be(receipt)):
        return None
    mark = found.mark
    return f"has its mark on FD {mark.fd_number} of FN {mark.fn_number}, which is another sale: look at the paper"


def could_be(document: StoredDocument, receipt: Receipt) -> bool:
    """Return whether a document has the form, the operation and the total of this receipt."""
    return (document.form, document.operation, document.total) == (receipt.form, receipt.operation, receipt.total)


def as_printed(document: StoredDocument, receipt: Receipt) -> Printed:
    """Return what `print_receipt` would have returned for this receipt, from its stored document."""
    return Printed(document.mark_for(receipt), print_warnings(receipt, on_paper=document.on_paper))


def readable(task: PrintTask) -> Receipt | None:
    """Return the request; None where an earlier release took what this one cannot read."""
    try:
        return Receipt.model_validate_json(task.body)
    except ValidationError:
        return None

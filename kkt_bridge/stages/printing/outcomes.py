"""The outcome of a receipt at its register: printed, rejected or adopted, and the transaction that records it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from pydantic import ValidationError

from kkt_bridge.errors import ReceiptRefused
from kkt_bridge.journal.printing import record_printed, record_rejected, reply_addresses
from kkt_bridge.journal.records import DocumentWithoutBody, PrintTask
from kkt_bridge.journal.recovered import REMARK, RecoveredDocument, find_recovered, forget_recovered
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.model import Receipt, print_warnings
from kkt_bridge.registers.base import Printed, StoredDocument
from kkt_bridge.stages import replies
from kkt_bridge.stages.delivery.document import RegisterRequisites, body_or_none

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PrintOutcome:
    """The outcome of a receipt, not yet recorded: `printed` or `refused`."""

    task: PrintTask
    printed: Printed | None = None
    refused: ReceiptRefused | None = None
    remark: str | None = None
    """For the receipt's history; None where it was printed in the ordinary way."""


def record_outcomes(
    tx: Transaction, outcomes: Sequence[PrintOutcome], zone: tzinfo, requisites: RegisterRequisites
) -> None:
    """Write the transitions, the documents with what the OFD will be sent, and the final replies, in one transaction.

    `requisites` are the register's own: what goes to the OFD is fixed here.
    """
    addresses = reply_addresses(tx, [outcome.task for outcome in outcomes])
    for outcome in outcomes:
        task, printed = outcome.task, outcome.printed
        if printed is not None:
            mark, body = printed.mark, None
            if mark.kkt == task.kkt:  # else delivery puts the body together: it knows the requisites of every register
                # The document gets its number when it is recorded.
                unfixed = DocumentWithoutBody(0, task.key, task.kkt, task.body, mark.model_dump_json(), task.hlc)
                body = body_or_none(unfixed, requisites)
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

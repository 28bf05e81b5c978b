"""What became of a receipt at its register, and how it is written down."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from kkt_bridge.errors import ReceiptRefused
from kkt_bridge.journal.printing import record_printed, record_rejected, release, reply_addresses
from kkt_bridge.journal.records import PrintTask, Unfixed
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.registers.base import Printed
from kkt_bridge.stages import replies
from kkt_bridge.stages.delivery.document import RegisterRequisites, body_or_none

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PrintOutcome:
    """What became of a task and is not yet recorded."""

    task: PrintTask
    printed: Printed | None = None
    refused: ReceiptRefused | None = None
    remark: str | None = None
    """What is to be kept of how it came to this; None where it was printed in the ordinary way."""


def release_all(tx: Transaction, tasks: Sequence[PrintTask]) -> None:
    """Put receipts that were not begun back into the queue."""
    for task in tasks:
        release(tx, task)


def record_outcomes(
    tx: Transaction, outcomes: Sequence[PrintOutcome], zone: tzinfo, requisites: RegisterRequisites
) -> None:
    """The transitions, the documents and the final replies, in one transaction.

    `requisites` are the register's own: what goes to the OFD is fixed here.
    """
    addresses = reply_addresses(tx, [outcome.task for outcome in outcomes])
    for outcome in outcomes:
        record_outcome(tx, outcome, addresses[outcome.task.id], zone, requisites)


def record_outcome(
    tx: Transaction,
    outcome: PrintOutcome,
    address: tuple[str, bytes | None],
    zone: tzinfo,
    requisites: RegisterRequisites,
) -> None:
    """One of them, with the address of its reply."""
    task = outcome.task
    if outcome.printed is not None:
        mark, warnings = outcome.printed.mark, outcome.printed.warnings
        record_printed(tx, task, mark, warnings, outcome.remark, body=_body(task, mark, requisites))
        reply = replies.printed(task, mark, warnings, tx.instant.wall_ms, zone)
    else:
        assert outcome.refused is not None
        code, message = outcome.refused.code, str(outcome.refused)
        record_rejected(tx, task, code, message)
        reply = replies.rejected(task, code, message, zone)
    topic, correlation = address
    tx.publish(topic, reply.payload(), correlation)


def _body(task: PrintTask, mark: FiscalMark, requisites: RegisterRequisites) -> bytes | None:
    """What the OFD is sent of this document; None where another register made it: delivery knows all requisites."""
    if mark.kkt != task.kkt:
        return None
    unfixed = Unfixed(
        document=0,  # it gets its number when it is recorded
        key=task.key,
        kkt=task.kkt,
        request=task.body,
        mark=mark.model_dump_json(),
        hlc=task.hlc,
    )
    return body_or_none(unfixed, requisites)


def log_outcome(outcome: PrintOutcome) -> None:
    """One line a receipt."""
    if outcome.printed is not None:
        mark = outcome.printed.mark
        log.info("printed as FD %d on FN %s", mark.fd_number, mark.fn_number, extra=ids_of(outcome.task))
    else:
        log.warning("rejected: %s", outcome.refused, extra=ids_of(outcome.task))


def ids_of(task: PrintTask) -> dict[str, str]:
    """What a log line about the receipt carries."""
    return {**task.key._asdict(), "kkt": task.kkt}

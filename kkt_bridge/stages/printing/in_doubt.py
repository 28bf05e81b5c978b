"""Receipts in doubt: what was being printed when something broke. Does a fiscal document exist or not?

The register's own storage decides (never a guess, never a blind repeat). Presence is found by the reading of the
storage (`kkt_bridge.stages.printing.storage_reader`), on whichever storage it is. What is left here is absence: proven
where every document since printing began was read, on the same storage, and two equal answers of a register that was
neither busy nor in a document lie around the reading. What these leave open is left to a person, see
`kkt_bridge.stages.printing.manual_resolution`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from kkt_bridge.errors import ReceiptRefused, RegisterError
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.outbox import history_of
from kkt_bridge.journal.print_queue import release, tasks_in_doubt
from kkt_bridge.journal.receipts import find_receipt
from kkt_bridge.journal.records import ID_BITS, PrintTask
from kkt_bridge.journal.recovered import RecoveredDocument, find_recovered
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.registers.base import RegisterStatus
from kkt_bridge.stages.printing.leases import (
    PrintOutcome,
    adopt_recovered,
    ids_of,
    log_outcome,
    mark_conflict,
    record_outcomes,
)
from kkt_bridge.stages.printing.status import InDoubtReceipt, LaneSettings
from kkt_bridge.stages.printing.storage_reader import BlockingDocument

ATTEMPTS_MAX: Final = 3
"""Times that a receipt may fail in a way that nobody foresaw before it is parked and the others go on."""

FN_EXHAUSTED: Final = "fn_exhausted"
"""The refusal that is the fiscal storage's, not the receipt's: it is printed on the next storage."""

log = logging.getLogger(__name__)


class Unsettled(RegisterError):
    """There are receipts in doubt, or documents, that only a person can settle; the lane stops."""


class AbsentFate(Enum):
    """What becomes of a receipt in doubt of which it is proven that it has no document."""

    PARK = "park"
    """It is shown, and not tried again by itself."""
    REJECT = "reject"
    """The register will never take it."""
    RELEASE = "release"
    """It waits again, at its old place."""


def fate_of_absent(error: Exception | None, attempts: int) -> AbsentFate:
    """Return what becomes of an absent receipt, by what the driver last raised and how often nobody foresaw it."""
    if attempts >= ATTEMPTS_MAX:
        return AbsentFate.PARK
    if isinstance(error, ReceiptRefused) and error.code != FN_EXHAUSTED:
        return AbsentFate.REJECT
    return AbsentFate.RELEASE


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known when the receipts in doubt are judged: the storage was read to `status.last_fd_number`."""

    status: RegisterStatus
    lost_documents: bool
    """Whether the storage ends before documents that it is known to have made."""
    blockers: Sequence[BlockingDocument]


class _Facts(NamedTuple):
    """What is shown of a receipt in doubt: the number of the attempt, kopecks, and when printing began."""

    number: int
    total: int
    since_ms: int
    remark: str | None = None
    """Why it was held in doubt although nothing shows that it was begun, in words that follow its name."""


class InDoubtResolver:
    """The receipts in doubt of one lane: what the driver raised over them, and how they are settled."""

    def __init__(self, settings: LaneSettings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        # All by the receipt's row.
        self._facts: dict[int, _Facts] = {}
        """Of each receipt that was in doubt the last time."""
        self._failed: dict[int, Exception] = {}
        """What the driver raised."""
        self.attempts: dict[int, int] = {}
        """How often that was an error that nobody foresaw."""
        self._unrecordable: dict[int, str] = {}
        """Why the journal would not take the receipt's document."""
        self._parked: dict[int, str] = {}
        """Why a receipt is not tried again; it is proven that it was not printed."""

    def count(self) -> int:
        """Return how many rows say `printing`, but for those of receipts that are parked."""
        return self._journal.counts().get((self._settings.kkt, Status.PRINTING), 0) - len(self._parked)

    def note_failure(self, task: PrintTask, error: Exception) -> None:
        """Keep what the driver raised: it says what becomes of the receipt once its absence is proven."""
        self._failed[task.id] = error
        if not isinstance(error, RegisterError):
            self.attempts[task.id] = self.attempts.get(task.id, 0) + 1

    def note_unrecordable(self, task: PrintTask, error: Exception) -> None:
        """Keep why the journal would not take the receipt's outcome."""
        self._unrecordable[task.id] = f"cannot be recorded ({error!r}): compare journal and paper"

    def judge(self, evidence: Evidence) -> tuple[list[PrintTask], list[InDoubtReceipt]]:
        """Return receipts that are absent if the register gives the same answer again, and those left to a person."""
        absent: list[PrintTask] = []
        left: list[InDoubtReceipt] = []
        if not self.count() and not self._parked:
            return absent, left
        tasks = self._journal.read(lambda connection: tasks_in_doubt(connection, self._settings.kkt))
        facts = {task.id: self._facts.get(task.id) or self._facts_of(task) for task in tasks}
        for task in tasks:
            if task.id not in self._facts and task.id not in self._parked:  # once: a lane in doubt looks every second
                log.warning("in doubt whether it was printed: asking %s", self._settings.kkt, extra=ids_of(task))
        self._facts = facts
        for task in tasks:
            if task.id in self._parked:
                left.append(self._in_doubt(task, self._parked[task.id], parked=True))
            elif (reason := self._open_question(task, evidence)) is not None:
                left.append(self._in_doubt(task, reason))
            else:
                absent.append(task)
        return absent, left

    def settle_found(self, task: PrintTask) -> bool:
        """Record the document that another lane found, if there is one: presence is proof on any storage.

        Returns whether there was one. Errors: JournalError.
        """
        if self._found_elsewhere(task) is None or self._record(task, is_absent=False) is None:
            return False
        self.forget(task)
        return True

    def settle_absent(self, task: PrintTask) -> InDoubtReceipt | None:
        """Park, reject or release a receipt that has no document for certain, or adopt one that another lane found.

        Returns the receipt where it is left to a person. Errors: JournalError.
        """
        error = self._failed.get(task.id)
        fate = fate_of_absent(error, self.attempts.get(task.id, 0))
        if fate is AbsentFate.PARK:
            self._parked[task.id] = (
                f"was not printed, and is not tried again: {ATTEMPTS_MAX} times the bridge or its driver failed on it "
                f"({error!r}); the others go on"
            )
            log.error("parked: %r", error, extra=ids_of(task))
            return self._in_doubt(task, self._parked[task.id], parked=True)
        if (conflict := mark_conflict(self._found_elsewhere(task), task)) is not None:
            return self._in_doubt(task, conflict)
        refused = error if fate is AbsentFate.REJECT and isinstance(error, ReceiptRefused) else None
        outcome = self._record(task, is_absent=True, refused=refused)
        self._failed.pop(task.id, None)
        self._facts.pop(task.id, None)
        if outcome is None:
            log.info("no document came of it: it waits again", extra=ids_of(task))
        return None

    def _found_elsewhere(self, task: PrintTask) -> RecoveredDocument | None:
        requisite = requisite_1192(task.key)
        return self._journal.read(lambda connection: find_recovered(connection, requisite))

    def _record(
        self, task: PrintTask, *, is_absent: bool, refused: ReceiptRefused | None = None
    ) -> PrintOutcome | None:
        """Record the document that was found elsewhere, else the refusal; else release it where it is absent."""

        def operation(tx: Transaction) -> PrintOutcome | None:
            outcome = adopt_recovered(tx, task) or (PrintOutcome(task, refused=refused) if refused else None)
            if outcome is not None:
                record_outcomes(tx, [outcome], self._settings)
            elif is_absent:
                release(tx, task)
            return outcome

        outcome = self._journal.write(operation)
        if outcome is not None:
            log_outcome(outcome)
        return outcome

    def forget(self, task: PrintTask) -> None:
        """Drop all that is kept of a receipt that is settled: another doubt about it would be a new one."""
        kept: tuple[dict[int, Any], ...] = (self._facts, self._failed, self.attempts, self._unrecordable, self._parked)
        for by_row in kept:
            by_row.pop(task.id, None)

    def _in_doubt(self, task: PrintTask, reason: str, *, parked: bool = False) -> InDoubtReceipt:
        facts = self._facts[task.id]
        return InDoubtReceipt(
            task, facts.number, facts.total, facts.since_ms, reason=f"receipt {task.key} {reason}", parked=parked
        )

    def _open_question(self, task: PrintTask, evidence: Evidence) -> str | None:
        """Return why nothing proves that it has no document, in words that follow its name; None where it is proven."""
        status, kkt = evidence.status, self._settings.kkt
        if task.id in self._unrecordable:
            return self._unrecordable[task.id]
        remark = self._facts[task.id].remark
        if remark is not None and status.fn_number != task.fn_before:
            return f"{remark}; only that storage can tell"
        if task.fn_before is None or task.fd_before is None:
            return "was being printed, and the journal does not know since which document"
        if status.fn_number != task.fn_before:
            return (
                f"was being printed on fiscal storage {task.fn_before}, but {kkt} now holds "
                f"{status.fn_number}: only the old storage can tell whether it exists"
            )
        if evidence.lost_documents or status.last_fd_number < task.fd_before:
            return (
                f"was being printed after FD {task.fd_before}, but {kkt} now ends with "
                f"FD {status.last_fd_number}: a storage that lost documents proves nothing"
            )
        requisite = requisite_1192(task.key)
        own = (blocker for blocker in evidence.blockers if blocker.requisite == requisite)
        unread = (each for each in evidence.blockers if each.requisite is None and each.fd_number > task.fd_before)
        return next((blocker.reason for blocker in (*own, *unread)), None)

    def _facts_of(self, task: PrintTask) -> _Facts:
        stored = self._journal.read(lambda connection: find_receipt(connection, task.key))
        steps = self._journal.read(lambda connection: history_of(connection, task.id))
        begun = [step for step in steps if step.to_status == Status.PRINTING]
        assert stored is not None
        if not begun:  # a journal made anew from a damaged one may lack that step
            return _Facts(task.id >> ID_BITS, stored.total, task.received_ms)
        return _Facts(begun[-1].commit_no, stored.total, begun[-1].at_ms, begun[-1].error)

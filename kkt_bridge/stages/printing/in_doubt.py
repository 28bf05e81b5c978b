"""Receipts in doubt: what was being printed when something broke. Does it exist or not?

The register's own storage decides (never a guess, never a blind repeat). Presence is found by the reading of the
storage (`kkt_bridge.stages.printing.storage_reader`), on whichever storage it is. What is left here is absence: proven
where every document since printing began was read, on the same storage, and two equal looks at a register that was
neither busy nor in a document lie around the reading. What these leave open is left to a person, see
`kkt_bridge.stages.printing.manual_resolution`.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kkt_bridge.errors import RegisterError
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.outbox import history_of
from kkt_bridge.journal.printing import tasks_in_doubt
from kkt_bridge.journal.receipts import find_receipt
from kkt_bridge.journal.records import ID_BITS, PrintTask
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.registers.base import RegisterStatus
from kkt_bridge.stages.printing.outcomes import ids_of
from kkt_bridge.stages.printing.status import InDoubtReceipt
from kkt_bridge.stages.printing.storage_reader import BlockingDocument

log = logging.getLogger(__name__)


class Unsettled(RegisterError):
    """There are doubts that only a person can settle; the lane stops."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known when the doubts of a lane are judged: the storage was read to `status.last_fd_number`."""

    status: RegisterStatus
    lost_documents: bool
    """Whether the storage ends before documents that it is known to have made."""
    blockers: Sequence[BlockingDocument]
    unrecordable: Mapping[int, str]
    """Why the journal would not take the document of a receipt, by the receipt's row."""
    parked: Mapping[int, str]
    """Why a receipt is not tried again, by its row; it is proven that it was not printed."""


class _Facts(NamedTuple):
    """What a doubt shows of its receipt: the number of the attempt, kopecks, and when it began."""

    number: int
    total: int
    since_ms: int
    remark: str | None = None
    """Why it was taken for a doubt although nothing shows that it was begun, in words that follow its name."""


class InDoubtResolver:
    """Judges the doubts of one lane."""

    def __init__(self, kkt: str, journal: Journal) -> None:
        self._kkt = kkt
        self._journal = journal
        self._facts: dict[int, _Facts] = {}
        """Of each receipt that was in doubt the last time."""

    def judge(self, evidence: Evidence) -> tuple[list[PrintTask], list[InDoubtReceipt]]:
        """Receipts that have no document if the register says the same once more, and those left to a person."""
        tasks = self._journal.read(lambda connection: tasks_in_doubt(connection, self._kkt))
        self._note(tasks, evidence.parked)
        absent, doubts = [], []
        for task in tasks:
            if task.id in evidence.parked:
                doubts.append(self._doubt(task, evidence.parked[task.id], parked=True))
            elif (reason := self._open_question(task, evidence)) is not None:
                doubts.append(self._doubt(task, reason))
            else:
                absent.append(task)
        return absent, doubts

    def parked(self, task: PrintTask, reason: str) -> InDoubtReceipt:
        """A receipt of which it is proven that it was not printed, and that is not tried again by itself."""
        return self._doubt(task, reason, parked=True)

    def disputed(self, task: PrintTask, reason: str) -> InDoubtReceipt:
        """A receipt whose mark another register's storage shows on another sale."""
        return self._doubt(task, reason)

    def forget(self, task: PrintTask) -> None:
        """It is settled: another doubt about it would be a new one."""
        self._facts.pop(task.id, None)

    def _doubt(self, task: PrintTask, reason: str, *, parked: bool = False) -> InDoubtReceipt:
        facts = self._facts[task.id]
        return InDoubtReceipt(
            task,
            facts.number,
            facts.total,
            facts.since_ms,
            reason=f"receipt {task.key} {reason}",
            parked=parked,
        )

    def _open_question(self, task: PrintTask, evidence: Evidence) -> str | None:
        """Why nothing proves that it has no document, in words that follow the receipt's name; None where it is so."""
        status = evidence.status
        if task.id in evidence.unrecordable:
            return evidence.unrecordable[task.id]
        remark = self._facts[task.id].remark
        if remark is not None and status.fn_number != task.fn_before:
            return f"{remark}; only that storage can tell"
        if task.fn_before is None or task.fd_before is None:
            return "was being printed, and the journal does not know since which document"
        if status.fn_number != task.fn_before:
            return (
                f"was being printed on fiscal storage {task.fn_before}, but {self._kkt} now holds "
                f"{status.fn_number}: only the old storage can tell whether it exists"
            )
        if evidence.lost_documents or status.last_fd_number < task.fd_before:
            return (
                f"was being printed after FD {task.fd_before}, but {self._kkt} now ends with "
                f"FD {status.last_fd_number}: a storage that lost documents proves nothing"
            )
        requisite = requisite_1192(task.key)
        own = (blocker for blocker in evidence.blockers if blocker.requisite == requisite)
        unread = (each for each in evidence.blockers if each.requisite is None and each.fd_number > task.fd_before)
        return next((blocker.reason for blocker in (*own, *unread)), None)

    def _note(self, tasks: Collection[PrintTask], parked: Mapping[int, str]) -> None:
        """Say once of each that it is in doubt: a lane in doubt looks every second."""
        new = [task for task in tasks if task.id not in self._facts]
        known = {task.id: self._facts[task.id] for task in tasks if task.id in self._facts}
        for task in new:
            if task.id not in parked:
                log.warning("in doubt whether it was printed: asking %s", self._kkt, extra=ids_of(task))
        self._facts = known | {task.id: self._facts_of(task) for task in new}

    def _facts_of(self, task: PrintTask) -> _Facts:
        stored = self._journal.read(lambda connection: find_receipt(connection, task.key))
        steps = self._journal.read(lambda connection: history_of(connection, task.id))
        begun = [step for step in steps if step.to_status == Status.PRINTING]
        assert stored is not None
        if not begun:  # a journal made anew from a damaged one may lack that step
            return _Facts(task.id >> ID_BITS, stored.total, task.received_ms)
        return _Facts(begun[-1].commit_no, stored.total, begun[-1].at_ms, begun[-1].error)

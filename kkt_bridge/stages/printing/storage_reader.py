"""The reading of a fiscal storage beyond the journal's knowledge: each document of ours is given its receipt.

The journal keeps one mark a fiscal storage (`Journal.fd_mark`): up to that document it knows what each of them is. The
storage is ahead of it where the journal was put back from a backup, lost its last commits or was never told an answer,
and where another program prints. In each case the documents behind the mark are read through the register's port
before anything is printed. Those with the mark of a receipt (FFD tag 1192) that has no document yet are adopted, those
of receipts that the journal does not know wait for their repeat in `recovered`, all others are left in peace.

A storage that the journal has never seen is read backwards, as far as a receipt can come again (`_BackwardReading`).
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.print_queue import document_owner, hold_in_doubt, known_fd_numbers, unprinted, unprinted_task
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.recovered import REMARK, RecoveredDocument, find_recovered, forget_recovered, insert_recovered
from kkt_bridge.journal.settings import get_setting, set_setting
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.ffd_codes import SALE_FORMS, SHIFT_CLOSE_FORM, SHIFT_OPEN_FORM
from kkt_bridge.receipts.identity import is_requisite, requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.registers.base import (
    FiscalRegister,
    RegisterStatus,
    ShiftReport,
    StoredDocument,
    UnreadableDocument,
)
from kkt_bridge.stages.printing.leases import PrintOutcome, as_printed, could_be, ids_of, readable, record_outcomes
from kkt_bridge.stages.printing.shift_age import ShiftEvents
from kkt_bridge.stages.printing.status import LaneSettings, UnreadHistory

STEP_S: Final = 0.5
"""Seconds that one step of reading may take: stops and telemetry wait for it."""

BATCH_MAX: Final = 200
"""Documents that are recorded together."""

FOREIGN_IN_A_ROW_MAX: Final = 500
"""Receipts without a mark of ours, or too old, in a row, after which a storage never seen before is read no further."""

NAMED_MAX: Final = 5
"""Documents that are named where it is shown that the journal was behind."""

FINDINGS_SHOWN_S: Final = 86_400.0
"""Seconds of running time for which it is shown that the journal was behind, after the last such document was found.

And for which it is shown that a storage's history was not read to its end.
"""

SHIFTS_PUBLISHED: Final = "shifts_told/"
"""Setting, before the number of a fiscal storage: its last document of a shift that was published by reading."""

PASSED: Final = "passed_documents/"
"""Setting, before the number of a fiscal storage: a JSON list of its documents that a person has passed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlockingDocument:
    """A document that must not be passed: it cannot be read, or carries a receipt's mark and is another sale."""

    fd_number: int
    reason: str
    """In words that follow the name of a receipt: "may be FD 7, which ..."."""
    requisite: str | None = None
    """Of the receipt whose mark it carries; None where it may be any."""


@dataclass(slots=True)
class _BackwardReading:
    """The reading backwards of a storage that this journal has never seen.

    Only two can bring a receipt again: a POS that never heard its answer, and the broker, which keeps what it could not
    deliver for as long as the session lives. So what is older than that, reckoned from the newest document (not by
    this machine's clock), does not matter; and where another program's receipts stand in a long row, the bridge was
    not there. A register that other software used for years is read for seconds. One odd date, of a day on which the
    register's clock was wrong, ends nothing: so many receipts in a row that do not matter do.
    """

    last: int
    """The storage's last document when it began."""
    next_fd: int
    newest_at: datetime | None = None
    foreign_in_a_row: int = 0
    """Receipts in a row without a mark of ours, or too old."""
    is_recent: bool = False
    """Whether the last receipt was none of the old ones: then what is before it may come again."""

    def takes(self, document: StoredDocument | UnreadableDocument, reach: timedelta) -> bool:
        """Note the next document; return False where the reading ends before it."""
        if isinstance(document, UnreadableDocument):
            return True
        self.newest_at = self.newest_at or document.at
        if document.form in SALE_FORMS:
            self.is_recent = document.at >= self.newest_at - reach
            matters = is_requisite(document.requisite) and self.is_recent
            self.foreign_in_a_row = 0 if matters else self.foreign_in_a_row + 1
        return self.foreign_in_a_row < FOREIGN_IN_A_ROW_MAX


@dataclass(slots=True)
class _ReadingPosition:
    """How far a storage has been read, and what blocks it."""

    fn_number: str
    read_to: int | None
    """FD number; None while it is read backwards."""
    history: _BackwardReading | None = None
    blockers: dict[int, BlockingDocument] = field(default_factory=dict)
    """By FD number."""
    reread_from: int = 0
    """The FD number from which on blockers are read again; after the last comes the first."""

    @property
    def mark(self) -> int:
        """The last document before all that block."""
        assert self.read_to is not None
        return min(self.blockers) - 1 if self.blockers else self.read_to


@dataclass(slots=True)
class _BatchResult:
    """The findings of a batch, to be logged once they are committed."""

    outcomes: list[tuple[PrintOutcome, bool]] = field(default_factory=list)
    """Receipts that got their documents, each with whether it was still waiting to be printed."""
    kept: list[StoredDocument] = field(default_factory=list)
    twice: list[StoredDocument] = field(default_factory=list)
    blockers: list[BlockingDocument] = field(default_factory=list)
    shifts: list[ShiftReport] = field(default_factory=list)


class FiscalStorageReader:
    """Reads one register's storage, a step at a time, and records what it finds."""

    def __init__(
        self,
        settings: LaneSettings,
        *,
        register: FiscalRegister,
        journal: Journal,
        shift_events: ShiftEvents,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._register = register
        self._journal = journal
        self._shift_events = shift_events
        self._clock = clock
        self._position: _ReadingPosition | None = None
        self.behind: list[str] = []
        """Documents of ours beyond the journal's knowledge, named, found by this process and still shown."""
        self._behind_found_at = clock.monotonic()
        """When the last of them was found, in monotonic seconds."""
        self.unread: UnreadHistory | None = None
        """What was left unread of a storage never seen before, while it is shown."""
        self._left_unread_at = clock.monotonic()
        """When it was left, in monotonic seconds."""

    @property
    def blockers(self) -> Sequence[BlockingDocument]:
        """The documents that block the storage that is being read."""
        return list(self._position.blockers.values()) if self._position is not None else []

    def progress(self, status: RegisterStatus) -> str:
        """Return how far the reading is, in words."""
        assert self._position is not None, "begin comes first"
        if (history := self._position.history) is not None:
            return f"reading the fiscal storage {status.fn_number} backwards: at FD {history.next_fd}"
        return f"reading the fiscal storage {status.fn_number}: FD {self._position.read_to} of {status.last_fd_number}"

    def has_lost_documents(self, status: RegisterStatus) -> bool:
        """Return whether the storage ends before documents that it is known to have made."""
        mark = self._journal.fd_mark(status.fn_number)
        return mark is not None and status.last_fd_number < mark

    # -- reading ------------------------------------------------------------------------------------------

    def begin(self, status: RegisterStatus) -> None:
        """Begin after an answer of the register: find the place in its storage, and read again what blocks it."""
        mark = self._journal.fd_mark(status.fn_number)
        if self._position is None or self._position.fn_number != status.fn_number:
            history = _BackwardReading(status.last_fd_number, status.last_fd_number) if mark is None else None
            self._position = _ReadingPosition(status.fn_number, mark, history)
        position = self._position
        if position.read_to is not None and not position.blockers and mark is not None:
            position.read_to = max(position.read_to, mark)
        if position.blockers:
            self._reread_blocking(position)

    def step(self, status: RegisterStatus) -> bool:
        """Read on for at most `STEP_S`; return whether everything up to the register's last document has been read.

        Errors: those of the register and of the journal; what was recorded until then stays so.
        """
        assert self._position is not None, "begin comes first"
        if self._position.read_to is None:
            self._read_back(self._position)
        elif self._position.read_to < status.last_fd_number:
            self._read_on(self._position, status.last_fd_number)
        return self._position.read_to is not None and self._position.read_to >= status.last_fd_number

    def pass_settled(self, requisite: str, *, is_last: bool) -> None:
        """Unblock the document with the mark of a receipt that a person has settled by its papers.

        One that may be any receipt's stays blocked until the last doubt is settled: it may be that of another one.
        """
        position = self._position
        if position is None:
            return
        passed = {
            fd_number
            for fd_number, blocker in position.blockers.items()
            if blocker.requisite == requisite or (blocker.requisite is None and is_last)
        }
        if passed:
            log.warning("passed on a person's word: %s", "; ".join(f"FD {fd}" for fd in sorted(passed)))
            position.blockers = {fd: blocker for fd, blocker in position.blockers.items() if fd not in passed}
            self._advance_mark()

    def pass_document(self, fd_number: int, reason: str) -> None:
        """Unblock a document for ever: a person says that no receipt waits for it.

        Errors: those of the journal; it is in the way as before then.
        """
        position = self._position
        assert position is not None
        name = PASSED + position.fn_number

        def operation(tx: Transaction) -> None:
            passed = {*json.loads(get_setting(tx.connection, name) or "[]"), fd_number}
            set_setting(tx, name, json.dumps(sorted(passed)))

        self._journal.write(operation)
        log.warning("passed by hand: FD %d of FN %s: %s", fd_number, position.fn_number, reason)
        position.blockers = {fd: blocker for fd, blocker in position.blockers.items() if fd != fd_number}
        self._advance_mark()

    def _reread_blocking(self, position: _ReadingPosition) -> None:
        """Read blockers again for at most `STEP_S`; the others have their turn at the next call."""
        again: list[StoredDocument | UnreadableDocument] = []
        until = self._clock.monotonic() + STEP_S
        for fd_number in sorted(position.blockers, key=lambda fd_number: (fd_number < position.reread_from, fd_number)):
            again.append(self._read(fd_number))
            if self._clock.monotonic() >= until:
                break
        before, read = position.blockers, {document.fd_number for document in again}
        position.blockers = {fd_number: blocker for fd_number, blocker in before.items() if fd_number not in read}
        try:
            self._record(position, sorted(again, key=lambda document: document.fd_number), upto=None)
        except Exception:
            position.blockers = before  # what could not be recorded is as it was
            raise
        position.reread_from = again[-1].fd_number + 1
        self._advance_mark()

    def _read_on(self, position: _ReadingPosition, last: int) -> None:
        assert position.read_to is not None
        batch: list[StoredDocument | UnreadableDocument] = []
        until = self._clock.monotonic() + STEP_S
        for document in self._register.documents(position.read_to + 1, min(last, position.read_to + BATCH_MAX)):
            batch.append(document)
            if self._clock.monotonic() >= until:
                break
        if not batch:
            batch = [_missing(position.read_to + 1)]
        self._record(position, batch, upto=batch[-1].fd_number)
        position.read_to = batch[-1].fd_number

    def _read_back(self, position: _ReadingPosition) -> None:
        assert position.history is not None
        history = replace(position.history)  # where the register fails in between, nothing was read
        batch: list[StoredDocument | UnreadableDocument] = []
        until, is_over = self._clock.monotonic() + STEP_S, False
        reach = timedelta(seconds=self._settings.repeats_come_for_s)
        while not is_over and len(batch) < BATCH_MAX and self._clock.monotonic() < until:
            document = self._read(history.next_fd) if history.next_fd >= 1 else None
            is_over = document is None or not history.takes(document, reach)
            if document is not None and not is_over:
                batch.append(document)
                history.next_fd -= 1
        self._record(position, batch[::-1], upto=None)
        position.history = history
        if is_over:
            position.read_to, position.history = history.last, None
            self._advance_mark()
            if history.next_fd >= 1 and history.is_recent:
                self.unread = UnreadHistory(position.fn_number, history.next_fd)
                self._left_unread_at = self._clock.monotonic()
                log.warning("%s on %s: receipts printed before are not known", self.unread, self._settings.kkt)

    def _read(self, fd_number: int) -> StoredDocument | UnreadableDocument:
        return self._register.read_document(fd_number) or _missing(fd_number)

    # -- recording ----------------------------------------------------------------------------------------

    def _advance_mark(self) -> None:
        position = self._position
        if (
            position is not None
            and position.read_to is not None
            and position.mark > (self._journal.fd_mark(position.fn_number) or -1)
        ):
            self._journal.write(lambda tx: tx.advance_fd_mark(position.fn_number, position.mark))

    def _record(
        self, position: _ReadingPosition, batch: Sequence[StoredDocument | UnreadableDocument], upto: int | None
    ) -> None:
        """Record a batch; with `upto`, where all before it is known, also the mark, and publish shifts."""
        if not batch:
            return
        refused: dict[int, str] = {}

        def operation(tx: Transaction) -> _BatchResult:
            found = self._classify(tx, position.fn_number, batch, publishes_shifts=upto is not None, refused=refused)
            if upto is not None:
                stop = min([*position.blockers, *(blocker.fd_number for blocker in found.blockers)], default=upto + 1)
                tx.advance_fd_mark(position.fn_number, max(min(upto, stop - 1), tx.fd_marks.get(position.fn_number, 0)))
            return found

        try:
            found = self._journal.write(operation)
        except StorageUnavailable:
            raise
        except Exception as error:
            if batch[1:]:  # one that the journal will not have must not take the others along
                for document in batch:
                    self._record(position, [document], upto=None if upto is None else document.fd_number)
                return
            if batch[0].fd_number in refused:
                raise
            log.exception("FD %d of FN %s cannot be recorded", batch[0].fd_number, position.fn_number)
            refused[batch[0].fd_number] = f"cannot be recorded ({error!r})"
            found = self._journal.write(operation)
        for blocker in found.blockers:
            position.blockers[blocker.fd_number] = blocker
        self._log_findings(found)

    def _classify(
        self,
        tx: Transaction,
        fn_number: str,
        batch: Iterable[StoredDocument | UnreadableDocument],
        *,
        publishes_shifts: bool,
        refused: Mapping[int, str],
    ) -> _BatchResult:
        """Decide what each document is. `refused`: by FD number, why the journal would not take a document."""
        found, ours = _BatchResult(), []
        for document in batch:
            if isinstance(document, UnreadableDocument):
                if document_owner(tx.connection, fn_number, document.fd_number) is not None:
                    continue  # adopted from its paper
                if document.fd_number in json.loads(get_setting(tx.connection, PASSED + fn_number) or "[]"):
                    continue
                reason = f"may be FD {document.fd_number}, which cannot be read ({document.reason})"
                found.blockers.append(BlockingDocument(document.fd_number, reason))
            elif document.form in SALE_FORMS and is_requisite(document.requisite):
                ours.append(document)
            elif publishes_shifts and document.form in {SHIFT_OPEN_FORM, SHIFT_CLOSE_FORM}:
                report = ShiftReport(document.shift_number, document.form == SHIFT_OPEN_FORM, document.fd_number)
                self._publish_shift(tx, fn_number, report, found)
        if ours:
            self._assign(tx, fn_number, ours, found, refused)
        return found

    def _publish_shift(self, tx: Transaction, fn_number: str, report: ShiftReport, found: _BatchResult) -> None:
        """Publish a shift once: each start reads on from the mark, which stays before a document that blocks."""
        name = SHIFTS_PUBLISHED + fn_number
        if report.fd_number > int(get_setting(tx.connection, name) or 0):
            set_setting(tx, name, str(report.fd_number))
            self._shift_events.publish(tx, report)
            found.shifts.append(report)

    def _assign(
        self,
        tx: Transaction,
        fn_number: str,
        ours: list[StoredDocument],
        found: _BatchResult,
        refused: Mapping[int, str],
    ) -> None:
        known = known_fd_numbers(tx.connection, fn_number, ours[0].fd_number - 1)
        waiting = {requisite_1192(key): row_id for key, row_id in unprinted(tx.connection).items()}
        for document in ours:
            assert document.requisite is not None
            receipt = waiting.get(document.requisite)
            why_not = refused.get(document.fd_number)
            if document.fd_number in known:
                if receipt is None:
                    continue
                why_not = "is another receipt's by the journal"
            if receipt is not None:
                task = unprinted_task(tx.connection, receipt)
                if task.status == Status.BUFFERED or task.kkt == self._settings.kkt:
                    if self._adopt(tx, task, document, found, why_not):
                        del waiting[document.requisite]
                    continue
                if why_not is not None:
                    continue
            # Nobody's here, or a receipt that another lane has in hand: that one looks there before it prints again.
            self._keep_for_repeat(tx, document, found)

    def _adopt(
        self, tx: Transaction, task: PrintTask, document: StoredDocument, found: _BatchResult, why_not: str | None
    ) -> bool:
        receipt, was_waiting = readable(task), task.status == Status.BUFFERED
        if was_waiting:
            hold_in_doubt(tx, task, document.fn_number, document.fd_number - 1)
            task = replace(task, status=Status.PRINTING, fn_before=document.fn_number, fd_before=document.fd_number - 1)
        where = f"FD {document.fd_number} on {self._settings.kkt}"
        if receipt is None:
            reason = f"is {where}, but the request can no longer be read"
        elif not could_be(document, receipt):
            reason = f"has its mark on {where}, which is another sale: look at the paper"
        elif why_not is not None:
            reason = f"has its mark on {where}, which {why_not}: compare journal and paper"
        else:
            printed = as_printed(document, receipt)
            outcome = PrintOutcome(task, printed=printed, remark=REMARK if was_waiting else None)
            record_outcomes(tx, [outcome], self._settings)
            found.outcomes.append((outcome, was_waiting))
            return True
        found.blockers.append(BlockingDocument(document.fd_number, reason, document.requisite))
        return False

    def _keep_for_repeat(self, tx: Transaction, document: StoredDocument, found: _BatchResult) -> None:
        assert document.requisite is not None
        assert document.operation is not None
        assert document.total is not None
        assert document.mark is not None
        new = RecoveredDocument(
            requisite=document.requisite,
            kkt=self._settings.kkt,
            form=document.form,
            operation=document.operation,
            total=document.total,
            mark=document.mark,
        )
        known = find_recovered(tx.connection, document.requisite)
        if known is not None:
            if (known.mark.fn_number, known.mark.fd_number) != (document.fn_number, document.fd_number):
                found.twice.append(document)
            if not new.supersedes(known):
                return
            forget_recovered(tx, document.requisite)
        insert_recovered(tx, new)
        found.kept.append(document)

    def _log_findings(self, found: _BatchResult) -> None:
        kkt = self._settings.kkt
        for report in found.shifts:
            self._shift_events.log(report)
        for outcome, was_waiting in found.outcomes:
            assert outcome.printed is not None
            mark = outcome.printed.mark
            log.info("found as FD %d on FN %s: adopted", mark.fd_number, mark.fn_number, extra=ids_of(outcome.task))
            if was_waiting:
                self._add_behind(mark.fd_number, mark.fn_number)
        for document in found.kept:
            self._add_behind(document.fd_number, document.fn_number)
        for document in found.twice:
            log.error("%s: FD %d carries a mark that another document has too", kkt, document.fd_number)
        if found.kept or any(was_waiting for _, was_waiting in found.outcomes):
            log.warning("the journal was behind the fiscal storage of %s: %s", kkt, self.describe_behind())

    def _add_behind(self, fd_number: int, fn_number: str) -> None:
        self.behind.append(f"FD {fd_number} on FN {fn_number}")
        self._behind_found_at = self._clock.monotonic()

    def expire_findings(self) -> None:
        """Stop showing what was found more than `FINDINGS_SHOWN_S` ago."""
        now = self._clock.monotonic()
        if self.behind and now - self._behind_found_at >= FINDINGS_SHOWN_S:
            self.behind.clear()
        if self.unread is not None and now - self._left_unread_at >= FINDINGS_SHOWN_S:
            self.unread = None

    def describe_behind(self) -> str | None:
        """Return which documents the journal did not know of, in words; None if there were none."""
        if not self.behind:
            return None
        more = f" and {len(self.behind) - NAMED_MAX} more" if self.behind[NAMED_MAX:] else ""
        return f"{len(self.behind)} documents of ours were not in it: {', '.join(self.behind[:NAMED_MAX])}{more}"


def describe_blocking(blocker: BlockingDocument, fn_number: str) -> str:
    """Return what to show of a document that blocks and that no receipt in doubt is about: what a person can do."""
    fd_number = blocker.fd_number
    return (
        f"a receipt that was lost with a journal {blocker.reason}; look at its paper, or have the register examined: "
        "if it is a receipt that waits here, `kkt-bridge settle adopt ID` with all that the paper shows; if it is none "
        f'of ours, `kkt-bridge settle pass --fn {fn_number} --fd {fd_number} --reason "..."`'
    )


def _missing(fd_number: int) -> UnreadableDocument:
    return UnreadableDocument(fd_number, "the storage does not show it")

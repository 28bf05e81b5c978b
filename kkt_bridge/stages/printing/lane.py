"""The print lane, one per register and sole owner of its line.

A receipt is written `printing`, with the register's last document number, before the first byte goes out. What became
of it is recorded in the same commit that leases the next, so a busy lane costs one commit a receipt; where a register
is faster than the disk, one commit covers several.

Nothing is begun before the register was asked, its storage read up to its last document, and every receipt in doubt
settled. Whatever a driver raises while it prints is a doubt: the kind of the error only says what becomes of the
receipt once it is proven that no document came of it. What the register cannot prove the lane stops on, shows, and has
settled by a person.
"""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from kkt_bridge.clock import Clock
from kkt_bridge.errors import (
    InDoubt,
    JournalError,
    ReceiptRefused,
    RegisterAway,
    RegisterError,
    RegisterNotReady,
    StorageUnavailable,
)
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.printing import lease, release
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.recovered import find_recovered
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.model import RECENT
from kkt_bridge.registers.base import FiscalRegister, PrintJob, ShiftReport
from kkt_bridge.stages.printing.in_doubt import Evidence, InDoubtResolver, Unsettled
from kkt_bridge.stages.printing.lease_on_arrival import LeaseOnArrival
from kkt_bridge.stages.printing.manual_resolution import (
    ManuallyResolved,
    ManualResolution,
    ManualResolver,
    PassUnreadable,
    SettleRefused,
    record_settled,
)
from kkt_bridge.stages.printing.outcomes import PrintOutcome, ids_of, log_outcome, record_outcomes, release_all
from kkt_bridge.stages.printing.register_watch import RegisterSnapshot, RegisterWatch
from kkt_bridge.stages.printing.requests import RegisterJob, Requests
from kkt_bridge.stages.printing.shifts import ShiftAge, ShiftEvents
from kkt_bridge.stages.printing.stale_journal import StaleJournal, StartBarrier
from kkt_bridge.stages.printing.status import InDoubtReceipt, LaneSettings, LaneStatus
from kkt_bridge.stages.printing.storage_reader import (
    FiscalStorageReader,
    adopt_recovered,
    describe_blocking,
    mark_conflict,
)
from kkt_bridge.wire.topics import Topics

if TYPE_CHECKING:
    from concurrent.futures import Future

RETRY_S: Final = 1.0
"""How often a register that is away or not ready is asked again."""

BACKOFF_MAX_S: Final = 60.0
"""The longest pause after an error that nobody foresaw; the first is `RETRY_S`, each next one twice as long."""

TURN_S: Final = 0.01
"""How long outcomes may wait to be recorded together: nothing beside the seconds that paper takes."""

STAND_BY_S: Final = 0.05
"""How often a lane looks whether a commit under way has brought it receipts; one that has rings besides."""

LEASE_MAX: Final = 64
"""Receipts leased at once, from a register that prints them all within a turn."""

ATTEMPTS_MAX: Final = 3
"""Times that a receipt may fail in a way that nobody foresaw before it is parked and the others go on."""

FOREIGN_DOCUMENT_S: Final = 60.0
"""Seconds after which an open document that is not ours, and that nobody touches, is cancelled."""

DRIFT_MAX_S: Final = 3600.0
"""How far the register's clock may be from ours for the two to confirm each other."""

OFFLINE: Final = "offline"
UNSETTLED: Final = "unsettled_doubt"
READING: Final = "reading_storage"
INTERNAL: Final = "internal_error"
FN_EXHAUSTED: Final = "fn_exhausted"
"""Problems of a lane, besides those that the register tells of."""

log = logging.getLogger(__name__)


class State(StrEnum):
    """Where a lane stands. While it stands still over a problem it is `ASKING`, after a pause."""

    ASKING = "asking"
    """Nothing that is known of the register holds."""
    READING = "reading"
    """Its storage holds documents that the journal does not know."""
    RESOLVING = "resolving"
    """All of them are known: receipts in doubt can be judged."""
    SERVING = "serving"
    """Nothing is in doubt; receipts are printed."""
    RESTING = "resting"
    """There is none; the next one is leased in the commit that takes it."""


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        State.ASKING: frozenset({State.READING}),
        State.READING: frozenset({State.RESOLVING}),
        # Back: the storage got another document between two looks.
        State.RESOLVING: frozenset({State.READING, State.SERVING}),
        State.SERVING: frozenset({State.RESTING}),
        State.RESTING: frozenset({State.SERVING}),
    }
)
"""Which state may follow which; `ASKING` may follow any."""


@dataclass(frozen=True, slots=True)
class _Permit:
    """What a resting lane lets others lease for it: one value, made before it rests."""

    fn_number: str
    last_fd_number: int
    limit: int
    valid_until: float
    """Monotonic seconds: then the register has to be asked, or its shift closed, first."""


class PrintLane:
    """Prints a register's receipts one after the other, each exactly once."""

    def __init__(
        self,
        settings: LaneSettings,
        *,
        register: FiscalRegister,
        journal: Journal,
        topics: Topics,
        barrier: StartBarrier,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._barrier = barrier
        self._register = register
        self._journal = journal
        self._clock = clock
        self._watch = RegisterWatch(register, clock, settings.status_interval_s)
        self._shift = ShiftAge(settings.shift_close_after_s, clock)
        self._shift_events = ShiftEvents(settings.kkt, topics, settings.zone)
        self._reader = FiscalStorageReader(
            settings, register=register, journal=journal, shift_events=self._shift_events, clock=clock
        )
        self._resolver = InDoubtResolver(settings.kkt, journal)
        self._stale_journal = StaleJournal(settings.kkt, journal, barrier, clock)
        self._hand = ManualResolver(settings.kkt, register, journal, settings.zone)
        self._view = LaneStatus(settings.kkt, settings.driver)
        self._state = State.ASKING
        self._shown_at = 0.0
        self._retry_at = 0.0
        self._errors_in_a_row = 0
        self._tasks: deque[PrintTask] = deque()
        self._outcomes: list[PrintOutcome] = []
        self._lease_size = 1
        self._arrival = LeaseOnArrival(journal, settings.kkt)
        self._jobs: Requests[RegisterJob, ShiftReport | None] = Requests(RegisterNotReady)
        self._orders: Requests[ManualResolution | PassUnreadable, ManuallyResolved | None] = Requests(SettleRefused)
        self._failed: dict[int, Exception] = {}
        """What the driver raised over receipts that are in doubt, by their rows."""
        self._attempts: dict[int, int] = {}
        self._parked: dict[int, str] = {}
        self._unrecordable: dict[int, str] = {}
        self._foreign_document: tuple[tuple[str, int, int], float] | None = None
        """An open document that is not ours: storage, last document and shift, and since when it is seen."""

    @property
    def view(self) -> LaneStatus:
        """How the lane stands, for anybody to read."""
        return self._view

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._state

    def request(self, job: RegisterJob) -> "Future[ShiftReport | None]":
        """Have a job (a shift report, a copy) done between two receipts. The caller wakes the lane."""
        return self._jobs.put(job)

    def settle(self, order: ManualResolution | PassUnreadable) -> "Future[ManuallyResolved | None]":
        """Have a doubt settled as a person decided, also while the lane stands still. The caller wakes the lane.

        The future tells what was settled; None where a document was passed. Its errors: SettleRefused, and what keeps
        the register or the journal from it.
        """
        return self._orders.put(order)

    def close(self) -> None:
        """Let go of the register, and of receipts that were leased but not begun."""
        try:
            self._tasks.extend(self._arrival.end() or ())
            self._turn_over(lease=False)
            self._give_back()
        finally:
            self._register.close()

    def step(self) -> float | None:
        """Print one turn of receipts, or do what must come before it."""
        if (wait := self._retry_at - self._clock.monotonic()) > 0 and not self._orders:
            return wait
        try:
            wait_s = self._work()
        except Exception as error:  # noqa: BLE001 (a lane outlives whatever happens, and shows it)
            return self._stand_still_over(error)
        self._errors_in_a_row = 0
        return wait_s

    # -- one piece of work --------------------------------------------------------------------------------

    def _work(self) -> float | None:
        leased = self._arrival.end()
        if leased is None:
            return self._stand_by()
        self._tasks.extend(leased)
        if self._state is State.RESTING:
            self._go(State.SERVING)
        if self._outcomes:
            self._turn_over(lease=False)
        if self._state is State.SERVING and not self._may_serve():
            self._go(State.ASKING)
        while True:
            if self._state is not State.SERVING:
                self._give_back()  # nothing more is printed before the register was asked
                if not self._look():
                    return 0.0
            if self._tasks or self._prepare():
                break
            self._go(State.ASKING)  # something was done to the register
        return self._serve()

    def _go(self, state: State) -> None:
        if state is State.ASKING:
            self._watch.forget()
        else:
            assert state in TRANSITIONS[self._state], f"a lane may not go from {self._state} to {state}"
        self._state = state

    def _may_serve(self) -> bool:
        """Whether what is known of the register still holds."""
        snapshot = self._watch.snapshot
        if snapshot is None or self._in_doubt() > len(self._tasks):
            return False
        return bool(self._tasks) or (not self._orders and self._watch.fresh_for_s(snapshot) > 0)

    def _serve(self) -> float | None:
        self._barrier.arrive(self._settings.kkt)
        if not self._barrier.is_open:
            self._view = replace(self._view, problem=READING, detail=f"waits for {self._barrier.awaited}")
            return STAND_BY_S
        snapshot = self._watch.snapshot
        if snapshot is not None and not self._stale_journal.catch_up(snapshot.status.fn_number):
            self._go(State.ASKING)
            return 0.0
        if not self._tasks:
            self._show_ready()
            if self._waiting():
                self._turn_over(lease=True)
            if not self._tasks:
                return self._rest()
        self._print_a_turn()
        self._turn_over(lease=not self._tasks and self._may_go_on())
        return 0.0

    def _rest(self) -> float:
        snapshot = self._watch.snapshot
        assert snapshot is not None
        left_s = max(0.0, min(self._watch.fresh_for_s(snapshot), self._shift.left_s()))
        self._go(State.RESTING)
        if snapshot.status.mode == "shift_open":
            expected, until = snapshot.expected, self._clock.monotonic() + left_s
            permit = _Permit(expected.fn_number, expected.fd_number - 1, self._lease_size, until)
            self._arrival.begin(lambda tx: self._lease_by(permit, tx))
        return left_s

    def _lease_by(self, permit: _Permit, tx: Transaction) -> list[PrintTask]:
        """In the thread of whoever commits, while this lane rests."""
        if self._jobs or self._clock.monotonic() >= permit.valid_until:
            return []
        return self._unprinted(tx, lease(tx, self._settings.kkt, permit.fn_number, permit.last_fd_number, permit.limit))

    def _unprinted(self, tx: Transaction, leased: list[PrintTask]) -> list[PrintTask]:
        """Those of which no document is known: another lane may have found one on the storage of its register."""
        if not tx.may_be_recovered:
            return leased
        unprinted = []
        for task in leased:
            found = find_recovered(tx.connection, requisite_1192(task.key))
            if (outcome := adopt_recovered(tx, task)) is not None:
                self._record([outcome], tx)
            elif mark_conflict(found, task) is None:  # else its row leaves it in doubt
                unprinted.append(task)
        return unprinted

    def _stand_by(self) -> float:
        """The disk may take long: nothing is begun meanwhile, but how the register is can be seen."""
        if self._clock.monotonic() - self._shown_at >= self._settings.status_interval_s:
            self._ask()
            self._watch.forget()  # what this answer says of the storage was not looked into
        return STAND_BY_S

    # -- looking: the register, its storage, the doubts -------------------------------------------------------

    def _look(self) -> bool:
        """Go as far towards serving as one step may; whether the lane got there."""
        try:
            if self._state is State.ASKING:
                snapshot = self._ask_at_rest()
                self._go(State.READING)
                self._reader.begin(snapshot.status)
            if self._state is State.READING and self._read():
                self._go(State.RESOLVING)
            if self._state is State.RESOLVING:
                self._resolve()
        except Exception as problem:
            self._orders.refuse(problem)
            raise
        return self._state is State.SERVING

    def _ask(self) -> RegisterSnapshot:
        snapshot = self._watch.ask()
        self._shown_at = snapshot.asked_at
        self._shift.note(snapshot.status)
        self._view = replace(
            self._view,
            status=snapshot.status,
            clock_drift_s=snapshot.drift_s,
            storage_taken_out=self._stale_journal.taken_out,
            last_fd_number=snapshot.last_fd_number,
        )
        return snapshot

    def _ask_at_rest(self) -> RegisterSnapshot:
        """Ask the register; RegisterNotReady while it is busy, or in a document that is not ours to cancel."""
        snapshot = self._ask()
        if snapshot.status.mode == "document_open" and self._may_cancel(snapshot):
            self._register.cancel_document()
            snapshot = self._ask()
        if snapshot.status.busy:
            raise RegisterNotReady("busy", f"{self._settings.kkt} is still at an earlier command")
        if snapshot.status.mode == "document_open":
            raise RegisterNotReady("document_open", f"somebody has a document open on {self._settings.kkt}")
        self._foreign_document = None
        return snapshot

    def _may_cancel(self, snapshot: RegisterSnapshot) -> bool:
        """An open document is ours where a receipt is in doubt; anybody else's only once it was left alone for long."""
        status, now = snapshot.status, self._clock.monotonic()
        if status.busy:
            return False
        if self._in_doubt():
            return True
        seen = (status.fn_number, status.last_fd_number, status.shift_number)
        if self._foreign_document is None or self._foreign_document[0] != seen:
            self._foreign_document = (seen, now)
        return now - self._foreign_document[1] >= FOREIGN_DOCUMENT_S

    def _read(self) -> bool:
        snapshot = self._watch.snapshot
        assert snapshot is not None
        is_lost = self._reader.has_lost_documents(snapshot.status)
        is_read = is_lost or self._reader.step(snapshot.status)
        if is_read and not (is_lost or self._reader.blockers):
            self._stale_journal.note_read(snapshot.status.fn_number)
        self._reader.expire_findings()
        behind, unread = len(self._reader.behind), self._reader.unread
        if (behind, unread) != (self._view.journal_behind, self._view.unread):
            words = self._reader.describe_behind()
            self._view = replace(self._view, journal_behind=behind, journal_behind_detail=words, unread=unread)
        if not is_read:
            self._view = replace(self._view, problem=READING, detail=self._reader.progress(snapshot.status))
        return is_read

    def _resolve(self) -> None:
        """Settle what the register can prove, then what persons have decided; stop on what is left."""
        first = self._watch.snapshot
        assert first is not None
        absent, doubts = self._resolver.judge(self._evidence(first)) if self._in_doubt() or self._parked else ([], [])
        if absent or self._orders:
            second = self._ask_at_rest()
            if not second.equals(first):
                self._reader.begin(second.status)
                self._go(State.READING)
                return
        doubts = [doubt for doubt in doubts if not self._settle_found(doubt.task)]
        doubts += [doubt for task in absent if (doubt := self._settle_absent(task)) is not None]
        doubts = self._settle_by_hand(doubts, first)
        self._view = replace(self._view, doubts=tuple(doubts))
        self._require_nothing_open(first, [doubt for doubt in doubts if not doubt.parked])
        self._retry_at = self._clock.monotonic()  # a person may have been quicker than the pause
        self._go(State.SERVING)

    def _evidence(self, snapshot: RegisterSnapshot) -> Evidence:
        return Evidence(
            status=snapshot.status,
            lost_documents=self._reader.has_lost_documents(snapshot.status),
            blockers=self._reader.blockers,
            unrecordable=self._unrecordable,
            parked=self._parked,
        )

    def _require_nothing_open(self, snapshot: RegisterSnapshot, doubts: list[InDoubtReceipt]) -> None:
        status = snapshot.status
        if doubts:
            more = f" (and {len(doubts) - 1} more)" if doubts[1:] else ""
            raise Unsettled(f"{doubts[0].reason}{more}; settle it by hand: `kkt-bridge settle list`")
        if self._reader.has_lost_documents(status):
            # Its next ones would have numbers that belong to other documents already.
            raise RegisterNotReady(
                "fn_lost_documents",
                f"fiscal storage {status.fn_number} in {self._settings.kkt} ends with FD {status.last_fd_number}, but "
                f"has made FD {self._journal.fd_mark(status.fn_number)}: nothing is printed on a storage that lost any",
            )
        if blockers := self._reader.blockers:
            raise Unsettled(describe_blocking(blockers[0], status.fn_number))

    def _settle_absent(self, task: PrintTask) -> InDoubtReceipt | None:
        """No document came of it, for certain: the error says what becomes of it. A doubt where it is parked."""
        error = self._failed.get(task.id)
        if self._attempts.get(task.id, 0) >= ATTEMPTS_MAX:
            self._parked[task.id] = (
                f"was not printed, and is not tried again: {ATTEMPTS_MAX} times the bridge or its driver failed on it "
                f"({error!r}); the others go on"
            )
            log.error("parked: %r", error, extra=ids_of(task))
            return self._resolver.parked(task, self._parked[task.id])
        requisite = requisite_1192(task.key)
        found = self._journal.read(lambda connection: find_recovered(connection, requisite))
        if (reason := mark_conflict(found, task)) is not None:
            return self._resolver.disputed(task, reason)
        refused = error if isinstance(error, ReceiptRefused) and error.code != FN_EXHAUSTED else None

        def operation(tx: Transaction) -> PrintOutcome | None:
            outcome = adopt_recovered(tx, task) or (PrintOutcome(task, refused=refused) if refused else None)
            if outcome is None:
                release(tx, task)
            else:
                self._record([outcome], tx)
            return outcome

        outcome = self._journal.write(operation)
        self._failed.pop(task.id, None)
        self._resolver.forget(task)
        if outcome is None:
            log.info("no document came of it: it waits again", extra=ids_of(task))
        else:
            log_outcome(outcome)
        return None

    def _settle_found(self, task: PrintTask) -> bool:
        """Whether another lane found its document: presence is proof on any storage."""
        requisite = requisite_1192(task.key)
        if self._journal.read(lambda connection: find_recovered(connection, requisite)) is None:
            return False

        def operation(tx: Transaction) -> PrintOutcome | None:
            if (outcome := adopt_recovered(tx, task)) is not None:
                self._record([outcome], tx)
            return outcome

        outcome = self._journal.write(operation)
        if outcome is not None:
            self._forget(task)
            log_outcome(outcome)
        return outcome is not None

    def _forget(self, task: PrintTask) -> None:
        memories: tuple[dict[int, Any], ...] = (self._parked, self._attempts, self._unrecordable, self._failed)
        for memory in memories:
            memory.pop(task.id, None)
        self._resolver.forget(task)

    def _settle_by_hand(self, doubts: list[InDoubtReceipt], snapshot: RegisterSnapshot) -> list[InDoubtReceipt]:
        """Carry out what persons have decided on these doubts; return those that are left."""
        status, settings, left = snapshot.status, self._settings, {doubt.task.id: doubt for doubt in doubts}

        def settle(order: ManualResolution | PassUnreadable) -> ManuallyResolved | None:
            doubts, blockers = list(left.values()), self._reader.blockers
            if isinstance(order, PassUnreadable):
                self._hand.require_passable(order, doubts, status, blockers)
                self._reader.pass_document(order.fd_number, order.reason)
                return None
            settled = self._hand.judge(order, doubts, status, blockers)
            self._journal.write(lambda tx: record_settled(tx, order, settled, settings.zone, settings.requisites))
            task = settled.task
            log.warning("%s", order.remark, extra=ids_of(task))
            if left.pop(task.id, None) is None:
                return settled  # it waited; what was in the way is looked at again
            self._forget(task)
            is_last = all(doubt.parked for doubt in left.values())
            self._reader.vouch(requisite_1192(task.key), is_last=is_last)
            return settled

        self._orders.serve(settle)
        return list(left.values())

    # -- what must be true before a receipt is begun ------------------------------------------------------------

    def _prepare(self) -> bool:
        """Do what comes before the next receipt; False where that changed the register: it is to be looked at again."""
        snapshot = self._watch.snapshot
        assert snapshot is not None
        status = snapshot.status
        if status.problem is not None:
            raise RegisterNotReady(status.problem, f"the register reports {status.problem}")
        if self._jobs:
            self._jobs.serve(lambda job: job(self._register), self._after_job)
            return False
        if status.mode == "shift_expired" or self._shift.left_s() <= 0:
            self._announce(self._register.close_shift(None))
            return False
        if status.mode == "shift_closed" and self._waiting():
            self._announce(self._register.open_shift(None))
            return False
        return True

    def _after_job(self, result: ShiftReport | None) -> None:
        if isinstance(result, ShiftReport):
            self._announce(result)

    def _announce(self, report: ShiftReport) -> None:
        """Tell of a shift, with its document; where others stand before that, the reading of the storage tells."""
        snapshot = self._watch.snapshot
        self._watch.forget()
        if snapshot is None:
            return
        fn_number = snapshot.status.fn_number
        if report.open:
            self._shift.opened(fn_number, report.number)

        def operation(tx: Transaction) -> bool:
            is_next = tx.fd_marks.get(fn_number) == report.fd_number - 1
            if is_next:
                self._shift_events.publish(tx, report)
                tx.note_next_document(fn_number, report.fd_number)
            return is_next

        if self._journal.write(operation):
            self._shift_events.log(report)

    def _show_ready(self) -> None:
        snapshot = self._watch.snapshot
        if self._view.problem is not None and snapshot is not None:
            status = snapshot.status
            log.info("register %s is ready: %s, FN %s", self._settings.kkt, status.model, status.fn_number)
            self._view = replace(self._view, problem=None, detail=None)

    # -- printing -------------------------------------------------------------------------------------------------

    def _print_a_turn(self) -> None:
        """Print what is leased, as much of it as a turn holds; at least one."""
        started, printed = self._clock.monotonic(), 0
        while self._tasks and self._state is State.SERVING:
            outcome = self._print(self._tasks[0])
            if outcome is None:
                return
            self._outcomes.append(outcome)
            self._tasks.popleft()
            printed += outcome.printed is not None
            if self._watch.snapshot is None or self._ran_out_of_paper(outcome):
                self._go(State.ASKING)
            if self._clock.monotonic() - started >= TURN_S:
                break
        took = max(self._clock.monotonic() - started, 1e-6)
        if printed:
            self._lease_size = max(1, min(LEASE_MAX, int(printed * TURN_S / took)))

    @staticmethod
    def _ran_out_of_paper(outcome: PrintOutcome) -> bool:
        return outcome.printed is not None and "not_on_paper" in outcome.printed.warnings

    def _print(self, task: PrintTask) -> PrintOutcome | None:
        """What became of it; None where it is in doubt, and nothing is to be waited for."""
        try:
            receipt = RECENT.parse(task.body)
        except ValidationError as error:
            # Taken by an earlier release under other rules: it must not stand in the way of all others for ever.
            where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
            return PrintOutcome(
                task, refused=ReceiptRefused("kkt_rejected", f"its {where or 'body'} can no longer be read")
            )
        snapshot = self._watch.snapshot
        assert snapshot is not None
        if self._too_old(task, snapshot):
            message = f"it waited for {self._settings.kkt} longer than {self._settings.max_age_s:g} s"
            return PrintOutcome(task, refused=ReceiptRefused("kkt_rejected", message))
        tax_system = receipt.tax_system or self._settings.requisites.tax_system
        job = PrintJob(receipt, requisite_1192(task.key), tax_system)
        try:
            printed = self._register.print_receipt(job, snapshot.expected)
        except Exception as error:
            self._leave_in_doubt(task, error)
            if isinstance(error, ReceiptRefused) or _is_outrun(error):
                return None
            raise
        self._watch.note_document(printed.mark.fn_number, printed.mark.fd_number)
        self._view = replace(self._view, last_fd_number=printed.mark.fd_number)
        self._attempts.pop(task.id, None)
        return PrintOutcome(task, printed=printed)

    def _leave_in_doubt(self, task: PrintTask, error: Exception) -> None:
        """Only the register knows what came of it. Its row says `printing`; nothing is begun before that is settled."""
        self._go(State.ASKING)
        self._failed[task.id] = error
        if not isinstance(error, RegisterError):
            self._attempts[task.id] = self._attempts.get(task.id, 0) + 1
        self._tasks.popleft()
        self._turn_over(lease=False)
        self._give_back()

    # -- recording ------------------------------------------------------------------------------------------------

    def _turn_over(self, *, lease: bool) -> None:
        """Write down what became of the receipts of this turn; in the same commit, take the next."""
        if not self._outcomes and not lease:
            return
        outcomes, snapshot = self._outcomes, self._watch.snapshot

        def operation(tx: Transaction) -> list[PrintTask]:
            self._record(outcomes, tx)
            return self._lease(tx, snapshot) if lease and snapshot is not None else []

        try:
            self._tasks.extend(self._journal.write(operation))
        except StorageUnavailable:
            raise
        except Exception:
            if not outcomes:
                raise
            log.exception("%d outcomes could not be recorded together", len(outcomes))
            self._record_one_by_one()
            return
        self._outcomes = []
        for outcome in outcomes:
            log_outcome(outcome)

    def _record_one_by_one(self) -> None:
        """One that the journal will not have must not take the others along: it is in doubt, and a person looks."""
        self._go(State.ASKING)
        while self._outcomes:
            outcome = self._outcomes[0]
            try:
                self._journal.write(partial(self._record, [outcome]))
            except StorageUnavailable:
                raise
            except Exception as error:
                log.exception("its outcome cannot be recorded", extra=ids_of(outcome.task))
                self._unrecordable[outcome.task.id] = f"cannot be recorded ({error!r}): compare journal and paper"
            else:
                log_outcome(outcome)
            del self._outcomes[0]

    def _record(self, outcomes: Sequence[PrintOutcome], tx: Transaction) -> None:
        record_outcomes(tx, outcomes, self._settings.zone, self._settings.requisites)

    def _lease(self, tx: Transaction, snapshot: RegisterSnapshot) -> list[PrintTask]:
        fn_number, last = snapshot.status.fn_number, snapshot.last_fd_number
        return self._unprinted(tx, lease(tx, self._settings.kkt, fn_number, last, self._lease_size))

    def _give_back(self) -> None:
        """Receipts not begun wait again, at their old places; one that cannot be given back is in doubt by its row."""
        tasks = list(self._tasks)
        if not tasks:
            return
        self._go(State.ASKING)
        self._tasks.clear()
        try:
            self._journal.write(lambda tx: release_all(tx, tasks))
        except Exception as error:  # noqa: BLE001 (whatever it was: their rows still say `printing`)
            log.warning("%d receipts could not be given back, and are in doubt: %s", len(tasks), error)

    def _may_go_on(self) -> bool:
        """Whether the next receipt may be begun without a look at the register first."""
        snapshot = self._watch.snapshot
        return (
            self._state is State.SERVING
            and snapshot is not None
            and not self._jobs
            and not self._orders
            and self._watch.fresh_for_s(snapshot) > 0
            and self._shift.left_s() > 0
        )

    # -- small questions ------------------------------------------------------------------------------------------

    def _waiting(self) -> int:
        return self._journal.counts().get((self._settings.kkt, Status.BUFFERED), 0)

    def _in_doubt(self) -> int:
        """Receipts whose rows say `printing`, but for those that are parked."""
        return self._journal.counts().get((self._settings.kkt, Status.PRINTING), 0) - len(self._parked)

    def _too_old(self, task: PrintTask, snapshot: RegisterSnapshot) -> bool:
        limit = self._settings.max_age_s
        if not limit:
            return False
        # Where the register's clock agrees with ours, the wall clock may count the time in which the bridge was down.
        agree = abs(snapshot.drift_s) <= DRIFT_MAX_S
        return self._journal.age_ms(task.received_ms, task.received_steady_ms, count_downtime=agree) > limit * 1000

    # -- standing still -------------------------------------------------------------------------------------------

    def _stand_still(self, problem: str, detail: str, pause_s: float = RETRY_S) -> float:
        if not self._stale_journal.holds_up_others():
            self._barrier.arrive(self._settings.kkt)
        detail += self._stale_journal.warning()
        if self._view.problem != problem:
            log.warning("register %s stands still (%s): %s", self._settings.kkt, problem, detail)
        self._view = replace(self._view, problem=problem, detail=detail)
        self._go(State.ASKING)
        self._retry_at = self._clock.monotonic() + pause_s
        self._jobs.refuse(RegisterNotReady(problem, detail))
        return pause_s

    def _stand_still_over(self, error: Exception) -> float:
        match error:
            case RegisterNotReady():
                return self._stand_still(error.problem, str(error))
            case RegisterAway() | InDoubt():
                return self._stand_still(OFFLINE, str(error))
            case Unsettled():
                return self._stand_still(UNSETTLED, str(error))
            case JournalError():
                return self._stand_still("journal", str(error))
        # Nobody foresaw it: shown, told to whoever waits, and tried again later and later.
        log.error("register %s: an error that nobody foresaw", self._settings.kkt, exc_info=error)
        self._orders.refuse(RegisterNotReady(INTERNAL, repr(error)))
        pause_s = min(RETRY_S * 2**self._errors_in_a_row, BACKOFF_MAX_S)
        self._errors_in_a_row = min(self._errors_in_a_row + 1, 16)
        return self._stand_still(INTERNAL, f"{error!r}; see the log", pause_s)


def _is_outrun(error: Exception) -> bool:
    """Whether another program made the document that was expected: nothing to wait for."""
    return isinstance(error, RegisterNotReady) and error.problem == "storage_changed"

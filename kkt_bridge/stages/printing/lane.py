"""The print lane, one per register and sole owner of its line: the loop, its states, and the printing of a turn.

Nothing is begun before the register was asked, its storage read up to its last document, and every receipt in doubt
settled. Whatever a driver raises while it prints leaves the receipt in doubt: the kind of the error only says what
becomes of it once it is proven that no document came of it. What the register cannot prove the lane stops on, shows,
and has settled by a person.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from kkt_bridge.clock import Clock
from kkt_bridge.errors import (
    InDoubt,
    JournalError,
    ReceiptRefused,
    RegisterAway,
    RegisterNotReady,
)
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.model import RECENT
from kkt_bridge.registers.base import Expected, FiscalRegister, PrintJob, RegisterStatus, ShiftReport
from kkt_bridge.stages.printing.in_doubt import Evidence, InDoubtResolver, Unsettled
from kkt_bridge.stages.printing.leases import Leases, PrintOutcome
from kkt_bridge.stages.printing.manual_resolution import (
    ManuallyResolved,
    ManualResolution,
    ManualResolver,
    PassUnreadable,
    SettleRefused,
)
from kkt_bridge.stages.printing.requests import RegisterJob, Requests
from kkt_bridge.stages.printing.shift_age import ShiftAge, ShiftEvents
from kkt_bridge.stages.printing.stale_journal import StaleJournal, StartBarrier
from kkt_bridge.stages.printing.status import InDoubtReceipt, LaneSettings, LaneStatus, RegisterSnapshot
from kkt_bridge.stages.printing.storage_reader import FiscalStorageReader, describe_blocking
from kkt_bridge.wire.topics import Topics

if TYPE_CHECKING:
    from concurrent.futures import Future

LEASE_MAX: Final = 64
"""Receipts leased at once, from a register that prints them all within a turn."""

RETRY_S: Final = 1.0
"""How often a register that is away or not ready is asked again."""

BACKOFF_MAX_S: Final = 60.0
"""The longest pause after an error that nobody foresaw; the first is `RETRY_S`, each next one twice as long."""

TURN_S: Final = 0.01
"""How long outcomes may wait to be recorded together: nothing beside the seconds that paper takes."""

STAND_BY_S: Final = 0.05
"""How often a lane looks whether a commit under way has brought it receipts; one that has rings besides."""

FOREIGN_DOCUMENT_S: Final = 60.0
"""Seconds after which an open document that is not ours, and that nobody touches, is cancelled."""

DRIFT_MAX_S: Final = 3600.0
"""How far the register's clock may be from ours for the two to confirm each other."""

OFFLINE: Final = "offline"
UNSETTLED: Final = "unsettled_doubt"
READING_STORAGE: Final = "reading_storage"
INTERNAL: Final = "internal_error"
"""Problems of a lane, besides those that the register tells of."""

log = logging.getLogger(__name__)


class State(StrEnum):
    """Where a lane stands."""

    ASKING = "asking"
    """Nothing that is known of the register holds: it is asked for its status."""
    READING = "reading"
    """Its storage is read up to the last document; it may hold some that the journal does not know."""
    RESOLVING = "resolving"
    """All of them are known: receipts in doubt are judged."""
    WAITING = "waiting"
    """Nothing is in doubt here; other registers' storages are still to be read (`StartBarrier`)."""
    READY = "ready"
    """Receipts are printed."""
    IDLE = "idle"
    """There is none; the next one is leased in the commit that takes it."""
    PAUSED = "paused"
    """The lane stands still over a problem."""


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        State.ASKING: frozenset({State.READING}),
        State.READING: frozenset({State.RESOLVING}),
        # Back: the storage got another document between two answers.
        State.RESOLVING: frozenset({State.READING, State.WAITING}),
        State.WAITING: frozenset({State.READY}),
        State.READY: frozenset({State.IDLE}),
        State.IDLE: frozenset({State.READY}),
        State.PAUSED: frozenset(),
    }
)
"""Which state may follow which; `ASKING` and `PAUSED` may follow any."""

CHECKING: Final = frozenset({State.ASKING, State.READING, State.RESOLVING})
"""States in which an error keeps the lane from what persons have ordered, and is their orders' answer."""


class Work(Enum):
    """What a lane does next that has nothing leased."""

    STAND_STILL = "stand still"
    RUN_JOBS = "run jobs"
    CLOSE_SHIFT = "close the shift"
    OPEN_SHIFT = "open a shift"
    PRINT = "print"
    NOTHING = "nothing"


def next_work(status: RegisterStatus, *, has_jobs: bool, shift_is_due: bool, has_receipts: bool) -> Work:
    """Return what comes next, by the register's status and what waits for it."""
    if status.problem is not None:
        return Work.STAND_STILL
    if has_jobs:
        return Work.RUN_JOBS
    if status.mode == "shift_expired" or shift_is_due:
        return Work.CLOSE_SHIFT
    if not has_receipts:
        return Work.NOTHING
    return Work.OPEN_SHIFT if status.mode == "shift_closed" else Work.PRINT


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
        self._snapshot: RegisterSnapshot | None = None
        """The register's last answer, kept up with what was printed since; None where it does not hold."""
        self._shift = ShiftAge(settings.shift_close_after_s, clock)
        self._shift_events = ShiftEvents(settings.kkt, topics, settings.zone)
        self._reader = FiscalStorageReader(
            settings, register=register, journal=journal, shift_events=self._shift_events, clock=clock
        )
        self._in_doubt = InDoubtResolver(settings, journal)
        self._manual = ManualResolver(settings, register, journal, self._reader, self._in_doubt)
        self._stale_journal = StaleJournal(settings.kkt, journal, barrier, clock)
        self._leases = Leases(settings, journal, self._in_doubt.note_unrecordable)
        self._jobs: Requests[RegisterJob, ShiftReport | None] = Requests(RegisterNotReady)
        self._orders: Requests[ManualResolution | PassUnreadable, ManuallyResolved | None] = Requests(SettleRefused)
        self.view = LaneStatus(settings.kkt, settings.driver)
        """How the lane stands, for anybody to read."""
        self.state = State.ASKING
        self._handlers: Mapping[State, Callable[[], float | None]] = {
            State.ASKING: self._ask_register,
            State.READING: self._read_storage,
            State.RESOLVING: self._resolve,
            State.WAITING: self._wait_for_others,
            State.READY: self._serve,
        }
        """Each does a piece of a state's work, and returns how long to wait, or None where another follows at once."""
        self._paused_until = 0.0
        self._shown_at = 0.0
        self._errors_in_a_row = 0
        self._foreign_document: tuple[tuple[str, int, int], float] | None = None
        """An open document that is not ours: storage, last document and shift, and since when it is seen."""

    def request(self, job: RegisterJob) -> "Future[ShiftReport | None]":
        """Have a job (a shift report, a copy) done between two receipts. The caller wakes the lane."""
        return self._jobs.put(job)

    def settle(self, order: ManualResolution | PassUnreadable) -> "Future[ManuallyResolved | None]":
        """Have a receipt in doubt settled as a person decided, also while the lane stands still. The caller wakes it.

        The future tells what was settled; None where a document was passed. Its errors: SettleRefused, and what keeps
        the register or the journal from it.
        """
        return self._orders.put(order)

    def close(self) -> None:
        """Let go of the register, and of receipts that were leased but not begun."""
        try:
            self._leases.collect()
            self._leases.record(None)
            self._leases.give_back()
        finally:
            self._register.close()

    # -- the loop -----------------------------------------------------------------------------------------

    def step(self) -> float | None:
        """Print one turn of receipts, or do what must come before it; return after how many seconds to call again."""
        if self.state is State.PAUSED:
            left_s = self._paused_until - self._clock.monotonic()
            if left_s > 0 and not self._orders.waiting:
                return left_s
            self._go(State.ASKING)
        state: State | None = None
        try:
            wait_s = self._take_up()
            while wait_s is None:
                state = self.state
                wait_s = self._handlers[state]()
        except Exception as error:  # noqa: BLE001 (a lane outlives whatever happens, and shows it)
            if state in CHECKING:
                self._orders.refuse(error)
            return self._pause_over(error)
        self._errors_in_a_row = 0
        return wait_s

    def _take_up(self) -> float | None:
        """Begin a step: collect what was leased and what is left to record, and see whether the last answer holds."""
        now = self._clock.monotonic()
        if not self._leases.collect():
            # The disk may take long: nothing is begun meanwhile, but how the register is can be seen.
            if now - self._shown_at >= self._settings.status_interval_s:
                self._ask()
                self._snapshot = None  # what this answer says of the storage was not looked into
            return STAND_BY_S
        if self.state is State.IDLE:
            self._go(State.READY)
        if self._leases.outcomes and not self._leases.record(None):
            self._go(State.ASKING)
        if self.state in {State.WAITING, State.READY}:
            snapshot, leased = self._snapshot, len(self._leases.tasks)
            if (
                snapshot is None
                or self._in_doubt.count() > leased
                or not (leased or (now < snapshot.fresh_until and not self._orders.waiting))
            ):
                self._go(State.ASKING)
        return None

    def _go(self, state: State) -> None:
        if state is State.ASKING:
            self._snapshot = None
        elif state is not State.PAUSED:
            assert state in TRANSITIONS[self.state], f"a lane may not go from {self.state} to {state}"
        self.state = state

    # -- before anything is printed: the register, its storage, the receipts in doubt ---------------------------

    def _ask_register(self) -> None:
        self._leases.give_back()  # nothing more is printed before the register was asked
        snapshot = self._ask_at_rest()
        self._go(State.READING)
        self._reader.begin(snapshot.status)

    def _ask(self) -> RegisterSnapshot:
        """Ask the register for its status, and show it. Errors: those of the register."""
        self._snapshot = None
        status, now = self._register.status(), self._clock.monotonic()
        self._snapshot = RegisterSnapshot(
            status,
            expected=Expected(status.fn_number, status.last_fd_number + 1),
            fresh_until=now + self._settings.status_interval_s,
            drift_s=round(status.clock.timestamp() - self._clock.now_ms() / 1000, 1),
        )
        self._shown_at = now
        self._shift.note(status)
        self.view = replace(
            self.view,
            status=status,
            clock_drift_s=self._snapshot.drift_s,
            storage_taken_out=self._stale_journal.taken_out,
            last_fd_number=status.last_fd_number,
        )
        return self._snapshot

    def _ask_at_rest(self) -> RegisterSnapshot:
        """Ask the register; RegisterNotReady while it is busy, or in a document that is not ours to cancel."""
        snapshot = self._ask()
        if snapshot.status.mode == "document_open" and self._may_cancel(snapshot.status):
            self._register.cancel_document()
            snapshot = self._ask()
        if snapshot.status.busy:
            raise RegisterNotReady("busy", f"{self._settings.kkt} is still at an earlier command")
        if snapshot.status.mode == "document_open":
            raise RegisterNotReady("document_open", f"somebody has a document open on {self._settings.kkt}")
        self._foreign_document = None
        return snapshot

    def _may_cancel(self, status: RegisterStatus) -> bool:
        """An open document is ours where a receipt is in doubt; anybody else's only once it was left alone for long."""
        if status.busy:
            return False
        if self._in_doubt.count():
            return True
        now, seen = self._clock.monotonic(), (status.fn_number, status.last_fd_number, status.shift_number)
        if self._foreign_document is None or self._foreign_document[0] != seen:
            self._foreign_document = (seen, now)
        return now - self._foreign_document[1] >= FOREIGN_DOCUMENT_S

    def _read_storage(self) -> float | None:
        status = self._known().status
        is_lost = self._reader.has_lost_documents(status)
        is_read = is_lost or self._reader.step(status)
        if is_read and not (is_lost or self._reader.blockers):
            self._stale_journal.note_read(status.fn_number)
        self._reader.expire_findings()
        behind, unread = len(self._reader.behind), self._reader.unread
        if (behind, unread) != (self.view.journal_behind, self.view.unread):
            words = self._reader.describe_behind()
            self.view = replace(self.view, journal_behind=behind, journal_behind_detail=words, unread=unread)
        if not is_read:
            self.view = replace(self.view, problem=READING_STORAGE, detail=self._reader.progress(status))
            return 0.0
        self._go(State.RESOLVING)
        return None

    def _resolve(self) -> float | None:
        """Settle what the register can prove, then what persons have decided; stop on what is left."""
        first = self._known()
        is_lost, blockers = self._reader.has_lost_documents(first.status), self._reader.blockers
        absent, left = self._in_doubt.judge(Evidence(first.status, is_lost, blockers))
        if absent or self._orders.waiting:
            second = self._ask_at_rest()
            if not second.equals(first):
                self._reader.begin(second.status)
                self._go(State.READING)
                return 0.0
        left = [each for each in left if not self._in_doubt.settle_found(each.task)]
        left += [each for task in absent if (each := self._in_doubt.settle_absent(task)) is not None]
        left = self._manual.carry_out(self._orders, left, first.status)
        self.view = replace(self.view, doubts=tuple(left))
        self._require_nothing_open(first.status, [each for each in left if not each.parked])
        self._go(State.WAITING)
        return None

    def _require_nothing_open(self, status: RegisterStatus, left: list[InDoubtReceipt]) -> None:
        if left:
            more = f" (and {len(left) - 1} more)" if left[1:] else ""
            raise Unsettled(f"{left[0].reason}{more}; settle it by hand: `kkt-bridge settle list`")
        if self._reader.has_lost_documents(status):
            # Its next ones would have numbers that belong to other documents already.
            raise RegisterNotReady(
                "fn_lost_documents",
                f"fiscal storage {status.fn_number} in {self._settings.kkt} ends with FD {status.last_fd_number}, but "
                f"has made FD {self._journal.fd_mark(status.fn_number)}: nothing is printed on a storage that lost any",
            )
        if blockers := self._reader.blockers:
            raise Unsettled(describe_blocking(blockers[0], status.fn_number))

    def _wait_for_others(self) -> float | None:
        if self._prepare() is None:
            return None
        self._barrier.arrive(self._settings.kkt)
        if not self._barrier.is_open:
            self.view = replace(self.view, problem=READING_STORAGE, detail=f"waits for {self._barrier.awaited}")
            return STAND_BY_S
        status = self._known().status
        if not self._stale_journal.catch_up(status.fn_number):
            self._go(State.ASKING)
            return 0.0
        if self.view.problem is not None:
            log.info("register %s is ready: %s, FN %s", self._settings.kkt, status.model, status.fn_number)
            self.view = replace(self.view, problem=None, detail=None)
        self._go(State.READY)
        return None

    def _prepare(self) -> Work | None:
        """Do what comes before the next receipt; None where that changed the register, which is to be asked again."""
        status, shift_is_due = self._known().status, self._clock.monotonic() >= self._shift.close_at
        waiting = self._journal.counts().get((self._settings.kkt, Status.BUFFERED), 0)
        work = next_work(status, has_jobs=bool(self._jobs.waiting), shift_is_due=shift_is_due, has_receipts=waiting > 0)
        match work:
            case Work.PRINT | Work.NOTHING:
                return work
            case Work.STAND_STILL:
                assert status.problem is not None
                raise RegisterNotReady(status.problem, f"the register reports {status.problem}")
            case Work.RUN_JOBS:
                self._jobs.serve(lambda job: job(self._register), self._note_shift)
            case Work.CLOSE_SHIFT:
                self._note_shift(self._register.close_shift(None))
            case Work.OPEN_SHIFT:
                self._note_shift(self._register.open_shift(None))
        self._go(State.ASKING)
        return None

    def _note_shift(self, report: ShiftReport | None) -> None:
        """Publish a shift, with its document; where others stand before that, the reading of the storage does it."""
        if report is None:
            return
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is None:
            return
        fn_number = snapshot.status.fn_number
        if report.open:
            self._shift.note_opened(fn_number, report.number)

        def operation(tx: Transaction) -> bool:
            is_next = tx.fd_marks.get(fn_number) == report.fd_number - 1
            if is_next:
                self._shift_events.publish(tx, report)
                tx.note_next_document(fn_number, report.fd_number)
            return is_next

        if self._journal.write(operation):
            self._shift_events.log(report)

    # -- printing -------------------------------------------------------------------------------------------------

    def _serve(self) -> float | None:
        """Print a turn of what is leased, record it, and lease the next; be idle where nothing is left.

        An idle lane rests until the register has to be asked, or its shift closed; until then receipts are leased on
        arrival.
        """
        leases, close_at = self._leases, self._shift.close_at
        if not leases.tasks:
            if (work := self._prepare()) is None:
                return None
            known = self._known()
            if work is Work.PRINT:
                leases.record(known.expected)
            if not leases.tasks:
                until = min(known.fresh_until, close_at)
                self._go(State.IDLE)
                if known.status.mode == "shift_open":
                    leases.lease_on_arrival(
                        known.expected, lambda: not self._jobs.waiting and self._clock.monotonic() < until
                    )
                return max(0.0, until - self._clock.monotonic())
        self._print_a_turn()
        snapshot = self._snapshot
        may_go_on = (
            not leases.tasks
            and self.state is State.READY
            and snapshot is not None
            and not self._jobs.waiting
            and not self._orders.waiting
            and self._clock.monotonic() < min(snapshot.fresh_until, close_at)
        )
        if not leases.record(snapshot.expected if may_go_on and snapshot is not None else None):
            self._go(State.ASKING)
        return 0.0

    def _print_a_turn(self) -> None:
        """Print what is leased, as much of it as a turn holds; at least one."""
        leases, printed, took_s = self._leases, 0, 0.0
        started = self._clock.monotonic()
        while leases.tasks and self.state is State.READY and took_s < TURN_S:
            outcome = self._print(leases.tasks[0])
            if outcome is None:
                return
            leases.outcomes.append(outcome)
            leases.tasks.popleft()
            if outcome.printed is not None:
                printed += 1
                if "not_on_paper" in outcome.printed.warnings:
                    self._go(State.ASKING)
            if self._snapshot is None:
                self._go(State.ASKING)
            took_s = self._clock.monotonic() - started
        if printed:
            # From now on as many as the register prints within a turn.
            leases.size = max(1, min(LEASE_MAX, int(printed * TURN_S / max(took_s, 1e-6))))

    def _print(self, task: PrintTask) -> PrintOutcome | None:
        """Print one receipt; None where it is in doubt, and nothing is to be waited for."""
        snapshot, settings = self._known(), self._settings
        try:
            receipt = RECENT.parse(task.body)
        except ValidationError as error:
            # Taken by an earlier release under other rules: it must not stand in the way of all others for ever.
            where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
            return _rejected(task, f"its {where or 'body'} can no longer be read")
        if settings.max_age_s and self._too_old(task, snapshot):
            return _rejected(task, f"it waited for {settings.kkt} longer than {settings.max_age_s:g} s")
        job = PrintJob(receipt, requisite_1192(task.key), receipt.tax_system or settings.requisites.tax_system)
        try:
            printed = self._register.print_receipt(job, snapshot.expected)
        except Exception as error:
            # Only the register knows what came of it. Its row says `printing`; nothing is begun before that is settled.
            self._go(State.ASKING)
            self._in_doubt.note_failure(task, error)
            self._leases.tasks.popleft()
            self._leases.record(None)
            self._leases.give_back()
            is_outrun = isinstance(error, RegisterNotReady) and error.problem == "storage_changed"
            if is_outrun or isinstance(error, ReceiptRefused):
                return None
            raise
        fn_number, fd_number = printed.mark.fn_number, printed.mark.fd_number
        # Where it is not the document that was expected, nothing known of the register holds.
        is_expected = snapshot.expected == Expected(fn_number, fd_number)
        self._snapshot = replace(snapshot, expected=Expected(fn_number, fd_number + 1)) if is_expected else None
        self.view = replace(self.view, last_fd_number=fd_number)
        self._in_doubt.attempts.pop(task.id, None)
        return PrintOutcome(task, printed=printed)

    def _too_old(self, task: PrintTask, snapshot: RegisterSnapshot) -> bool:
        # Where the register's clock agrees with ours, the wall clock may count the time in which the bridge was down.
        agree = abs(snapshot.drift_s) <= DRIFT_MAX_S
        age_ms = self._journal.age_ms(task.received_ms, task.received_steady_ms, count_downtime=agree)
        return age_ms > self._settings.max_age_s * 1000

    def _known(self) -> RegisterSnapshot:
        snapshot = self._snapshot
        assert snapshot is not None, f"the register was asked before the lane is {self.state}"
        return snapshot

    # -- standing still -------------------------------------------------------------------------------------------

    def _pause_over(self, error: Exception) -> float:
        """Stand still over an error, and show it; return for how many seconds."""
        pause_s, detail = RETRY_S, str(error)
        match error:
            case RegisterNotReady():
                problem = error.problem
            case RegisterAway() | InDoubt():
                problem = OFFLINE
            case Unsettled():
                problem = UNSETTLED
            case JournalError():
                problem = "journal"
            case _:
                # Nobody foresaw it: shown, told to whoever waits, and tried again later and later.
                log.error("register %s: an error that nobody foresaw", self._settings.kkt, exc_info=error)
                self._orders.refuse(RegisterNotReady(INTERNAL, repr(error)))
                pause_s = min(RETRY_S * 2**self._errors_in_a_row, BACKOFF_MAX_S)
                self._errors_in_a_row = min(self._errors_in_a_row + 1, 16)
                problem, detail = INTERNAL, f"{error!r}; see the log"
        if not self._stale_journal.holds_up_others():
            self._barrier.arrive(self._settings.kkt)
        detail += self._stale_journal.warning()
        if self.view.problem != problem:
            log.warning("register %s stands still (%s): %s", self._settings.kkt, problem, detail)
        self.view = replace(self.view, problem=problem, detail=detail)
        self._go(State.PAUSED)
        self._paused_until = self._clock.monotonic() + pause_s
        self._jobs.refuse(RegisterNotReady(problem, detail))
        return pause_s


def _rejected(task: PrintTask, message: str) -> PrintOutcome:
    return PrintOutcome(task, refused=ReceiptRefused("kkt_rejected", message))

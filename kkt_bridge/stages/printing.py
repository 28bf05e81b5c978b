"""Stage 2: the print lane, one per register and sole owner of its line.

A receipt is written `printing`, with the register's last document number, before the first byte goes
out. What became of it is recorded in the same commit that leases the next, so a busy lane costs one
commit a receipt; where a register is faster than the disk, one commit covers several. After a crash, or
when an answer was lost, the lane settles the doubt before anything else is printed (see
`kkt_bridge.stages.settling`); what it cannot settle it stops on, shows, and has settled by a person.
"""

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from kkt_bridge.clock import Clock
from kkt_bridge.errors import (
    InDoubt,
    JournalError,
    KktBridgeError,
    ReceiptRefused,
    RegisterAway,
    RegisterNotReady,
    StorageUnavailable,
)
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.printing import lease, release
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.recent import receipt_of
from kkt_bridge.registers.base import Expected, FiscalRegister, PrintJob, RegisterStatus, ShiftReport
from kkt_bridge.stages.hand_orders import HandOrders
from kkt_bridge.stages.hand_settling import HandOrder, HandSettled, HandSettler
from kkt_bridge.stages.lane import Doubt, LaneSettings, LaneView
from kkt_bridge.stages.lane_jobs import LaneJobs, RegisterJob
from kkt_bridge.stages.outcomes import Outcome, ids_of, log_outcome, record_outcomes, record_settled, release_all
from kkt_bridge.stages.rest import Rest
from kkt_bridge.stages.settling import Settler, Unsettled
from kkt_bridge.stages.shifts import Shifts
from kkt_bridge.wire.topics import Topics

RETRY_S: Final = 1.0
"""How often a register that is away or not ready is asked again."""

TURN_S: Final = 0.01
"""How long outcomes may wait to be recorded together: nothing beside the seconds that paper takes."""

STAND_BY_S: Final = 0.05
"""How often a lane looks whether a commit under way has brought it receipts; one that has rings besides."""

LEASE_MAX: Final = 64
"""Receipts leased at once, from a register that prints them all within a turn."""

STALE: Final = float("-inf")
"""When a status was asked that no longer holds."""

OFFLINE: Final = "offline"
UNSETTLED: Final = "unsettled_doubt"

log = logging.getLogger(__name__)


class PrintLane:
    """Prints a register's receipts one after the other, each exactly once."""

    def __init__(
        self, settings: LaneSettings, *, register: FiscalRegister, journal: Journal, topics: Topics, clock: Clock
    ) -> None:
        self._settings = settings
        self._register = register
        self._journal = journal
        self._clock = clock
        self._settler = Settler(settings.kkt, register, journal)
        self._hand = HandSettler(settings.kkt, register, journal, settings.zone)
        self._shifts = Shifts(settings, journal=journal, topics=topics, clock=clock)
        self._view = LaneView(settings.kkt, settings.driver)
        self._status: RegisterStatus | None = None
        self._status_at = 0.0
        self._retry_at = 0.0
        self._last_fd = 0
        self._in_doubt = True  # until the journal says otherwise
        self._tasks: deque[PrintTask] = deque()
        self._outcomes: list[Outcome] = []
        self._lease_size = 1
        self._rest = Rest(journal, settings.kkt, self._lease_if_ready)
        self._jobs = LaneJobs()
        self._orders = HandOrders()

    @property
    def view(self) -> LaneView:
        """How the lane stands, for anybody to read."""
        return self._view

    def request(self, job: RegisterJob) -> Future[Any]:
        """Have a job (a shift report, a copy) done between two receipts. The caller wakes the lane."""
        return self._jobs.put(job)

    def settle(self, order: HandOrder) -> "Future[HandSettled]":
        """Have a doubt settled as a person decided, also while the lane stands still. The caller wakes the lane.

        The future's errors: SettleRefused, and what keeps the register or the journal from it.
        """
        return self._orders.put(order)

    def close(self) -> None:
        """Let go of the register, and of receipts that were leased but not begun."""
        try:
            self._tasks.extend(self._rest.end() or ())
            self._turn_over(lease=False)
            self._give_back()
        finally:
            self._register.close()

    def step(self) -> float | None:
        """Print one receipt, or do what must come before it."""
        if (wait := self._retry_at - self._clock.monotonic()) > 0 and not self._orders:
            return wait
        try:
            return self._work()
        except RegisterNotReady as not_ready:
            self._stand_still(not_ready.problem, str(not_ready))
            if not_ready.problem == "storage_changed":  # another program was quicker: nothing to wait for
                self._retry_at = self._clock.monotonic()
                return 0.0
        except RegisterAway as away:
            self._stand_still(OFFLINE, str(away))
        except Unsettled as doubt:
            self._stand_still(UNSETTLED, str(doubt))
        except InDoubt as doubt:
            self._in_doubt = True
            self._stand_still(OFFLINE, str(doubt))
        except JournalError as storage:
            self._stand_still("journal", str(storage))
        return RETRY_S

    # -- one piece of work --------------------------------------------------------------------------------

    def _work(self) -> float | None:
        leased = self._rest.end()
        if leased is None:
            return self._stand_by()
        self._tasks.extend(leased)
        if self._outcomes:
            self._turn_over(lease=False)
        if self._in_doubt or self._status is None or self._status_at == STALE:
            self._give_back()  # nothing more is printed before the register was asked
        if not self._tasks:
            self._prepare()
            self._journal_lease()
            if not self._tasks:
                self._rest.begin()
                return self._idle_s()
        self._print_a_turn()
        self._turn_over(lease=not self._tasks and self._may_go_on())
        return 0.0

    def _print_a_turn(self) -> None:
        """Print what is leased, as much of it as a turn holds; at least one."""
        started, printed = self._clock.monotonic(), 0
        while self._tasks:
            self._outcomes.append(self._print(self._tasks[0]))
            self._tasks.popleft()
            printed += 1
            if self._clock.monotonic() - started >= TURN_S or self._ran_out_of_paper():
                break
        took = max(self._clock.monotonic() - started, 1e-6)
        self._lease_size = max(1, min(LEASE_MAX, int(printed * TURN_S / took)))

    def _ran_out_of_paper(self) -> bool:
        """Whether the last document told so: then what the register said of itself before no longer holds."""
        last = self._outcomes[-1].printed
        if last is None or "not_on_paper" not in last.warnings:
            return False
        self._status_at = STALE
        return True

    def _prepare(self) -> None:
        """Whatever must be true before a receipt may be begun."""
        if self._in_doubt or self._orders:
            self._settle()
        elif self._status is None or self._age_of_status() >= self._settings.status_interval_s:
            self._ask_status()
        assert self._status is not None
        if self._status.problem is not None:
            raise RegisterNotReady(self._status.problem, f"the register reports {self._status.problem}")
        self._shifts.announce_all()
        self._jobs.do_all(self._register, self._after_job)
        self._mind_shift()
        if self._view.problem is not None:
            log.info("register %s is ready: %s, FN %s", self._settings.kkt, self._status.model, self._status.fn_number)
            self._view = replace(self._view, problem=None, detail=None)

    def _print(self, task: PrintTask) -> Outcome:
        try:
            receipt = receipt_of(task.body)
        except ValidationError as error:
            # Taken by an earlier release under other rules: it must not stand in the way of all others for ever.
            where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
            return Outcome(task, refused=ReceiptRefused("kkt_rejected", f"its {where or 'body'} can no longer be read"))
        if self._too_old(task):
            message = f"it waited for {self._settings.kkt} longer than {self._settings.max_age_s:g} s"
            return Outcome(task, refused=ReceiptRefused("kkt_rejected", message))
        job = PrintJob(
            receipt, requisite_1192(task.pos_id, task.receipt_id), receipt.tax_system or self._settings.tax_system
        )
        try:
            assert self._status is not None
            printed = self._register.print_receipt(job, Expected(self._status.fn_number, self._last_fd + 1))
            self._note_fd(printed.mark.fd_number)
            return Outcome(task, printed=printed)
        except ReceiptRefused as refused:
            return Outcome(task, refused=refused)
        except (RegisterAway, RegisterNotReady):
            self._turn_over(lease=False)
            self._give_back()
            raise
        except Exception:
            # Doubt, or a bug of the driver's: only the register knows. The row says `printing`: the settler finds it.
            self._tasks.popleft()
            self._in_doubt = True
            self._turn_over(lease=False)
            self._give_back()
            raise

    # -- recording ----------------------------------------------------------------------------------------

    def _turn_over(self, *, lease: bool) -> None:
        """Write down what became of the receipts of this turn; in the same commit, take the next."""
        if not self._outcomes and not lease:
            return
        outcomes = self._outcomes

        def operation(tx: Transaction) -> list[PrintTask]:
            record_outcomes(tx, outcomes, self._settings.zone, self._settings.tax_system)
            return self._lease(tx) if lease else []

        self._tasks.extend(self._journal.write(operation))
        self._outcomes = []
        for outcome in outcomes:
            log_outcome(outcome)

    def _journal_lease(self) -> None:
        if self._waiting():
            self._turn_over(lease=True)

    def _stand_by(self) -> float:
        """The disk may take long: nothing is begun meanwhile, but how the register is can be seen."""
        if self._age_of_status() >= self._settings.status_interval_s:
            self._ask_status()
        return STAND_BY_S

    def _lease_if_ready(self, tx: Transaction) -> list[PrintTask]:
        """In the thread of whoever commits, while this lane rests."""
        is_open = self._status is not None and self._status.mode == "shift_open"
        return self._lease(tx) if is_open and self._may_go_on() else []

    def _lease(self, tx: Transaction) -> list[PrintTask]:
        assert self._status is not None
        return lease(tx, self._settings.kkt, self._status.fn_number, self._last_fd, self._lease_size)

    def _give_back(self) -> None:
        """Receipts not begun wait again, at their old places."""
        tasks = list(self._tasks)
        self._tasks.clear()
        if not tasks:
            return
        try:
            self._journal.write(lambda tx: release_all(tx, tasks))
        except StorageUnavailable:
            self._in_doubt = True  # their rows still say `printing`: the settler will see to it

    def _may_go_on(self) -> bool:
        """Whether the next receipt may be begun without a look at the register first."""
        return (
            self._status is not None
            and not self._jobs
            and not self._orders
            and self._age_of_status() < self._settings.status_interval_s
            and self._shifts.left_s() > 0
        )

    # -- settling -----------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Settle what the register can prove, then what persons have decided; stop on what is left."""
        try:
            self._ask_status()
            self._cancel_open_document()
            doubts = self._settle_by_hand(list(self._settle_by_proof()))
        except KktBridgeError as problem:
            self._orders.refuse(problem)
            raise
        self._view = replace(self._view, doubts=tuple(doubts))
        if doubts:
            more = f" (and {len(doubts) - 1} more)" if doubts[1:] else ""
            raise Unsettled(f"{doubts[0].reason}{more}; settle it by hand: `kkt-bridge settle list`")
        self._retry_at = self._clock.monotonic()  # a person was quicker than the pause
        self._ask_status()
        self._settler.require_whole(self._status)
        self._in_doubt = False

    def _settle_by_proof(self) -> Iterator[Doubt]:
        """Record what the register's storage proves; what it leaves open comes out."""
        assert self._status is not None
        for task, verdict in self._settler.settle(self._status):
            match verdict:
                case Doubt():
                    yield verdict
                case None:
                    self._journal.write(lambda tx, task=task: release(tx, task))  # type: ignore[misc]
                    log.info("no document came of it: it waits again", extra=ids_of(task))
                case _:
                    self._outcomes.append(Outcome(task, printed=verdict))
                    self._turn_over(lease=False)

    def _settle_by_hand(self, doubts: list[Doubt]) -> list[Doubt]:
        """Carry out what persons have decided on these doubts; return those that are left."""
        assert self._status is not None
        status, settings, left = self._status, self._settings, {doubt.task.id: doubt for doubt in doubts}

        def settle(order: HandOrder) -> HandSettled:
            settled = self._hand.judge(order, list(left.values()), status)
            self._journal.write(lambda tx: record_settled(tx, order, settled, settings.zone, settings.tax_system))
            log.warning("%s", order.remark, extra=ids_of(settled.task))
            del left[settled.task.id]
            return settled

        self._orders.carry_out(settle)
        return list(left.values())

    def _cancel_open_document(self) -> None:
        """Left by another program, a power cut or a kill: whosever it was, it is not fiscal."""
        assert self._status is not None
        if self._status.mode == "document_open":
            self._register.cancel_document()
            self._ask_status()

    # -- the register -------------------------------------------------------------------------------------

    def _ask_status(self) -> None:
        status = self._register.status()
        self._status, self._status_at = status, self._clock.monotonic()
        self._view = replace(
            self._view,
            status=status,
            clock_drift_s=round(status.clock.timestamp() - self._clock.now_ms() / 1000, 1),
        )
        self._note_fd(status.last_fd_number)
        self._shifts.note(status)

    def _after_job(self, result: Any) -> None:
        if isinstance(result, ShiftReport):
            self._announce(result)
        self._ask_status()

    def _mind_shift(self) -> None:
        """Close a shift before its 24 h are over; open one when a receipt waits for it."""
        assert self._status is not None
        self._cancel_open_document()
        if self._status.mode == "shift_expired" or self._shifts.left_s() <= 0:
            self._announce(self._register.close_shift(None))
            self._ask_status()
        if self._status.mode == "shift_closed" and self._waiting():
            self._announce(self._register.open_shift(None))
            self._ask_status()

    def _announce(self, report: ShiftReport) -> None:
        self._note_fd(report.fd_number)
        self._shifts.announce(report)

    def _note_fd(self, fd_number: int) -> None:
        self._last_fd = fd_number
        self._view = replace(self._view, last_fd_number=fd_number)

    # -- small questions ------------------------------------------------------------------------------------

    def _waiting(self) -> int:
        return self._journal.counts().get((self._settings.kkt, Status.BUFFERED), 0)

    def _too_old(self, task: PrintTask) -> bool:
        limit = self._settings.max_age_s
        return bool(limit) and self._journal.steady_ms() - task.received_steady_ms > limit * 1000

    def _age_of_status(self) -> float:
        return self._clock.monotonic() - self._status_at

    def _idle_s(self) -> float:
        until_status = self._settings.status_interval_s - self._age_of_status()
        return max(0.0, min(until_status, self._shifts.left_s()))

    def _stand_still(self, problem: str, detail: str) -> None:
        if self._view.problem != problem:
            log.warning("register %s stands still (%s): %s", self._settings.kkt, problem, detail)
        self._view = replace(self._view, problem=problem, detail=detail)
        self._status = None
        self._retry_at = self._clock.monotonic() + RETRY_S
        self._jobs.refuse(problem, detail)

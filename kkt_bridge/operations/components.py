"""The components of a bridge, each reporting on itself.

A report costs O(1) and asks the journal for what lies in memory wherever it can. A figure that must be read from the
disk and cannot be is left out of the message; the rest of the message stands.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any, Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import JournalError
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import first_unsent_ms, oldest_pending_ms
from kkt_bridge.journal.transaction import DLQ
from kkt_bridge.mqtt.messages import SessionStatus
from kkt_bridge.ofd.breaker import Breaker
from kkt_bridge.operations.clock_watch import DRIFT_S, ClockWatch
from kkt_bridge.operations.component_report import (
    BUFFER_LEVELS,
    BrokerFacts,
    BufferFacts,
    ComponentReport,
    FloodFacts,
    JournalFacts,
    RegisterFacts,
)
from kkt_bridge.operations.health import REGISTER, WELL, degraded_by, part
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.receipts.lifecycle import PENDING, Status
from kkt_bridge.registers.base import RegisterStatus
from kkt_bridge.stages.delivery.delivery import DeliveryStatus
from kkt_bridge.stages.intake.admission import Admission
from kkt_bridge.stages.printing.status import NOT_YET_REACHED, InDoubtReceipt, LaneStatus
from kkt_bridge.wire.messages import (
    DOUBTS_SHOWN_MAX,
    BreakerState,
    BufferState,
    ComponentHealth,
    DoubtState,
    KktState,
    ShiftState,
    SyncState,
    rfc3339,
)

DAY_MS: Final = 86_400_000

FILL_WINDOW_S: Final = 300.0
"""Seconds over which the growth of the buffer is measured."""

RATE_WINDOW_S: Final = 60.0
"""Seconds over which the rate of delivery is measured."""

FULL_AT_HORIZON_S: Final = 30 * 86_400.0
"""Seconds ahead up to which it is forecast when the buffer is full."""

FALL_BELOW: Final = 5.0
"""Per cent of the capacity that the buffer must fall below a threshold before it has left it."""

SAMPLES_MAX: Final = 60
"""Samples of a figure that are kept to tell its rate."""


@dataclass(frozen=True, slots=True)
class ShopTime:
    """Times as messages show them."""

    clock: Clock
    zone: tzinfo

    def now(self) -> str:
        """Return the present time."""
        return rfc3339(self.clock.now_ms(), self.zone)

    def at(self, ms: int | None) -> str | None:
        """Return this time; None for None."""
        return None if ms is None else rfc3339(ms, self.zone)

    def today(self) -> date:
        """Return the date on the shop's calendar."""
        return datetime.fromisoformat(self.now()).date()


class Trend:
    """The rate of a figure over the last minutes, from a bounded number of samples."""

    def __init__(self, window_s: float) -> None:
        self._spacing_s = window_s / SAMPLES_MAX
        self._window_s = window_s
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX + 1)

    def note(self, value: float, now_s: float) -> None:
        """Add a sample; samples closer together than the spacing are left out."""
        if not self._samples or now_s - self._samples[-1][0] >= self._spacing_s:
            self._samples.append((now_s, value))

    def per_second(self, value: float, now_s: float) -> float:
        """Return the rate from the oldest sample in the window to this value; 0 while there is none."""
        while len(self._samples) > 1 and now_s - self._samples[0][0] > self._window_s:
            self._samples.popleft()
        if not self._samples or now_s <= self._samples[0][0]:
            return 0.0
        since, then = self._samples[0]
        return (value - then) / (now_s - since)


def journal_report(journal: Journal, registers: Collection[str]) -> ComponentReport:
    """Report on the journal, and what lies in it for a person to decide on."""
    counts = journal.counts()
    orphaned = dict.fromkeys(sorted({*registers, *(kkt for kkt, _ in counts)}), 0)
    for (kkt, kind), count in counts.items():
        if kind in {Status.BUFFERED, Status.PRINTING} and kkt not in registers:
            orphaned[kkt] += count
    dead_letters = {kkt: counts.get((kkt, DLQ), 0) for kkt in orphaned}
    facts = JournalFacts(journal.failing, dead_letters, orphaned)
    if facts.failing is not None:
        return ComponentReport(part("unhealthy", facts.failing), facts=(facts,))
    waiting = [f"receipts wait for {kkt}, which is not configured" for kkt, count in orphaned.items() if count]
    return ComponentReport(degraded_by(waiting), facts=(facts,))


def dead_letters_report(journal: Journal) -> ComponentReport:
    """Report on the documents that the OFD refused."""
    count = journal.total(DLQ)
    waits = "1 waits" if count == 1 else f"{count} wait"
    return ComponentReport(part("degraded", f"{waits} for a decision: `kkt-bridge dlq list`" if count else None))


class BufferComponent:
    """The buffer: how full, how old, how long it will last, and whether receipts are taken."""

    def __init__(self, journal: Journal, admission: Admission, time: ShopTime) -> None:
        self._journal = journal
        self._admission = admission
        self._time = time
        self._fill = Trend(FILL_WINDOW_S)
        self._level = 0

    def report(self) -> ComponentReport:
        """Return the present state."""
        pending, capacity = self._journal.pending(), self._admission.capacity
        percent = 100 * pending / capacity
        self._level = fill_level(percent, self._level)
        queues = [(Status(kind), kkt) for (kkt, kind), n in self._journal.counts().items() if kind in PENDING and n]
        oldest, unreadable = read_time(self._journal, lambda connection: oldest_pending_ms(connection, queues))
        accepting = self._admission.accepting(pending) and self._journal.failing is None and unreadable is None
        full_at = self._full_at(pending, capacity)
        state = BufferState(
            capacity=capacity,
            pending=pending,
            percent_full=round(percent, 1),
            accepting=accepting,
            paused=self._admission.paused,
            oldest_pending_at=self._time.at(oldest),
            full_at=full_at,
            dlq_size=self._journal.total(DLQ),
            by_status={status: self._journal.total(status) for status in Status},
            at=self._time.now(),
        )
        facts = BufferFacts(pending, capacity, self._level, full_at)
        return ComponentReport(self._health(facts, unreadable), {"buffer": state}, (facts,))

    def _health(self, facts: BufferFacts, unreadable: str | None) -> ComponentHealth:
        if unreadable is not None:
            return part("unhealthy", f"what lies in it cannot be read: {unreadable}")
        if self._admission.paused:
            return part("degraded", "paused by an operator")
        if facts.pending >= facts.capacity:
            return part("unhealthy", "full: receipts are refused")
        return part("degraded", f"more than {facts.level} % full" if facts.level else None)

    def _full_at(self, pending: int, capacity: int) -> str | None:
        now = self._time.clock.monotonic()
        self._fill.note(pending, now)
        growth = self._fill.per_second(pending, now)
        if growth <= 0 or pending >= capacity:
            return None
        seconds = (capacity - pending) / growth
        if seconds > FULL_AT_HORIZON_S:
            return None
        # To the minute: a forecast that moves by the second would be a change by the second.
        return self._time.at((self._time.clock.now_ms() + int(seconds * 1000)) // 60_000 * 60_000)


def fill_level(percent: float, before: int) -> int:
    """Return the threshold that a buffer so full has reached; one reached before is kept until it is well below."""
    reached = max((level for level in BUFFER_LEVELS if percent >= level), default=0)
    kept = max((level for level in BUFFER_LEVELS if level <= before and percent >= level - FALL_BELOW), default=0)
    return max(reached, kept)


class OfdComponent:
    """The way to the OFD: the breaker, the network, and what its answers say together."""

    def __init__(self, view: Callable[[], DeliveryStatus], breaker: Breaker, time: ShopTime) -> None:
        self._view = view
        self._breaker = breaker
        self._time = time
        self._sent = Trend(RATE_WINDOW_S)

    def report(self) -> ComponentReport:
        """Return the present state."""
        view = self._view()
        states = {"breaker": self.breaker_state(), "sync": self._sync(view)}
        return ComponentReport(self._health(view), states, (view,))

    def breaker_state(self) -> BreakerState:
        """Return `state/breaker` as it is now; safe in any thread."""
        breaker, opened_ms = self._breaker, self._breaker.opened_ms
        probe_ms = opened_ms + int(breaker.reset_timeout_s * 1000) if opened_ms and breaker.state == "open" else None
        return BreakerState(
            state=breaker.state,
            failures=breaker.failures,
            fail_max=breaker.fail_max,
            opened_at=self._time.at(opened_ms),
            next_probe_at=self._time.at(probe_ms),
            last_error=breaker.last_error,
            at=self._time.now(),
        )

    def _health(self, view: DeliveryStatus) -> ComponentHealth:
        breaker = self._breaker
        is_closed = breaker.state == "closed"
        return degraded_by(
            (
                f"refuses this bridge: {view.bridge_refused}" if view.bridge_refused is not None else None,
                f"refuses every document: {view.refuses_all}" if view.refuses_all is not None else None,
                "takes nothing, though documents are waiting" if view.takes_nothing_since is not None else None,
                _unsendable(sum(view.unsendable.values())),
                None if is_closed else f"breaker {breaker.state}: {breaker.last_error}",
                f"network {view.network}" if is_closed and view.network != "online" else None,
            )
        )

    def _sync(self, view: DeliveryStatus) -> SyncState:
        now = self._time.clock.monotonic()
        self._sent.note(view.sent_total, now)
        until = view.paused_until
        paused_ms = None if until is None else self._time.clock.now_ms() + int((until - now) * 1000)
        return SyncState(
            network=view.network,
            in_progress=view.in_progress,
            last_success_at=self._time.at(view.last_success_ms),
            sent_total=view.sent_total,
            failed_total=view.failed_total,
            unsendable=sum(view.unsendable.values()),
            rate_per_s=round(self._sent.per_second(view.sent_total, now), 2),
            paused_until=self._time.at(paused_ms),
            at=self._time.now(),
        )


class BrokerComponent:
    """The session at the broker."""

    def __init__(self, session: Callable[[], SessionStatus]) -> None:
        self._session = session
        self._unroutable = 0

    def report(self) -> ComponentReport:
        """Return the present state."""
        session = self._session()
        refused, parked = session.refused_topics, session.parked
        filters = ", ".join(session.refused_subscriptions)
        facts = BrokerFacts(session, session.unroutable.count - self._unroutable)
        self._unroutable = session.unroutable.count
        return ComponentReport(
            degraded_by(
                (
                    f"refuses subscriptions: {filters}" if filters else None,
                    f"refuses what the bridge publishes: {refused.example}" if refused.count else None,
                    f"cuts the connection over what the bridge publishes: {parked.example}" if parked.count else None,
                )
            ),
            facts=(facts,),
        )


def intake_report(admission: Admission) -> ComponentReport:
    """Report on the intake of what terminals send."""
    flood = admission.flood
    health = part("degraded", f"flooded by {flood.pos}" if flood else None)
    return ComponentReport(health, facts=(FloodFacts(flood),))


def clock_report(watch: ClockWatch, journal: Journal, views: Iterable[LaneStatus]) -> ComponentReport:
    """Report on the system clock; `views` are of the registers that it is compared with."""
    # A virtual register goes by the very clock that is in question: that it agrees says nothing.
    drifts = {
        view.kkt: view.clock_drift_s
        for view in views
        if view.clock_drift_s is not None and (view.driver != "virtual" or abs(view.clock_drift_s) > DRIFT_S)
    }
    verdict = watch.check(journal.hlc_wall_ms, drifts)
    return ComponentReport(part("degraded", verdict.wrong), facts=(verdict,))


def _unsendable(count: int) -> str | None:
    documents = "1 document" if count == 1 else f"{count} documents"
    return f"{documents} cannot be put together for it" if count else None


def read_time(journal: Journal, query: Callable[[Any], int | None]) -> tuple[int | None, str | None]:
    """Read a time from the journal; return it, and why it cannot be read."""
    try:
        return journal.read(query), None
    except JournalError as error:
        return None, str(error)


def register_report(view: LaneStatus, journal: Journal, time: ShopTime) -> ComponentReport:
    """Report on a register, its fiscal storage, and its documents on their way to the OFD."""
    counts, status = journal.counts(), view.status
    printed, dead = counts.get((view.kkt, Status.PRINTED), 0), counts.get((view.kkt, DLQ), 0)
    first_ms, unreadable = (
        read_time(journal, lambda connection: first_unsent_ms(connection, view.kkt))
        if printed or dead
        else (None, None)
    )
    state = KktState(
        kkt=view.kkt,
        driver=view.driver,
        ready=status is not None and view.problem is None,
        mode=status.mode if status else None,
        model=status.model if status else None,
        serial=status.serial if status else None,
        registration_number=status.registration_number if status else None,
        fn_number=status.fn_number if status else None,
        fn_expires=status.fn_expires if status else None,
        last_fd_number=view.last_fd_number,
        ofd_unsent=printed + dead,
        ofd_first_unsent_at=time.at(first_ms),
        queue=counts.get((view.kkt, Status.BUFFERED), 0) + counts.get((view.kkt, Status.PRINTING), 0),
        shift=_shift(status) if status else None,
        paper=status.paper if status else None,
        clock_drift_s=view.clock_drift_s,
        problem=view.problem,
        detail=view.detail,
        doubts=[_doubt(doubt, time) for doubt in (view.doubts or ())[:DOUBTS_SHOWN_MAX]],
        doubts_total=len(view.doubts or ()),
        parked=sum(doubt.parked for doubt in view.doubts or ()),
        journal_behind=view.journal_behind,
        at=time.now(),
    )
    health = _lane_health(view)
    if unreadable is not None and health is WELL:
        health = part("degraded", f"its documents cannot be read: {unreadable}")
    waited_ms = 0 if first_ms is None else max(0, time.clock.now_ms() - first_ms)
    days_left = (status.fn_expires - time.today()) // timedelta(days=1) if status else None
    facts = RegisterFacts(view, printed + dead, waited_ms / DAY_MS, days_left)
    return ComponentReport(health, {REGISTER + view.kkt: state}, (facts,))


def _doubt(doubt: InDoubtReceipt, time: ShopTime) -> DoubtState:
    task = doubt.task
    return DoubtState(
        **task.key._asdict(),
        doubt=doubt.number,
        fn_number=task.fn_before or "",
        fd_number=task.fd_before or 0,
        total=format_kopecks(doubt.total),
        since=rfc3339(doubt.since_ms, time.zone),
        reason=doubt.reason,
        parked=doubt.parked,
    )


def _lane_health(view: LaneStatus) -> ComponentHealth:
    if view.problem == NOT_YET_REACHED:
        return part("degraded", "starting: not asked yet")
    reason = f"{view.problem}: {view.detail}" if view.detail else view.problem
    return part("unhealthy", reason)


def _shift(status: RegisterStatus) -> ShiftState:
    opened_at = status.shift_opened_at
    return ShiftState(
        number=status.shift_number,
        open=status.mode in {"shift_open", "shift_expired", "document_open"},
        opened_at=opened_at.isoformat(timespec="seconds") if opened_at else None,
    )

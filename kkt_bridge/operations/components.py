"""The components of a bridge as the telemetry shows them: each makes its messages, its health and its facts.

A component costs O(1) a look and asks the journal for what lies in memory wherever it can. What must be read from the
disk is guarded by itself: a journal that cannot be read takes one figure from a message and not the whole message.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from typing import Any, Final, Protocol

from kkt_bridge.clock import Clock
from kkt_bridge.errors import JournalError
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import first_unsent_ms, oldest_pending_ms
from kkt_bridge.journal.transaction import DLQ
from kkt_bridge.mqtt.messages import SessionStatus
from kkt_bridge.ofd.breaker import Breaker
from kkt_bridge.operations.alert_conditions import BUFFER_LEVELS
from kkt_bridge.operations.clock_watch import DRIFT_S, ClockWatch
from kkt_bridge.operations.facts import (
    BrokerFacts,
    BufferFacts,
    FloodFacts,
    JournalFacts,
    RegisterFacts,
)
from kkt_bridge.operations.health import BUFFER, JOURNAL, REGISTER, WELL, degraded_by, part
from kkt_bridge.operations.trends import Trend
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.receipts.lifecycle import PENDING, Status
from kkt_bridge.registers.base import RegisterStatus
from kkt_bridge.stages.delivery.status import DeliveryStatus
from kkt_bridge.stages.intake.admission import Admission
from kkt_bridge.stages.printing.status import NOT_YET_REACHED, InDoubtReceipt, LaneStatus, orphaned_queues
from kkt_bridge.wire.messages import (
    DOUBTS_SHOWN_MAX,
    BreakerState,
    BufferState,
    ComponentHealth,
    DoubtState,
    KktState,
    Outgoing,
    ShiftState,
    SyncState,
    rfc3339,
)

FILL_WINDOW_S: Final = 300.0
"""Over how long the growth of the buffer is measured."""

RATE_WINDOW_S: Final = 60.0
"""Over how long the rate of delivery is measured."""

FULL_AT_HORIZON_S: Final = 30 * 86_400.0
"""Further ahead than this a forecast is none."""

FALL_BELOW: Final = 5.0
"""Per cent of the capacity that the buffer must fall below a threshold before it has left it."""

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class ComponentReport:
    """What one look at a component has found."""

    health: ComponentHealth
    states: Mapping[str, Outgoing] = field(default_factory=dict)
    """By the name behind `state/`."""
    facts: Sequence[object] = ()
    """What the conditions look at, see `facts.py`."""


class Component(Protocol):
    """A part of the bridge that is looked at every second."""

    @property
    def name(self) -> str:
        """Its name in `state/health`."""
        ...

    def look(self) -> ComponentReport:
        """How it is now. Whatever this raises is shown as the component's trouble."""
        ...


@dataclass(frozen=True, slots=True)
class ShopTime:
    """The time as messages tell it."""

    clock: Clock
    zone: tzinfo

    def now(self) -> str:
        """Now."""
        return rfc3339(self.clock.now_ms(), self.zone)

    def at(self, ms: int | None) -> str | None:
        """This time; None for None."""
        return None if ms is None else rfc3339(ms, self.zone)

    def today(self) -> date:
        """The date on the shop's calendar."""
        return datetime.fromisoformat(self.now()).date()


class JournalComponent:
    """The journal, and what lies in it for a person to decide on."""

    name = JOURNAL

    def __init__(self, journal: Journal, registers: Sequence[str]) -> None:
        self._journal = journal
        self._registers = frozenset(registers)

    def look(self) -> ComponentReport:
        """See `Component`."""
        counts = self._journal.counts()
        known = self._registers | {kkt for kkt, _ in counts}
        orphaned = dict.fromkeys(sorted(known), 0) | orphaned_queues(counts, self._registers)
        facts = JournalFacts(
            failing=self._journal.failing,
            dead_letters={kkt: counts.get((kkt, DLQ), 0) for kkt in known},
            orphaned=orphaned,
        )
        if facts.failing is not None:
            return ComponentReport(part("unhealthy", facts.failing), facts=(facts,))
        waiting = [f"receipts wait for {kkt}, which is not configured" for kkt, n in sorted(orphaned.items()) if n]
        return ComponentReport(degraded_by(waiting), facts=(facts,))


class DeadLettersComponent:
    """The documents that the OFD refused."""

    name = "dead_letters"

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def look(self) -> ComponentReport:
        """See `Component`."""
        count = _dead_letters(self._journal)
        waits = "1 waits" if count == 1 else f"{count} wait"
        return ComponentReport(part("degraded", f"{waits} for a decision: `kkt-bridge dlq list`" if count else None))


class BufferComponent:
    """The buffer: how full, how old, how long it will last, and whether receipts are taken."""

    name = BUFFER

    def __init__(self, journal: Journal, admission: Admission, time: ShopTime) -> None:
        self._journal = journal
        self._admission = admission
        self._time = time
        self._fill = Trend(FILL_WINDOW_S)
        self._level = 0

    def look(self) -> ComponentReport:
        """See `Component`."""
        pending, capacity = self._journal.pending(), self._admission.capacity
        percent = 100 * pending / capacity
        self._level = fill_level(percent, self._level)
        queues = [(Status(kind), kkt) for (kkt, kind), n in self._journal.counts().items() if kind in PENDING and n]
        oldest, unreadable = _read(self._journal, lambda connection: oldest_pending_ms(connection, queues))
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
            dlq_size=_dead_letters(self._journal),
            by_status=self._by_status(),
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

    def _by_status(self) -> dict[Status, int]:
        by_status = dict.fromkeys(Status, 0)
        for (_, kind), n in self._journal.counts().items():
            if kind != DLQ:
                by_status[Status(kind)] += n
        return by_status

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
    """The threshold that a buffer so full has reached; one that it had reached before it keeps a little longer."""
    reached = max((level for level in BUFFER_LEVELS if percent >= level), default=0)
    kept = max((level for level in BUFFER_LEVELS if level <= before and percent >= level - FALL_BELOW), default=0)
    return max(reached, kept)


class OfdComponent:
    """The way to the OFD: the breaker, the network, and what its answers say together."""

    name = "ofd"

    def __init__(self, view: Callable[[], DeliveryStatus], breaker: Breaker, time: ShopTime) -> None:
        self._view = view
        self._breaker = breaker
        self._time = time
        self._sent = Trend(RATE_WINDOW_S)

    def look(self) -> ComponentReport:
        """See `Component`."""
        view = self._view()
        states = {"breaker": self.breaker_state(), "sync": self._sync(view)}
        return ComponentReport(self._health(view), states, (view,))

    def breaker_state(self) -> BreakerState:
        """`state/breaker` as it is now; safe in any thread."""
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

    name = "broker"

    def __init__(self, session: Callable[[], SessionStatus]) -> None:
        self._session = session
        self._unroutable = 0

    def look(self) -> ComponentReport:
        """See `Component`."""
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


class IntakeComponent:
    """What the terminals send."""

    name = "intake"

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def look(self) -> ComponentReport:
        """See `Component`."""
        flood = self._admission.flood
        return ComponentReport(
            part("degraded", f"flooded by {flood.pos}" if flood else None), facts=(FloodFacts(flood),)
        )


class ClockComponent:
    """The system clock."""

    name = "clock"

    def __init__(self, watch: ClockWatch, journal: Journal, views: Callable[[], Sequence[LaneStatus]]) -> None:
        self._watch = watch
        self._journal = journal
        self._views = views

    def look(self) -> ComponentReport:
        """See `Component`."""
        # A virtual register goes by the very clock that is in question: that it agrees says nothing.
        drifts = {
            view.kkt: view.clock_drift_s
            for view in self._views()
            if view.clock_drift_s is not None and (view.driver != "virtual" or abs(view.clock_drift_s) > DRIFT_S)
        }
        verdict = self._watch.look(self._journal.hlc_wall_ms, drifts)
        return ComponentReport(part("degraded", verdict.wrong), facts=(verdict,))


class RegisterComponent:
    """A register, its fiscal storage, and its documents on their way to the OFD."""

    def __init__(self, kkt: str, view: Callable[[], LaneStatus], journal: Journal, time: ShopTime) -> None:
        self.name = f"{REGISTER}{kkt}"
        self._kkt = kkt
        self._view = view
        self._journal = journal
        self._time = time

    def look(self) -> ComponentReport:
        """See `Component`."""
        view, counts = self._view(), self._journal.counts()
        printed, dead = counts.get((self._kkt, Status.PRINTED), 0), counts.get((self._kkt, DLQ), 0)
        first_ms, unreadable = (
            _read(self._journal, lambda connection: first_unsent_ms(connection, self._kkt))
            if printed or dead
            else (None, None)
        )
        status = view.status
        state = KktState(
            kkt=self._kkt,
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
            ofd_first_unsent_at=self._time.at(first_ms),
            queue=counts.get((self._kkt, Status.BUFFERED), 0) + counts.get((self._kkt, Status.PRINTING), 0),
            shift=_shift(status) if status else None,
            paper=status.paper if status else None,
            clock_drift_s=view.clock_drift_s,
            problem=view.problem,
            detail=view.detail,
            doubts=[self._doubt(doubt) for doubt in (view.doubts or ())[:DOUBTS_SHOWN_MAX]],
            doubts_total=len(view.doubts or ()),
            parked=sum(doubt.parked for doubt in view.doubts or ()),
            journal_behind=view.journal_behind,
            at=self._time.now(),
        )
        health = _lane_health(view)
        if unreadable is not None and health is WELL:
            health = part("degraded", f"its documents cannot be read: {unreadable}")
        return ComponentReport(health, {self.name: state}, (self._facts(view, printed + dead, first_ms),))

    def _facts(self, view: LaneStatus, unsent: int, first_ms: int | None) -> RegisterFacts:
        waited_ms = 0 if first_ms is None else self._time.clock.now_ms() - first_ms
        left = (view.status.fn_expires - self._time.today()) // timedelta(days=1) if view.status else None
        return RegisterFacts(view, unsent, max(0, waited_ms) / DAY_MS, left)

    def _doubt(self, doubt: InDoubtReceipt) -> DoubtState:
        task = doubt.task
        return DoubtState(
            **task.key._asdict(),
            doubt=doubt.number,
            fn_number=task.fn_before or "",
            fd_number=task.fd_before or 0,
            total=format_kopecks(doubt.total),
            since=rfc3339(doubt.since_ms, self._time.zone),
            reason=doubt.reason,
            parked=doubt.parked,
        )


def _unsendable(count: int) -> str | None:
    documents = "1 document" if count == 1 else f"{count} documents"
    return f"{documents} cannot be put together for it" if count else None


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


def _dead_letters(journal: Journal) -> int:
    return sum(n for (_, kind), n in journal.counts().items() if kind == DLQ)


def _read(journal: Journal, query: Callable[[Any], int | None]) -> tuple[int | None, str | None]:
    """A time that stands in the journal, and why it cannot be read."""
    try:
        return journal.read(query), None
    except JournalError as error:
        return None, str(error)

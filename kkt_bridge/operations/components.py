"""The components of a bridge, each reporting on itself; registers are in `register_component.py`.

A report costs O(1) and asks the journal for what lies in memory wherever it can. A figure that must be read from the
disk and cannot be is left out of the message; the rest of the message stands.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Any, Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import JournalError
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import oldest_pending_ms
from kkt_bridge.journal.transaction import DLQ, CountKey
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
)
from kkt_bridge.operations.health import BUFFER, JOURNAL, degraded_by, part
from kkt_bridge.receipts.lifecycle import PENDING, Status
from kkt_bridge.stages.delivery.delivery import DeliveryStatus
from kkt_bridge.stages.intake.admission import Admission
from kkt_bridge.stages.printing.status import LaneStatus
from kkt_bridge.wire.messages import (
    BreakerState,
    BufferState,
    ComponentHealth,
    SyncState,
    rfc3339,
)

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


class JournalComponent:
    """The journal, and what lies in it for a person to decide on."""

    name = JOURNAL

    def __init__(self, journal: Journal, registers: Sequence[str]) -> None:
        self._journal = journal
        self._registers = frozenset(registers)

    def report(self) -> ComponentReport:
        """See `Component`."""
        counts = self._journal.counts()
        known = self._registers | {kkt for kkt, _ in counts}
        orphaned = dict.fromkeys(sorted(known), 0) | _orphaned_queues(counts, self._registers)
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

    def report(self) -> ComponentReport:
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

    def report(self) -> ComponentReport:
        """See `Component`."""
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
    """Return the threshold that a buffer so full has reached; one reached before is kept until it is well below."""
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

    def report(self) -> ComponentReport:
        """See `Component`."""
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

    name = "broker"

    def __init__(self, session: Callable[[], SessionStatus]) -> None:
        self._session = session
        self._unroutable = 0

    def report(self) -> ComponentReport:
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
    """The intake of what terminals send."""

    name = "intake"

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def report(self) -> ComponentReport:
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

    def report(self) -> ComponentReport:
        """See `Component`."""
        # A virtual register goes by the very clock that is in question: that it agrees says nothing.
        drifts = {
            view.kkt: view.clock_drift_s
            for view in self._views()
            if view.clock_drift_s is not None and (view.driver != "virtual" or abs(view.clock_drift_s) > DRIFT_S)
        }
        verdict = self._watch.check(self._journal.hlc_wall_ms, drifts)
        return ComponentReport(part("degraded", verdict.wrong), facts=(verdict,))


def _unsendable(count: int) -> str | None:
    documents = "1 document" if count == 1 else f"{count} documents"
    return f"{documents} cannot be put together for it" if count else None


def _dead_letters(journal: Journal) -> int:
    return sum(n for (_, kind), n in journal.counts().items() if kind == DLQ)


def read_time(journal: Journal, query: Callable[[Any], int | None]) -> tuple[int | None, str | None]:
    """Read a time from the journal; return it, and why it cannot be read."""
    try:
        return journal.read(query), None
    except JournalError as error:
        return None, str(error)


def _orphaned_queues(counts: Mapping[CountKey, int], registers: Collection[str]) -> dict[str, int]:
    """Count receipts not printed yet whose register the settings no longer name, by that register."""
    orphans: dict[str, int] = {}
    for (kkt, kind), count in counts.items():
        if kind in {Status.BUFFERED, Status.PRINTING} and count and kkt not in registers:
            orphans[kkt] = orphans.get(kkt, 0) + count
    return orphans

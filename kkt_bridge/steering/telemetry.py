"""The bridge's state as messages: composed from what the stages show of themselves, at O(1) a message."""

import threading
from collections.abc import Sequence
from datetime import tzinfo
from typing import Final, Protocol

from kkt_bridge.clock import Clock
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import oldest_printed_ms, oldest_received_ms
from kkt_bridge.journal.transaction import DLQ, CountKey
from kkt_bridge.ofd.breaker import Breaker
from kkt_bridge.ofd.network import Network
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.receipts.lifecycle import PENDING, Status
from kkt_bridge.registers.base import RegisterStatus
from kkt_bridge.stages.delivery import Delivery
from kkt_bridge.stages.intake.admission import Admission
from kkt_bridge.stages.lane import Doubt, LaneView
from kkt_bridge.stages.printing import PrintLane
from kkt_bridge.steering.alerts import Alerts, Sight
from kkt_bridge.steering.board import Board
from kkt_bridge.steering.clock_watch import ClockWatch
from kkt_bridge.steering.health import health
from kkt_bridge.steering.trends import Trend
from kkt_bridge.wire.messages import (
    DOUBTS_SHOWN_MAX,
    BreakerState,
    BufferState,
    DoubtState,
    KktState,
    Online,
    ShiftState,
    SyncState,
)
from kkt_bridge.wire.times import rfc3339

INTERVAL_S: Final = 1.0
"""How late a change may be noticed."""

FILL_WINDOW_S: Final = 300.0
RATE_WINDOW_S: Final = 60.0
FULL_AT_HORIZON_S: Final = 30 * 86_400.0
"""Further ahead than this a forecast is none."""


class Link(Protocol):
    """What the telemetry needs of the MQTT session."""

    @property
    def rival(self) -> str | None:
        """Why another bridge with our name is suspected, in one line; None while none is."""
        ...


class Telemetry:
    """Looks at the parts and puts what it sees on the board."""

    def __init__(  # noqa: PLR0913 (it sees every part)
        self,
        *,
        board: Board,
        journal: Journal,
        admission: Admission,
        lanes: Sequence[PrintLane],
        delivery: Delivery,
        breaker: Breaker,
        network: Network,
        link: Link,
        alerts: Alerts,
        clock_watch: ClockWatch,
        online: Online,
        zone: tzinfo,
        clock: Clock,
    ) -> None:
        self._board = board
        self._journal = journal
        self._admission = admission
        self._lanes = lanes
        self._delivery = delivery
        self._breaker = breaker
        self._network = network
        self._link = link
        self._alerts = alerts
        self._clock_watch = clock_watch
        self._online = online
        self._zone = zone
        self._clock = clock
        self._fill = Trend(FILL_WINDOW_S)
        self._sent = Trend(RATE_WINDOW_S)
        self._next_look = 0.0
        self._looking = threading.Lock()  # the board's thread looks, and so does an operator's `status`

    def step(self) -> float | None:
        """Look at everything once."""
        now = self._clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + INTERVAL_S
            self.look()
        # What changed while its topic had to be silent is said in between, before the next change hides it.
        self._board.step()
        return max(0.0, min(INTERVAL_S / 2, self._next_look - now))

    def look(self) -> None:
        """Put the present state of every part on the board."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        counts = self._journal.counts()
        views = [lane.view for lane in self._lanes]
        self._board.put("buffer", self._buffer(counts))
        self.look_at_breaker()
        self._board.put("sync", self._sync())
        for view in views:
            self._board.put(f"kkt/{view.kkt}", self._kkt(view, counts))
        drifts = {view.kkt: view.clock_drift_s for view in views if view.clock_drift_s is not None}
        verdict = self._clock_watch.look(self._journal.hlc_wall_ms, drifts)
        parts = health(
            journal_failing=self._journal.failing,
            accepting=self._admission.accepting(self._journal.pending()),
            paused=self._admission.paused,
            breaker=self._breaker,
            network=self._network.state,
            clock_wrong=verdict.wrong,
            lanes=views,
            at=self._now(),
        )
        self._board.put("health", parts)
        self._alerts.look(Sight(lanes=views, storage=self._journal.failing, clock=verdict, rival=self._link.rival))

    def look_at_breaker(self) -> None:
        """Put the breaker's state on the board; also called by the breaker, the moment it changes."""
        self._board.put("breaker", self._breaker_state())

    def status(self) -> dict[str, object]:
        """Every state message in one answer."""
        self.look()
        messages = {name: message.model_dump(mode="json") for name, message in self._board.snapshot().items()}
        registers = {
            name.removeprefix("kkt/"): messages.pop(name) for name in list(messages) if name.startswith("kkt/")
        }
        return {"online": self._online.model_dump(mode="json"), **messages, "kkt": registers}

    def _now(self) -> str:
        return rfc3339(self._clock.now_ms(), self._zone)

    def _time(self, ms: int | None) -> str | None:
        return None if ms is None else rfc3339(ms, self._zone)

    def _buffer(self, counts: dict[CountKey, int]) -> BufferState:
        by_status = dict.fromkeys(Status, 0)
        for (_, kind), n in counts.items():
            if kind != DLQ:
                by_status[Status(kind)] += n
        pending, capacity = self._journal.pending(), self._admission.capacity
        return BufferState(
            capacity=capacity,
            pending=pending,
            percent_full=round(100 * pending / capacity, 1),
            accepting=self._admission.accepting(pending),
            paused=self._admission.paused,
            oldest_pending_at=self._time(self._oldest_pending_ms(counts)),
            full_at=self._full_at(pending, capacity),
            dlq_size=sum(n for (_, kind), n in counts.items() if kind == DLQ),
            by_status=by_status,
            at=self._now(),
        )

    def _oldest_pending_ms(self, counts: dict[CountKey, int]) -> int | None:
        queues = [(Status(kind), kkt) for (kkt, kind), n in counts.items() if kind in PENDING and n]
        times = self._journal.read(
            lambda connection: [oldest_received_ms(connection, status, kkt) for status, kkt in queues]
        )
        return min((ms for ms in times if ms is not None), default=None)

    def _full_at(self, pending: int, capacity: int) -> str | None:
        now = self._clock.monotonic()
        self._fill.note(pending, now)
        growth = self._fill.per_second(pending, now)
        if growth <= 0 or pending >= capacity:
            return None
        seconds = (capacity - pending) / growth
        if seconds > FULL_AT_HORIZON_S:
            return None
        # To the minute: a forecast that moves by the second would be a change by the second.
        return self._time((self._clock.now_ms() + int(seconds * 1000)) // 60_000 * 60_000)

    def _breaker_state(self) -> BreakerState:
        breaker, opened_ms = self._breaker, self._breaker.opened_ms
        probe_ms = opened_ms + int(breaker.reset_timeout_s * 1000) if opened_ms and breaker.state == "open" else None
        return BreakerState(
            state=breaker.state,
            failures=breaker.failures,
            fail_max=breaker.fail_max,
            opened_at=self._time(opened_ms),
            next_probe_at=self._time(probe_ms),
            last_error=breaker.last_error,
            at=self._now(),
        )

    def _sync(self) -> SyncState:
        delivery, now = self._delivery, self._clock.monotonic()
        self._sent.note(delivery.sent_total, now)
        return SyncState(
            network=self._network.state,
            in_progress=delivery.in_progress,
            last_success_at=self._time(delivery.last_success_ms),
            sent_total=delivery.sent_total,
            failed_total=delivery.failed_total,
            rate_per_s=round(self._sent.per_second(delivery.sent_total, now), 2),
            at=self._now(),
        )

    def _kkt(self, view: LaneView, counts: dict[CountKey, int]) -> KktState:
        status = view.status
        unsent = counts.get((view.kkt, Status.PRINTED), 0)
        oldest = self._journal.read(lambda connection: oldest_printed_ms(connection, view.kkt)) if unsent else None
        return KktState(
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
            ofd_unsent=unsent,
            ofd_first_unsent_at=self._time(oldest),
            queue=counts.get((view.kkt, Status.BUFFERED), 0) + counts.get((view.kkt, Status.PRINTING), 0),
            shift=_shift(status) if status else None,
            paper=status.paper if status else None,
            clock_drift_s=view.clock_drift_s,
            problem=view.problem,
            doubts=[self._doubt(doubt) for doubt in (view.doubts or ())[:DOUBTS_SHOWN_MAX]],
            doubts_total=len(view.doubts or ()),
            at=self._now(),
        )

    def _doubt(self, doubt: Doubt) -> DoubtState:
        task = doubt.task
        return DoubtState(
            receipt_id=task.receipt_id,
            pos_id=task.pos_id,
            doubt=doubt.number,
            fn_number=task.fn_before or "",
            fd_number=task.fd_before or 0,
            total=format_kopecks(doubt.total),
            since=rfc3339(doubt.since_ms, self._zone),
            reason=doubt.reason,
        )


def _shift(status: RegisterStatus) -> ShiftState:
    opened_at = status.shift_opened_at
    return ShiftState(
        number=status.shift_number,
        open=status.mode in {"shift_open", "shift_expired", "document_open"},
        opened_at=opened_at.isoformat(timespec="seconds") if opened_at else None,
    )

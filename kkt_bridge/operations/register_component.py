"""A register as the telemetry shows it: its status, its fiscal storage, its documents on their way to the OFD."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import first_unsent_ms
from kkt_bridge.journal.transaction import DLQ
from kkt_bridge.operations.component_report import (
    ComponentReport,
    RegisterFacts,
)
from kkt_bridge.operations.components import ShopTime, read_time
from kkt_bridge.operations.health import REGISTER, WELL, part
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.registers.base import RegisterStatus
from kkt_bridge.stages.printing.status import NOT_YET_REACHED, InDoubtReceipt, LaneStatus
from kkt_bridge.wire.messages import (
    DOUBTS_SHOWN_MAX,
    ComponentHealth,
    DoubtState,
    KktState,
    ShiftState,
    rfc3339,
)

DAY_MS: Final = 86_400_000


class RegisterComponent:
    """A register, its fiscal storage, and its documents on their way to the OFD."""

    def __init__(self, kkt: str, view: Callable[[], LaneStatus], journal: Journal, time: ShopTime) -> None:
        self.name = f"{REGISTER}{kkt}"
        self._kkt = kkt
        self._view = view
        self._journal = journal
        self._time = time

    def report(self) -> ComponentReport:
        """See `Component`."""
        view, counts = self._view(), self._journal.counts()
        printed, dead = counts.get((self._kkt, Status.PRINTED), 0), counts.get((self._kkt, DLQ), 0)
        first_ms, unreadable = (
            read_time(self._journal, lambda connection: first_unsent_ms(connection, self._kkt))
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

"""The shift of a register: how old it is, by two clocks, and the event that tells of it.

A register closes nothing by itself, and refuses everything once a shift is 24 hours old by its own clock. That
clock may stand still or jump; so the time that has passed here since the shift was first seen counts as well.
"""

import logging
import math
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.registers.base import (
    RegisterStatus,
    ShiftReport,
)
from kkt_bridge.wire.messages import ShiftEvent, rfc3339
from kkt_bridge.wire.topics import Topics

OPEN: Final = frozenset({"shift_open", "shift_expired", "document_open"})
"""Modes of a register whose shift is open."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _OpenShift:
    """A shift that is open, as first seen."""

    name: tuple[str, int]
    """The fiscal storage and the shift's number in it."""
    first_seen: float
    """Monotonic seconds."""
    age_at_opening_s: float
    """What the register said when it had just opened it for us: it may count in whole minutes, or by a wrong clock."""


class ShiftAge:
    """When a register's shift was opened, and when it has to be closed, by whichever clock says earlier."""

    def __init__(self, close_after_s: float, clock: Clock) -> None:
        """`close_after_s`: seconds after which a shift is to be closed."""
        self._close_after_s = close_after_s
        self._clock = clock
        self._open: _OpenShift | None = None
        self._opened_here: tuple[str, int] | None = None
        """The last shift that was opened for us."""
        self.opened_at = math.inf
        """Monotonic seconds; infinite where no shift is open."""
        self.close_at = math.inf
        """Monotonic seconds."""

    def note_opened(self, fn_number: str, number: int) -> None:
        """Note that the register has just opened a shift for us: it is no older than that."""
        self._opened_here = (fn_number, number)

    def note(self, status: RegisterStatus) -> None:
        """Note what the register answered just now."""
        if status.mode not in OPEN:
            self._open, self.opened_at, self.close_at = None, math.inf, math.inf
            return
        now, name, opened_at = self._clock.monotonic(), (status.fn_number, status.shift_number), status.shift_opened_at
        age_s = (status.clock - opened_at).total_seconds() if opened_at is not None else 0.0
        if self._open is None or self._open.name != name:
            self._open = _OpenShift(name, now, age_s if name == self._opened_here else 0.0)
        self.opened_at = min(self._open.first_seen, now - (age_s - self._open.age_at_opening_s))
        self.close_at = self.opened_at + self._close_after_s


@dataclass(frozen=True, slots=True)
class ShiftEvents:
    """Publishes the shifts of one register."""

    kkt: str
    topics: Topics
    zone: tzinfo

    def publish(self, tx: Transaction, report: ShiftReport) -> None:
        """Publish that a shift was opened or closed, in the commit in which its document becomes known."""
        event = ShiftEvent(
            kkt=self.kkt,
            number=report.number,
            open=report.open,
            fd_number=report.fd_number,
            at=rfc3339(tx.instant.wall_ms, self.zone),
        )
        tx.publish(self.topics.event("shift"), event.payload(), is_event=True)

    def log(self, report: ShiftReport) -> None:
        """Write the shift's line in the log."""
        log.info("shift %d on %s %s", report.number, self.kkt, "opened" if report.open else "closed")

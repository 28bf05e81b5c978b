"""The shift of a register: how old it is, by two clocks, and how others are told of it.

A register closes nothing by itself, and refuses everything once a shift is 24 hours old by its own clock. That
clock may stand still or jump; so the time that has passed here since the shift was first seen counts as well.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import RegisterNotReady
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.registers.base import (
    SHIFT_CLOSE_FORM,
    SHIFT_OPEN_FORM,
    FiscalRegister,
    RegisterStatus,
    ShiftReport,
    StoredDocument,
)
from kkt_bridge.wire.messages import ShiftEvent, rfc3339
from kkt_bridge.wire.topics import Topics

OPEN: Final = frozenset({"shift_open", "shift_expired", "document_open"})
"""Modes of a register whose shift is open."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _OpenShift:
    """A shift that is open, as last seen; times are monotonic seconds."""

    name: tuple[str, int]
    """The fiscal storage and the shift's number in it."""
    first_seen: float
    last_seen: float
    age_by_register_s: float
    """When it was last seen; 0 from a register that does not tell."""
    age_at_opening_s: float
    """What the register said when it had just opened it for us: it may count in whole minutes, or by a wrong clock."""


class ShiftAge:
    """How old a register's shift is."""

    def __init__(self, close_after_s: float, clock: Clock) -> None:
        """`close_after_s`: seconds after which a shift is to be closed."""
        self._close_after_s = close_after_s
        self._clock = clock
        self._open: _OpenShift | None = None
        self._opened_here: tuple[str, int] | None = None
        """The last shift that was opened for us."""

    def opened(self, fn_number: str, number: int) -> None:
        """Take note of a shift that the register has just opened for us: it is no older than that."""
        self._opened_here = (fn_number, number)

    def note(self, status: RegisterStatus) -> None:
        """Take note of what the register says now."""
        if status.mode not in OPEN:
            self._open = None
            return
        now, name = self._clock.monotonic(), (status.fn_number, status.shift_number)
        known = self._open is not None and self._open.name == name
        first_seen = self._open.first_seen if self._open is not None and known else now
        opened_at = status.shift_opened_at
        age_s = (status.clock - opened_at).total_seconds() if opened_at is not None else 0.0
        if self._open is not None and known:
            age_at_opening_s = self._open.age_at_opening_s
        else:
            age_at_opening_s = age_s if name == self._opened_here else 0.0
        self._open = _OpenShift(name, first_seen, now, age_s, age_at_opening_s)

    def age_s(self) -> float:
        """Seconds that the shift has been open, by whichever clock says more; 0 where none is."""
        if self._open is None:
            return 0.0
        now = self._clock.monotonic()
        by_register_s = self._open.age_by_register_s - self._open.age_at_opening_s + now - self._open.last_seen
        return max(now - self._open.first_seen, by_register_s)

    def left_s(self) -> float:
        """Seconds until the shift is to be closed."""
        return self._close_after_s - self.age_s()


@dataclass(frozen=True, slots=True)
class ShiftEvents:
    """Tells of the shifts of one register."""

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
        """One line a shift."""
        log.info("shift %d on %s %s", report.number, self.kkt, "opened" if report.open else "closed")


FORM: Final = {True: SHIFT_OPEN_FORM, False: SHIFT_CLOSE_FORM}
"""The form of the document with which a shift opens, and of the one with which it closes."""


@dataclass(frozen=True, slots=True)
class ShiftBaseline:
    """How the register stood when it was first asked about an order."""

    fn_number: str
    shift_number: int
    is_open: bool
    last_fd_number: int


@dataclass(frozen=True, slots=True)
class ShiftOrder:
    """A job for a lane: open the next shift, or close the one that is open."""

    opens: bool
    seen_before: ShiftBaseline | None
    """How the register stood when this order was first begun; None if it never was."""
    note: Callable[[ShiftBaseline], object]
    """Keeps that durably."""

    def __call__(self, register: FiscalRegister) -> ShiftReport:
        """Carry it out, or tell what came of it; RegisterNotReady where it cannot be done, or not any more."""
        status = register.status()
        now = ShiftBaseline(status.fn_number, status.shift_number, status.mode in OPEN, status.last_fd_number)
        before = self.seen_before
        if before is None:
            self.note(now)
        elif (before.fn_number, before.shift_number, before.is_open) != (now.fn_number, now.shift_number, now.is_open):
            return self._what_came_of_it(register, before, now)
        return register.open_shift(None) if self.opens else register.close_shift(None)

    def _what_came_of_it(self, register: FiscalRegister, before: ShiftBaseline, now: ShiftBaseline) -> ShiftReport:
        number = before.shift_number + 1 if self.opens else before.shift_number
        deed = "opened" if self.opens else "closed"
        if before.fn_number == now.fn_number and before.is_open is not self.opens:
            for document in register.documents(before.last_fd_number + 1, now.last_fd_number):
                is_it = isinstance(document, StoredDocument) and document.form == FORM[self.opens]
                if is_it and isinstance(document, StoredDocument) and document.shift_number == number:
                    return ShiftReport(number, open=self.opens, fd_number=document.fd_number)
        raise RegisterNotReady(
            "shift_changed",
            f"the order was begun before a restart and meant shift {number} on FN {before.fn_number}; that shift was "
            f"not {deed} by it, and now the register is at shift {now.shift_number} on FN {now.fn_number}: order again",
        )

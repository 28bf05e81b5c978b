"""Opening and closing a shift by order, carried out once although the process may end before the answer is kept.

Which shift is meant is written down before the register is asked to do anything. A repeat of the order looks what has
become of that shift, and never acts on the next one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kkt_bridge.errors import RegisterNotReady
from kkt_bridge.registers.base import (
    SHIFT_CLOSE_FORM,
    SHIFT_OPEN_FORM,
    FiscalRegister,
    ShiftReport,
    StoredDocument,
)
from kkt_bridge.stages.printing.shifts import OPEN

FORM: Final = {True: SHIFT_OPEN_FORM, False: SHIFT_CLOSE_FORM}
"""The form of the document with which a shift opens, and of the one with which it closes."""


@dataclass(frozen=True, slots=True)
class ShiftSeen:
    """How the register stood when it was first asked about an order."""

    fn_number: str
    shift_number: int
    is_open: bool
    last_fd_number: int


@dataclass(frozen=True, slots=True)
class ShiftOrder:
    """A job for a lane: open the next shift, or close the one that is open."""

    opens: bool
    seen_before: ShiftSeen | None
    """How the register stood when this order was first begun; None if it never was."""
    note: Callable[[ShiftSeen], object]
    """Keeps that durably."""

    def __call__(self, register: FiscalRegister) -> ShiftReport:
        """Carry it out, or tell what came of it; RegisterNotReady where it cannot be done, or not any more."""
        status = register.status()
        now = ShiftSeen(status.fn_number, status.shift_number, status.mode in OPEN, status.last_fd_number)
        before = self.seen_before
        if before is None:
            self.note(now)
        elif (before.fn_number, before.shift_number, before.is_open) != (now.fn_number, now.shift_number, now.is_open):
            return self._what_came_of_it(register, before, now)
        return register.open_shift(None) if self.opens else register.close_shift(None)

    def _what_came_of_it(self, register: FiscalRegister, before: ShiftSeen, now: ShiftSeen) -> ShiftReport:
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

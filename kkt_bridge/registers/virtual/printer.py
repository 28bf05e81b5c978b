"""The printer of a register: how long a document takes on paper, and what becomes of it without."""

from dataclasses import dataclass

from kkt_bridge.clock import Clock
from kkt_bridge.registers.virtual.faults import FaultSwitch
from kkt_bridge.registers.virtual.rules import Submode


@dataclass(frozen=True, slots=True)
class _Sheet:
    fd_number: int
    done_at: float
    """By the monotonic clock."""


class Printer:
    """One document at a time; all of this is lost when the power goes."""

    def __init__(self, faults: FaultSwitch, clock: Clock, print_time_s: float) -> None:
        self._faults = faults
        self._clock = clock
        self._print_time_s = print_time_s
        self._sheet: _Sheet | None = None
        self.interrupted: int | None = None
        """The FD number of the document that the paper ran out under."""

    @property
    def submode(self) -> Submode:
        """The state of the printer, by the faults last polled."""
        if self._sheet is not None:
            return Submode.PRINTING
        if self.interrupted is not None:
            return Submode.PAPER_RAN_OUT if self._faults.paper_is_out else Submode.AWAITING_CONTINUE
        return Submode.NO_PAPER if self._faults.paper_is_out else Submode.IDLE

    @property
    def seconds_left(self) -> float:
        """Until the document under way is on paper; 0 if there is none."""
        return max(0.0, self._sheet.done_at - self._clock.monotonic()) if self._sheet is not None else 0.0

    @property
    def is_due(self) -> bool:
        """True if something is being printed that by the clock should be on paper now."""
        return self._sheet is not None and self._clock.monotonic() >= self._sheet.done_at

    def start(self, fd_number: int) -> None:
        """Begin to print a document, or a copy of it."""
        override = self._faults.current.print_time_s
        seconds = self._print_time_s if override is None else override
        self._sheet = _Sheet(fd_number, self._clock.monotonic() + seconds)

    def finish(self) -> None:
        """Bring the document under way to its end: on paper, or interrupted for want of it."""
        if self._sheet is not None and not self._faults.feed_paper():
            self.interrupted = self._sheet.fd_number
        self._sheet = None

    def resume(self) -> None:
        """Print the rest of what was interrupted."""
        self.interrupted = None

    def power_off(self) -> None:
        """Forget what was being printed."""
        self._sheet = None
        self.interrupted = None

"""What a register last said of itself, as one value: replaced as a whole, read by any thread."""

from dataclasses import dataclass, replace

from kkt_bridge.clock import Clock
from kkt_bridge.registers.base import Expected, FiscalRegister, RegisterStatus


@dataclass(frozen=True, slots=True)
class RegisterSnapshot:
    """A register as it answered, and what was made on it since."""

    status: RegisterStatus
    fresh_until: float
    """Monotonic seconds until which the answer is believed."""
    last_fd_number: int
    """By the status, or of the document that was printed after it."""
    drift_s: float
    """Seconds by which the register's clock was ahead of the system's."""

    @property
    def expected(self) -> Expected:
        """The storage and the number of the next document."""
        return Expected(self.status.fn_number, self.last_fd_number + 1)

    def equals(self, other: "RegisterSnapshot") -> bool:
        """Return whether both answers tell of the same storage and last document, and of a register at rest."""
        mine, theirs = self.status, other.status
        return (
            mine.at_rest
            and theirs.at_rest
            and (mine.fn_number, mine.last_fd_number) == (theirs.fn_number, theirs.last_fd_number)
        )


class RegisterWatch:
    """The last answer of a register, kept up with the documents printed since."""

    def __init__(self, register: FiscalRegister, clock: Clock, fresh_s: float) -> None:
        """`fresh_s`: for how long an answer is believed, seconds."""
        self._register = register
        self._clock = clock
        self._fresh_s = fresh_s
        self.snapshot: RegisterSnapshot | None = None
        """The last answer; None where what is known does not hold."""

    def ask(self) -> RegisterSnapshot:
        """Ask for the status. Errors: those of the register."""
        self.snapshot = None
        status = self._register.status()
        drift_s = round(status.clock.timestamp() - self._clock.now_ms() / 1000, 1)
        self.snapshot = RegisterSnapshot(
            status, self._clock.monotonic() + self._fresh_s, status.last_fd_number, drift_s
        )
        return self.snapshot

    def note_document(self, fn_number: str, fd_number: int) -> None:
        """Note a document; where it is not the next one of this storage, nothing known of the register holds."""
        snapshot = self.snapshot
        if snapshot is not None:
            is_next = snapshot.expected == Expected(fn_number, fd_number)
            self.snapshot = replace(snapshot, last_fd_number=fd_number) if is_next else None

    def forget(self) -> None:
        """Drop the answer: the register has to be asked again."""
        self.snapshot = None

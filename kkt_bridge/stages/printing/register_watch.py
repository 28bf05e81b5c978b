"""What a register last said of itself, as one value: replaced as a whole, read by any thread."""

from dataclasses import dataclass, replace

from kkt_bridge.clock import Clock
from kkt_bridge.registers.base import Expected, FiscalRegister, RegisterStatus


@dataclass(frozen=True, slots=True)
class RegisterSnapshot:
    """A register as it answered, and what was made on it since."""

    status: RegisterStatus
    asked_at: float
    """Monotonic seconds."""
    last_fd_number: int
    """By the status, or of the document that was printed after it."""
    drift_s: float
    """How far the register's clock was ahead of the system's."""

    @property
    def expected(self) -> Expected:
        """Where the next document will stand."""
        return Expected(self.status.fn_number, self.last_fd_number + 1)

    def equals(self, other: "RegisterSnapshot") -> bool:
        """Whether two looks saw the same storage, with the same last document, and the register at rest."""
        mine, theirs = self.status, other.status
        return (
            mine.at_rest
            and theirs.at_rest
            and (mine.fn_number, mine.last_fd_number) == (theirs.fn_number, theirs.last_fd_number)
        )


class RegisterWatch:
    """Asks a register how it is, and knows for how long that holds."""

    def __init__(self, register: FiscalRegister, clock: Clock, fresh_s: float) -> None:
        """`fresh_s`: for how long an answer is believed, seconds."""
        self._register = register
        self._clock = clock
        self._fresh_s = fresh_s
        self.snapshot: RegisterSnapshot | None = None
        """The last answer; None where what is known does not hold."""

    def ask(self) -> RegisterSnapshot:
        """Ask it. Errors: those of the register."""
        self.snapshot = None
        status = self._register.status()
        drift_s = round(status.clock.timestamp() - self._clock.now_ms() / 1000, 1)
        self.snapshot = RegisterSnapshot(status, self._clock.monotonic(), status.last_fd_number, drift_s)
        return self.snapshot

    def note_document(self, fn_number: str, fd_number: int) -> None:
        """A document was made; where it is not the next one of this storage, what is known of it does not hold."""
        snapshot = self.snapshot
        if snapshot is not None:
            is_next = snapshot.expected == Expected(fn_number, fd_number)
            self.snapshot = replace(snapshot, last_fd_number=fd_number) if is_next else None

    def forget(self) -> None:
        """Something happened after which the register has to be asked again."""
        self.snapshot = None

    def fresh_for_s(self, snapshot: RegisterSnapshot) -> float:
        """For how many seconds an answer is still believed; not above 0 where it is too old."""
        return self._fresh_s - (self._clock.monotonic() - snapshot.asked_at)

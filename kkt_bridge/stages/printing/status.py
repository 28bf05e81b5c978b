"""What a print lane is told, what it knows of its register, and what it shows of itself."""

from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from kkt_bridge.journal.records import PrintTask
from kkt_bridge.registers.base import Expected, RegisterStatus
from kkt_bridge.stages.delivery.document_body import RegisterRequisites

NOT_YET_REACHED: Final = "not_yet_reached"
"""The problem of a lane that has only just started."""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """A lane's register and duties, from the settings."""

    kkt: str
    driver: str
    requisites: RegisterRequisites
    shift_close_after_s: float
    max_age_s: float
    """Receipts older than this are rejected unprinted; 0: never."""
    status_interval_s: float
    zone: tzinfo
    repeats_come_for_s: float = 30 * 86_400
    """For how long a receipt may be brought again by the broker, or by a POS that it could not reach."""


@dataclass(frozen=True, slots=True)
class RegisterSnapshot:
    """A register as it answered, and what was printed on it since: replaced as a whole, never changed."""

    status: RegisterStatus
    expected: Expected
    """The storage and the number of the next document, by the status or by what was printed after it."""
    fresh_until: float
    """Monotonic seconds until which the answer is believed."""
    drift_s: float
    """Seconds by which the register's clock was ahead of the system's."""

    def equals(self, other: "RegisterSnapshot") -> bool:
        """Return whether both answers tell of the same storage and last document, and of a register at rest."""
        mine, theirs = self.status, other.status
        return (
            mine.at_rest
            and theirs.at_rest
            and (mine.fn_number, mine.last_fd_number) == (theirs.fn_number, theirs.last_fd_number)
        )


@dataclass(frozen=True, slots=True)
class InDoubtReceipt:
    """A receipt of which the register cannot prove whether it was printed: a person must say."""

    task: PrintTask
    number: int
    """Of the attempt to print it, never used again: who decides says which attempt is meant."""
    total: int
    """Kopecks."""
    since_ms: int
    """When printing began, by the system clock."""
    reason: str
    """What is in the way, in one line."""
    parked: bool = False
    """Whether it is proven that it was not printed, and the others go on: the bridge or its driver failed on it."""


@dataclass(frozen=True, slots=True)
class UnreadHistory:
    """Where the reading backwards of a storage never seen before ended too early for what it holds."""

    fn_number: str
    fd_number: int
    """The last document that was looked at."""

    def __str__(self) -> str:
        return f"history of FN {self.fn_number} was not read before FD {self.fd_number}"


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """The state of a lane, for other threads to read: replaced as a whole, never changed."""

    kkt: str
    driver: str
    status: RegisterStatus | None = None
    """As it last answered; None before the first answer."""
    last_fd_number: int | None = None
    clock_drift_s: float | None = None
    problem: str | None = NOT_YET_REACHED
    """Why nothing is printed now, in one word; None when all is well."""
    detail: str | None = None
    doubts: tuple[InDoubtReceipt, ...] | None = None
    """Receipts in doubt that are left to a person; None before the register was asked."""
    journal_behind: int = 0
    """Documents of ours that the storages held beyond the journal's knowledge; 0 a day after the last was found."""
    journal_behind_detail: str | None = None
    """Which they were."""
    unread: UnreadHistory | None = None
    """What was left unread of a storage that was new to the journal; None from a day after on."""
    storage_taken_out: str | None = None
    """What to show of a storage that was taken out since a stale journal was written; None where none was."""

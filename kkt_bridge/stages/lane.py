"""What a print lane is told, and what it shows of itself."""

from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from kkt_bridge.journal.records import PrintTask
from kkt_bridge.receipts.codes import TaxSystem
from kkt_bridge.registers.base import RegisterStatus

NOT_YET_REACHED: Final = "not_yet_reached"
"""The problem of a lane that has only just started."""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """What a lane is told about its register and its duties."""

    kkt: str
    driver: str
    tax_system: TaxSystem
    shift_close_after_s: float
    max_age_s: float
    """Receipts older than this are rejected unprinted; 0: never."""
    status_interval_s: float
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class Doubt:
    """A receipt of which the register cannot tell whether it was printed: a person must."""

    task: PrintTask
    number: int
    """Of the attempt to print it, never used again: who decides says which attempt is meant."""
    total: int
    """Kopecks."""
    since_ms: int
    """When printing began, by the system clock."""
    reason: str
    """What is in the way, in one line."""


@dataclass(frozen=True, slots=True)
class LaneView:
    """What others may know of a lane: replaced as a whole, never changed."""

    kkt: str
    driver: str
    status: RegisterStatus | None = None
    """As it last answered; None before the first answer."""
    last_fd_number: int | None = None
    clock_drift_s: float | None = None
    problem: str | None = NOT_YET_REACHED
    """Why nothing is printed now, in one word; None when all is well."""
    detail: str | None = None
    doubts: tuple[Doubt, ...] | None = None
    """What is left to a person; None before the register was asked."""

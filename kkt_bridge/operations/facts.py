"""What the components tell of themselves beyond their state messages: what the table of alerts looks at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from kkt_bridge.mqtt.messages import SessionStatus
from kkt_bridge.stages.intake.flood import FloodStatus
from kkt_bridge.stages.printing.status import LaneStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JournalFacts:
    """The journal and what lies in it for a person to decide."""

    failing: str | None
    """Why it takes nothing; None when it does."""
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    """Documents that the OFD refused and nobody has decided on, by register, zeroes included."""
    orphaned: Mapping[str, int] = field(default_factory=dict)
    """Receipts that wait for a register that is not configured, by register, zeroes included."""


@dataclass(frozen=True, slots=True)
class BufferFacts:
    """How full the buffer is."""

    pending: int
    capacity: int
    level: int
    """The threshold that it has reached, in per cent; 0 below the first."""
    full_at: str | None = None
    """When it will be full at the rate of the last minutes (RFC 3339); None when it does not grow."""


@dataclass(frozen=True, slots=True)
class RegisterFacts:
    """A register, its fiscal storage and its documents."""

    view: LaneStatus
    unsent: int = 0
    """Documents that the OFD does not have, dead letters included."""
    unsent_days: float = 0.0
    """For how long the first of them has been waiting."""
    fn_days_left: int | None = None
    """Until the key of the fiscal storage expires; None while that is not known."""


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """The session at the broker."""

    session: SessionStatus
    unroutable_now: int = 0
    """Messages on topics that are none of ours since the look before this one."""


@dataclass(frozen=True, slots=True)
class FloodFacts:
    """Whether a terminal sends so much that others would have to wait."""

    flood: FloodStatus | None


@dataclass(frozen=True, slots=True)
class Broken:
    """A part of the telemetry, or of the bridge as the telemetry sees it, that failed in an unforeseen way."""

    component: str
    reason: str


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that one look of the telemetry has found. What could not be looked at is absent, not empty."""

    facts: Sequence[object]

    def of(self, kind: type[T]) -> Iterator[T]:
        """The facts of one kind, in the order of the components."""
        return (fact for fact in self.facts if isinstance(fact, kind))

"""The report of a component: its health, its state messages, and the facts that alerts are judged by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kkt_bridge.mqtt.messages import SessionStatus
from kkt_bridge.stages.intake.flood import FloodStatus
from kkt_bridge.stages.printing.status import LaneStatus
from kkt_bridge.wire.messages import ComponentHealth, Outgoing

BUFFER_LEVELS: Final = (80, 90, 100)
"""Per cent of the buffer at which an alert is raised, and raised again."""


@dataclass(frozen=True, slots=True)
class JournalFacts:
    """The journal, and what lies in it for a person to decide on."""

    failing: str | None
    """The reason why it takes nothing; None when it does."""
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    """Documents that the OFD refused and nobody has decided on, by register, zeroes included."""
    orphaned: Mapping[str, int] = field(default_factory=dict)
    """Receipts that wait for a register that is not configured, by register, zeroes included."""


@dataclass(frozen=True, slots=True)
class BufferFacts:
    """The fill of the buffer."""

    pending: int
    capacity: int
    level: int
    """The threshold that it has reached, in per cent; 0 below the first."""
    full_at: str | None = None
    """The time when it will be full at the rate of the last minutes (RFC 3339); None when it does not grow."""


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
    """Messages on topics that are none of ours since the report before this one."""


@dataclass(frozen=True, slots=True)
class FloodFacts:
    """The terminal that sends so much that others would have to wait, if there is one."""

    flood: FloodStatus | None


@dataclass(frozen=True, slots=True)
class BrokenParts:
    """Parts that failed in an unforeseen way when they were last run, with the reason."""

    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ComponentReport:
    """The state of a component at one moment."""

    health: ComponentHealth
    states: Mapping[str, Outgoing] = field(default_factory=dict)
    """State messages, by the name behind `state/`."""
    facts: Sequence[object] = ()
    """For the conditions of alerts."""


Report = Callable[[], ComponentReport]
"""Returns a component's present state. Whatever it raises is shown as the component's trouble."""

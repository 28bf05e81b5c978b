"""The decision on delivery's next action: a pure function over a value, no I/O."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from kkt_bridge.ofd.breaker import CircuitState
from kkt_bridge.stages.delivery.trial import TrialState


class Action(Enum):
    """The actions of delivery."""

    SYNC = auto()
    """Begin the operator's pass, send what it still may, or end it."""
    AWAIT_ANSWERS = auto()
    """Wait: what is under way has to come back first."""
    AWAIT_PAUSE_END = auto()
    """Wait: the OFD is left alone for a while."""
    AWAIT_TRIAL = auto()
    """Wait: it is not yet time for the next trial."""
    BEGIN_TRIAL = auto()
    """Ask the health check, or try a document."""
    CONTINUE_TRIAL = auto()
    """Try the trial's next document, or end it where there is none."""
    SEND = auto()
    """Send what each idle lane has."""


@dataclass(frozen=True, slots=True)
class Situation:
    """The facts that decide on the next action."""

    sync: Literal["requested", "running"] | None = None
    paused_s: float = 0.0
    """Seconds for which nothing may be sent."""
    under_way: int = 0
    """Batches and questions that have not come back."""
    sendable: int = 0
    """Documents that the OFD lacks and that can be sent, now or after a back-off."""
    breaker: CircuitState = "closed"
    is_suspicious: bool = False
    """True where the evidence speaks against the service or this bridge."""
    trial: TrialState = TrialState.NONE
    trial_in_s: float = 0.0
    """Seconds until the next trial may begin."""


def next_action(now: Situation) -> Action:
    """Return the next action. An operator's sync comes before all else, then pauses, then trials."""
    if now.sync is not None:
        # It begins when nothing is under way any more.
        return Action.AWAIT_ANSWERS if now.sync == "requested" and now.under_way else Action.SYNC
    if now.paused_s > 0:
        return Action.AWAIT_PAUSE_END
    if now.trial is TrialState.NONE:
        # A suspicion has to be tested only where there is something to test it with; an open breaker always.
        is_testable = now.sendable > 0 or now.under_way > 0
        if now.breaker == "closed" and not (now.is_suspicious and is_testable):
            return Action.SEND
    if now.under_way:
        return Action.AWAIT_ANSWERS
    if now.trial is not TrialState.NONE:
        return Action.CONTINUE_TRIAL
    return Action.AWAIT_TRIAL if now.trial_in_s > 0 else Action.BEGIN_TRIAL

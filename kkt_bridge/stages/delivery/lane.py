"""The delivery lane of a register: its oldest documents in one batch, their answers, and the next batch after that.

A lane decides nothing; it knows what is under way, and in which order it was sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kkt_bridge.journal.records import DueDocument
from kkt_bridge.ofd.exchange import OfdAnswer
from kkt_bridge.stages.delivery.sync_pass import SyncPass

BATCH_MAX: Final = 32
"""Documents given to the exchange at once, at most; fewer where the OFD is slow."""


class LaneState(StrEnum):
    """What a lane waits for."""

    IDLE = "idle"
    """Nothing is under way."""
    SENDING = "sending"
    """Documents are."""
    ASKING = "asking"
    """One of them failed, and the health check is asked whose fault it is."""


LANE_TRANSITIONS: Final[Mapping[LaneState, frozenset[LaneState]]] = MappingProxyType(
    {
        LaneState.IDLE: frozenset({LaneState.SENDING}),
        LaneState.SENDING: frozenset({LaneState.IDLE, LaneState.ASKING}),
        LaneState.ASKING: frozenset({LaneState.IDLE}),
    }
)


@dataclass(slots=True)
class Lane:
    """One register's documents under way."""

    kkt: str
    state: LaneState = LaneState.IDLE
    documents: Sequence[DueDocument] = ()
    """Those under way, in the order of their FD numbers."""
    failed: tuple[DueDocument, OfdAnswer] | None = None
    """The one about which the health check is asked."""
    sent_at: int = 0
    """The moment of the evidence at which the batch was sent."""
    batch: int = 0
    """The number of what is under way at the exchange."""
    deadline: float = 0.0
    """When the exchange is taken to have lost it: seconds on the monotonic clock."""
    hold_until: float = 0.0
    """Before that nothing is sent: seconds on the monotonic clock."""
    sync: SyncPass | None = None
    """The pass that the batch belongs to."""
    length: int = BATCH_MAX
    """Documents in the next batch."""
    served: int = field(default=0)
    """The moment of its last batch: who was served longest ago comes first."""

    def become(self, state: LaneState) -> None:
        """Go on to this state; AssertionError if the table has no such transition."""
        assert state in LANE_TRANSITIONS[self.state], f"{self.kkt}: {state} after {self.state}"
        self.state = state

    def mind_the_pace(self, done: int) -> None:
        """Give as many next time as there was time for, or more if there was time for all: none is read in vain."""
        self.length = done if done < len(self.documents) else min(BATCH_MAX, max(self.length, 2 * done))

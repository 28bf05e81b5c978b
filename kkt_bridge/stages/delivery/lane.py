"""Delivery lanes, one for each register: a batch of its oldest documents, their answers, and the next batch after that.

A lane decides nothing; it knows what is under way, and in which order it was sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kkt_bridge.journal.records import DueDocument
from kkt_bridge.ofd.exchange import OfdAnswer
from kkt_bridge.stages.delivery.sync_pass import SyncPass

BATCH_MAX: Final = 32
"""Documents given to the exchange at once, at most; fewer where the OFD is slow."""


class LaneState(StrEnum):
    """The states of a lane."""

    IDLE = "idle"
    """Nothing is under way."""
    SENDING = "sending"
    """Documents are."""
    CHECKING = "checking"
    """One of them failed, and the health check is asked whose fault it is."""


LANE_TRANSITIONS: Final[Mapping[LaneState, frozenset[LaneState]]] = MappingProxyType(
    {
        LaneState.IDLE: frozenset({LaneState.SENDING}),
        LaneState.SENDING: frozenset({LaneState.IDLE, LaneState.CHECKING}),
        LaneState.CHECKING: frozenset({LaneState.IDLE}),
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
    """The moment (see `FailureAttribution`) at which the last batch was sent."""
    batch: int = 0
    """The number of what is under way at the exchange."""
    deadline: float = 0.0
    """When the exchange is taken to have lost it: seconds on the monotonic clock."""
    hold_until: float = 0.0
    """Before that nothing is sent: seconds on the monotonic clock."""
    sync: SyncPass | None = None
    """The pass that the batch belongs to."""
    batch_size: int = BATCH_MAX
    """Documents in the next batch."""

    def become(self, state: LaneState) -> None:
        """Go on to this state; AssertionError if the table has no such transition."""
        assert state in LANE_TRANSITIONS[self.state], f"{self.kkt}: {state} after {self.state}"
        self.state = state

    def adapt_batch_size(self, answered: int) -> None:
        """Give as many next time as there was time for, or more if there was time for all: none is read in vain."""
        is_cut_short = answered < len(self.documents)
        self.batch_size = answered if is_cut_short else min(BATCH_MAX, max(self.batch_size, 2 * answered))


class Lanes:
    """All of them, by register; made when first asked for. `busy` may be read by other threads."""

    def __init__(self) -> None:
        self._by_kkt: dict[str, Lane] = {}

    def of(self, kkt: str) -> Lane:
        """Return the register's lane."""
        return self._by_kkt.setdefault(kkt, Lane(kkt))

    def busy(self) -> list[Lane]:
        """Return those with something under way."""
        return [lane for lane in list(self._by_kkt.values()) if lane.state != LaneState.IDLE]

    def idle(self, registers: Iterable[str]) -> list[Lane]:
        """Return the idle ones of these registers, the one that sent longest ago first."""
        lanes = [self.of(kkt) for kkt in registers]
        return sorted((lane for lane in lanes if lane.state == LaneState.IDLE), key=lambda lane: lane.sent_at)

    def held_until(self) -> list[float]:
        """Return when the holds of the idle ones end, past ones too: seconds on the monotonic clock."""
        return [lane.hold_until for lane in self._by_kkt.values() if lane.state == LaneState.IDLE]

    def end_holds(self) -> None:
        """Hold none back any longer."""
        for lane in self._by_kkt.values():
            lane.hold_until = 0.0

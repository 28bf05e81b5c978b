"""Rounds: each tries a document that is ready at most once, an outage apart."""

from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field

from kkt_bridge.stages.judge import Outcome


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a round did; `skipped` documents are pending and were not tried."""

    sent: int
    failed: int
    skipped: int
    duration_s: float


@dataclass(slots=True)
class Round:
    """One pass over what is ready."""

    force: bool
    started: float
    result: Future[SyncResult] | None = None
    after: dict[str, int] = field(default_factory=dict)
    """The last document tried, by register."""
    served: Counter[str] = field(default_factory=Counter)
    in_vain: Counter[str] = field(default_factory=Counter)
    """Attempts in an outage, by register: no more than it has documents, each of which would have had one."""
    through: set[str] = field(default_factory=set)
    """Registers that have nothing more to send in this round."""
    sent: int = 0
    failed: set[int] = field(default_factory=set)
    dead: int = 0

    def note(self, outcome: Outcome, *, buried: bool) -> None:
        """Count an attempt; a document that got through in the end has not failed."""
        due = outcome.due
        if outcome.outage:
            self.in_vain[due.kkt] += 1  # it is tried again in another's turn: none overtakes it
        else:
            self.after[due.kkt] = due.document
        self.served[due.kkt] += 1
        self.dead += buried
        if outcome.error is None:
            self.sent += 1
            self.failed.discard(due.document)
        else:
            self.failed.add(due.document)

    def end(self, pending: int, now: float) -> None:
        """Tell whoever waits for it."""
        if self.result is not None:
            failed = len(self.failed)
            skipped = max(0, pending - (failed - self.dead))
            self.result.set_result(SyncResult(self.sent, failed, skipped, round(now - self.started, 3)))

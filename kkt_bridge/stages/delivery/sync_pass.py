"""A sync that an operator asked for: one pass over what is pending, each document tried once at most."""

from concurrent.futures import Future
from dataclasses import dataclass, field

from kkt_bridge.journal.records import DueDocument
from kkt_bridge.stages.delivery.disposition import Disposition


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a pass did; `skipped` documents are pending and were not tried."""

    sent: int
    failed: int
    skipped: int
    duration_s: float


@dataclass(slots=True)
class SyncPass:
    """One pass. Forced, it also passes an open breaker and ends waiting back-offs."""

    force: bool
    started: float
    """Seconds on the monotonic clock."""
    result: Future[SyncResult] = field(default_factory=Future)
    last: int | None = None
    """The last document that was there when it began; None before it has."""
    after: dict[str, int] = field(default_factory=dict)
    """The last document tried, by register."""
    through: set[str] = field(default_factory=set)
    """Registers that have nothing more to send in this pass."""
    failures_in_a_row: int = 0
    sent: int = 0
    failed: set[int] = field(default_factory=set)
    dead: int = 0

    def note(self, due: DueDocument, disposition: Disposition) -> None:
        """Count an attempt."""
        self.after[due.kkt] = max(due.document, self.after.get(due.kkt, 0))
        self.failures_in_a_row = self.failures_in_a_row + 1 if disposition.uplink == "failure" else 0
        if disposition.fate == "sent":
            self.sent += 1
            self.failed.discard(due.document)
            return
        self.failed.add(due.document)
        self.dead += disposition.fate == "dead"
        if disposition.fate == "held":
            self.through.add(due.kkt)  # nothing overtakes it

    def end(self, pending: int, now: float) -> None:
        """Tell whoever waits for it."""
        failed = len(self.failed)
        skipped = max(0, pending - (failed - self.dead))
        self.result.set_result(SyncResult(self.sent, failed, skipped, round(now - self.started, 3)))

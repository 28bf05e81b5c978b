"""A sync that an operator asked for: one pass over what is pending, each document tried once at most."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from kkt_bridge.journal.records import DueDocument
from kkt_bridge.receipts.lifecycle import DeliveryState
from kkt_bridge.stages.delivery.disposition import Disposition
from kkt_bridge.stages.delivery.uplink import Uplink


class SyncInProgress(Exception):
    """An operator's sync is running already."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The counts of a pass; `skipped` documents are pending and were not tried."""

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
    last_document: int | None = None
    """The last document that was there when it began; None before it has."""
    tried_up_to: dict[str, int] = field(default_factory=dict)
    """The last document tried, by register."""
    finished: set[str] = field(default_factory=set)
    """Registers that have nothing more to send in this pass."""
    failures_in_a_row: int = 0
    sent: int = 0
    failed: set[int] = field(default_factory=set)
    dead: int = 0

    @property
    def state(self) -> Literal["requested", "running"]:
        """The state of the pass."""
        return "requested" if self.last_document is None else "running"

    def may_send(self, uplink: Uplink) -> bool:
        """Return whether another document may be tried."""
        if uplink.evidence.refuses_all is not None and self.dead:
            return False  # each further attempt would cost a document that is probably good
        is_open = self.force or uplink.breaker.state == "closed"
        # An OFD that takes nothing is not tried with every document: each attempt may take as long as a time-out.
        fails = self.failures_in_a_row >= uplink.breaker.fail_max
        return is_open and not uplink.paused_s(force=self.force) and not fails

    def note(self, due: DueDocument, disposition: Disposition) -> None:
        """Count an attempt."""
        self.tried_up_to[due.kkt] = max(due.document, self.tried_up_to.get(due.kkt, 0))
        self.failures_in_a_row = self.failures_in_a_row + 1 if disposition.uplink == "failure" else 0
        if disposition.delivery is DeliveryState.SENT:
            self.sent += 1
            self.failed.discard(due.document)
            return
        self.failed.add(due.document)
        self.dead += disposition.delivery is DeliveryState.DEAD
        if disposition.delivery is DeliveryState.READY:
            self.finished.add(due.kkt)  # nothing overtakes it

    def end(self, pending: int, now: float) -> None:
        """Give the result to whoever waits for it. `pending`: documents that the OFD still lacks."""
        failed = len(self.failed)
        skipped = max(0, pending - (failed - self.dead))
        self.result.set_result(SyncResult(self.sent, failed, skipped, round(now - self.started, 3)))

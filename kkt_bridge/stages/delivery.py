"""Stage 3: fiscal documents to the OFD, in the order of their FD numbers, through the breaker.

A *round* tries each document that is ready at most once. It starts when a document is printed, and every
`sync.interval_s` besides; a forced round also passes an open breaker and ends waiting back-offs.
"""

import logging
import random
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import tzinfo
from itertools import zip_longest
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import BreakerOpen, DocumentRefused, OfdUnavailable, StorageUnavailable
from kkt_bridge.journal.delivery import (
    bury,
    end_waiting,
    next_wait_ends_steady_ms,
    ready_documents,
    record_failure,
    record_sent,
)
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.records import DueDocument
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.ofd.backoff import backoff_s
from kkt_bridge.ofd.breaker import Breaker, BreakerChange
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.settings import SyncSettings
from kkt_bridge.stages.courier import Courier, NetworkChange, Outcome
from kkt_bridge.wire.messages import BreakerEvent, NetworkEvent
from kkt_bridge.wire.times import rfc3339
from kkt_bridge.wire.topics import Topics

BATCH_MAX: Final = 16
"""Documents whose outcomes are recorded in one commit."""

BATCH_S: Final = 0.1
"""Seconds after which outcomes are recorded even if the batch is not full."""

RETRY_S: Final = 1.0
"""How often a disk that does not take outcomes is tried again."""

log = logging.getLogger(__name__)


class SyncInProgress(Exception):
    """An operator's sync is running already."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a round did; `skipped` documents are pending and were not tried."""

    sent: int
    failed: int
    skipped: int
    duration_s: float


@dataclass(slots=True)
class _Round:
    """One pass over what is ready."""

    force: bool
    started: float
    result: Future[SyncResult] | None = None
    after: dict[str, int] = field(default_factory=dict)
    """The last document tried, by register."""
    served: Counter[str] = field(default_factory=Counter)
    in_vain: Counter[str] = field(default_factory=Counter)
    """Attempts in an outage, by register: no more than it has documents, each of which would have had one."""
    sent: int = 0
    failed: set[int] = field(default_factory=set)
    dead: int = 0

    def note(self, outcome: Outcome) -> None:
        """Count an attempt; a document that got through in the end has not failed."""
        if outcome.error is None:
            self.sent += 1
            self.failed.discard(outcome.due.document)
        else:
            self.failed.add(outcome.due.document)


class Delivery:
    """Decides what is sent when, and records what became of it."""

    def __init__(
        self,
        *,
        settings: SyncSettings,
        journal: Journal,
        courier: Courier,
        breaker: Breaker,
        topics: Topics,
        zone: tzinfo,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._courier = courier
        self._breaker = breaker
        self._topics = topics
        self._zone = zone
        self._clock = clock
        self._random = random.Random()  # noqa: S311 (jitter)
        self._round: _Round | None = None
        self._requested: _Round | None = None
        self._next_round_at = 0.0
        self._new_documents = True
        self._turn = 0
        self._outcomes: list[Outcome] = []
        self._news: list[BreakerChange | NetworkChange] = []
        self.sent_total = 0
        self.failed_total = 0
        self.last_success_ms: int | None = None

    # -- for other threads ----------------------------------------------------------------------------

    @property
    def in_progress(self) -> bool:
        """Whether a round is under way."""
        return self._round is not None

    def documents_arrived(self) -> None:
        """A document was printed, or requeued: the next step starts a round."""
        self._new_documents = True

    def request(self, *, force: bool) -> "Future[SyncResult]":
        """Have a round made now; the automatic one gives way. SyncInProgress if an earlier request still runs."""
        if self._requested is not None:
            raise SyncInProgress
        result: Future[SyncResult] = Future()
        self._requested = _Round(force=force, started=self._clock.monotonic(), result=result)
        return result

    # -- in the stage's thread ----------------------------------------------------------------------------

    def step(self) -> float | None:
        """Send a batch, or probe, or say how long to wait."""
        try:
            self._record()
            return self._work()
        except StorageUnavailable as problem:
            log.warning("what became of documents waits for the disk: %s", problem)
            return RETRY_S

    def _work(self) -> float | None:
        requested = self._requested
        if requested is not None:
            if self._round is not requested:
                self._journal.write(lambda tx: end_waiting(tx, everything=requested.force))
                self._round = requested
            return self._go_on(requested)
        if self._breaker.state != "closed":
            self._round = None
            return self._probe()
        if self._round is None:
            self._round = self._automatic_round()
        return self._go_on(self._round) if self._round is not None else self._idle()

    def _automatic_round(self) -> _Round | None:
        """A new round, if it is time for one and there is anything to send."""
        self._end_waits()
        now = self._clock.monotonic()
        if not self._new_documents and now < self._next_round_at:
            return None
        self._new_documents = False
        self._next_round_at = now + self._settings.interval_s
        return _Round(force=False, started=now) if self._pending() else None

    def _go_on(self, current: _Round) -> float:
        """One batch of a round, or its end."""
        may_send = current.force or self._breaker.state == "closed"
        batch = self._batch(current) if may_send else []
        if batch:
            self._send_batch(current, batch)
        else:
            self._finish(current)
        return 0.0

    def _batch(self, current: _Round) -> list[DueDocument]:
        """The next documents of every register that has some, a few of each: none waits for another's backlog."""
        pending = [kkt for kkt in self._registers_with_pending() if current.in_vain[kkt] < self._pending_of(kkt)]
        share = max(1, BATCH_MAX // max(1, len(pending)))
        queues = [self._ready(kkt, current.after.get(kkt, 0), share) for kkt in pending]
        # Turn by turn, those served least in this round first: a batch may be cut short.
        queues.sort(key=lambda queue: current.served[queue[0].kkt] if queue else 0)
        return [due for turn in zip_longest(*queues) for due in turn if due is not None]

    def _ready(self, kkt: str, after: int, limit: int) -> list[DueDocument]:
        return self._journal.read(lambda connection: ready_documents(connection, kkt, after, limit))

    def _send_batch(self, current: _Round, batch: list[DueDocument]) -> None:
        deadline = self._clock.monotonic() + BATCH_S
        for due in batch:
            try:
                outcome = self._courier.send(due, force=current.force)
            except BreakerOpen:
                break
            if outcome.outage:
                current.in_vain[due.kkt] += 1  # it is tried again in another's turn: none overtakes it
            else:
                current.after[due.kkt] = due.document
            current.served[due.kkt] += 1
            self._outcomes.append(outcome)
            current.note(outcome)
            current.dead += self._burial(outcome) is not None
            if outcome.error is not None or self._clock.monotonic() > deadline:
                break  # what failed is written down before another overtakes it
        self._record()

    def _finish(self, current: _Round) -> None:
        self._round = None
        if current.result is None:
            return
        self._requested = None
        failed = len(current.failed)
        skipped = max(0, self._pending() - (failed - current.dead))
        duration_s = round(self._clock.monotonic() - current.started, 3)
        current.result.set_result(SyncResult(current.sent, failed, skipped, duration_s))

    def _probe(self) -> float | None:
        """Ask whether the OFD is back, when it is time."""
        wait = self._breaker.seconds_to_probe()
        if wait > 0:
            return wait
        self._end_waits()
        self._outcomes += self._courier.probe(self._candidates)
        self._new_documents = True
        self._record()
        return 0.0

    def _candidates(self) -> list[DueDocument]:
        """The oldest ready document, and the next one in turn.

        The oldest alone would be the eternal trial: were it a bad one, everything behind it would wait for ever.
        """
        oldest, in_turn = self._first_ready(0), self._first_ready(self._turn)
        if oldest is None:
            return []
        if in_turn is None or in_turn.document == oldest.document:
            in_turn = self._first_ready(oldest.document)
        self._turn = in_turn.document if in_turn is not None else 0
        return [oldest] if in_turn is None else [oldest, in_turn]

    def _first_ready(self, after: int) -> DueDocument | None:
        ready = [due for kkt in self._registers_with_pending() for due in self._ready(kkt, after, 1)]
        return min(ready, key=lambda due: due.document, default=None)

    # -- recording ----------------------------------------------------------------------------------------

    def _record(self) -> None:
        """Write down what became of the documents tried, and what else is news."""
        self._news += self._courier.take_news()
        if not self._outcomes and not self._news:
            return
        self._journal.write(self._write_down)
        for outcome in self._outcomes:
            if self._burial(outcome):
                self._courier.forget(outcome.due)
            self._count(outcome)
        self._outcomes.clear()
        self._news.clear()

    def _write_down(self, tx: Transaction) -> None:
        for outcome in self._outcomes:
            self._write_outcome(tx, outcome)
        for change in self._news:
            self._write_news(tx, change)

    def _write_outcome(self, tx: Transaction, outcome: Outcome) -> None:
        due, error = outcome.due, outcome.error
        if error is None:
            record_sent(tx, due, outcome.server_time)
        elif reason := self._burial(outcome):
            bury(tx, due, reason=reason, error=str(error))
        else:
            record_failure(tx, due, str(error), strike=outcome.strike, wait_ms=int(self._wait_s(outcome) * 1000))

    def _burial(self, outcome: Outcome) -> str | None:
        """Why this is the document's last attempt; None if it is not."""
        if isinstance(outcome.error, DocumentRefused):
            return "refused"
        if outcome.strike and outcome.due.strikes + 1 >= self._settings.max_attempts:
            return "max_attempts"
        return None

    def _wait_s(self, outcome: Outcome) -> float:
        """How long the document waits out its own failures; an outage makes it wait for the breaker only."""
        cause = outcome.error.__cause__ or outcome.error if outcome.error is not None else None
        wanted = (cause.retry_after_s or 0.0) if isinstance(cause, OfdUnavailable) else 0.0
        if not outcome.strike:
            return wanted
        own = backoff_s(
            outcome.due.strikes + 1,
            initial_s=self._settings.backoff_initial_s,
            max_s=self._settings.backoff_max_s,
            chance=self._random.random(),
        )
        return max(own, wanted)

    def _write_news(self, tx: Transaction, change: BreakerChange | NetworkChange) -> None:
        at = rfc3339(tx.instant.wall_ms, self._zone)
        if isinstance(change, BreakerChange):
            breaker = BreakerEvent(
                from_=change.previous,
                to=change.current,
                failures=change.failures,
                last_error=change.last_error,
                at=at,
            )
            tx.publish(self._topics.event("breaker"), breaker.payload(), is_event=True)
        else:
            network = NetworkEvent(from_=change.previous, to=change.current, at=at)
            tx.publish(self._topics.event("network"), network.payload(), is_event=True)

    def _count(self, outcome: Outcome) -> None:
        due = outcome.due
        ids = {"receipt_id": due.receipt_id, "pos_id": due.pos_id, "kkt": due.kkt}
        if outcome.error is None:
            self.sent_total += 1
            self.last_success_ms = self._clock.now_ms()
            log.info("the OFD has the document", extra=ids)
        else:
            self.failed_total += 1
            log.warning("the OFD has not taken the document: %s", outcome.error, extra=ids)

    # -- small questions ----------------------------------------------------------------------------------

    def _pending(self) -> int:
        return sum(n for (_, kind), n in self._journal.counts().items() if kind == Status.PRINTED)

    def _pending_of(self, kkt: str) -> int:
        return self._journal.counts().get((kkt, Status.PRINTED), 0)

    def _registers_with_pending(self) -> list[str]:
        # Not only those configured now: the documents of a register that was removed are still owed.
        return [kkt for (kkt, kind), n in sorted(self._journal.counts().items()) if kind == Status.PRINTED and n]

    def _end_waits(self) -> None:
        """Make ready what has waited long enough; a round follows at once."""
        first = self._journal.read(next_wait_ends_steady_ms)
        if first is not None and first <= self._journal.steady_ms():
            self._journal.write(end_waiting)
            self._new_documents = True

    def _idle(self) -> float | None:
        """Wait; if things were bad and nothing is left to send that would show it, look whether they still are."""
        if self._pending():
            return self._until_ready_s()
        if self._courier.all_is_well:
            return None
        self._courier.look_around()
        self._record()
        return self._settings.interval_s

    def _until_ready_s(self) -> float:
        """Until the next wait ends or the next round is due."""
        until_round = self._next_round_at - self._clock.monotonic()
        first = self._journal.read(next_wait_ends_steady_ms)
        until_ready = until_round if first is None else (first - self._journal.steady_ms()) / 1000
        return max(0.001, min(until_round, until_ready))

"""Stage 3: fiscal documents to the OFD, in the order of their FD numbers, through the breaker.

The documents of a register go as *trains*: a sender carries one, its outcomes are recorded, and then comes the next.
So no document of a register overtakes another, and no register waits for another's answers.

A *round* tries each document that is ready at most once. It starts when a document is printed, and every
`sync.interval_s` besides; a forced round also passes an open breaker and ends waiting back-offs.
"""

import logging
import random
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import tzinfo
from functools import partial
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import DocumentRefused, OfdUnavailable, StorageUnavailable
from kkt_bridge.journal.delivery import (
    bury,
    end_waiting,
    fix_body,
    last_document,
    next_wait_ends_steady_ms,
    note_unfit,
    ready_documents,
    record_failure,
    record_sent,
    unfixed_documents,
)
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.records import DueDocument
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.ofd.backoff import backoff_s
from kkt_bridge.ofd.breaker import Breaker, BreakerChange
from kkt_bridge.receipts.codes import TaxSystem
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.settings import SyncSettings
from kkt_bridge.stages.delivery.document import body_or_none
from kkt_bridge.stages.judge import Judge, NetworkChange, Outcome
from kkt_bridge.stages.rounds import Round, SyncResult
from kkt_bridge.stages.sender import Crew, Train
from kkt_bridge.wire.messages import BreakerEvent, NetworkEvent
from kkt_bridge.wire.times import rfc3339
from kkt_bridge.wire.topics import Topics

TRAIN_MAX: Final = 32
"""Documents that a sender carries at once, at most; fewer where the OFD is slow."""

RECORD_MAX: Final = 64
"""Outcomes in one commit: all others who write wait for it."""

RETRY_S: Final = 1.0
"""How often a disk that does not take outcomes is tried again."""

log = logging.getLogger(__name__)


class SyncInProgress(Exception):
    """An operator's sync is running already."""


class Delivery:
    """Decides what is sent when, and records what became of it."""

    def __init__(  # noqa: PLR0913 (its parts)
        self,
        *,
        settings: SyncSettings,
        tax_systems: Mapping[str, TaxSystem],
        journal: Journal,
        judge: Judge,
        crew: Crew,
        breaker: Breaker,
        topics: Topics,
        zone: tzinfo,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._tax_systems = tax_systems
        self._fixed_to = 0
        """Up to this document, all have a body or cannot have one."""
        self._journal = journal
        self._judge = judge
        self._crew = crew
        self._breaker = breaker
        self._topics = topics
        self._zone = zone
        self._clock = clock
        self._random = random.Random()  # noqa: S311 (jitter)
        self._length = TRAIN_MAX
        self._round: Round | None = None
        self._requested: Round | None = None
        self._next_round_at = 0.0
        self._new_documents = True
        self._another = False
        """Whether a round is to follow the present one, or nothing, at once."""
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
        self._requested = Round(force=force, started=self._clock.monotonic(), result=result)
        return result

    # -- in the stage's thread ----------------------------------------------------------------------------

    def step(self) -> float | None:
        """Record what came back and send more, or probe, or say how long to wait."""
        try:
            self.take_in()
            self._fix_bodies()
            return self._work()
        except StorageUnavailable as problem:
            log.warning("what became of documents waits for the disk: %s", problem)
            return RETRY_S

    def _fix_bodies(self) -> None:
        """Put together what the OFD is sent of documents that came without it, before anything can change it."""
        last = self._journal.read(last_document)
        while unfixed := self._journal.read(lambda at: unfixed_documents(at, self._fixed_to, RECORD_MAX)):
            bodies = [(each.document, body_or_none(each, self._tax_systems.get(each.kkt, "osn"))) for each in unfixed]
            self._journal.write(partial(_fix, bodies))
            self._fixed_to = unfixed[-1].document
        self._fixed_to = max(self._fixed_to, last)

    def take_in(self) -> None:
        """Judge and record what the senders have brought back. Errors: StorageUnavailable."""
        for train, answers in self._crew.back():
            for answer in answers:
                outcome = self._judge.judge(answer, force=train.round.force)
                train.round.note(outcome, buried=self._burial(outcome) is not None)
                self._outcomes.append(outcome)
            if not answers:
                train.round.through.add(train.kkt)  # a bug: again in the next round, not at once and for ever
            elif answers[-1].error is None:
                self._mind_the_pace(len(answers), len(train.documents))
        self._record()

    def _mind_the_pace(self, done: int, of: int) -> None:
        """Give as many next time as a sender has time for, or more if it had time for all: none is built in vain."""
        self._length = done if done < of else min(TRAIN_MAX, max(self._length, 2 * done))

    def _work(self) -> float | None:
        if self._requested is not None:
            return self._carry_out(self._requested)
        if self._breaker.state != "closed":
            self._round = None
            return None if self._crew.under_way else self._probe()
        if self._crew.under_way and not (self._crew.seconds_to_departure() == 0 and self._waiting_registers()):
            return self._until_departure_s()
        self._round = self._automatic_round()
        return self._idle() if self._round is None else self._go_on(self._round)

    def _carry_out(self, requested: Round) -> float | None:
        """Go on with the round that was asked for."""
        if self._round is not requested:
            self._journal.write(lambda tx: end_waiting(tx, everything=requested.force))
            self._round = requested
        return self._go_on(requested)

    def _automatic_round(self) -> Round | None:
        """The round to go on with: a new one if it is time for one; None if there is nothing to send."""
        if self._new_documents:
            self._new_documents, self._another = False, True
            if self._round is not None:
                self._round.through.clear()  # what is new comes behind what was tried
        is_time = self._end_waits() or (self._another and self._round is None)
        now = self._clock.monotonic()
        if not is_time and now < self._next_round_at:
            return self._round
        self._another = False
        self._next_round_at = now + self._settings.interval_s
        return Round(force=False, started=now) if self._pending() else None

    def _go_on(self, current: Round) -> float | None:
        """Send what can be sent, or end the round."""
        if current.force or self._breaker.state == "closed":
            self._dispatch(current)
        if self._crew.under_way:
            return self._until_departure_s()
        self._round = None
        if current.result is not None:
            self._requested = None
            current.end(self._pending(), self._clock.monotonic())
        return 0.0

    def _dispatch(self, current: Round) -> None:
        """Give a train of each register to a sender, those served least in this round first."""
        waiting = [kkt for kkt in self._waiting_registers() if kkt not in current.through]
        for kkt in sorted(waiting, key=current.served.__getitem__):
            if self._crew.seconds_to_departure() != 0:
                return
            if documents := self._next_documents(kkt, current):
                self._crew.send(Train(kkt, documents, current))
            else:
                current.through.add(kkt)

    def _next_documents(self, kkt: str, current: Round) -> list[DueDocument]:
        """The register's next documents in this round."""
        if current.in_vain[kkt] >= self._pending_of(kkt):
            return []
        return self._ready(kkt, current.after.get(kkt, 0), self._length)

    def _ready(self, kkt: str, after: int, limit: int) -> list[DueDocument]:
        return self._journal.read(lambda connection: ready_documents(connection, kkt, after, limit))

    def _probe(self) -> float | None:
        """Ask whether the OFD is back, when it is time."""
        wait = self._breaker.seconds_to_probe()
        if wait > 0:
            return wait
        self._end_waits()
        self._outcomes += self._judge.probe(self._candidates)
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
        self._news += self._judge.take_news()
        while self._outcomes or self._news:
            outcomes = self._outcomes[:RECORD_MAX]
            self._journal.write(partial(self._write_down, outcomes))
            del self._outcomes[:RECORD_MAX]
            self._news.clear()
            for outcome in outcomes:
                if self._burial(outcome):
                    self._judge.forget(outcome.due)
                self._count(outcome)

    def _write_down(self, outcomes: list[Outcome], tx: Transaction) -> None:
        for outcome in outcomes:
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

    def _waiting_registers(self) -> list[str]:
        """Those that have documents, and none of them under way."""
        return [kkt for kkt in self._registers_with_pending() if kkt not in self._crew.under_way]

    def _end_waits(self) -> bool:
        """Make ready what has waited long enough, if anything has."""
        first = self._journal.read(next_wait_ends_steady_ms)
        if first is None or first > self._journal.steady_ms():
            return False
        self._journal.write(end_waiting)
        return True

    def _idle(self) -> float | None:
        """Wait; if things were bad and nothing is left to send that would show it, look whether they still are."""
        if self._pending():
            return self._until_ready_s()
        if self._judge.all_is_well:
            return None
        self._judge.look_around()
        self._record()
        return self._settings.interval_s

    def _until_departure_s(self) -> float | None:
        """Until another train may go, or something is ready for it; whoever is back rings."""
        departure_s = self._crew.seconds_to_departure()
        if departure_s is None or not self._waiting_registers():
            return None
        return departure_s or (self._until_ready_s() if self._requested is None else None)

    def _until_ready_s(self) -> float:
        """Until the next wait ends or the next round is due."""
        until_round = self._next_round_at - self._clock.monotonic()
        first = self._journal.read(next_wait_ends_steady_ms)
        until_ready = until_round if first is None else (first - self._journal.steady_ms()) / 1000
        return max(0.001, min(until_round, until_ready))


def _fix(bodies: "list[tuple[int, bytes | None]]", tx: Transaction) -> None:
    for document, body in bodies:
        if body is None:
            note_unfit(tx, document, "it cannot be put together; see the log")
        else:
            fix_body(tx, document, body)

"""Delivery: what is sent when, and what is written down of it. One thread turns all of it, step by step.

Each register has a lane: oldest ready documents → a batch to the exchange → rulings → one commit → the next batch. So
no document of a register overtakes another, but for those that wait out back-offs of their own. While the road is in
doubt the lanes rest, and one trial at a time shows whether it is open.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from random import Random
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.delivery import (
    dead_letter,
    end_waiting,
    failing_documents,
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
from kkt_bridge.journal.transaction import DLQ, Transaction
from kkt_bridge.ofd.backoff import backoff_s
from kkt_bridge.ofd.breaker import BreakerChange
from kkt_bridge.ofd.exchange import AnswerKind, Exchange, OfdAnswer, OfdRequest
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.settings import OfdSettings, SyncSettings
from kkt_bridge.stages.delivery.disposition import RULES, Circumstances, Disposition, rule
from kkt_bridge.stages.delivery.document import RegisterRequisites, body_or_none
from kkt_bridge.stages.delivery.evidence import REMEMBERED_MAX, TAKES_NOTHING_S
from kkt_bridge.stages.delivery.lane import Lane, LaneState
from kkt_bridge.stages.delivery.pacing import Pace
from kkt_bridge.stages.delivery.status import DeliveryStatus
from kkt_bridge.stages.delivery.sync_pass import SyncPass, SyncResult
from kkt_bridge.stages.delivery.trial import OTHERS_MAX, Trial, Trials
from kkt_bridge.stages.delivery.uplink import NetworkChange, Uplink
from kkt_bridge.wire.messages import BreakerEvent, NetworkEvent, rfc3339
from kkt_bridge.wire.topics import Topics

UNDER_WAY_MAX: Final = 8
"""Registers whose documents are under way at the same time; the others have their turn after them."""

RECORD_MAX: Final = 64
"""Outcomes in one commit, and bodies made at once: all others who write wait for it."""

RETRY_S: Final = 1.0
"""Seconds before a disk that does not take outcomes is tried again."""

LOST_AFTER_S: Final = 60.0
LOST_AFTER_FACTOR: Final = 20
"""A batch is taken to be lost after so many seconds, and so many times `ofd.timeout_s`: the exchange ends each request
within three times that, and may begin a batch twice; this is the watch on the exchange itself."""

LOST: Final = OfdAnswer(AnswerKind.LINE_FAILED, "the exchange gave no answer at all")
"""In the place of an answer, where the exchange itself failed."""

NO_HEALTH_CHECK: Final = frozenset({404, 405})
"""Statuses of a health check that is none."""

log = logging.getLogger(__name__)


class SyncInProgress(Exception):
    """An operator's sync is running already."""


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """What became of one attempt and is not yet written down."""

    due: DueDocument
    answer: OfdAnswer
    disposition: Disposition
    wait_s: float
    """For how long a waiting document waits."""


class Delivery:
    """All lanes, and the road that they share."""

    def __init__(  # noqa: PLR0913 (its parts)
        self,
        *,
        settings: SyncSettings,
        ofd: OfdSettings,
        requisites: Mapping[str, RegisterRequisites],
        journal: Journal,
        exchange: Exchange,
        uplink: Uplink,
        topics: Topics,
        zone: tzinfo,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._settings = settings
        self._has_health_check = bool(ofd.health_path)
        self._lost_after_s = LOST_AFTER_S + LOST_AFTER_FACTOR * ofd.timeout_s
        self._requisites = requisites
        self._journal = journal
        self._exchange = exchange
        self._uplink = uplink
        self._topics = topics
        self._zone = zone
        self._clock = clock
        self._pace = Pace(clock)
        self._rng = rng
        self._lanes: dict[str, Lane] = {}
        self._batch = 0
        self._sync: SyncPass | None = None
        self._trial: Trial | None = None
        self._trials = Trials()
        self._next_trial_at = 0.0
        self._looking: tuple[int, float] | None = None
        """The number of a health check that is asked for want of documents, and when it is given up."""
        self._next_look_at = 0.0
        self._outcomes: list[DeliveryOutcome] = []
        self._news: list[BreakerChange | NetworkChange] = []
        self._was_doubtful = False
        self._has_recalled = False
        self._fixed_to = 0
        """Up to this document, all have a body or cannot have one."""
        self._unsendable: Mapping[str, int] = {}
        """Documents that cannot have one, by register; empty until that was looked into."""
        self.sent_total = 0
        self.failed_total = 0
        self.last_success_ms: int | None = None

    # -- for other threads ----------------------------------------------------------------------------

    @property
    def in_progress(self) -> bool:
        """Whether documents are under way, or a sync that was asked for is."""
        return self._sync is not None or any(lane.state != LaneState.IDLE for lane in list(self._lanes.values()))

    @property
    def view(self) -> DeliveryStatus:
        """How delivery stands now."""
        evidence, since = self._uplink.evidence, self._uplink.evidence.nothing_since
        is_long = since is not None and self._clock.monotonic() - since >= TAKES_NOTHING_S and self._sendable() > 0
        return DeliveryStatus(
            network=self._uplink.network.state,
            in_progress=self.in_progress,
            sent_total=self.sent_total,
            failed_total=self.failed_total,
            last_success_ms=self.last_success_ms,
            paused_until=self._uplink.paused_until,
            bridge_refused=evidence.bridge_refused,
            refuses_all=evidence.refuses_all,
            takes_nothing_since=since if is_long else None,
            unsendable=self._unsendable,
        )

    def request(self, *, force: bool) -> Future[SyncResult]:
        """Have a pass made now; what goes by itself gives way. SyncInProgress if an earlier one still runs."""
        if self._sync is not None:
            raise SyncInProgress
        self._sync = SyncPass(force=force, started=self._clock.monotonic())
        return self._sync.result

    # -- in delivery's thread ----------------------------------------------------------------------------

    def step(self) -> float | None:
        """Write down what came back and send more, or try the road, or say how long to wait."""
        if self._sync is None and (rest := self._pace.rest_s()) > 0:
            return rest
        try:
            self._recall()
            self.take_in()
            self._fix_bodies()
            return self._work()
        except StorageUnavailable as problem:
            log.warning("what became of documents waits for the disk: %s", problem)
            return RETRY_S
        finally:
            self._pace.note_step()

    def take_in(self) -> None:
        """Rule upon what came back, and write it down. Errors: StorageUnavailable."""
        for batch, answers in self._exchange.take():
            self._come_back(batch, answers)
        self._give_up_lost()
        self._record()

    def _work(self) -> float | None:
        if self._sync is not None:
            return self._go_on_with(self._sync)
        if (pause := self._uplink.paused_s()) > 0:
            return pause
        self._end_waits()
        now = self._clock.monotonic()
        if self._trial is not None or (self._uplink.is_on_trial and not self._may_rest()):
            return self._try_the_road()
        for lane in self._idle_lanes():
            if lane.hold_until <= now and (documents := self._ready(lane.kkt, 0, lane.length)):
                self._send(lane, documents)
        return self._rest_s(now)

    # -- what came back ---------------------------------------------------------------------------------

    def _come_back(self, batch: int, answers: list[OfdAnswer]) -> None:
        """Give the answers to whoever waits for them; what was given up before is nobody's any more."""
        if self._trial is not None and batch == self._trial.asking:
            self._hear_check(self._trial, answers[0])
        elif self._looking is not None and batch == self._looking[0]:
            self._looking = None
            self._hear_look(answers[0])
        else:
            for lane in self._lanes.values():
                if lane.batch == batch and lane.state == LaneState.SENDING:
                    self._hear_documents(lane, answers)
                elif lane.batch == batch and lane.state == LaneState.ASKING:
                    self._hear_about(lane, _wellness(answers[0]))

    def _hear_documents(self, lane: Lane, answers: list[OfdAnswer]) -> None:
        lane.mind_the_pace(len(answers))
        for due, answer in zip(lane.documents, answers[:-1], strict=False):
            self._rule(lane, due, answer, is_well=None)
        due, answer = lane.documents[len(answers) - 1], answers[-1]
        known = self._trial.is_well if self._trial is not None else None
        needs_check = RULES[answer.kind].document == "attributed" and self._has_health_check and known is None
        if needs_check and not (lane.sync is not None and lane.sync.force):
            lane.failed = due, answer
            lane.become(LaneState.ASKING)
            self._ask(lane)
            return
        self._rule(lane, due, answer, is_well=known)
        lane.become(LaneState.IDLE)

    def _hear_about(self, lane: Lane, is_well: bool | None) -> None:  # noqa: FBT001 (a value, not a switch)
        """The health check's answer about the one that failed."""
        assert lane.failed is not None
        due, answer = lane.failed
        lane.failed = None
        self._rule(lane, due, answer, is_well=is_well)
        lane.become(LaneState.IDLE)

    def _give_up_lost(self) -> None:
        """An exchange that neither answers nor fails: each lane has a watch of its own."""
        now = self._clock.monotonic()
        for lane in self._lanes.values():
            if lane.state == LaneState.IDLE or now < lane.deadline:
                continue
            log.error("the exchange has lost a batch of %s; it is sent again", lane.kkt)
            if lane.state == LaneState.ASKING:
                self._hear_about(lane, None)
            else:
                self._lose(lane)
        if self._trial is not None and self._trial.asking is not None and now >= self._next_trial_at:
            self._hear_check(self._trial, LOST)
        if self._looking is not None and now >= self._looking[1]:
            self._looking = None

    def _lose(self, lane: Lane) -> None:
        """Nobody knows what became of the batch: the exchange's fault, not the document's, so nothing overtakes."""
        disposition, due = Disposition("held", "failure"), lane.documents[0]
        self._uplink.breaker.fail(LOST.text)
        self._take_down(lane, DeliveryOutcome(due, LOST, disposition, 0.0))
        lane.become(LaneState.IDLE)

    # -- ruling -----------------------------------------------------------------------------------------

    def _rule(self, lane: Lane, due: DueDocument, answer: OfdAnswer, *, is_well: bool | None) -> None:
        try:
            outcome = self._outcome(lane, due, answer, is_well=is_well)
        except Exception:
            # A bug, or an answer that brings one to light: it costs this document an attempt, and nobody else anything.
            log.exception("the answer about %s could not be understood", due.key)
            disposition = Disposition("waiting", "nothing")
            outcome = DeliveryOutcome(due, answer, disposition, self._backoff_s(due.attempts + 1))
        self._take_down(lane, outcome)

    def _take_down(self, lane: Lane, outcome: DeliveryOutcome) -> None:
        """Keep an outcome until it is written down, and tell those whom it concerns."""
        self._outcomes.append(outcome)
        if outcome.disposition.fate == "held":
            lane.hold_until = self._clock.monotonic() + self._uplink.hold_s()
        if lane.sync is not None:
            lane.sync.note(outcome.due, outcome.disposition)
        if outcome.disposition.fate == "sent":
            self._trials.note_taken()
            for each in self._lanes.values():
                each.hold_until = 0.0
        if self._trial is not None and self._trial.asking is None:
            self._hear_trial(self._trial, outcome)

    def _outcome(self, lane: Lane, due: DueDocument, answer: OfdAnswer, *, is_well: bool | None) -> DeliveryOutcome:
        evidence = self._uplink.evidence
        disposition = rule(
            answer,
            Circumstances(
                strikes=due.strikes,
                max_attempts=self._settings.max_attempts,
                is_forced=lane.sync is not None and lane.sync.force,
                is_well=bool(is_well),
                took_others=evidence.took_others(due.document),
                took_others_since_refusal=evidence.took_others_since_refusal(due.document),
                is_doubtful=evidence.is_doubtful(due.document),
            ),
        )
        self._uplink.note(due.document, answer, disposition, sent_at=lane.sent_at, is_well=is_well)
        if disposition.reason == "max_attempts":
            evidence.exhaust(due.document)
        elif disposition.fate == "dead":
            evidence.forget(due.document)
        wait_s = self._backoff_s(due.strikes + 1) if disposition.fate == "waiting" else 0.0
        return DeliveryOutcome(due, answer, disposition, wait_s)

    def _backoff_s(self, failures: int) -> float:
        settings, chance = self._settings, self._rng.random()
        return backoff_s(failures, initial_s=settings.backoff_initial_s, max_s=settings.backoff_max_s, chance=chance)

    # -- sending ----------------------------------------------------------------------------------------

    def _send(self, lane: Lane, documents: Sequence[DueDocument], sync: SyncPass | None = None) -> None:
        lane.become(LaneState.SENDING)
        lane.documents, lane.sync = documents, sync
        lane.sent_at = lane.served = self._uplink.evidence.moment()
        lane.deadline = self._clock.monotonic() + self._lost_after_s
        lane.batch = self._submit([OfdRequest("receipt", str(due.key), due.body) for due in documents])

    def _ask(self, lane: Lane) -> None:
        lane.deadline = self._clock.monotonic() + self._lost_after_s
        lane.batch = self._submit([OfdRequest("health")])

    def _submit(self, requests: list[OfdRequest]) -> int:
        self._batch += 1
        self._exchange.submit(self._batch, requests)
        return self._batch

    def _go_on_with(self, sync: SyncPass) -> float | None:
        """Send what the pass still may, or end it."""
        if sync.last is None:
            if self._under_way():
                return self._until_deadline_s()
            self._journal.write(lambda tx: end_waiting(tx, everything=sync.force))
            sync.last = self._journal.read(last_document)
            self._trial = None
        if self._may_go_on_with(sync):
            for lane in self._idle_lanes():
                if lane.kkt not in sync.through:
                    self._send_of_pass(lane, sync, sync.last)
        if self._under_way():
            return self._until_deadline_s()
        self._sync = None
        sync.end(self._pending(), self._clock.monotonic())
        return 0.0

    def _may_go_on_with(self, sync: SyncPass) -> bool:
        breaker = self._uplink.breaker
        is_open = sync.force or breaker.state == "closed"
        if self._uplink.evidence.refuses_all is not None and sync.dead:
            return False  # each further attempt would cost a document that is probably good
        # An OFD that takes nothing is not tried with every document: each attempt may take as long as a time-out.
        return is_open and not self._uplink.paused_s(force=sync.force) and sync.failures_in_a_row < breaker.fail_max

    def _send_of_pass(self, lane: Lane, sync: SyncPass, last: int) -> None:
        ready = self._ready(lane.kkt, sync.after.get(lane.kkt, 0), lane.length)
        documents = [due for due in ready if due.document <= last]
        if documents:
            self._send(lane, documents, sync)
        else:
            sync.through.add(lane.kkt)

    # -- trying the road --------------------------------------------------------------------------------

    def _try_the_road(self) -> float | None:
        """Have one trial at a time made."""
        if self._under_way():
            return self._until_deadline_s()
        if self._trial is None:
            now, breaker = self._clock.monotonic(), self._uplink.breaker
            if (wait := max(breaker.seconds_to_probe(), self._next_trial_at - now)) > 0:
                return min(wait, self._until_ready_s() or wait) if breaker.state == "closed" else wait
            self._trial = self._new_trial()
            if breaker.state != "closed":
                breaker.begin_probe()
                if self._has_health_check:
                    self._next_trial_at = now + self._lost_after_s  # the watch on the question
                    self._trial.asking = self._submit([OfdRequest("health")])
                    self._record()
                    return self._lost_after_s
        return self._try_next(self._trial)

    def _try_next(self, trial: Trial) -> float | None:
        """Send the trial's next document; without any, the trial is over."""
        if trial.candidates:
            due = trial.candidates.popleft()
            self._send(self._lane(due.kkt), [due])
            return self._until_deadline_s()
        self._trial = None
        self._next_trial_at = self._clock.monotonic() + self._settings.interval_s
        self._record()
        return self._settings.interval_s

    def _new_trial(self) -> Trial:
        oldest = [due for kkt in self._registers_with_pending() for due in self._ready(kkt, 0, 1)]
        if not oldest:
            return Trial()
        first, *others = self._trials.in_turn(oldest)
        behind: list[DueDocument] = []
        if (last := self._trials.behind(first)) is not None:
            behind = self._ready(first.kkt, last, OTHERS_MAX)
            if not behind:
                self._trials.start_over(first)
                behind = self._ready(first.kkt, first.document, OTHERS_MAX)
        return self._trials.begin(first, behind, others)

    def _hear_check(self, trial: Trial, answer: OfdAnswer) -> None:
        """The health check's answer at the beginning of a trial."""
        trial.asking = None
        self._next_trial_at = 0.0
        trial.is_well = _wellness(answer)
        if trial.is_well is None:
            return  # there is none: documents show it
        self._trials.note_check(well=trial.is_well)
        self._uplink.observe(RULES[answer.kind].network)
        if trial.is_well:
            if not self._uplink.evidence.health_contradicted or not trial.candidates:
                self._uplink.breaker.succeed()
                self._trial = None
        elif not (self._trials.is_proof_due and trial.candidates):
            self._uplink.breaker.fail(f"its health check: {answer.text}")
            self._trial = None

    def _hear_trial(self, trial: Trial, outcome: DeliveryOutcome) -> None:
        """What became of a trial's document: one that is taken is enough."""
        is_taken, is_pause = outcome.disposition.fate == "sent", outcome.disposition.uplink == "pause"
        if not is_taken and not is_pause:
            self._trials.note_failed(outcome.due)
            if trial.candidates:
                return
        if not is_pause:  # an OFD that asks for patience is there, and says nothing of the document
            self._trials.end(taken=is_taken)
        self._trial = None
        self._next_trial_at = self._clock.monotonic() + self._uplink.hold_s()

    def _hear_look(self, answer: OfdAnswer) -> None:
        is_well = _wellness(answer)
        if is_well is None:
            self._uplink.reconsider()
        else:
            self._uplink.observe(RULES[answer.kind].network)
        if is_well is not False:
            self._forgive()

    # -- writing down -------------------------------------------------------------------------------------

    def _record(self) -> None:
        """Write down what became of the documents tried, and what else is news."""
        self._news += self._uplink.take_news()
        if doubt_begins := self._uplink.evidence.is_doubtful() and not self._was_doubtful:
            log.error("different documents fail, and none is taken: it is the OFD, no document is given up for it")
        while self._outcomes or self._news:
            outcomes = self._outcomes[:RECORD_MAX]
            try:
                self._journal.write(partial(self._write_down, outcomes, ends_waits=doubt_begins))
            except StorageUnavailable:
                raise
            except Exception:
                log.exception("what became of %d documents cannot be written down together", len(outcomes))
                self._write_one_by_one(outcomes, ends_waits=doubt_begins)
            del self._outcomes[: len(outcomes)]
            self._news.clear()
            for outcome in outcomes:
                self._count(outcome)
        self._was_doubtful = self._uplink.evidence.is_doubtful()

    def _write_one_by_one(self, outcomes: list[DeliveryOutcome], *, ends_waits: bool) -> None:
        """A bug that one document brings to light costs that one an attempt, and nobody else anything."""
        for outcome in outcomes:
            try:
                self._journal.write(partial(self._write_outcome, outcome))
            except StorageUnavailable:
                raise
            except Exception as error:
                log.exception("what became of %s is lost", outcome.due.key)
                wait_ms = int(self._backoff_s(outcome.due.attempts + 1) * 1000)
                text = f"not written down: {error}"
                self._journal.write(
                    lambda tx, due=outcome.due, text=text, wait_ms=wait_ms: record_failure(  # type: ignore[misc]
                        tx, due, text, strike=False, wait_ms=wait_ms
                    )
                )
        try:
            self._journal.write(partial(self._write_down, [], ends_waits=ends_waits))
        except StorageUnavailable:
            raise
        except Exception:
            log.exception("the events of delivery are lost: %s", self._news)

    def _write_down(self, outcomes: list[DeliveryOutcome], tx: Transaction, *, ends_waits: bool) -> None:
        for outcome in outcomes:
            self._write_outcome(outcome, tx)
        for change in self._news:
            self._write_news(tx, change)
        if ends_waits:
            # Nobody's fault after all: those that wait out back-offs go first again.
            end_waiting(tx, everything=True)

    def _write_outcome(self, outcome: DeliveryOutcome, tx: Transaction) -> None:
        due, answer, disposition = outcome.due, outcome.answer, outcome.disposition
        match disposition.fate:
            case "sent":
                record_sent(tx, due, answer.server_time)
            case "dead":
                dead_letter(tx, due, reason=disposition.reason or "refused", error=answer.text)
            case "held" | "waiting":
                wait_ms = int(outcome.wait_s * 1000)
                record_failure(tx, due, answer.text, strike=disposition.strike, wait_ms=wait_ms)

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

    def _count(self, outcome: DeliveryOutcome) -> None:
        due = outcome.due
        ids = {**due.key._asdict(), "kkt": due.kkt}
        if outcome.disposition.fate == "sent":
            self.sent_total += 1
            self.last_success_ms = self._clock.now_ms()
            log.info("the OFD has the document", extra=ids)
        else:
            self.failed_total += 1
            log.warning("the OFD has not taken the document: %s", outcome.answer.text, extra=ids)

    # -- what was there before --------------------------------------------------------------------------------

    def _recall(self) -> None:
        """Take over what the rows tell of the time before this process."""
        if not self._has_recalled:
            self._uplink.evidence.recall(self._journal.read(lambda at: failing_documents(at, REMEMBERED_MAX)))
            self._was_doubtful = self._uplink.evidence.is_doubtful()
            self._has_recalled = True

    def _fix_bodies(self) -> None:
        """Put together what the OFD is sent of documents that came without it, before anything can change it."""
        if not self._unsendable:
            self._unsendable = dict.fromkeys(self._requisites, 0)
        last = self._journal.read(last_document)
        if last <= self._fixed_to:
            return
        while unfixed := self._journal.read(lambda at: unfixed_documents(at, self._fixed_to, RECORD_MAX)):
            bodies = [
                (each.document, body_or_none(each, self._requisites.get(each.kkt, RegisterRequisites())))
                for each in unfixed
            ]
            self._journal.write(partial(_fix, bodies))
            self._fixed_to = unfixed[-1].document
            for each, (_, body) in zip(unfixed, bodies, strict=True):
                if body is None and not each.is_dead:
                    # Anew each time: others may be reading.
                    self._unsendable = {**self._unsendable, each.kkt: self._unsendable.get(each.kkt, 0) + 1}
        self._fixed_to = max(self._fixed_to, last)

    # -- small questions ----------------------------------------------------------------------------------

    def _ready(self, kkt: str, after: int, limit: int) -> list[DueDocument]:
        return self._journal.read(lambda connection: ready_documents(connection, kkt, after, limit))

    def _pending(self) -> int:
        return sum(n for (_, kind), n in self._journal.counts().items() if kind == Status.PRINTED)

    def _sendable(self) -> int:
        """Documents that the OFD lacks and that can be sent, now or after a back-off."""
        return max(0, self._pending() - sum(self._unsendable.values()))

    def _registers_with_pending(self) -> list[str]:
        # Not only those configured now: the documents of a register that was removed are still owed.
        return [kkt for (kkt, kind), n in sorted(self._journal.counts().items()) if kind == Status.PRINTED and n]

    def _lane(self, kkt: str) -> Lane:
        return self._lanes.setdefault(kkt, Lane(kkt))

    def _under_way(self) -> int:
        lanes = sum(lane.state != LaneState.IDLE for lane in self._lanes.values())
        return lanes + (self._trial is not None and self._trial.asking is not None)

    def _idle_lanes(self) -> Iterator[Lane]:
        """Those of registers with documents, served longest ago first, for as long as one more may be under way."""
        lanes = [self._lane(kkt) for kkt in self._registers_with_pending()]
        idle = [lane for lane in lanes if lane.state == LaneState.IDLE]
        for lane in sorted(idle, key=_by_last_service):
            # Asked each time: one that turns out to have nothing ready takes nobody's place.
            if self._under_way() >= UNDER_WAY_MAX:
                return
            yield lane

    def _end_waits(self) -> None:
        """Make ready what has waited long enough, if anything has."""
        first = self._journal.read(next_wait_ends_steady_ms)
        if first is not None and first <= self._journal.steady_ms():
            self._journal.write(end_waiting)

    # -- how long to rest ---------------------------------------------------------------------------------

    def _until_deadline_s(self) -> float | None:
        """Until the exchange is taken to have lost something; whatever comes back rings."""
        deadlines = [lane.deadline for lane in self._lanes.values() if lane.state != LaneState.IDLE]
        if self._trial is not None and self._trial.asking is not None:
            deadlines.append(self._next_trial_at)  # the watch on the question
        return max(0.0, min(deadlines) - self._clock.monotonic()) if deadlines else None

    def _until_ready_s(self) -> float | None:
        """Until the next back-off ends."""
        first = self._journal.read(next_wait_ends_steady_ms)
        return None if first is None else max(0.001, (first - self._journal.steady_ms()) / 1000)

    def _rest_s(self, now: float) -> float | None:
        """Until something is due by itself; new documents, and whatever comes back, ring.

        By the time at which the lanes were looked at: a hold that has ended since is one to be looked at again.
        """
        held = [lane.hold_until - now for lane in self._lanes.values() if lane.state == LaneState.IDLE]
        waits = [self._until_ready_s(), self._until_deadline_s(), *(wait for wait in held if wait > 0)]
        if not self._sendable() and not self._under_way():
            self._uplink.evidence.nothing_since = None
            waits.append(self._look_around())
        return min((wait for wait in waits if wait is not None), default=None)

    def _may_rest(self) -> bool:
        """Whether there is nothing to try the road with, nor a need to: a breaker that is not closed has one."""
        return self._uplink.breaker.state == "closed" and not self._sendable() and not self._under_way()

    def _is_accused(self) -> bool:
        """Whether the OFD is said to refuse this bridge, or everything, and nothing shows it that is still there.

        Refused documents are there as long as nobody has decided on them: requeued, they show whether they are taken.
        """
        evidence, counts = self._uplink.evidence, self._journal.counts()
        refuses_all = evidence.refuses_all is not None and not any(n for (_, kind), n in counts.items() if kind == DLQ)
        return evidence.bridge_refused is not None or refuses_all

    def _forgive(self) -> None:
        """Take back what the OFD is said to refuse, if nothing is left that would show it."""
        if self._is_accused() and not self._sendable():
            self._uplink.evidence.forgive()

    def _look_around(self) -> float | None:
        """If things were bad and nothing is left to send that would show it, ask whether they still are."""
        if self._uplink.is_well and not self._is_accused():
            return None
        now = self._clock.monotonic()
        if self._looking is None and now >= self._next_look_at and self._has_health_check:
            self._next_look_at = now + self._settings.interval_s
            self._looking = self._submit([OfdRequest("health")]), now + self._lost_after_s
        if not self._has_health_check:
            self._uplink.reconsider()
            self._forgive()
            self._record()
        if self._looking is not None:
            return max(0.001, self._looking[1] - now)  # its answer rings; only its loss has to be noticed
        return max(0.001, self._next_look_at - now) if self._has_health_check else self._settings.interval_s


def _wellness(answer: OfdAnswer) -> bool | None:
    """What a health check's answer says; None if there is no health check."""
    if answer.kind is AnswerKind.ACCEPTED:
        return True
    return None if answer.status in NO_HEALTH_CHECK else False


def _by_last_service(lane: Lane) -> int:
    return lane.served


def _fix(bodies: "list[tuple[int, bytes | None]]", tx: Transaction) -> None:
    for document, body in bodies:
        if body is None:
            note_unfit(tx, document, "it cannot be put together; see the log")
        else:
            fix_body(tx, document, body)

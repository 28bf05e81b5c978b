"""Delivery: the order and the time in which documents are sent. One thread turns all of it, step by step.

Each register has a lane: oldest ready documents → a batch to the exchange → dispositions → one commit → the next batch.
So no document of a register overtakes another, but for those that wait out back-offs of their own. While it is not
known whether the OFD takes anything, the lanes rest, and one trial at a time shows it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import tzinfo
from random import Random
from types import MappingProxyType
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.document_queue import end_waiting, last_document, next_wait_ends_steady_ms, ready_documents
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.records import DueDocument
from kkt_bridge.journal.transaction import DLQ
from kkt_bridge.ofd.exchange import NO_HEALTH_CHECK, AnswerKind, Exchange, OfdAnswer, OfdRequest
from kkt_bridge.receipts.lifecycle import DeliveryState, Status
from kkt_bridge.settings import OfdSettings, SyncSettings
from kkt_bridge.stages.delivery.backoff import DocumentBackoff
from kkt_bridge.stages.delivery.cpu_share import Pace
from kkt_bridge.stages.delivery.disposition import ANSWER_RULES, Circumstances, Disposition, NetworkState, dispose
from kkt_bridge.stages.delivery.document_body import MissingBodies, RegisterRequisites
from kkt_bridge.stages.delivery.failure_attribution import TAKES_NOTHING_S
from kkt_bridge.stages.delivery.lane import Lane, Lanes, LaneState
from kkt_bridge.stages.delivery.next_action import Action, Situation, next_action
from kkt_bridge.stages.delivery.outcomes import DeliveryOutcome, OutcomeRecorder
from kkt_bridge.stages.delivery.sync_pass import SyncInProgress, SyncPass, SyncResult
from kkt_bridge.stages.delivery.trial import OTHERS_MAX, Trials, TrialState
from kkt_bridge.stages.delivery.uplink import Uplink
from kkt_bridge.wire.topics import Topics

UNDER_WAY_MAX: Final = 8
"""Registers whose documents are under way at the same time; the others have their turn after them."""

RETRY_S: Final = 1.0
"""Seconds before a disk that does not take outcomes is tried again."""

LOST_AFTER_S: Final = 60.0
LOST_AFTER_FACTOR: Final = 20
"""A batch is taken to be lost after so many seconds, and so many times `ofd.timeout_s`: the exchange ends each request
within three times that, and may begin a batch twice; this is the watch on the exchange itself."""

LOST: Final = OfdAnswer(AnswerKind.LINE_FAILED, "the exchange gave no answer at all")
"""In the place of an answer, where the exchange itself failed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """The state of delivery, for whoever shows or watches it. `..._until` and `..._since` are monotonic seconds."""

    network: NetworkState = "online"
    in_progress: bool = False
    """True while documents are under way, or a sync that was asked for is."""
    sent_total: int = 0
    """Documents that the OFD took since the start."""
    failed_total: int = 0
    """Attempts that came to nothing since the start."""
    last_success_ms: int | None = None
    """When the OFD last took a document, in milliseconds of Unix time; None if it has not since the start."""
    paused_until: float | None = None
    """Until when nothing is sent: the OFD asked for patience, or refuses one document after the other."""
    bridge_refused: str | None = None
    """The OFD's words where it refuses this bridge, and no document was taken since; None otherwise."""
    refuses_all: str | None = None
    """Its last words where it refused many different documents in a row; None otherwise."""
    takes_nothing_since: float | None = None
    """Since when documents are tried again and again and none is taken; None while that is no longer than usual."""
    unsendable: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Documents that cannot be put together as the OFD gets them, by register, zeroes included; empty where nobody has
    looked yet."""


@dataclass(frozen=True, slots=True)
class PendingCheck:
    """A health check under way that is not about a document."""

    batch: int
    deadline: float
    """When it is given up: seconds on the monotonic clock."""


class Delivery:
    """All lanes, and the uplink that they share."""

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
        self._journal = journal
        self.exchange = exchange
        self.uplink = uplink
        self._clock = clock
        self._pace = Pace(clock)
        self._backoff = DocumentBackoff(settings, rng)
        self._bodies = MissingBodies(journal, requisites)
        self.outcomes = OutcomeRecorder(
            journal=journal, uplink=uplink, backoff=self._backoff, topics=topics, zone=zone, clock=clock
        )
        self._lanes = Lanes()
        self._trials = Trials()
        self._trial_check: PendingCheck | None = None
        self._idle_check: PendingCheck | None = None
        """The one that is asked for want of documents."""
        self._next_idle_check_at = 0.0
        self._sync: SyncPass | None = None
        self._batch = 0

    # -- for other threads ----------------------------------------------------------------------------

    @property
    def in_progress(self) -> bool:
        """True while documents are under way, or a sync that was asked for is."""
        return self._sync is not None or bool(self._lanes.busy())

    @property
    def status(self) -> DeliveryStatus:
        """The state of delivery now."""
        evidence, since = self.uplink.evidence, self.uplink.evidence.takes_nothing_since
        is_long = since is not None and self._clock.monotonic() - since >= TAKES_NOTHING_S and self._sendable() > 0
        return DeliveryStatus(
            network=self.uplink.network.state,
            in_progress=self.in_progress,
            sent_total=self.outcomes.sent_total,
            failed_total=self.outcomes.failed_total,
            last_success_ms=self.outcomes.last_success_ms,
            paused_until=self.uplink.paused_until,
            bridge_refused=evidence.bridge_refused,
            refuses_all=evidence.refuses_all,
            takes_nothing_since=since if is_long else None,
            unsendable=self._bodies.unsendable,
        )

    def request(self, *, force: bool) -> Future[SyncResult]:
        """Have a pass made now; automatic sending gives way. SyncInProgress if an earlier one still runs."""
        if self._sync is not None:
            raise SyncInProgress
        self._sync = SyncPass(force=force, started=self._clock.monotonic())
        return self._sync.result

    # -- in delivery's thread ----------------------------------------------------------------------------

    def step(self) -> float | None:
        """Record the answers that came back and do the next action; return the seconds to wait, None until woken."""
        if self._sync is None and (rest_s := self._pace.rest_s()) > 0:
            return rest_s
        try:
            self.outcomes.recall()
            self.take_in()
            self._bodies.make()
            return self._act()
        except StorageUnavailable as problem:
            log.warning("what became of documents waits for the disk: %s", problem)
            return RETRY_S
        finally:
            self._pace.note_step()

    def take_in(self) -> None:
        """Decide on the answers that came back, and record the outcomes. Errors: StorageUnavailable."""
        for batch, answers in self.exchange.take():
            self._note_answers(batch, answers)
        self._give_up_lost()
        self.outcomes.write()

    def _act(self) -> float | None:
        """Do the next action; return how long to wait. Errors: StorageUnavailable."""
        action, sync = next_action(self._situation()), self._sync
        if sync is None and action is not Action.AWAIT_PAUSE_END:
            # Those whose back-off is over become ready.
            first_ms = self._journal.read(next_wait_ends_steady_ms)
            if first_ms is not None and first_ms <= self._journal.steady_ms():
                self._journal.write(end_waiting)
        match action:
            case Action.SYNC:
                assert sync is not None
                wait_s = self._continue_sync(sync)
            case Action.AWAIT_ANSWERS:
                wait_s = self._until_deadline_s()
            case Action.AWAIT_PAUSE_END:
                wait_s = self.uplink.paused_s()
            case Action.AWAIT_TRIAL:
                until_trial_s = self._until_trial_s()
                is_closed = self.uplink.breaker.state == "closed"
                wait_s = min(until_trial_s, self._until_ready_s() or until_trial_s) if is_closed else until_trial_s
            case Action.BEGIN_TRIAL:
                wait_s = self._begin_trial()
            case Action.CONTINUE_TRIAL:
                wait_s = self._continue_trial()
            case Action.SEND:
                wait_s = self._send_ready()
        return wait_s

    def _situation(self) -> Situation:
        return Situation(
            sync=None if self._sync is None else self._sync.state,
            paused_s=self.uplink.paused_s(),
            under_way=self._under_way(),
            sendable=self._sendable(),
            breaker=self.uplink.breaker.state,
            is_suspicious=self.uplink.evidence.is_suspicious,
            trial=self._trials.state,
            trial_in_s=self._until_trial_s(),
        )

    # -- answers ----------------------------------------------------------------------------------------

    def _note_answers(self, batch: int, answers: list[OfdAnswer]) -> None:
        """Give the answers to whoever waits for them; what was given up before is nobody's any more."""
        if self._trial_check is not None and batch == self._trial_check.batch:
            self._note_trial_check(answers[0])
        elif self._idle_check is not None and batch == self._idle_check.batch:
            self._idle_check = None
            self._note_idle_check(answers[0])
        else:
            for lane in self._lanes.busy():
                if lane.batch == batch and lane.state == LaneState.SENDING:
                    self._note_documents(lane, answers)
                elif lane.batch == batch:
                    self._note_lane_check(lane, _health_ok(answers[0]))

    def _note_documents(self, lane: Lane, answers: list[OfdAnswer]) -> None:
        """Decide on each document that was answered; ask the health check where it has to tell whose fault it is."""
        lane.adapt_batch_size(len(answers))
        for due, answer in zip(lane.documents, answers[:-1], strict=False):
            self._judge(lane, due, answer, health_ok=None)
        due, answer = lane.documents[len(answers) - 1], answers[-1]
        known = self._trials.health_ok
        needs_check = ANSWER_RULES[answer.kind].document == "attributed" and self._has_health_check and known is None
        if needs_check and not (lane.sync is not None and lane.sync.force):
            lane.failed = due, answer
            lane.become(LaneState.CHECKING)
            lane.deadline = self._clock.monotonic() + self._lost_after_s
            lane.batch = self._submit([OfdRequest("health")])
            return
        self._judge(lane, due, answer, health_ok=known)
        lane.become(LaneState.IDLE)

    def _note_lane_check(self, lane: Lane, health_ok: bool | None) -> None:  # noqa: FBT001 (a value, not a switch)
        """Decide on the document that failed, now that the health check has answered, or is lost."""
        assert lane.failed is not None
        due, answer = lane.failed
        lane.failed = None
        self._judge(lane, due, answer, health_ok=health_ok)
        lane.become(LaneState.IDLE)

    def _give_up_lost(self) -> None:
        """Give up batches that the exchange neither answers nor fails: each has a deadline of its own."""
        now = self._clock.monotonic()
        for lane in self._lanes.busy():
            if now < lane.deadline:
                continue
            log.error("the exchange has lost a batch of %s; it is sent again", lane.kkt)
            if lane.state == LaneState.CHECKING:
                self._note_lane_check(lane, None)
            else:
                # Nobody knows what became of it: the exchange's fault, not the document's, so nothing overtakes.
                self.uplink.breaker.fail(LOST.text)
                held = Disposition(DeliveryState.READY, "failure")
                self._note_outcome(lane, DeliveryOutcome(lane.documents[0], LOST, held))
                lane.become(LaneState.IDLE)
        if self._trial_check is not None and now >= self._trial_check.deadline:
            self._note_trial_check(LOST)
        if self._idle_check is not None and now >= self._idle_check.deadline:
            self._idle_check = None

    def _judge(self, lane: Lane, due: DueDocument, answer: OfdAnswer, *, health_ok: bool | None) -> None:
        """Decide on an answer about a document, and note the outcome."""
        try:
            disposition = self._dispose(lane, due, answer, health_ok=health_ok)
            wait_s = self._backoff.wait_s(due.strikes + 1) if disposition.delivery is DeliveryState.WAITING else 0.0
        except Exception:
            # A bug, or an answer that brings one to light: it costs this document an attempt, and nobody else anything.
            log.exception("the answer about %s could not be understood", due.key)
            disposition = Disposition(DeliveryState.WAITING, "nothing")
            wait_s = self._backoff.wait_s(due.attempts + 1)
        self._note_outcome(lane, DeliveryOutcome(due, answer, disposition, wait_s))

    def _dispose(self, lane: Lane, due: DueDocument, answer: OfdAnswer, *, health_ok: bool | None) -> Disposition:
        evidence = self.uplink.evidence
        disposition = dispose(
            answer,
            Circumstances(
                strikes=due.strikes,
                max_attempts=self._settings.max_attempts,
                is_forced=lane.sync is not None and lane.sync.force,
                health_ok=bool(health_ok),
                took_others=evidence.took_others(due.document),
                took_others_since_refusal=evidence.took_others_since_refusal(due.document),
                service_fails=evidence.service_fails(due.document),
            ),
        )
        self.uplink.note(due.document, answer, disposition, sent_at=lane.sent_at, health_ok=health_ok)
        return disposition

    def _note_outcome(self, lane: Lane, outcome: DeliveryOutcome) -> None:
        """Have an outcome recorded, and tell the lanes, the sync and the trial."""
        self.outcomes.add(outcome)
        disposition, now = outcome.disposition, self._clock.monotonic()
        is_taken = disposition.delivery is DeliveryState.SENT
        if disposition.delivery is DeliveryState.READY:
            lane.hold_until = now + self.uplink.hold_s()
        if lane.sync is not None:
            lane.sync.note(outcome.due, disposition)
        if is_taken:
            self._trials.note_taken()
            self._lanes.end_holds()
        if self._trials.state is TrialState.TRYING and self._trials.note_outcome(
            outcome.due, is_taken=is_taken, is_pause=disposition.uplink == "pause"
        ):
            self._trials.next_at = now + self.uplink.hold_s()

    # -- sending ----------------------------------------------------------------------------------------

    def _send_ready(self) -> float | None:
        """Send the oldest documents of each idle lane; return how long to wait."""
        now = self._clock.monotonic()
        for lane in self._idle_lanes():
            if lane.hold_until <= now and (documents := self._ready(lane.kkt, 0, lane.batch_size)):
                self._send(lane, documents)
        return self._until_due_s(now)

    def _send(self, lane: Lane, documents: Sequence[DueDocument], sync: SyncPass | None = None) -> None:
        lane.become(LaneState.SENDING)
        lane.documents, lane.sync = documents, sync
        lane.sent_at = self.uplink.evidence.next_moment()
        lane.deadline = self._clock.monotonic() + self._lost_after_s
        lane.batch = self._submit([OfdRequest("receipt", str(due.key), due.body) for due in documents])

    def _submit(self, requests: list[OfdRequest]) -> int:
        self._batch += 1
        self.exchange.submit(self._batch, requests)
        return self._batch

    def _submit_check(self) -> PendingCheck:
        return PendingCheck(self._submit([OfdRequest("health")]), self._clock.monotonic() + self._lost_after_s)

    def _continue_sync(self, sync: SyncPass) -> float | None:
        """Send what the pass still may, or end it; return how long to wait."""
        if sync.last_document is None:
            self._journal.write(lambda tx: end_waiting(tx, everything=sync.force))
            sync.last_document = self._journal.read(last_document)
            if self._trials.state is not TrialState.NONE:
                self._trials.end()
        if sync.may_send(self.uplink):
            for lane in self._idle_lanes():
                if lane.kkt in sync.finished:
                    continue
                ready = self._ready(lane.kkt, sync.tried_up_to.get(lane.kkt, 0), lane.batch_size)
                if documents := [due for due in ready if due.document <= sync.last_document]:
                    self._send(lane, documents, sync)
                else:
                    sync.finished.add(lane.kkt)
        if self._under_way():
            return self._until_deadline_s()
        self._sync = None
        sync.end(self._pending(), self._clock.monotonic())
        return 0.0

    # -- trials -------------------------------------------------------------------------------------------

    def _begin_trial(self) -> float | None:
        """Choose a trial's documents, and ask the health check first where the breaker is half-open."""
        candidates = self._trial_candidates()
        is_half_open = self.uplink.breaker.state != "closed"
        self._trials.begin(candidates, checks_first=is_half_open and self._has_health_check)
        if is_half_open:
            self.uplink.breaker.begin_probe()
        if self._trials.state is TrialState.TRYING:
            return self._continue_trial()
        self._trial_check = self._submit_check()
        self.outcomes.write()
        return self._lost_after_s

    def _trial_candidates(self) -> list[DueDocument]:
        trials = self._trials
        oldest = [due for kkt in self._registers_with_pending() for due in self._ready(kkt, 0, 1)]
        if not oldest:
            return []
        first, *others = trials.in_turn(oldest)
        behind: list[DueDocument] = []
        if (last := trials.behind(first)) is not None:
            behind = self._ready(first.kkt, last, OTHERS_MAX)
            if not behind:
                trials.start_over(first)
                behind = self._ready(first.kkt, first.document, OTHERS_MAX)
        return trials.choose(first, behind, others)

    def _continue_trial(self) -> float | None:
        """Send the trial's next document; without any, the trial is over."""
        if self._trials.candidates:
            due = self._trials.candidates.popleft()
            self._send(self._lanes.of(due.kkt), [due])
            return self._until_deadline_s()
        self._trials.end()
        self._trials.next_at = self._clock.monotonic() + self._settings.interval_s
        self.outcomes.write()
        return self._settings.interval_s

    def _note_trial_check(self, answer: OfdAnswer) -> None:
        """Take the health check's answer at the beginning of a trial."""
        self._trial_check = None
        health_ok = _health_ok(answer)
        self._trials.note_check(health_ok=health_ok, is_contradicted=self.uplink.evidence.health_contradicted)
        if health_ok is None:
            return  # there is none: documents show it
        self.uplink.observe(ANSWER_RULES[answer.kind].network)
        if self._trials.state is TrialState.NONE:
            if health_ok:
                self.uplink.breaker.succeed()
            else:
                self.uplink.breaker.fail(f"its health check: {answer.text}")

    # -- with nothing to send --------------------------------------------------------------------------------

    def _check_when_idle(self) -> float | None:
        """If things were bad and nothing is left to send that would show it, ask whether they still are.

        Return how long to wait.
        """
        if self.uplink.network.state == "online" and not self._is_refusal_told():
            return None
        if not self._has_health_check:
            self.uplink.reconsider()
            self._take_back_refusals()
            self.outcomes.write()
            return self._settings.interval_s
        now = self._clock.monotonic()
        if self._idle_check is None and now >= self._next_idle_check_at:
            self._next_idle_check_at = now + self._settings.interval_s
            self._idle_check = self._submit_check()
        if self._idle_check is not None:
            return max(0.001, self._idle_check.deadline - now)  # its answer wakes; only its loss has to be noticed
        return max(0.001, self._next_idle_check_at - now)

    def _note_idle_check(self, answer: OfdAnswer) -> None:
        health_ok = _health_ok(answer)
        if health_ok is None:
            self.uplink.reconsider()
        else:
            self.uplink.observe(ANSWER_RULES[answer.kind].network)
        if health_ok is not False:
            self._take_back_refusals()

    def _is_refusal_told(self) -> bool:
        """Return whether the OFD is said to refuse this bridge, or everything, and nothing there shows it still.

        Refused documents are there as long as nobody has decided on them: requeued, they show whether they are taken.
        """
        evidence = self.uplink.evidence
        return evidence.bridge_refused is not None or (
            evidence.refuses_all is not None and not self._journal.total(DLQ)
        )

    def _take_back_refusals(self) -> None:
        if self._is_refusal_told() and not self._sendable():
            self.uplink.evidence.clear_refusals()

    # -- small questions ----------------------------------------------------------------------------------

    def _ready(self, kkt: str, after: int, limit: int) -> list[DueDocument]:
        return self._journal.read(lambda connection: ready_documents(connection, kkt, after, limit))

    def _pending(self) -> int:
        return self._journal.total(Status.PRINTED)

    def _sendable(self) -> int:
        """Return how many documents the OFD lacks that can be sent, now or after a back-off."""
        return max(0, self._pending() - sum(self._bodies.unsendable.values()))

    def _registers_with_pending(self) -> list[str]:
        # Not only those configured now: the documents of a register that was removed are still owed.
        return [kkt for (kkt, kind), n in sorted(self._journal.counts().items()) if kind == Status.PRINTED and n]

    def _under_way(self) -> int:
        return len(self._lanes.busy()) + (self._trial_check is not None)

    def _idle_lanes(self) -> Iterator[Lane]:
        """Yield those of registers with documents, for as long as one more may be under way."""
        for lane in self._lanes.idle(self._registers_with_pending()):
            # Asked each time: one that turns out to have nothing ready takes nobody's place.
            if self._under_way() >= UNDER_WAY_MAX:
                return
            yield lane

    # -- how long to wait, in seconds ---------------------------------------------------------------------

    def _until_deadline_s(self) -> float | None:
        """Return the time until the exchange is taken to have lost something; whatever comes back wakes delivery."""
        deadlines = [lane.deadline for lane in self._lanes.busy()]
        if self._trial_check is not None:
            deadlines.append(self._trial_check.deadline)
        return max(0.0, min(deadlines) - self._clock.monotonic()) if deadlines else None

    def _until_ready_s(self) -> float | None:
        """Return the time until the next back-off ends."""
        first = self._journal.read(next_wait_ends_steady_ms)
        return None if first is None else max(0.001, (first - self._journal.steady_ms()) / 1000)

    def _until_trial_s(self) -> float:
        """Return the time until the next trial may begin; not above 0 if it may."""
        return max(self.uplink.breaker.seconds_to_probe(), self._trials.next_at - self._clock.monotonic())

    def _until_due_s(self, now: float) -> float | None:
        """Return the time until something is due by itself; new documents, and whatever comes back, wake delivery.

        By the time at which the lanes were looked at: a hold that has ended since is one to be looked at again.
        """
        holds = [until - now for until in self._lanes.held_until()]
        waits = [self._until_ready_s(), self._until_deadline_s(), *(wait for wait in holds if wait > 0)]
        if not self._sendable() and not self._under_way():
            self.uplink.evidence.takes_nothing_since = None
            waits.append(self._check_when_idle())
        return min((wait for wait in waits if wait is not None), default=None)


def _health_ok(answer: OfdAnswer) -> bool | None:
    """Return a health check's answer as a verdict; None if there is no health check."""
    if answer.kind is AnswerKind.ACCEPTED:
        return True
    return None if answer.status in NO_HEALTH_CHECK else False

"""Stage 1: message in, verdict, commit, acknowledgement; nothing else, and never an exception.

A batch of messages, taken in turns by sender, becomes one transaction; each is decoded once, and decided on inside of
it. The acknowledgements go out after the commit, in the order of arrival. While the disk takes nothing, each message
is refused once; of it is kept what must still be written, not its payload, and that is written when the disk is back.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import JournalError, StorageUnavailable
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import look_up, trim_refusals
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.mqtt.inbox import AckToken, Inbox
from kkt_bridge.mqtt.messages import BrokerSession, Publication
from kkt_bridge.stages.intake.admission import Admission
from kkt_bridge.stages.intake.decide import (
    Answer,
    AnswerVerdict,
    Facts,
    Refuse,
    RefuseCommand,
    Repeat,
    Request,
    Rules,
    Verdict,
    decide,
    refuse,
    understand,
)
from kkt_bridge.stages.intake.flood import RefusalLog
from kkt_bridge.stages.intake.record import Recorder, readable_facts
from kkt_bridge.wire import refusals
from kkt_bridge.wire.messages import Command, CommandError, Error
from kkt_bridge.wire.topics import Topics

BATCH_MAX: Final = 64
"""Messages in one transaction."""

BATCH_BYTES_MAX: Final = 1024 * 1024
"""Bytes of the messages in one transaction, about: decoding them is to take no longer than a moment."""

STORAGE_RETRY_S: Final = 1.0
"""Seconds before a disk that does not take anything is tried again."""

KEPT_MAX: Final = 20_000
"""Refusals that wait for the disk; with more of them no further message is taken, and the broker waits."""

TRIM_AFTER: Final = 500
"""Refusals recorded between two looks at how many are kept for redeliveries."""

HELD_BACK_MAX: Final = 500
"""Decided messages whose PUBACKs wait for earlier ones: with more of them no refusal is dropped, it may be theirs."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Unrecorded:
    """A message that was answered past the journal: what is still to be written, and what to acknowledge then."""

    request: Request
    verdict: AnswerVerdict
    answer: bytes
    tokens: list[AckToken] = field(default_factory=list)
    """Its own, and those of its redeliveries."""


class Intake:
    """Turns what POS terminals and operators publish into what the journal holds."""

    def __init__(
        self,
        *,
        rules: Rules,
        admission: Admission,
        topics: Topics,
        journal: Journal,
        inbox: Inbox,
        link: BrokerSession,
        clock: Clock,
    ) -> None:
        self._rules = rules
        self._recorder = Recorder(topics=topics, rules=rules, admission=admission)
        self._watch = admission.watch
        self._topics = topics
        self._journal = journal
        self._inbox = inbox
        self._link = link
        self._clock = clock
        self._unrecorded: dict[bytes, _Unrecorded] = {}
        """By the digest of the message, oldest first."""
        self._refusal_log = RefusalLog(clock)
        self._refused_since_trim = TRIM_AFTER

    def step(self) -> float | None:
        """Decide on what has arrived."""
        wait = self._record_what_was_refused() if self._unrecorded else None
        if not self._unrecorded and (requests := self._take()):
            wait = self._commit(requests)
        told = self._refusal_log.step() if self._refusal_log.untold else None
        return min((due for due in (wait, told) if due is not None), default=None)

    def _take(self) -> list[Request]:
        """Return the next messages, each decoded once. One that asks for nothing is acknowledged, and that is all."""
        messages = self._inbox.take(BATCH_MAX, BATCH_BYTES_MAX)
        understood = [(message, understand(self._topics, message)) for message in messages]
        if ignored := [message.token for message, request in understood if request is None]:
            self._acknowledge(ignored)
        requests = [request for _, request in understood if request is not None]
        senders = Counter(request.sender for request in requests)
        self._watch.note(senders, left_waiting=self._inbox.arrived.is_set())
        return requests

    def _acknowledge(self, tokens: Iterable[AckToken]) -> None:
        """Send the PUBACKs of messages that are decided on, as far as none before them waits for its own."""
        if ready := self._inbox.release_pubacks(tokens):
            self._link.acknowledge(ready)

    # -- committing -----------------------------------------------------------------------------------

    def _commit(self, requests: list[Request]) -> float:
        try:
            self._write(requests)
        except StorageUnavailable as problem:
            return self._while_storage_fails(requests, problem)
        except Exception:
            log.exception("a batch of %d messages could not be taken together", len(requests))
            return self._commit_one_by_one(requests)
        self._acknowledge(request.token for request in requests)
        return 0.0

    def _write(self, requests: Sequence[Request]) -> None:
        """Decide on them, write that in one transaction, and log what was refused once it is committed."""
        is_trim_due = self._refused_since_trim >= TRIM_AFTER and self._inbox.pubacks_held_back <= HELD_BACK_MAX
        verdicts = self._journal.write(partial(self._decide, requests, is_trim_due=is_trim_due))
        if is_trim_due:
            self._refused_since_trim = 0
        for request, verdict in zip(requests, verdicts, strict=True):
            if isinstance(verdict, Refuse | RefuseCommand):
                self._refused_since_trim += 1
                self._note_refusal(request, verdict.error)

    def _decide(self, requests: Sequence[Request], tx: Transaction, *, is_trim_due: bool = False) -> list[Verdict]:
        """Decide on each, and write that; in their order, as each may depend on what came before."""
        if is_trim_due:
            trim_refusals(tx)
        look_up(tx, [request.key for request in requests if request.key is not None])
        verdicts: list[Verdict] = []
        for request in requests:
            verdict = decide(request, self._recorder.facts(tx, request), self._rules)
            self._recorder.apply(tx, request, verdict)
            verdicts.append(verdict)
        return verdicts

    def _note_refusal(self, request: Request, error: Error | CommandError) -> None:
        self._watch.note_refusal(request.sender)
        self._refusal_log.note(request, error.code, error.message)

    def _commit_one_by_one(self, requests: list[Request]) -> float:
        for number, request in enumerate(requests):
            try:
                self._commit_alone(request)
            except JournalError as problem:
                return self._while_storage_fails(requests[number:], problem)
            self._acknowledge([request.token])
        return 0.0

    def _commit_alone(self, request: Request) -> None:
        """Commit one message that must not take the others along, and must not come back for ever.

        Errors: JournalError where not even the refusal can be written.
        """
        try:
            self._write([request])
        except StorageUnavailable:
            raise
        except Exception:
            log.exception(
                "a message of %s could not be handled; it is answered and set aside", request.sender, extra=request.ids
            )
            self._write([replace(request.without_content(), error=refusals.error("internal"))])

    # -- while the disk takes nothing -------------------------------------------------------------------

    def _while_storage_fails(self, requests: list[Request], problem: JournalError) -> float:
        log.error("the journal takes nothing: %s", problem)
        self._refuse_past_the_journal(requests)
        return STORAGE_RETRY_S

    def _refuse_past_the_journal(self, requests: list[Request]) -> None:
        """Answer at once; acknowledge only when the refusals themselves can be recorded.

        So a redelivery finds the refusal that was given, and nothing is printed behind the cashier's back.
        """
        for request in requests:
            kept = self._unrecorded.get(request.digest)
            if kept is None:
                kept = self._unrecorded[request.digest] = self._answered_past_the_journal(request)
            kept.tokens.append(request.token)
            if request.answer_topic is not None:
                self._link.publish(Publication(request.answer_topic, kept.answer, correlation=request.correlation))

    def _answered_past_the_journal(self, request: Request) -> _Unrecorded:
        """Answer from the journal what can still be read there; refuse the rest."""
        verdict: AnswerVerdict | None = self._verdict_on_what_was_taken(request)
        if verdict is None:
            error = refusals.error("storage_unavailable")
            self._note_refusal(request, error)
            verdict = refuse(request, error, Facts())
        answer = self._recorder.answer(request, verdict, self._clock.now_ms())
        return _Unrecorded(request.without_content(), verdict, answer)

    def _verdict_on_what_was_taken(self, request: Request) -> Repeat | Answer | None:
        """Return the verdict on the repeat of a receipt that was taken before, or on a question about it."""
        if request.key is None or request.content is None or isinstance(request.content, Command):
            return None
        try:
            facts = readable_facts(self._journal, request.key, request.content_digest)
        except JournalError:
            return None
        verdict = decide(request, facts, self._rules) if facts.receipt is not None else None
        return verdict if isinstance(verdict, Repeat | Answer) else None

    def _record_what_was_refused(self) -> float:
        """Refuse on while the journal still takes nothing; return the seconds until the next attempt."""
        if not self._record_some():
            if len(self._unrecorded) < KEPT_MAX:
                self._refuse_past_the_journal(self._take())
            return STORAGE_RETRY_S
        if not self._unrecorded:
            log.info("the journal takes again; all that was refused meanwhile is recorded")
        return 0.0

    def _record_some(self) -> bool:
        """Write down some of what was refused while the journal took nothing; return False if it still does not."""
        some = list(self._unrecorded.values())[:BATCH_MAX]
        try:
            self._journal.write(partial(self._record, some))
        except JournalError:
            return False
        for each in some:
            del self._unrecorded[each.request.digest]
            self._acknowledge(each.tokens)
        return True

    def _record(self, some: Sequence[_Unrecorded], tx: Transaction) -> None:
        for each in some:
            if isinstance(each.verdict, Refuse | RefuseCommand):
                self._recorder.apply(tx, each.request, each.verdict)

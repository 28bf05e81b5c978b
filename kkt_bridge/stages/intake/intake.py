"""Stage 1: message in, decision, commit, acknowledgement; nothing else, and never an exception.

A batch of messages becomes one transaction. Each message is decoded into a *decision*, a function that
is run inside it; the acknowledgements go out after the commit, in the order of arrival.
"""

import logging
from collections.abc import Iterable
from datetime import tzinfo
from functools import partial
from typing import Final, Protocol

from kkt_bridge.broker.inbox import AckToken, Inbox, Incoming
from kkt_bridge.broker.link import Outgoing
from kkt_bridge.clock import Clock
from kkt_bridge.errors import JournalError, StorageUnavailable
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import find_receipt
from kkt_bridge.journal.records import StoredReceipt
from kkt_bridge.receipts.identity import content_digest
from kkt_bridge.stages import replies
from kkt_bridge.stages.intake.decide import NOTHING, Decider, internal_error
from kkt_bridge.stages.intake.refusals import Decision, Refusals, Request, decide_all, request_of
from kkt_bridge.wire.decode import Undecodable, decode_receipt
from kkt_bridge.wire.messages import Error
from kkt_bridge.wire.topics import Topics

BATCH_MAX: Final = 64
"""Messages in one transaction."""

STORAGE_RETRY_S: Final = 1.0
"""How often a disk that does not take anything is tried again."""

log = logging.getLogger(__name__)


class Link(Protocol):
    """What the intake needs of the MQTT session."""

    def acknowledge(self, tokens: Iterable[AckToken]) -> None:
        """Send the PUBACKs, in this order."""
        ...

    def publish(self, message: Outgoing) -> None:
        """Publish past the journal: only for word that the journal does not work."""
        ...


class Intake:
    """Turns what POS terminals and operators publish into what the journal holds."""

    def __init__(
        self,
        *,
        decider: Decider,
        refusals: Refusals,
        topics: Topics,
        zone: tzinfo,
        journal: Journal,
        inbox: Inbox,
        link: Link,
        clock: Clock,
    ) -> None:
        self._decider = decider
        self._refusals = refusals
        self._topics = topics
        self._zone = zone
        self._journal = journal
        self._inbox = inbox
        self._link = link
        self._clock = clock
        self._refused_unrecorded: list[Incoming] = []

    def step(self) -> float | None:
        """Decide on what has arrived."""
        messages = self._inbox.take(BATCH_MAX)
        if self._refused_unrecorded:
            if not self._record_refusals():
                self._refuse_past_the_journal(messages)
                return STORAGE_RETRY_S
        elif not messages:
            return None
        return self._commit(messages) if messages else 0.0

    # -- committing -----------------------------------------------------------------------------------

    def _commit(self, messages: list[Incoming]) -> float:
        decisions = [self._decider.decision(message) for message in messages]
        try:
            self._journal.write(partial(decide_all, decisions))
        except StorageUnavailable as problem:
            return self._while_storage_fails(messages, problem)
        except Exception:
            log.exception("a batch of %d messages could not be taken together", len(messages))
            return self._commit_one_by_one(messages, decisions)
        self._link.acknowledge(message.token for message in messages)
        return 0.0

    def _commit_one_by_one(self, messages: list[Incoming], decisions: list[Decision]) -> float:
        for number, (message, decision) in enumerate(zip(messages, decisions, strict=True)):
            try:
                self._commit_alone(message, decision)
            except StorageUnavailable as problem:
                return self._while_storage_fails(messages[number:], problem)
            self._link.acknowledge([message.token])
        return 0.0

    def _commit_alone(self, message: Incoming, decision: Decision) -> None:
        """One message must not take the others along, and must not come back for ever."""
        try:
            self._journal.write(decision)
        except StorageUnavailable:
            raise
        except Exception:
            log.exception("a message on %s could not be handled; it is answered and set aside", message.topic)
            request = request_of(self._topics, message)
            if request is not None:
                self._journal.write(self._refusals.refuse(request, internal_error(), request.id()))

    def _while_storage_fails(self, messages: list[Incoming], problem: StorageUnavailable) -> float:
        log.error("the journal takes nothing: %s", problem)
        self._refuse_past_the_journal(messages)
        return STORAGE_RETRY_S

    def _refuse_past_the_journal(self, messages: list[Incoming]) -> None:
        """Answer at once; acknowledge only when the refusals themselves can be recorded.

        So a redelivery finds the refusal that was given, and nothing is printed behind the cashier's back.
        """
        for message in messages:
            if request := request_of(self._topics, message):
                self._answer_past_the_journal(request)
        self._refused_unrecorded += messages

    def _record_refusals(self) -> bool:
        """Write down what was refused while the journal took nothing; False if it still does not."""
        try:
            self._journal.write(partial(decide_all, list(map(self._record_refusal, self._refused_unrecorded))))
        except JournalError:
            return False
        self._link.acknowledge([message.token for message in self._refused_unrecorded])
        self._refused_unrecorded.clear()
        return True

    def _answer_past_the_journal(self, request: Request) -> None:
        """What can still be read is answered from there; the rest is refused."""
        payload = self._known_answer(request) or self._refusals.payload(request, _storage_error(), self._clock.now_ms())
        self._link.publish(Outgoing(request.answer_topic, payload, correlation=request.message.correlation))

    def _known_answer(self, request: Request) -> bytes | None:
        """The reply of a receipt that was taken before, whether it is repeated or asked for."""
        receipt_id = request.id()
        if request.route.kind == "command" or receipt_id is None:
            return None
        pos_id = request.route.name
        try:
            known = self._journal.read(lambda connection: find_receipt(connection, receipt_id, pos_id))
        except JournalError:
            return None
        if known is None or not self._is_about(request, known):
            return None
        return replies.stored(known, self._zone, duplicate=request.route.kind == "receipt").payload()

    @staticmethod
    def _is_about(request: Request, known: StoredReceipt) -> bool:
        """Whether the request repeats, or asks for, just that receipt."""
        if request.route.kind == "query":
            return True
        try:
            receipt = decode_receipt(request.message.payload, request.route.name)
        except Undecodable:
            return False
        return content_digest(receipt) == known.digest

    def _record_refusal(self, message: Incoming) -> Decision:
        request = request_of(self._topics, message)
        if request is None or self._known_answer(request) is not None:
            return NOTHING
        return self._refusals.refuse(request, _storage_error(), request.id())


def _storage_error() -> Error:
    message = "the bridge cannot write to its disk; nothing was taken, try again later under the same id"
    return replies.error("storage_unavailable", message, retryable=True)

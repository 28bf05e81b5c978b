"""Stage 1: message in, decision, commit, acknowledgement; nothing else, and never an exception.

A batch of messages becomes one transaction. Each message is decoded into a *decision*, a function that
is run inside it; the acknowledgements go out after the commit, in the order of arrival.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Final, Protocol

from kkt_bridge.broker.inbox import AckToken, Inbox, Incoming
from kkt_bridge.broker.link import Outgoing
from kkt_bridge.clock import Clock
from kkt_bridge.errors import JournalError, StorageUnavailable
from kkt_bridge.journal.commands import find_command, take_command
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import find_receipt, find_refusal, insert_receipt, readdress, remember_refusal
from kkt_bridge.journal.records import NewReceipt, StoredReceipt
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.identity import content_digest
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.settings import Settings
from kkt_bridge.stages import replies
from kkt_bridge.stages.admission import Admission
from kkt_bridge.wire.decode import Undecodable, decode_message, decode_receipt
from kkt_bridge.wire.messages import Command, CommandError, CommandResult, Error, Query
from kkt_bridge.wire.times import rfc3339
from kkt_bridge.wire.topics import Route, Topics

BATCH_MAX: Final = 64
"""Messages in one transaction."""

STORAGE_RETRY_S: Final = 1.0
"""How often a disk that does not take anything is tried again."""

Decision = Callable[[Transaction], None]

log = logging.getLogger(__name__)


class Link(Protocol):
    """What the intake needs of the MQTT session."""

    def acknowledge(self, tokens: Iterable[AckToken]) -> None:
        """Send the PUBACKs, in this order."""
        ...

    def publish(self, message: Outgoing) -> None:
        """Publish past the journal: only for word that the journal does not work."""
        ...


@dataclass(frozen=True, slots=True)
class _Request:
    """A message, what it asks for, and where the answer goes."""

    message: Incoming
    route: Route
    answer_topic: str

    def digest(self) -> bytes:
        """Topic and bytes: what a redelivery repeats."""
        return blake2b(self.message.topic.encode() + b"\0" + self.message.payload, digest_size=16).digest()


class Intake:
    """Turns what POS terminals and operators publish into what the journal holds."""

    def __init__(
        self,
        *,
        settings: Settings,
        topics: Topics,
        journal: Journal,
        inbox: Inbox,
        link: Link,
        admission: Admission,
        command_names: Collection[str],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._registers = frozenset(kkt.id for kkt in settings.kkt)
        self._zone = settings.zone
        self._topics = topics
        self._journal = journal
        self._inbox = inbox
        self._link = link
        self._admission = admission
        self._command_names = command_names
        self._clock = clock
        self._refused_unrecorded: list[Incoming] = []
        self.strays = 0
        """Messages on topics that ask for nothing, since the start."""

    def step(self) -> float | None:
        """Decide on what has arrived."""
        messages = self._inbox.take(BATCH_MAX)
        if self._refused_unrecorded:
            return self._while_storage_fails(messages)
        if not messages:
            return None
        return self._commit(messages)

    # -- committing -----------------------------------------------------------------------------------

    def _commit(self, messages: list[Incoming]) -> float:
        decisions = [self._decision(message) for message in messages]
        try:
            self._journal.write(partial(_decide_all, decisions))
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
            request = self._request(message)
            if request is not None:
                self._journal.write(self._refuse_all(request, _internal_error()))

    def _while_storage_fails(self, messages: list[Incoming], problem: StorageUnavailable | None = None) -> float:
        """Answer past the journal; acknowledge once the refusals themselves can be recorded.

        So a redelivery finds the refusal that was given, and nothing is printed behind the cashier's back.
        """
        if problem is not None:
            log.error("the journal takes nothing: %s", problem)
        for message in messages:
            if request := self._request(message):
                self._answer_past_the_journal(request)
        self._refused_unrecorded += messages
        try:
            self._journal.write(partial(_decide_all, list(map(self._record_refusal, self._refused_unrecorded))))
        except JournalError:
            return STORAGE_RETRY_S
        self._link.acknowledge([message.token for message in self._refused_unrecorded])
        self._refused_unrecorded.clear()
        return 0.0

    def _answer_past_the_journal(self, request: _Request) -> None:
        """What can still be read is answered from there; the rest is refused."""
        payload = self._known_answer(request) or self._volatile_refusal(request)
        self._link.publish(Outgoing(request.answer_topic, payload, correlation=request.message.correlation))

    def _known_answer(self, request: _Request) -> bytes | None:
        """The reply of a receipt that was taken before, whether it is repeated or asked for."""
        receipt_id = self._id_of(request)
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
    def _is_about(request: _Request, known: StoredReceipt) -> bool:
        """Whether the request repeats, or asks for, just that receipt."""
        if request.route.kind == "query":
            return True
        try:
            return content_digest(decode_receipt(request.message.payload, request.route.name)) == known.digest
        except Undecodable:
            return False

    def _record_refusal(self, message: Incoming) -> Decision:
        request = self._request(message)
        if request is None or self._known_answer(request) is not None:
            return _nothing
        return self._refuse_all(request, _storage_error())

    # -- deciding ---------------------------------------------------------------------------------------

    def _request(self, message: Incoming) -> _Request | None:
        route = self._topics.route(message.topic)
        if route is None:
            return None
        return _Request(message, route, self._topics.answer_topic(route, message.response_topic))

    def _decision(self, message: Incoming) -> Decision:
        request = self._request(message)
        if request is None:
            self.strays += 1
            return _nothing
        try:
            match request.route.kind:
                case "receipt":
                    return self._receipt_decision(request)
                case "query":
                    return self._query_decision(request)
                case "command":
                    return self._command_decision(request)
        except Undecodable as bad:
            return self._refuse(request, bad.error, bad.message_id)

    def _receipt_decision(self, request: _Request) -> Decision:
        receipt = decode_receipt(request.message.payload, request.route.name)
        digest = content_digest(receipt)
        body = receipt.canonical().decode()

        def decide(tx: Transaction) -> None:
            known = find_receipt(tx.connection, receipt.receipt_id, receipt.pos_id)
            if known is not None and known.digest == digest:
                self._repeat(tx, request, known)
            elif refusal := self._judge(tx, receipt, known):
                self._refuse(request, refusal, receipt.receipt_id)(tx)
            elif not self._repeat_refusal(tx, request):
                kkt = self._register_of(receipt)
                assert kkt is not None
                insert_receipt(tx, _new_receipt(receipt, kkt, digest, body, request))

        return decide

    def _judge(self, tx: Transaction, receipt: Receipt, known: StoredReceipt | None) -> Error | None:
        if known is not None:
            return _conflict(receipt)
        kkt = self._register_of(receipt)
        if kkt is None:
            return self._unknown_kkt(receipt)
        return self._admission.refusal(tx, receipt, kkt)

    def _register_of(self, receipt: Receipt) -> str | None:
        kkt = receipt.kkt or self._settings.kkt_for(receipt.pos_id)
        return kkt if kkt in self._registers else None

    def _unknown_kkt(self, receipt: Receipt) -> Error:
        there_is = ", ".join(sorted(self._registers))
        if receipt.kkt is not None:
            message = f"no register {receipt.kkt} here; there is {there_is}"
        else:
            message = f"POS {receipt.pos_id} is mapped to no register: name one in kkt, or map it; there is {there_is}"
        return replies.error("unknown_kkt", message, retryable=False, fields=[("kkt", f"one of {there_is}")])

    def _repeat(self, tx: Transaction, request: _Request, known: StoredReceipt) -> None:
        reply = replies.stored(known, self._zone, duplicate=True)
        tx.publish(request.answer_topic, reply.payload(), request.message.correlation)
        if not reply.final:
            readdress(tx, known, request.answer_topic, request.message.correlation)

    def _query_decision(self, request: _Request) -> Decision:
        query = decode_message(Query, request.message.payload, "receipt_id")
        pos_id = request.route.name

        def decide(tx: Transaction) -> None:
            known = find_receipt(tx.connection, query.receipt_id, pos_id)
            reply = (
                replies.stored(known, self._zone, duplicate=False)
                if known is not None
                else replies.not_found(query.receipt_id, pos_id)
            )
            tx.publish(request.answer_topic, reply.payload(), request.message.correlation)

        return decide

    def _command_decision(self, request: _Request) -> Decision:
        command = decode_message(Command, request.message.payload, "command_id")
        name = request.route.name
        if name not in self._command_names:
            known = ", ".join(sorted(self._command_names))
            return self._refuse_command(request, command.command_id, "unknown_command", f"there is {known}")

        def decide(tx: Transaction) -> None:
            taken = find_command(tx.connection, command.command_id)
            if taken is None:
                take_command(
                    tx,
                    command_id=command.command_id,
                    name=name,
                    issued_by=command.issued_by,
                    args=command.model_dump_json(include={"args"}),
                    reply_topic=request.answer_topic,
                    correlation=request.message.correlation,
                )
            elif taken.name != name:
                message = f"the command_id was used before, by a command {taken.name}: make a new one for each"
                self._refuse_command(request, command.command_id, "idempotency_conflict", message)(tx)
            elif taken.result is not None:
                tx.publish(request.answer_topic, taken.result.encode(), request.message.correlation)

        return decide

    # -- refusing ---------------------------------------------------------------------------------------

    def _refuse(self, request: _Request, error: Error, message_id: str | None) -> Decision:
        if request.route.kind == "command":
            code = "invalid_command" if error.code == "invalid_receipt" else error.code
            return self._refuse_command(request, message_id, code, error.message, error)
        reply = replies.refusal(message_id, request.route.name, error).payload()

        def decide(tx: Transaction) -> None:
            if self._repeat_refusal(tx, request):
                return
            tx.publish(request.answer_topic, reply, request.message.correlation)
            remember_refusal(tx, request.digest(), reply)
            tx.step(
                receipt=None,
                receipt_id=message_id,
                pos_id=request.route.name,
                kkt=None,
                current=None,
                target=Status.REJECTED,
                error=error.code,
            )

        return decide

    def _repeat_refusal(self, tx: Transaction, request: _Request) -> bool:
        """Answer a redelivery of what was refused with the same refusal; False if there is none."""
        if not request.message.redelivered:
            return False
        refusal = find_refusal(tx.connection, request.digest())
        if refusal is None:
            return False
        tx.publish(request.answer_topic, refusal, request.message.correlation)
        return True

    def _refuse_command(
        self, request: _Request, command_id: str | None, code: str, message: str, error: Error | None = None
    ) -> Decision:
        failure = CommandError(code=code, message=message, fields=error.fields if error else [])

        def decide(tx: Transaction) -> None:
            at = rfc3339(tx.instant.wall_ms, self._zone)
            result = CommandResult(command_id=command_id, ok=False, error=failure, at=at)
            tx.publish(request.answer_topic, result.payload(), request.message.correlation)

        return decide

    def _refuse_all(self, request: _Request, error: Error) -> Decision:
        """Refuse whatever it is, without looking into it further than for its id."""
        return self._refuse(request, error, self._id_of(request))

    def _volatile_refusal(self, request: _Request) -> bytes:
        error = _storage_error()
        if request.route.kind != "command":
            return replies.refusal(self._id_of(request), request.route.name, error).payload()
        at = rfc3339(self._clock.now_ms(), self._zone)
        failure = CommandError(code=error.code, message=error.message)
        return CommandResult(command_id=self._id_of(request), ok=False, error=failure, at=at).payload()

    @staticmethod
    def _id_of(request: _Request) -> str | None:
        try:
            if request.route.kind == "receipt":
                return decode_receipt(request.message.payload, request.route.name).receipt_id
            if request.route.kind == "query":
                return decode_message(Query, request.message.payload, "receipt_id").receipt_id
            return decode_message(Command, request.message.payload, "command_id").command_id
        except Undecodable as bad:
            return bad.message_id


def _decide_all(decisions: Iterable[Decision], tx: Transaction) -> None:
    for decide in decisions:
        decide(tx)


def _nothing(_tx: Transaction) -> None:
    """The decision on a message that asks for nothing: it is only acknowledged."""


def _new_receipt(receipt: Receipt, kkt: str, digest: bytes, body: str, request: _Request) -> NewReceipt:
    return NewReceipt(
        receipt_id=receipt.receipt_id,
        pos_id=receipt.pos_id,
        kkt=kkt,
        digest=digest,
        type=receipt.type,
        total=receipt.total,
        original_receipt_id=receipt.original_receipt_id,
        body=body,
        reply_topic=request.answer_topic,
        correlation=request.message.correlation,
    )


def _conflict(receipt: Receipt) -> Error:
    message = (
        f"receipt {receipt.receipt_id} was taken before with other content, and stands as it was; "
        "a different sale needs a new receipt_id"
    )
    return replies.error("idempotency_conflict", message, retryable=False)


def _storage_error() -> Error:
    message = "the bridge cannot write to its disk; nothing was taken, try again later under the same id"
    return replies.error("storage_unavailable", message, retryable=True)


def _internal_error() -> Error:
    message = "the bridge failed on this message (see its log); nothing was taken, do not send these bytes again"
    return replies.error("invalid_receipt", message, retryable=False)

"""What a message asks for, and the refusals that every kind of request shares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from hashlib import blake2b

from kkt_bridge.broker.inbox import Incoming
from kkt_bridge.journal.receipts import find_refusal, known_receipt, look_up, remember_refusal
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.stages import replies
from kkt_bridge.wire.decode import NOTHING_TAKEN, Undecodable, decode_message, decode_receipt
from kkt_bridge.wire.messages import Command, CommandError, CommandResult, Error, Query
from kkt_bridge.wire.times import rfc3339
from kkt_bridge.wire.topics import Route, Topics

Key = tuple[str, str]
"""A receipt's id and its POS."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be written about a message, the answer included."""

    write: Callable[[Transaction], None]
    about: Key | None = None
    """The receipt that it asks after first: those of many messages are looked up together."""

    def __call__(self, tx: Transaction) -> None:
        """Write it."""
        self.write(tx)


def decide_all(decisions: Sequence[Decision], tx: Transaction) -> None:
    """Write what was decided about several messages, in their order."""
    look_up(tx, [decision.about for decision in decisions if decision.about is not None])
    for decision in decisions:
        decision(tx)


@dataclass(frozen=True, slots=True)
class Request:
    """A message, what it asks for, and where the answer goes."""

    message: Incoming
    route: Route
    answer_topic: str

    def digest(self) -> bytes:
        """Topic and bytes: what a redelivery repeats."""
        return blake2b(self.message.topic.encode() + b"\0" + self.message.payload, digest_size=16).digest()

    def id(self) -> str | None:
        """The receipt's or command's id, if the payload holds one fit to be named."""
        try:
            if self.route.kind == "receipt":
                return decode_receipt(self.message.payload, self.route.name).receipt_id
            if self.route.kind == "query":
                return decode_message(Query, self.message.payload, "receipt_id").receipt_id
            return decode_message(Command, self.message.payload, "command_id").command_id
        except Undecodable as bad:
            return bad.message_id


def request_of(topics: Topics, message: Incoming) -> Request | None:
    """What the message asks for; None if nothing."""
    route = topics.route(message.topic)
    if route is None:
        return None
    return Request(message, route, topics.answer_topic(route, message.response_topic))


class Refusals:
    """Refusing: an answer, an event, and a memory for the broker's redeliveries."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def refuse(self, request: Request, error: Error, message_id: str | None) -> Decision:
        """End the request here; of a receipt that was not taken nothing is left but this."""
        if request.route.kind == "command":
            code = "invalid_command" if error.code == "invalid_receipt" else error.code
            return self.refuse_command(request, message_id, code, error.message, error)
        if request.route.kind == "query":
            # A verdict on the question, not on the receipt that it asks about: that one's id must not stand in it.
            message_id, error = None, _reworded(error, "the query was not understood: mend it and ask again")

        def decide(tx: Transaction) -> None:
            if self.repeat(tx, request):
                return
            said = error
            if message_id is not None and known_receipt(tx, message_id, request.route.name) is not None:
                said = _reworded(error, "the receipt taken before under this id stands as it was: query it")
            reply = replies.refusal(message_id, request.route.name, said).payload()
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

        return Decision(decide)

    def repeat(self, tx: Transaction, request: Request) -> bool:
        """Answer a redelivery of what was refused with the same refusal; False if there is none."""
        if not request.message.redelivered:
            return False
        refusal = find_refusal(tx.connection, request.digest())
        if refusal is None:
            return False
        tx.publish(request.answer_topic, refusal, request.message.correlation)
        return True

    def refuse_command(
        self, request: Request, command_id: str | None, code: str, message: str, error: Error | None = None
    ) -> Decision:
        """Answer a command that is not even taken."""
        failure = CommandError(code=code, message=message, fields=error.fields if error else [])

        def decide(tx: Transaction) -> None:
            at = rfc3339(tx.instant.wall_ms, self._zone)
            result = CommandResult(command_id=command_id, ok=False, error=failure, at=at)
            tx.publish(request.answer_topic, result.payload(), request.message.correlation)

        return Decision(decide)

    def payload(self, request: Request, error: Error, now_ms: int) -> bytes:
        """The refusal as a message, for when the journal cannot carry it."""
        if request.route.kind != "command":
            return replies.refusal(request.id(), request.route.name, error).payload()
        failure = CommandError(code=error.code, message=error.message)
        at = rfc3339(now_ms, self._zone)
        return CommandResult(command_id=request.id(), ok=False, error=failure, at=at).payload()


def _reworded(error: Error, advice: str) -> Error:
    """The error with another word on what to do than that nothing was taken."""
    return error.model_copy(update={"message": error.message.replace(NOTHING_TAKEN, advice)})

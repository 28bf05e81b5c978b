"""The request in a message, and the verdict on it: pure functions; nothing is looked up or written here.

`understand` decodes a message, once; `decide` makes a verdict of the request and of what is known.
"""

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Final

from kkt_bridge.journal.records import NewReceipt, RefundedSale, StoredReceipt, TakenCommand
from kkt_bridge.journal.recovered import RecoveredDocument
from kkt_bridge.mqtt.inbox import AckToken, Incoming
from kkt_bridge.receipts.checks import correction_date_fault
from kkt_bridge.receipts.identity import ReceiptKey, content_digest
from kkt_bridge.receipts.model import IDENTIFIER_PATTERN, RECEIPT_ID_PATTERN, Receipt
from kkt_bridge.stages import replies
from kkt_bridge.stages.intake.refunds import refund_refusal
from kkt_bridge.wire import refusals
from kkt_bridge.wire.decode import Undecodable, decode_message, decode_receipt, invalid_receipt, too_large
from kkt_bridge.wire.messages import Command, CommandError, Error, Query, local_date
from kkt_bridge.wire.topics import NAME_CHARS_MAX, RequestKind, Route, Topics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A message without its payload: what it asks for, or why it cannot be understood."""

    token: AckToken
    kind: RequestKind
    name: str
    """The POS of a receipt or query, or the command's name, of at most `NAME_CHARS_MAX` characters."""
    answer_topic: str | None
    """None where no broker would take an answer."""
    correlation: bytes | None
    redelivered: bool
    retained: bool
    digest: bytes
    """16 bytes of topic and payload: what a redelivery repeats."""
    sender: str
    """The POS, or `command` of an operator."""
    id: str | None = None
    """The receipt's or command's id, as far as the payload holds one that can be read."""
    key: ReceiptKey | None = None
    """The receipt that it is about, if it names one as the contract wants it."""
    content: Receipt | Query | Command | None = None
    canonical: bytes = b""
    """The canonical form of a receipt."""
    content_digest: bytes = b""
    """Of a receipt's canonical form: what an equal one shares with it, whatever its spelling."""
    error: Error | None = None
    """Why there is no content."""

    @property
    def ids(self) -> dict[str, str | None]:
        """The ids for a line in the log."""
        return {} if self.kind == "command" else {"receipt_id": self.id, "pos_id": self.name}

    def without_content(self) -> "Request":
        """Return what is needed to refuse it, and no more."""
        return replace(self, content=None, canonical=b"")


@dataclass(frozen=True, slots=True)
class Rules:
    """The configuration, as far as it is about requests."""

    registers: Collection[str]
    register_of_pos: Mapping[str, str]
    only_register: str | None
    """Of a POS that is mapped to none; None where there are several."""
    command_names: Collection[str]
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class Facts:
    """The journal's knowledge of a request at the moment of the decision."""

    receipt: StoredReceipt | None = None
    """The receipt that was taken under its key, at any time."""
    body: str | None = None
    """The canonical form in which that was taken; None where the digests are equal, or it was purged."""
    document: RecoveredDocument | None = None
    """The fiscal document that the receipt has although the journal does not know the receipt."""
    refusal: bytes | None = None
    """The reply with which these very bytes were refused before."""
    original: RefundedSale | None = None
    """The sale that a refund names."""
    command: TakenCommand | None = None
    """The command with this id."""
    paused: bool = False
    pending: int = 0
    """Receipts that fill the buffer, which holds `capacity`."""
    capacity: int = 0
    exhausted: Collection[str] = ()
    """Registers whose fiscal storage takes no more documents."""
    now_ms: int = 0
    """By the wall clock or the hybrid one, whichever is later: a clock that was set back judges nobody."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Take the receipt."""

    new: NewReceipt
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send the stored reply again: the receipt was taken before."""

    stored: StoredReceipt


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take the receipt with its document: it was printed before, and the journal does not know it."""

    new: NewReceipt
    document: RecoveredDocument
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an error and tell of it; nothing is kept under the receipt's id."""

    error: Error
    message_id: str | None


@dataclass(frozen=True, slots=True)
class AcceptCommand:
    """Take the command; it is carried out after the commit."""

    command: Command


@dataclass(frozen=True, slots=True)
class RefuseCommand:
    """Answer that the command is not taken, and tell of it."""

    error: CommandError


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer, and change nothing: to a question, or the same as before."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Ignore:
    """Say nothing: what was asked for is under way."""


Verdict = Accept | Repeat | Adopt | Refuse | AcceptCommand | RefuseCommand | Answer | Ignore
AnswerVerdict = Repeat | Answer | Refuse | RefuseCommand
"""Those that only say something, and can be said while nothing can be written."""

IGNORE: Final = Ignore()


def understand(topics: Topics, message: Incoming) -> Request | None:
    """Return what the message asks for; None if it is on no topic of a request. Never raises an exception."""
    route = topics.route(message.topic)
    if route is None:
        log.debug("a message on %.100s asks for nothing", message.topic)
        return None
    name = route.name[:NAME_CHARS_MAX]
    request = Request(
        token=message.token,
        kind=route.kind,
        name=name,
        answer_topic=topics.answer_topic(route, message.response_topic),
        correlation=message.correlation,
        redelivered=message.redelivered,
        retained=message.retained,
        digest=message.digest,
        sender="command" if route.kind == "command" else name,
    )
    try:
        return _decode(request, route, message)
    except Undecodable as bad:
        key = None
        if route.kind != "command" and bad.message_id and re.fullmatch(RECEIPT_ID_PATTERN, bad.message_id):
            key = ReceiptKey(request.name, bad.message_id)
        return replace(request, id=bad.message_id, key=key, error=bad.error)
    except Exception:
        log.exception("a message on %.100s could not be read; it is answered and set aside", message.topic)
        return replace(request, error=refusals.error("internal"))


def _decode(request: Request, route: Route, message: Incoming) -> Request:
    if message.excess is not None:
        id_field = "command_id" if route.kind == "command" else "receipt_id"
        raise too_large(message.excess.length, message.payload, id_field)
    match route.kind:
        case "receipt":
            receipt = decode_receipt(message.payload, route.name)
            canonical = receipt.canonical()
            return replace(
                request,
                id=receipt.receipt_id,
                key=receipt.key,
                content=receipt,
                canonical=canonical,
                content_digest=content_digest(canonical),
            )
        case "query":
            query = decode_message(Query, message.payload, "receipt_id")
            request = replace(request, id=query.receipt_id, key=ReceiptKey(request.name, query.receipt_id))
            if re.fullmatch(IDENTIFIER_PATTERN, route.name) is None:
                return replace(request, error=refusals.error("unfit_pos"))
            return replace(request, content=query)
        case "command":
            command = decode_message(Command, message.payload, "command_id")
            return replace(request, id=command.command_id, content=command)


def decide(request: Request, facts: Facts, rules: Rules) -> Verdict:
    """Return what is to be done about the request."""
    match request.content:
        case Receipt() as receipt:
            return _decide_receipt(request, receipt, facts, rules)
        case Query(receipt_id=receipt_id):
            if facts.receipt is None:
                return Answer(replies.not_found(ReceiptKey(request.name, receipt_id)).payload())
            return Answer(replies.stored(facts.receipt, rules.zone, duplicate=False).payload())
        case Command() as command:
            return _decide_command(request, command, facts, rules)
        case None:
            return refuse(request, request.error or refusals.error("internal"), facts)


def refuse(request: Request, error: Error, facts: Facts) -> Refuse | RefuseCommand | Answer:
    """Return the refusal in the words that fit what was asked; a redelivery gets the same one again."""
    if request.kind == "command":
        return RefuseCommand(refusals.of_command(error))
    if facts.refusal is not None:
        return Answer(facts.refusal)
    if request.kind == "query":
        # It is about the question, not about the receipt that it asks for: that one's id must not stand in it.
        return Refuse(refusals.of_query(error), None)
    if facts.receipt is not None:
        error = refusals.beside_a_receipt(error)
    return Refuse(error, request.id)


def _decide_receipt(request: Request, receipt: Receipt, facts: Facts, rules: Rules) -> Verdict:
    stored, document = facts.receipt, facts.document
    if stored is not None and _is_repeat(request, receipt, stored, facts.body):
        return Repeat(stored)
    if document is not None and document.could_be(receipt):
        return Adopt(_new_receipt(request, receipt, document.kkt), document, receipt)
    kkt = receipt.kkt or rules.register_of_pos.get(receipt.pos_id, rules.only_register)
    if stored is not None or document is not None:
        return refuse(request, refusals.error("idempotency_conflict", receipt_id=receipt.receipt_id), facts)
    if refusal := _refusal_of_new(request, receipt, kkt, facts, rules):
        return refuse(request, refusal, facts)
    if facts.refusal is not None:
        return Answer(facts.refusal)
    assert kkt is not None, "there is a register, or a refusal"
    return Accept(_new_receipt(request, receipt, kkt), receipt)


def _is_repeat(request: Request, receipt: Receipt, stored: StoredReceipt, body: str | None) -> bool:
    """Compare by digest, and where that differs by the stored form, if it is kept: of a tombstone it is not."""
    return stored.digest == request.content_digest or (body is not None and receipt.is_stored_as(body))


def _refusal_of_new(request: Request, receipt: Receipt, kkt: str | None, facts: Facts, rules: Rules) -> Error | None:
    """Return why a receipt that is not known cannot be taken now; None if it can."""
    if request.retained:
        return refusals.error("retained")
    today = local_date(facts.now_ms, rules.zone) if receipt.correction is not None else None
    if today is not None and (fault := correction_date_fault(receipt, today)):
        return invalid_receipt([fault])
    if kkt is None or kkt not in rules.registers:
        return _unknown_register(receipt, rules)
    refusal = None
    if facts.paused:
        refusal = refusals.error("paused")
    elif facts.pending >= facts.capacity:
        refusal = refusals.error("buffer_full", capacity=facts.capacity)
    elif kkt in facts.exhausted:
        refusal = refusals.error("fn_exhausted", kkt=kkt)
    elif receipt.original_receipt_id is not None:
        refusal = refund_refusal(receipt.original_receipt_id, receipt.total, facts.original)
    return refusal


def _unknown_register(receipt: Receipt, rules: Rules) -> Error:
    there_is = ", ".join(sorted(rules.registers))
    fields = [("kkt", f"one of {there_is}")]
    if receipt.kkt is not None:
        return refusals.error("unknown_kkt", fields=fields, kkt=receipt.kkt, there_is=there_is)
    return refusals.error("unmapped_pos", fields=fields, pos=receipt.pos_id, there_is=there_is)


def _new_receipt(request: Request, receipt: Receipt, kkt: str) -> NewReceipt:
    assert request.answer_topic is not None, "a POS whose receipt is valid has a name fit for a topic"
    return NewReceipt(
        key=receipt.key,
        kkt=kkt,
        digest=request.content_digest,
        type=receipt.type,
        total=receipt.total,
        original_receipt_id=receipt.original_receipt_id,
        body=request.canonical.decode(),
        reply_topic=request.answer_topic,
        correlation=request.correlation,
    )


def _decide_command(request: Request, command: Command, facts: Facts, rules: Rules) -> Verdict:
    if request.retained:
        return RefuseCommand(refusals.command_error("retained_command"))
    if request.name not in rules.command_names:
        there_is = ", ".join(sorted(rules.command_names))
        return RefuseCommand(refusals.command_error("unknown_command", there_is=there_is))
    taken = facts.command
    if taken is None:
        return AcceptCommand(command)
    if taken.name != request.name:
        return RefuseCommand(refusals.command_error("command_conflict", name=taken.name))
    return IGNORE if taken.result is None else Answer(taken.result.encode())

"""What is to be done about a request: decided from what is known, as a value; nothing is written here."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, tzinfo
from typing import Final, Protocol

from kkt_bridge.journal.records import NewReceipt, StoredReceipt, TakenCommand
from kkt_bridge.journal.recovered import RecoveredDocument
from kkt_bridge.receipts.checks import correction_date_fault
from kkt_bridge.receipts.identity import ReceiptKey, is_the_same
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.stages import replies
from kkt_bridge.stages.intake import refusals
from kkt_bridge.stages.intake.request import Request
from kkt_bridge.wire.decode import invalid_receipt
from kkt_bridge.wire.messages import Command, CommandError, Error, Query


class Known(Protocol):
    """What a decision may ask for: how things stand at its moment."""

    def receipt(self, key: ReceiptKey) -> StoredReceipt | None:
        """The receipt with this key, taken at any time."""
        ...

    def body(self, found: StoredReceipt) -> str | None:
        """The canonical form in which it was taken; None once that was purged."""
        ...

    def document(self, receipt: Receipt) -> RecoveredDocument | None:
        """The fiscal document that a receipt has although the journal does not know it."""
        ...

    def refusal(self, digest: bytes) -> bytes | None:
        """The reply with which these very bytes were refused before."""
        ...

    def obstacle(self, receipt: Receipt, kkt: str) -> Error | None:
        """Why the receipt cannot be taken now."""
        ...

    def command(self, command_id: str) -> TakenCommand | None:
        """The command with this id."""
        ...

    def today(self) -> date:
        """The shop's calendar."""
        ...


@dataclass(frozen=True, slots=True)
class Accept:
    """Take the receipt."""

    new: NewReceipt


@dataclass(frozen=True, slots=True)
class Repeat:
    """It was taken before: the stored reply again."""

    known: StoredReceipt


@dataclass(frozen=True, slots=True)
class Adopt:
    """It was printed before, and the journal does not know it: take it with its document."""

    new: NewReceipt
    document: RecoveredDocument
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Refuse:
    """It ends here, with an answer and an event, and leaves no trace of its id."""

    error: Error
    message_id: str | None


@dataclass(frozen=True, slots=True)
class RefuseCommand:
    """The command is not even taken."""

    error: CommandError


@dataclass(frozen=True, slots=True)
class Take:
    """Take the command; it is carried out after the commit."""

    command: Command


@dataclass(frozen=True, slots=True)
class Answer:
    """A word that changes nothing: to a question, or the same as before."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Ignore:
    """Nothing is to be said: what was asked for is under way."""


Verdict = Accept | Repeat | Adopt | Refuse | RefuseCommand | Take | Answer | Ignore

IGNORE: Final = Ignore()


class Decider:
    """Decides on receipts, queries and commands."""

    def __init__(
        self,
        *,
        registers: Collection[str],
        register_of_pos: Callable[[str], str | None],
        command_names: Collection[str],
        zone: tzinfo,
    ) -> None:
        self._registers = registers
        self._register_of_pos = register_of_pos
        self._command_names = command_names
        self._zone = zone

    def decide(self, request: Request, known: Known) -> Verdict:
        """What is to be done about the request."""
        match request.content:
            case Receipt() as receipt:
                return self._about_receipt(request, receipt, known)
            case Query(receipt_id=receipt_id):
                key = ReceiptKey(request.name, receipt_id)
                return Answer(self._answer_to_query(known.receipt(key), key))
            case Command() as command:
                return self._about_command(request, command, known)
            case None:
                return _refused(request, request.error or refusals.error("internal"), known)

    def _about_receipt(self, request: Request, receipt: Receipt, known: Known) -> Verdict:
        found = known.receipt(receipt.key)
        if found is not None and is_repeat(request, receipt, found, known.body):
            return Repeat(found)
        document = known.document(receipt) if found is None else None
        if document is not None and document.could_be(receipt):
            return Adopt(_new_receipt(request, receipt, document.kkt), document, receipt)
        kkt = receipt.kkt or self._register_of_pos(receipt.pos_id)
        is_conflict = found is not None or document is not None
        refusal = _conflict(receipt) if is_conflict else self._obstacle(request, receipt, kkt, known)
        if refusal is not None:
            return _refused(request, refusal, known)
        assert kkt is not None, "there is a register, or an obstacle"
        return _same_refusal(request, known) or Accept(_new_receipt(request, receipt, kkt))

    def _obstacle(self, request: Request, receipt: Receipt, kkt: str | None, known: Known) -> Error | None:
        if request.retained:
            return refusals.error("retained")
        if fault := correction_date_fault(receipt, known.today()):
            return invalid_receipt([fault])
        if kkt is None or kkt not in self._registers:
            return self._unknown_kkt(receipt)
        return known.obstacle(receipt, kkt)

    def _unknown_kkt(self, receipt: Receipt) -> Error:
        there_is = ", ".join(sorted(self._registers))
        fields = [("kkt", f"one of {there_is}")]
        if receipt.kkt is not None:
            return refusals.error("unknown_kkt", fields=fields, kkt=receipt.kkt, there_is=there_is)
        return refusals.error("unmapped_pos", fields=fields, pos=receipt.pos_id, there_is=there_is)

    def _answer_to_query(self, found: StoredReceipt | None, key: ReceiptKey) -> bytes:
        if found is None:
            return replies.not_found(key).payload()
        return replies.stored(found, self._zone, duplicate=False).payload()

    def _about_command(self, request: Request, command: Command, known: Known) -> Verdict:
        if request.retained:
            return RefuseCommand(refusals.command_error("retained_command"))
        if request.name not in self._command_names:
            there_is = ", ".join(sorted(self._command_names))
            return RefuseCommand(refusals.command_error("unknown_command", there_is=there_is))
        taken = known.command(command.command_id)
        if taken is None:
            return Take(command)
        if taken.name != request.name:
            return RefuseCommand(refusals.command_error("command_conflict", name=taken.name))
        return IGNORE if taken.result is None else Answer(taken.result.encode())


def _refused(request: Request, error: Error, known: Known) -> Verdict:
    """What the refusal is, in the words that fit what was asked; a redelivery gets the same one again."""
    if request.kind == "command":
        return RefuseCommand(refusals.of_command(error))
    if refused_before := _same_refusal(request, known):
        return refused_before
    if request.kind == "query":
        # A verdict on the question, not on the receipt that it asks about: that one's id must not stand in it.
        return Refuse(refusals.of_query(error), None)
    if request.key is not None and known.receipt(request.key) is not None:
        error = refusals.beside_a_receipt(error)
    return Refuse(error, request.id)


def _same_refusal(request: Request, known: Known) -> Answer | None:
    if not request.redelivered or (refusal := known.refusal(request.digest)) is None:
        return None
    return Answer(refusal)


def is_repeat(
    request: Request, receipt: Receipt, found: StoredReceipt, body: Callable[[StoredReceipt], str | None]
) -> bool:
    """Whether the receipt is what was taken: by the digest, and where that differs by the stored form, if it is kept.

    A tombstone has nothing but its digest.
    """
    if found.digest == request.content_digest:
        return True
    stored = body(found)
    return stored is not None and is_the_same(receipt, stored)


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


def _conflict(receipt: Receipt) -> Error:
    return refusals.error("idempotency_conflict", receipt_id=receipt.receipt_id)

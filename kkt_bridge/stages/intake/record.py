"""The intake's side of the journal: what is known about a request, and what a verdict changes, in one transaction."""

import logging

from kkt_bridge.journal.commands import find_command, take_command
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import (
    find_receipt,
    find_refunded_sale,
    find_refusal,
    insert_receipt,
    known_receipt,
    readdress,
    remember_refusal,
    stored_body,
)
from kkt_bridge.journal.records import Sale
from kkt_bridge.journal.recovered import adopt, find_recovered
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.checks import print_warnings
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.model import RECENT, Receipt
from kkt_bridge.stages import replies
from kkt_bridge.stages.intake.admission import Admission
from kkt_bridge.stages.intake.decide import (
    Accept,
    AcceptCommand,
    Adopt,
    Answer,
    AnswerVerdict,
    Facts,
    Ignore,
    Refuse,
    RefuseCommand,
    Repeat,
    Request,
    Rules,
    Verdict,
)
from kkt_bridge.wire.messages import Command, CommandError, CommandEvent, CommandResult, rfc3339
from kkt_bridge.wire.topics import Topics

log = logging.getLogger(__name__)


def readable_facts(journal: Journal, key: ReceiptKey, content_digest: bytes) -> Facts:
    """Return what can be read of a receipt where nothing can be written. Errors: JournalError.

    A question has no content (an empty digest): it is answered by the receipt's row alone.
    """
    stored = journal.read(lambda connection: find_receipt(connection, key))
    if stored is None or content_digest in {b"", stored.digest}:
        return Facts(receipt=stored)
    return Facts(receipt=stored, body=journal.read(lambda connection: stored_body(connection, stored)))


class Recorder:
    """Looks up what a decision needs, and writes verdicts."""

    def __init__(self, *, topics: Topics, rules: Rules, admission: Admission) -> None:
        self._command_event = topics.event("command")
        self._rules = rules
        self._admission = admission

    def facts(self, tx: Transaction, request: Request) -> Facts:
        """Return what is known about the request within this transaction.

        Each look through `tx.connection` writes what was gathered, so only what this request needs is looked up.
        """
        content = request.content
        if isinstance(content, Command):
            return Facts(command=find_command(tx.connection, content.command_id))
        stored = None if request.key is None else known_receipt(tx, request.key)
        if not isinstance(content, Receipt):
            refusal = find_refusal(tx.connection, request.digest) if content is None and request.redelivered else None
            return Facts(receipt=stored, refusal=refusal)
        if stored is not None and stored.digest == request.content_digest:
            return Facts(receipt=stored)
        refusal = find_refusal(tx.connection, request.digest) if request.redelivered else None
        if stored is not None:
            return Facts(receipt=stored, body=stored_body(tx.connection, stored), refusal=refusal)
        document = original = None
        if tx.may_be_recovered:
            document = find_recovered(tx.connection, requisite_1192(content.key))
        if content.original_receipt_id is not None:
            original = find_refunded_sale(tx.connection, ReceiptKey(content.pos_id, content.original_receipt_id))
        return Facts(
            document=document,
            refusal=refusal,
            original=original,
            paused=self._admission.paused,
            pending=tx.pending(),
            capacity=self._admission.capacity,
            exhausted=[kkt for kkt in self._rules.registers if self._admission.storage_exhausted(kkt)],
            now_ms=max(tx.instant.wall_ms, tx.hlc.wall_ms),
        )

    def apply(self, tx: Transaction, request: Request, verdict: Verdict) -> None:
        """Write what was decided about the request, the answer included."""
        match verdict:
            case Accept(new, receipt):
                insert_receipt(tx, new)
                RECENT.add(new.body, receipt)
            case Repeat(stored):
                reply = replies.stored(stored, self._rules.zone, duplicate=True)
                _answer(tx, request, reply.payload())
                if not reply.final and request.answer_topic is not None:
                    readdress(tx, stored, request.answer_topic, request.correlation)
            case Adopt(new, document, receipt):
                # Whatever stands in the way of printing does not matter: there is a document.
                adopted = adopt(tx, new, document, print_warnings(receipt))
                log.info("printed before the journal was lost: adopted", extra={"receipt_id": new.key.receipt_id})
                _answer(tx, request, replies.stored(adopted, self._rules.zone, duplicate=True).payload())
            case Refuse():
                self._refuse(tx, request, verdict)
            case AcceptCommand(command):
                _take_command(tx, request, command)
            case RefuseCommand(error):
                self._refuse_command(tx, request, error)
            case Answer(payload):
                _answer(tx, request, payload)
            case Ignore():
                pass

    def answer(self, request: Request, verdict: AnswerVerdict, now_ms: int) -> bytes:
        """Return what is said to the sender, for where nothing can be written."""
        match verdict:
            case Repeat(stored):
                return replies.stored(stored, self._rules.zone, duplicate=True).payload()
            case Answer(payload):
                return payload
            case Refuse(error, message_id):
                return replies.refusal(message_id, request.name, error).payload()
            case RefuseCommand(error):
                at = rfc3339(now_ms, self._rules.zone)
                return CommandResult(command_id=request.id, ok=False, error=error, at=at).payload()

    def _refuse(self, tx: Transaction, request: Request, verdict: Refuse) -> None:
        """End a receipt or query here: the reply, what a redelivery of it needs, and a step for the event."""
        now_ms = tx.instant.wall_ms
        reply = self.answer(request, verdict, now_ms)
        _answer(tx, request, reply)
        remember_refusal(tx, pos_id=request.name, digest=request.digest, reply=reply)
        if isinstance(request.content, Receipt):
            sale = Sale(request.content.type, request.content.total, now_ms)
        else:
            sale = Sale(received_ms=now_ms)
        tx.step(
            None,
            (request.name, verdict.message_id),
            None,
            None,
            Status.REJECTED,
            error=verdict.error.code,
            sale=sale,
        )

    def _refuse_command(self, tx: Transaction, request: Request, error: CommandError) -> None:
        """Answer that a command is not taken, and tell of it."""
        now_ms = tx.instant.wall_ms
        _answer(tx, request, self.answer(request, RefuseCommand(error), now_ms))
        event = CommandEvent(
            command_id=request.id,
            name=request.name,
            issued_by=request.content.issued_by if isinstance(request.content, Command) else None,
            ok=False,
            error=error.code,
            at=rfc3339(now_ms, self._rules.zone),
        )
        tx.publish(self._command_event, event.payload(), is_event=True)


def _take_command(tx: Transaction, request: Request, command: Command) -> None:
    assert request.answer_topic is not None, "a command that is known has a name fit for a topic"
    take_command(
        tx,
        command_id=command.command_id,
        name=request.name,
        issued_by=command.issued_by,
        args=command.model_dump_json(include={"args"}),
        reply_topic=request.answer_topic,
        correlation=request.correlation,
    )


def _answer(tx: Transaction, request: Request, payload: bytes) -> None:
    if request.answer_topic is not None:
        tx.publish(request.answer_topic, payload, request.correlation)

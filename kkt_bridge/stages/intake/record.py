"""What a verdict changes in the journal: its effect, the answer and the event, in the transaction that it is given."""

import logging
from datetime import date, tzinfo

from kkt_bridge.journal.commands import find_command, take_command
from kkt_bridge.journal.receipts import (
    find_refusal,
    insert_receipt,
    known_receipt,
    readdress,
    remember_refusal,
    stored_body,
)
from kkt_bridge.journal.records import Sale, StoredReceipt, TakenCommand
from kkt_bridge.journal.recovered import RecoveredDocument, adopt, find_recovered
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.checks import print_warnings
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.model import RECENT, Receipt
from kkt_bridge.stages import replies
from kkt_bridge.stages.intake.admission import Admission
from kkt_bridge.stages.intake.decide import Accept, Adopt, Answer, Ignore, Refuse, RefuseCommand, Repeat, Take, Verdict
from kkt_bridge.stages.intake.request import Request
from kkt_bridge.wire.messages import Command, CommandError, CommandEvent, CommandResult, Error, local_date, rfc3339
from kkt_bridge.wire.topics import Topics

log = logging.getLogger(__name__)


class JournalLookup:
    """What is known within one transaction."""

    def __init__(self, tx: Transaction, admission: Admission, zone: tzinfo) -> None:
        self._tx = tx
        self._zone = zone
        self._admission = admission
        # Asked before anything is gathered: a look in between would write it out.

    def receipt(self, key: ReceiptKey) -> StoredReceipt | None:
        """See `Known.receipt`."""
        return known_receipt(self._tx, key)

    def body(self, found: StoredReceipt) -> str | None:
        """See `Known.body`."""
        return stored_body(self._tx.connection, found)

    def document(self, receipt: Receipt) -> RecoveredDocument | None:
        """See `Known.document`: what was found in a fiscal storage after the journal was lost."""
        if not self._tx.may_be_recovered:
            return None
        return find_recovered(self._tx.connection, requisite_1192(receipt.key))

    def refusal(self, digest: bytes) -> bytes | None:
        """See `Known.refusal`."""
        return find_refusal(self._tx.connection, digest)

    def obstacle(self, receipt: Receipt, kkt: str) -> Error | None:
        """See `Known.obstacle`."""
        return self._admission.refusal(self._tx, receipt, kkt)

    def command(self, command_id: str) -> TakenCommand | None:
        """See `Known.command`."""
        return find_command(self._tx.connection, command_id)

    def today(self) -> date:
        """See `Known.today`."""
        # Receipts have been taken later than a clock says that was set back.
        return local_date(max(self._tx.instant.wall_ms, self._tx.hlc.wall_ms), self._zone)


class Recorder:
    """Writes verdicts."""

    def __init__(self, *, topics: Topics, zone: tzinfo) -> None:
        self._command_event = topics.event("command")
        self._zone = zone

    def view(self, tx: Transaction, admission: Admission) -> JournalLookup:
        """What is known within this transaction."""
        return JournalLookup(tx, admission, self._zone)

    def write(self, tx: Transaction, request: Request, verdict: Verdict) -> None:
        """Write what was decided about the request, the answer included."""
        match verdict:
            case Accept(new):
                insert_receipt(tx, new)
                if isinstance(request.content, Receipt):
                    RECENT.add(new.body, request.content)
            case Repeat(known):
                self._repeat(tx, request, known)
            case Adopt():
                self._adopt(tx, request, verdict)
            case Refuse(error, message_id):
                reply = replies.refusal(message_id, request.name, error).payload()
                self.refuse(tx, request, message_id, error.code, reply)
            case RefuseCommand(error):
                self.refuse_command(tx, request, error)
            case Take(command):
                self._take(tx, request, command)
            case Answer(payload):
                _answer(tx, request, payload)
            case Ignore():
                pass

    def refuse(self, tx: Transaction, request: Request, message_id: str | None, code: str, reply: bytes) -> None:
        """End a receipt or query here: the reply, what a redelivery of it needs, and a step for the event."""
        _answer(tx, request, reply)
        remember_refusal(tx, pos_id=request.name, digest=request.digest, reply=reply)
        tx.step(
            receipt=None,
            receipt_id=message_id,
            pos_id=request.name,
            kkt=None,
            current=None,
            target=Status.REJECTED,
            error=code,
            sale=_sale(request, tx.instant.wall_ms),
        )

    def refuse_command(self, tx: Transaction, request: Request, error: CommandError) -> None:
        """Answer a command that is not even taken, and tell of it."""
        at = rfc3339(tx.instant.wall_ms, self._zone)
        _answer(tx, request, self.command_refusal(request, error, tx.instant.wall_ms))
        event = CommandEvent(
            command_id=request.id,
            name=request.name,
            issued_by=request.content.issued_by if isinstance(request.content, Command) else None,
            ok=False,
            error=error.code,
            at=at,
        )
        tx.publish(self._command_event, event.payload(), is_event=True)

    def command_refusal(self, request: Request, error: CommandError, now_ms: int) -> bytes:
        """The result of a command that is not even taken."""
        at = rfc3339(now_ms, self._zone)
        return CommandResult(command_id=request.id, ok=False, error=error, at=at).payload()

    def stored_reply(self, known: StoredReceipt, *, duplicate: bool) -> bytes:
        """What became of a receipt that was taken."""
        return replies.stored(known, self._zone, duplicate=duplicate).payload()

    def _repeat(self, tx: Transaction, request: Request, known: StoredReceipt) -> None:
        reply = replies.stored(known, self._zone, duplicate=True)
        _answer(tx, request, reply.payload())
        if not reply.final and request.answer_topic is not None:
            readdress(tx, known, request.answer_topic, request.correlation)

    def _adopt(self, tx: Transaction, request: Request, verdict: Adopt) -> None:
        """Answer with the document that there is; whatever stands in the way of printing does not matter."""
        adopted = adopt(tx, verdict.new, verdict.document, print_warnings(verdict.receipt))
        log.info("printed before the journal was lost: adopted", extra={"receipt_id": verdict.new.key.receipt_id})
        _answer(tx, request, self.stored_reply(adopted, duplicate=True))

    @staticmethod
    def _take(tx: Transaction, request: Request, command: Command) -> None:
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


def _sale(request: Request, received_ms: int) -> Sale:
    """What a refused request tells of the sale: nothing but its time where it could not be read."""
    receipt = request.content
    if isinstance(receipt, Receipt):
        return Sale(receipt.type, receipt.total, received_ms)
    return Sale(received_ms=received_ms)

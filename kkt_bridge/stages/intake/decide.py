"""What is decided about each kind of message: a function to be run in the transaction that records it."""

import logging
from collections.abc import Collection
from typing import Final

from kkt_bridge.broker.inbox import Incoming
from kkt_bridge.journal.commands import find_command, take_command
from kkt_bridge.journal.receipts import insert_receipt, known_receipt, readdress
from kkt_bridge.journal.records import NewReceipt, StoredReceipt
from kkt_bridge.journal.recovered import RecoveredDocument, adopt, any_recovered, find_recovered
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.checks import correction_date_fault
from kkt_bridge.receipts.identity import canonical_digest, requisite_1192
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.receipts.print_warnings import print_warnings
from kkt_bridge.receipts.recent import remember
from kkt_bridge.settings import Settings
from kkt_bridge.stages import replies
from kkt_bridge.stages.intake.admission import Admission
from kkt_bridge.stages.intake.refusals import Decision, Refusals, Request, request_of
from kkt_bridge.wire.decode import Undecodable, decode_message, decode_receipt, invalid_receipt
from kkt_bridge.wire.messages import Command, Error, Query
from kkt_bridge.wire.times import local_date
from kkt_bridge.wire.topics import Topics

log = logging.getLogger(__name__)


class Decider:
    """Decides on receipts, queries and commands; touches nothing but the transaction it is given."""

    def __init__(
        self,
        *,
        settings: Settings,
        topics: Topics,
        admission: Admission,
        command_names: Collection[str],
        refusals: Refusals,
    ) -> None:
        self._settings = settings
        self._registers = frozenset(kkt.id for kkt in settings.kkt)
        self._zone = settings.zone
        self._topics = topics
        self._admission = admission
        self._command_names = command_names
        self._refusals = refusals
        self._may_be_recovered: bool | None = None

    def decision(self, message: Incoming) -> Decision:
        """What to write about this message; never an exception."""
        request = request_of(self._topics, message)
        if request is None:
            log.debug("a message on %s asks for nothing", message.topic)
            return NOTHING
        try:
            return self._decide(request)
        except Undecodable as bad:
            return self._refusals.refuse(request, bad.error, bad.message_id)
        except Exception:
            log.exception("a message on %s could not be judged; it is answered and set aside", message.topic)
            return self._refusals.refuse(request, internal_error(), None)

    def _decide(self, request: Request) -> Decision:
        match request.route.kind:
            case "receipt":
                return self._receipt_decision(request)
            case "query":
                return self._query_decision(request)
            case "command":
                return self._command_decision(request)

    def _receipt_decision(self, request: Request) -> Decision:
        receipt = decode_receipt(request.message.payload, request.route.name)
        canonical = receipt.canonical()
        digest, body = canonical_digest(canonical), canonical.decode()
        remember(body, receipt)
        key = (receipt.receipt_id, receipt.pos_id)

        def decide(tx: Transaction) -> None:
            known = known_receipt(tx, *key)
            if known is not None and known.digest == digest:
                self._repeat(tx, request, known)
            elif known is None and (document := self._printed_before(tx, receipt)):
                self._adopt(tx, request, receipt, document, _new_receipt(receipt, document.kkt, digest, body, request))
            elif refusal := self._judge(tx, receipt, known):
                self._refusals.refuse(request, refusal, receipt.receipt_id)(tx)
            elif not self._refusals.repeat(tx, request):
                kkt = self._register_of(receipt)
                assert kkt is not None
                insert_receipt(tx, _new_receipt(receipt, kkt, digest, body, request))

        return Decision(decide, about=key)

    def _printed_before(self, tx: Transaction, receipt: Receipt) -> RecoveredDocument | None:
        """The document that this receipt has from the time before the journal was lost."""
        if self._may_be_recovered is None:
            # Rows only ever go from there while the bridge runs: what is empty now stays so.
            self._may_be_recovered = any_recovered(tx.connection)
        if not self._may_be_recovered:
            return None
        return find_recovered(tx.connection, requisite_1192(receipt.pos_id, receipt.receipt_id))

    def _adopt(
        self, tx: Transaction, request: Request, receipt: Receipt, document: RecoveredDocument, new: NewReceipt
    ) -> None:
        """Answer with the document that there is; whatever stands in the way of printing does not matter."""
        if not document.could_be(receipt):
            self._refusals.refuse(request, _conflict(receipt), receipt.receipt_id)(tx)
            return
        adopted = adopt(tx, new, document, print_warnings(receipt))
        log.info("printed before the journal was lost: adopted", extra={"receipt_id": receipt.receipt_id})
        reply = replies.stored(adopted, self._zone, duplicate=True)
        tx.publish(request.answer_topic, reply.payload(), request.message.correlation)

    def _judge(self, tx: Transaction, receipt: Receipt, known: StoredReceipt | None) -> Error | None:
        if known is not None:
            return _conflict(receipt)
        if fault := correction_date_fault(receipt, local_date(tx.instant.wall_ms, self._zone)):
            return invalid_receipt([fault])
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

    def _repeat(self, tx: Transaction, request: Request, known: StoredReceipt) -> None:
        reply = replies.stored(known, self._zone, duplicate=True)
        tx.publish(request.answer_topic, reply.payload(), request.message.correlation)
        if not reply.final:
            readdress(tx, known, request.answer_topic, request.message.correlation)

    def _query_decision(self, request: Request) -> Decision:
        query = decode_message(Query, request.message.payload, "receipt_id")
        key = (query.receipt_id, request.route.name)

        def decide(tx: Transaction) -> None:
            known = known_receipt(tx, *key)
            reply = replies.stored(known, self._zone, duplicate=False) if known is not None else replies.not_found(*key)
            tx.publish(request.answer_topic, reply.payload(), request.message.correlation)

        return Decision(decide, about=key)

    def _command_decision(self, request: Request) -> Decision:
        if request.message.retained:
            # It would be carried out again at each new subscription, long after it was meant.
            log.warning("a retained command %s is not carried out: publish without retain", request.route.name)
            return NOTHING
        command = decode_message(Command, request.message.payload, "command_id")
        name = request.route.name
        if name not in self._command_names:
            known = ", ".join(sorted(self._command_names))
            return self._refusals.refuse_command(request, command.command_id, "unknown_command", f"there is {known}")

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
                self._refusals.refuse_command(request, command.command_id, "idempotency_conflict", message)(tx)
            elif taken.result is not None:
                tx.publish(request.answer_topic, taken.result.encode(), request.message.correlation)

        return Decision(decide)


NOTHING: Final = Decision(lambda _tx: None)
"""On a message that asks for nothing: it is only acknowledged."""


def internal_error() -> Error:
    """The answer to a message that brought a bug to light."""
    message = "the bridge failed on this message (see its log); nothing was taken, do not send these bytes again"
    return replies.error("invalid_receipt", message, retryable=False)


def _new_receipt(receipt: Receipt, kkt: str, digest: bytes, body: str, request: Request) -> NewReceipt:
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

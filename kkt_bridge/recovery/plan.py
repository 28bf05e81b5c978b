"""The plan of a rebuild: for each receipt what the new journal gets, from readable rows and the storages' documents.

Nothing is printed on a guess. A receipt goes on as its row says, with the document that the row or a fiscal
storage has for it. Where neither tells its fate, it is named, and its POS must repeat it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kkt_bridge.clock import Hlc
from kkt_bridge.journal import tables
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.recovered import RecoveredDocument
from kkt_bridge.receipts.identity import ReceiptKey, content_digest, requisite_1192
from kkt_bridge.receipts.lifecycle import STATUS_OF, DeliveryState, Status
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.recovery.row_validation import Row, mark_in, receipt_in
from kkt_bridge.recovery.salvage import Salvage

_DELIVERY: Final = {
    Status.PRINTED: DeliveryState.READY,
    Status.SYNCED: DeliveryState.SENT,
    Status.DEAD: DeliveryState.DEAD,
}
"""The delivery state of a document whose row is lost, by its receipt's status."""


@dataclass(frozen=True, slots=True)
class DatedDocument:
    """A document in a fiscal storage, and when it was made, in ms since 1970."""

    document: RecoveredDocument
    at_ms: int


@dataclass(slots=True)
class RecoveryPlan:
    """Rows to be written, and the receipts that need a document, a repeat or a person."""

    receipts: list[Row] = field(default_factory=list)
    requests: list[Row] = field(default_factory=list)
    documents: list[Row] = field(default_factory=list)
    adopted: list[tuple[Row, Receipt, RecoveredDocument]] = field(default_factory=list)
    """Receipts that wait or are in doubt by their rows, and have a document."""
    disputed: list[RecoveredDocument] = field(default_factory=list)
    """Documents with the marks of receipts that wait or are in doubt, which are other sales: a person has to look."""
    awaited: dict[str, RecoveredDocument] = field(default_factory=dict)
    """Documents of receipts that are gone, by requisite."""
    lost: list[str] = field(default_factory=list)
    """Receipts that were taken, and of which too little is left to go on."""
    unmarked: list[str] = field(default_factory=list)
    """Receipts that were printed, on storages that nobody gave, and whose documents are not known any more."""


class RecoveryPlanner:
    """Decide receipt by receipt what the new journal gets."""

    def __init__(self, found: Mapping[str, DatedDocument], reply_topic: Callable[[str], str]) -> None:
        self._found = found
        self._reply_topic = reply_topic
        self._plan = RecoveryPlan()

    def plan(self, salvage: Salvage, tombstones: Sequence[ReceiptKey]) -> RecoveryPlan:
        """Decide about everything that was read; call it once. `tombstones` are the keys of those that stay."""
        plan = self._plan
        documents = {row["receipt"]: row for row in salvage.rows.get("documents", [])}
        bodies = {row["receipt"]: row for row in salvage.rows.get("requests", [])}
        rejected = {row["receipt"] for row in salvage.rows.get("steps", []) if row["to_status"] == Status.REJECTED}
        plan.awaited = {row["requisite"]: document for row in salvage.recovered if (document := _awaited(row))}
        plan.awaited |= {requisite: found.document for requisite, found in self._found.items()}
        for row in salvage.rows.get("receipts", []):
            self._receipt(row, bodies.pop(row["id"], None), documents.pop(row["id"], None))
        known = {_key(row) for row in plan.receipts} | set(tombstones)
        for number, row in bodies.items():
            self._orphan(row, documents.pop(number, None), known, was_rejected=number in rejected)
        for key in known | {_key(row) for row in plan.receipts}:
            plan.awaited.pop(requisite_1192(key), None)
        return plan

    def _receipt(self, row: Row, body: Row | None, document: Row | None) -> None:
        """Plan a receipt whose row is there."""
        receipt = receipt_in(body) if body is not None else None
        if receipt is not None and body is not None and content_digest(body["body"].encode()) != row["digest"]:
            receipt = body = None
        if document is not None and document["id"] != row["document"]:
            document = None
        status = Status(row["status"])
        if status == Status.REJECTED:
            self._keep(row, body, None)
        elif status in _DELIVERY:
            self._printed(row, status, body, document)
        elif receipt is None:
            self._lose(row)
        else:
            self._keep(row, body, None)
            found = self._found.get(requisite_1192(_key(row)))
            if found is not None and found.document.could_be(receipt):
                self._plan.adopted.append((row, receipt, found.document))
            elif found is not None:
                self._plan.disputed.append(found.document)

    def _printed(self, row: Row, status: Status, body: Row | None, document: Row | None) -> None:
        found = self._found.get(requisite_1192(_key(row)))
        if body is None and status != Status.SYNCED:
            self._lose(row, document)  # nothing to deliver, until its POS repeats it
        elif document is not None:
            self._keep(row, body, document)
        elif found is not None:
            made = _document_row(row, found.document, _DELIVERY[status])
            self._keep(row | {"document": made["id"]}, body, made)
        else:
            self._plan.unmarked.append(str(_key(row)))
            end = Status.SYNCED if status == Status.SYNCED else Status.DEAD
            self._keep(
                row | {"status": end, "document": None, "ended_steady_ms": row["ended_steady_ms"] or 0}, body, None
            )

    def _orphan(self, body: Row, document: Row | None, known: set[ReceiptKey], *, was_rejected: bool) -> None:
        """Plan a body whose receipt's row is lost."""
        receipt = receipt_in(body)
        if receipt is None or receipt.key in known:
            return
        found = self._found.get(requisite_1192(receipt.key))
        if found is None or not found.document.could_be(receipt):
            if not was_rejected:
                self._plan.lost.append(str(receipt.key))
            return
        row = self._row_of(body["receipt"], receipt, found, document)
        made = document or _document_row(row, found.document, DeliveryState.READY)
        self._keep(row | {"document": made["id"]}, body, made)

    def _row_of(self, number: int, receipt: Receipt, found: DatedDocument, document: Row | None) -> Row:
        """Return the row that such a receipt would have, as far as it can be known."""
        status = STATUS_OF[DeliveryState(document["delivery"])] if document is not None else Status.PRINTED
        return {
            **dict.fromkeys(column.name for column in tables.receipts.columns),
            "id": number,
            **receipt.key._asdict(),
            "kkt": found.document.kkt,
            "status": status,
            "digest": content_digest(receipt.canonical()),
            "type": receipt.type,
            "total": receipt.total,
            "original_receipt_id": receipt.original_receipt_id,
            "reply_topic": self._reply_topic(receipt.pos_id),
            "notified": 1,
            "hlc_wall_ms": found.at_ms,
            "hlc_counter": number & 0xFFFF,
            "received_ms": found.at_ms,
            "received_steady_ms": 0,
            "printed_ms": found.at_ms,
            "ended_steady_ms": None if status == Status.PRINTED else 0,
        }

    def _keep(self, row: Row, body: Row | None, document: Row | None) -> None:
        self._plan.receipts.append(row)
        if body is not None:
            self._plan.requests.append(body)
        if document is not None:
            self._plan.documents.append(document)

    def _lose(self, row: Row, document: Row | None = None) -> None:
        """Plan a receipt of which too little is left; with its document a repeat of it can still be answered."""
        requisite = requisite_1192(_key(row))
        mark = mark_in(document) if document is not None else None
        if requisite not in self._plan.awaited and mark is not None and row["type"] != "correction":
            self._plan.awaited[requisite] = RecoveredDocument(requisite, row["kkt"], 3, row["type"], row["total"], mark)
        if requisite not in self._plan.awaited:
            self._plan.lost.append(str(_key(row)))


def task_of(row: Row, receipt: Receipt) -> PrintTask:
    """Return a row of `receipts` as the task that its register's lane would lease."""
    return PrintTask(
        id=row["id"],
        key=_key(row),
        kkt=row["kkt"],
        status=Status(row["status"]),
        body=receipt.canonical().decode(),
        reply_topic=row["reply_topic"],
        correlation=row["correlation"],
        hlc=Hlc(row["hlc_wall_ms"], row["hlc_counter"]),
        received_ms=row["received_ms"],
        received_steady_ms=row["received_steady_ms"],
        fn_before=row["fn_before"],
        fd_before=row["fd_before"],
    )


def _key(row: Mapping[str, Any]) -> ReceiptKey:
    return ReceiptKey(row["pos_id"], row["receipt_id"])


def _awaited(row: Row) -> RecoveredDocument | None:
    mark = mark_in(row)
    if mark is None:
        return None
    return RecoveredDocument(row["requisite"], row["kkt"], row["form"], row["operation"], row["total"], mark)


def _document_row(receipt: Row, document: RecoveredDocument, delivery: DeliveryState) -> Row:
    """Return a row for a document that a storage has and the journal lost."""
    is_dead = delivery == DeliveryState.DEAD
    return {
        "id": receipt["document"] or receipt["id"],
        "receipt": receipt["id"],
        "kkt": document.kkt,
        "fn_number": document.mark.fn_number,
        "fd_number": document.mark.fd_number,
        "mark": document.mark.model_dump_json(),
        "warnings": "[]",
        "delivery": str(delivery),
        "attempts": 0,
        "strikes": 0,
        "not_before_steady_ms": 0,
        "reason": "restored" if is_dead else None,
        "last_error": None,
        "failed_ms": receipt["received_ms"] if is_dead else None,
    }

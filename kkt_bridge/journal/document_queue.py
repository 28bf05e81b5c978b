"""The way of fiscal documents to the OFD: ready, waiting out a back-off, sent, dead.

Which state may follow which is `DELIVERY_TRANSITIONS` in `kkt_bridge.receipts.lifecycle`.
"""

from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, text, update

from kkt_bridge.clock import Hlc
from kkt_bridge.errors import IllegalTransition
from kkt_bridge.journal.records import DeadLetter, DocumentWithoutBody, DueDocument, ReceiptRow
from kkt_bridge.journal.statements import PreparedStatement, WhereIn
from kkt_bridge.journal.tables import (
    IS_UNSENT,
    IS_WAITING,
    bodies,
    documents,
    receipts,
    requests,
)
from kkt_bridge.journal.transaction import DLQ, Transaction
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import DeliveryState, Status

_FOR_EVER_MS: Final = 2**62


def ready_documents(connection: Connection, kkt: str, after: int, limit: int) -> list[DueDocument]:
    """The register's documents that may be sent now, behind document `after`, in the order of their FD numbers."""
    rows = _READY(connection, {"kkt": kkt, "after": after, "limit": limit})
    return [
        DueDocument(
            id=row.id,
            key=ReceiptKey(row.pos_id, row.receipt_id),
            kkt=row.kkt,
            status=Status(row.status),
            document=row.document,
            body=row.body,
            attempts=row.attempts,
            strikes=row.strikes,
        )
        for row in rows
    ]


def documents_without_body(connection: Connection, after: int, limit: int) -> list[DocumentWithoutBody]:
    """Documents that the OFD lacks and whose body was never made, of all registers, behind document `after`.

    They come from a journal of an earlier schema, from a repair, or from a storage's memory of a lost journal.
    """
    rows = _UNFIXED(connection, {"after": after, "limit": limit})
    return [
        DocumentWithoutBody(
            document=row.document,
            key=ReceiptKey(row.pos_id, row.receipt_id),
            kkt=row.kkt,
            request=row.request,
            mark=row.mark,
            hlc=Hlc(row.hlc_wall_ms, row.hlc_counter),
            is_dead=row.delivery == DeliveryState.DEAD,
        )
        for row in rows
    ]


def failing_documents(connection: Connection, limit: int) -> list[int]:
    """Documents that failed and may still be sent, or failed until they were dead letters; so many of them at most."""
    return [row.id for row in _FAILING(connection, {"limit": limit})]


def last_document(connection: Connection) -> int:
    """The highest number of a document here; 0 if there is none."""
    return _LAST.scalar(connection, {}, int) or 0


def fix_body(tx: Transaction, document: int, body: bytes) -> None:
    """Keep what the OFD is sent of this document, for ever the same."""
    _FIX(tx.connection, {"document": document, "body": body})


def note_unfit(tx: Transaction, document: int, error: str) -> None:
    """Keep why this document cannot be sent: it is tried again at the next start."""
    _UNFIT(tx.connection, {"document": document, "new_error": error})


def end_waiting(tx: Transaction, *, everything: bool = False) -> int:
    """Make ready what has waited out its back-off, or everything; return how many."""
    now = _FOR_EVER_MS if everything else tx.instant.steady_ms
    count = _END_WAITING(tx.connection, {"now": now}).rowcount
    tx.documents_touched |= count > 0
    return count


def next_wait_ends_steady_ms(connection: Connection) -> int | None:
    """When the first waiting document becomes ready, by the steady clock."""
    return _FIRST_WAIT.scalar(connection, {}, int)


def record_sent(tx: Transaction, due: DueDocument, server_time: int | None) -> None:
    """The OFD has it; its time completes the receipt's hybrid clock."""
    tx.move(due, Status.SYNCED, server_time=server_time)
    tx.changes[_SENT].append(due.document)
    # At once, while the page is at hand: a synced document is kept for weeks, and its body is most of it.
    tx.changes[_DROP_BODIES].append(due.document)


def record_failure(tx: Transaction, due: DueDocument, error: str, *, strike: bool, wait_ms: int) -> None:
    """It did not get through. Without a wait it stays ready: the outage is not its fault."""
    _FAILED(
        tx.connection,
        {
            "document": due.document,
            "new_delivery": DeliveryState.WAITING if wait_ms else DeliveryState.READY,
            "new_attempts": due.attempts + 1,
            "new_strikes": due.strikes + strike,
            "new_not_before": tx.instant.steady_ms + wait_ms if wait_ms else 0,
            "new_error": error,
        },
    )


def dead_letter(tx: Transaction, due: DueDocument, *, reason: str, error: str) -> None:
    """The OFD will not have it: a dead letter, until an operator decides."""
    tx.move(due, Status.DEAD, error=reason)
    tx.counts[due.kkt, DLQ] += 1
    _BURIED(
        tx.connection,
        {
            "document": due.document,
            "new_attempts": due.attempts + 1,
            "new_strikes": due.strikes + 1,
            "new_reason": reason,
            "new_error": error,
            "new_failed_ms": tx.instant.wall_ms,
        },
    )


def dead_letters(connection: Connection, kkt: str, after: int, limit: int) -> list[DeadLetter]:
    """A register's dead letters in the order of its documents, behind document `after`."""
    return [_dead(row) for row in _DEAD_LETTERS(connection, {"kkt": kkt, "after": after, "limit": limit})]


def dead_letters_of(connection: Connection, receipt_id: str) -> list[DeadLetter]:
    """The dead letters with this receipt id: more than one if several POS used it."""
    return [_dead(row) for row in _DEAD_LETTERS_OF(connection, {"receipt_id": receipt_id})]


def requeue(tx: Transaction, letter: DeadLetter) -> None:
    """Send it again; its strikes begin anew, the attempts made so far stay on its record."""
    tx.move(letter, Status.PRINTED)
    tx.counts[letter.kkt, DLQ] -= 1
    _change_dead(tx, _REQUEUED, letter, {"document": letter.document})
    tx.documents_touched = True


def discard(tx: Transaction, letter: DeadLetter, reason: str) -> None:
    """Give it up for good: it stays `dead`, but no longer asks for a decision."""
    _give_up(tx, letter, letter.document, DeliveryState.DISCARDED, reason)


def expire(tx: Transaction, letter: ReceiptRow, document: int) -> None:
    """Give up a dead letter that nobody has decided on: the receipt's last step tells so."""
    _give_up(tx, letter, document, DeliveryState.EXPIRED, "nobody requeued or discarded it in time")


def _give_up(tx: Transaction, letter: ReceiptRow, document: int, delivery: DeliveryState, reason: str) -> None:
    _change_dead(tx, _GIVEN_UP, letter, {"document": document, "new_delivery": delivery})
    # From now on, not from its death: what was decided is kept as long as the letter was.
    _DECIDED(tx.connection, {"row_id": letter.id, "new_ended": tx.instant.steady_ms})
    tx.counts[letter.kkt, DLQ] -= 1
    tx.step(letter.id, letter.key, letter.kkt, Status.DEAD, Status.DEAD, error=f"{delivery}: {reason}")


def _change_dead(tx: Transaction, statement: PreparedStatement, letter: ReceiptRow, values: dict[str, Any]) -> None:
    """The stored letter guards itself: it may have been requeued or discarded since it was read."""
    if statement(tx.connection, values).rowcount != 1:
        raise IllegalTransition(f"{letter.key} is no longer a dead letter")


def _dead(row: Any) -> DeadLetter:
    return DeadLetter(
        id=row.id,
        key=ReceiptKey(row.pos_id, row.receipt_id),
        kkt=row.kkt,
        status=Status(row.status),
        document=row.document,
        attempts=row.attempts,
        strikes=row.strikes,
        reason=row.reason,
        last_error=row.last_error,
        failed_ms=row.failed_ms,
    )


_r, _d = receipts.c, documents.c
_joined = documents.join(receipts, _r.id == _d.receipt)
_is_ready = (_d.delivery == DeliveryState.READY) & (_d.kkt == bindparam("kkt"))
_READY: Final = PreparedStatement(
    select(
        _r.id,
        _r.receipt_id,
        _r.pos_id,
        _d.kkt,
        _r.status,
        _d.id.label("document"),
        bodies.c.body,
        _d.attempts,
        _d.strikes,
    )
    .select_from(_joined.join(bodies, bodies.c.document == _d.id))
    .where(IS_UNSENT, _is_ready, _d.id > bindparam("after"))
    .order_by(_d.id)
    .limit(bindparam("limit"))
)
# With the sign no index is used but that of the ids: what is new is at its end.
_IS_OWED: Final = text(f"+{IS_UNSENT.text}")
_UNFIXED: Final = PreparedStatement(
    select(
        _d.id.label("document"),
        _r.receipt_id,
        _r.pos_id,
        _d.kkt,
        requests.c.body.label("request"),
        _d.mark,
        _d.delivery,
        _r.hlc_wall_ms,
        _r.hlc_counter,
    )
    .select_from(_joined.join(requests, requests.c.receipt == _d.receipt).outerjoin(bodies, bodies.c.document == _d.id))
    .where(_IS_OWED, _d.id > bindparam("after"), bodies.c.document.is_(None))
    .order_by(_d.id)
    .limit(bindparam("limit"))
)
_FAILING: Final = PreparedStatement(
    select(_d.id)
    .where(IS_UNSENT, _d.attempts > 0, (_d.delivery != DeliveryState.DEAD) | (_d.reason == "max_attempts"))
    .order_by(_d.id)
    .limit(bindparam("limit"))
)
_LAST: Final = PreparedStatement(select(_d.id).where(_d.id > 0).order_by(_d.id.desc()).limit(1))
_FIX: Final = PreparedStatement(
    insert(bodies).prefix_with("OR IGNORE").values(document=bindparam("document"), body=bindparam("body"))
)
_END_WAITING: Final = PreparedStatement(
    update(documents)
    .where(IS_WAITING, _d.not_before_steady_ms <= bindparam("now"))
    .values(delivery=DeliveryState.READY, not_before_steady_ms=0)
)
_FIRST_WAIT: Final = PreparedStatement(
    select(_d.not_before_steady_ms).where(IS_WAITING).order_by(_d.not_before_steady_ms).limit(1)
)
_of_document = update(documents).where(_d.id == bindparam("document"))
_SENT: Final = WhereIn(update(documents).values(delivery=DeliveryState.SENT, last_error=None), _d.id)
_DROP_BODIES: Final = WhereIn(delete(bodies), bodies.c.document)
_UNFIT: Final = PreparedStatement(_of_document.values(last_error=bindparam("new_error")))
_FAILED: Final = PreparedStatement(
    # Only what is still to be sent: an outcome that is written down twice must not bring back what the OFD has.
    _of_document.where(_d.delivery == DeliveryState.READY).values(
        delivery=bindparam("new_delivery"),
        attempts=bindparam("new_attempts"),
        strikes=bindparam("new_strikes"),
        not_before_steady_ms=bindparam("new_not_before"),
        last_error=bindparam("new_error"),
    )
)
_BURIED: Final = PreparedStatement(
    _of_document.values(
        delivery=DeliveryState.DEAD,
        attempts=bindparam("new_attempts"),
        strikes=bindparam("new_strikes"),
        reason=bindparam("new_reason"),
        last_error=bindparam("new_error"),
        failed_ms=bindparam("new_failed_ms"),
    )
)
_letter_columns = (
    _r.id,
    _r.receipt_id,
    _r.pos_id,
    _d.kkt,
    _r.status,
    _d.id.label("document"),
    _d.attempts,
    _d.strikes,
    _d.reason,
    _d.last_error,
    _d.failed_ms,
)
_letters = select(*_letter_columns).select_from(_joined)
_is_dead = _d.delivery == DeliveryState.DEAD
_DEAD_LETTERS: Final = PreparedStatement(
    _letters.where(IS_UNSENT, _is_dead, _d.kkt == bindparam("kkt"), _d.id > bindparam("after"))
    .order_by(_d.id)
    .limit(bindparam("limit"))
)
_DEAD_LETTERS_OF: Final = PreparedStatement(
    select(*_letter_columns)
    .select_from(receipts.join(documents, _d.id == _r.document))
    .where(_r.receipt_id == bindparam("receipt_id"), _is_dead)
)
_of_dead = _of_document.where(_is_dead)
_REQUEUED: Final = PreparedStatement(_of_dead.values(delivery=DeliveryState.READY, not_before_steady_ms=0, strikes=0))
_GIVEN_UP: Final = PreparedStatement(_of_dead.values(delivery=bindparam("new_delivery")))
_DECIDED: Final = PreparedStatement(
    update(receipts).where(_r.id == bindparam("row_id")).values(ended_steady_ms=bindparam("new_ended"))
)

"""What a print lane asks of the journal: the next receipt, and what became of it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select

from kkt_bridge.clock import Hlc
from kkt_bridge.journal.records import ID_BITS, PrintTask
from kkt_bridge.journal.statements import BulkInsert, PreparedStatement, WhereIn, prepared_insert
from kkt_bridge.journal.tables import IS_PENDING, IS_UNPRINTED, bodies, documents, receipts, requests
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import DeliveryState, Status

IN_DOUBT_MAX: Final = 1000
"""More than a lane ever leases at once."""


def lease(tx: Transaction, kkt: str, fn_number: str, last_fd_number: int, limit: int) -> list[PrintTask]:
    """The register's next receipts, oldest first, now `printing`.

    The storage and its last document number are noted, so that after a crash one knows where to look.
    """
    waiting = _tasks_with(tx.connection, kkt, Status.BUFFERED, limit)
    for task in waiting:
        tx.move(task, Status.PRINTING, fn_before=fn_number, fd_before=last_fd_number)
    return [replace(task, status=Status.PRINTING, fn_before=fn_number, fd_before=last_fd_number) for task in waiting]


def tasks_in_doubt(connection: Connection, kkt: str) -> list[PrintTask]:
    """Receipts that were leased when the lane last stopped: each may or may not have been printed."""
    return _tasks_with(connection, kkt, Status.PRINTING, IN_DOUBT_MAX)


def unprinted(connection: Connection) -> dict[ReceiptKey, int]:
    """Every receipt that has no document yet, of any register, and its row."""
    return {ReceiptKey(row.pos_id, row.receipt_id): row.id for row in _UNPRINTED(connection, {})}


def unprinted_task(connection: Connection, receipt: int) -> PrintTask:
    """The task of a receipt that has no document yet."""
    row = _TASK(connection, {"receipt": receipt}).fetchone()
    assert row is not None
    return _task(row)


def waiting_since_before(connection: Connection, kkt: str, commit_no: int) -> list[PrintTask]:
    """The register's receipts that were waiting by this commit and wait still, as many as are in doubt at once."""
    waiting = _tasks_with(connection, kkt, Status.BUFFERED, IN_DOUBT_MAX)
    return [task for task in waiting if task.id >> ID_BITS <= commit_no]


def hold_in_doubt(
    tx: Transaction, task: PrintTask, fn_number: str | None, fd_before: int | None, remark: str | None = None
) -> None:
    """Take a buffered receipt whose fate has to be looked into before anything is printed.

    Its document may be one behind `fd_before` on storage `fn_number`; None where that is not known. `remark` goes into
    its history.
    """
    tx.move(task, Status.PRINTING, error=remark, fn_before=fn_number, fd_before=fd_before)


def record_printed(
    tx: Transaction,
    task: PrintTask,
    mark: FiscalMark,
    warnings: tuple[str, ...],
    remark: str | None = None,
    *,
    body: bytes | None = None,
) -> None:
    """The fiscal document exists: from here on it is on its way to the OFD. `remark` goes into its history.

    It stands under the register that made it, and so does its receipt from now on, whichever was to print it.

    `body` is what the OFD will be sent; where it is None, delivery makes it from what is stored here.
    """
    document = tx.new_id()
    elsewhere = {"kkt": mark.kkt} if mark.kkt != task.kkt else {}
    tx.move(
        task,
        Status.PRINTED,
        fd_number=mark.fd_number,
        error=remark,
        printed_ms=tx.instant.wall_ms,
        document=document,
        **elsewhere,
    )
    warned = json.dumps(warnings) if warnings else "[]"
    fiscal = (mark.kkt, mark.fn_number, mark.fd_number, mark.model_dump_json(), warned)
    tx.rows[_INSERT_DOCUMENT].append((document, task.id, *fiscal, DeliveryState.READY.value, 0, 0, 0))
    if body is not None:
        tx.rows[_INSERT_BODY].append((document, body))
    tx.documents_touched = True
    tx.note_next_document(mark.fn_number, mark.fd_number)


def record_rejected(tx: Transaction, task: PrintTask, code: str, message: str) -> None:
    """The register will never print it."""
    tx.move(task, Status.REJECTED, error=code, error_code=code, error_message=message)


def release(tx: Transaction, task: PrintTask, remark: str | None = None) -> None:
    """No document came of it, for certain: back into the queue, at its old place. `remark` goes into its history."""
    tx.move(task, Status.BUFFERED, error=remark, fn_before=None, fd_before=None)
    tx.queues.add(task.kkt)


def reply_addresses(tx: Transaction, tasks: Sequence[PrintTask]) -> dict[int, tuple[str, bytes | None]]:
    """Where the final replies go now, by row: a repeat of a request may have moved its own since the lease."""
    rows = _ADDRESSES(tx.connection, [task.id for task in tasks])
    return {row.id: (row.reply_topic, row.correlation) for row in rows}


def known_fd_numbers(connection: Connection, fn_number: str, after_fd: int) -> set[int]:
    """Documents of this storage, behind that number, which belong to receipts of ours already."""
    rows = _KNOWN_FDS(connection, {"fn_number": fn_number, "after_fd": after_fd})
    return {row.fd_number for row in rows}


def last_document_before(connection: Connection, fn_number: str, fd_number: int) -> FiscalMark | None:
    """The mark of the newest receipt of ours on this storage up to this number."""
    row = _LAST_BEFORE(connection, {"fn_number": fn_number, "fd_number": fd_number}).fetchone()
    return None if row is None else FiscalMark.model_validate_json(row.mark)


def document_owner(connection: Connection, fn_number: str, fd_number: int) -> ReceiptKey | None:
    """The receipt that this document belongs to already."""
    row = _OWNER(connection, {"fn_number": fn_number, "fd_number": fd_number}).fetchone()
    return None if row is None else ReceiptKey(row.pos_id, row.receipt_id)


def _tasks_with(connection: Connection, kkt: str, status: Status, limit: int) -> list[PrintTask]:
    return [_task(row) for row in _TASKS(connection, {"kkt": kkt, "status": status, "limit": limit})]


def _task(row: Any) -> PrintTask:
    return PrintTask(
        id=row.id,
        key=ReceiptKey(row.pos_id, row.receipt_id),
        kkt=row.kkt,
        status=Status(row.status),
        body=row.body,
        reply_topic=row.reply_topic,
        correlation=row.correlation,
        hlc=Hlc(row.hlc_wall_ms, row.hlc_counter),
        received_ms=row.received_ms,
        received_steady_ms=row.received_steady_ms,
        fn_before=row.fn_before,
        fd_before=row.fd_before,
    )


_r = receipts.c
_tasks = select(*_r, requests.c.body).select_from(receipts.join(requests, requests.c.receipt == _r.id))
_TASKS: Final = PreparedStatement(
    _tasks.where(IS_PENDING, _r.status == bindparam("status"), _r.kkt == bindparam("kkt"))
    .order_by(_r.id)
    .limit(bindparam("limit"))
)
_ADDRESSES: Final = WhereIn(select(_r.id, _r.reply_topic, _r.correlation), _r.id)
_KNOWN_FDS: Final = PreparedStatement(
    select(documents.c.fd_number).where(
        documents.c.fn_number == bindparam("fn_number"), documents.c.fd_number > bindparam("after_fd")
    )
)
_UNPRINTED: Final = PreparedStatement(select(_r.id, _r.receipt_id, _r.pos_id).where(IS_PENDING, IS_UNPRINTED))
_TASK: Final = PreparedStatement(_tasks.where(_r.id == bindparam("receipt")))
_LAST_BEFORE: Final = PreparedStatement(
    select(documents.c.mark)
    .where(documents.c.fn_number == bindparam("fn_number"), documents.c.fd_number <= bindparam("fd_number"))
    .order_by(documents.c.fd_number.desc())
    .limit(1)
)
_OWNER: Final = PreparedStatement(
    select(_r.pos_id, _r.receipt_id)
    .select_from(documents.join(receipts, _r.id == documents.c.receipt))
    .where(documents.c.fn_number == bindparam("fn_number"), documents.c.fd_number == bindparam("fd_number"))
)
_INSERT_DOCUMENT: Final = BulkInsert(prepared_insert(insert(documents), without={"reason", "last_error", "failed_ms"}))
_INSERT_BODY: Final = BulkInsert(prepared_insert(insert(bodies)))

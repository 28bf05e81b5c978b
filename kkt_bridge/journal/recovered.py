"""Documents whose receipts were lost with a journal: what the fiscal storages hold of ours beyond its knowledge."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select

from kkt_bridge.journal.print_queue import record_printed, unprinted_task
from kkt_bridge.journal.receipts import find_receipt, insert_receipt
from kkt_bridge.journal.records import NewReceipt, PrintTask, StoredReceipt
from kkt_bridge.journal.statements import PreparedStatement, prepared_insert
from kkt_bridge.journal.tables import recovered
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.ffd_codes import Operation
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.model import Receipt

REMARK: Final = "recovered: its fiscal document was made before the journal was lost"
"""What the history of an adopted receipt says."""


@dataclass(frozen=True, slots=True)
class RecoveredDocument:
    """A receipt or correction that a fiscal storage holds, by its FFD tag 1192. `form` is 3 or 31, `total` kopecks."""

    requisite: str
    kkt: str
    form: int
    operation: Operation
    total: int
    mark: FiscalMark

    def could_be(self, receipt: Receipt) -> bool:
        """Whether form, operation and total are this receipt's: under one key there may be two different sales."""
        return (self.form, self.operation, self.total) == (receipt.form, receipt.operation, receipt.total)

    def supersedes(self, known: "RecoveredDocument") -> bool:
        """Whether, of two documents with one mark, this one is rather the receipt's.

        A receipt is printed again only after a person has passed the document that carries its mark as another sale.
        So of two different sales the later one is the receipt's; of two equal ones the first is.
        """
        if (self.form, self.operation, self.total) == (known.form, known.operation, known.total):
            return False
        if self.mark.fn_number == known.mark.fn_number:
            return self.mark.fd_number > known.mark.fd_number
        return datetime.fromisoformat(self.mark.datetime) > datetime.fromisoformat(known.mark.datetime)


def recovered_owner(connection: Connection, fn_number: str, fd_number: int) -> str | None:
    """The requisite of the receipt that this document waits for."""
    row = _OWNER(connection, {"fn_number": fn_number, "fd_number": fd_number}).fetchone()
    return None if row is None else str(row.requisite)


def find_recovered(connection: Connection, requisite: str) -> RecoveredDocument | None:
    """The document with this requisite, if its receipt has not come again yet."""
    row = _FIND(connection, {"requisite": requisite}).fetchone()
    if row is None:
        return None
    return RecoveredDocument(
        requisite=row.requisite,
        kkt=row.kkt,
        form=row.form,
        operation=row.operation,
        total=row.total,
        mark=FiscalMark.model_validate_json(row.mark),
    )


def insert_recovered(tx: Transaction, document: RecoveredDocument) -> None:
    """Keep a document until its receipt comes again."""
    tx.may_be_recovered = True
    mark = document.mark
    place = (mark.fn_number, mark.fd_number)
    content = (document.form, document.operation, document.total, mark.model_dump_json())
    _INSERT(tx.connection, (document.requisite, document.kkt, *place, *content))


def adopt(tx: Transaction, new: NewReceipt, document: RecoveredDocument, warnings: tuple[str, ...]) -> StoredReceipt:
    """Take a receipt whose document exists: through every status to `printed`, and on its way to the OFD."""
    row_id = insert_receipt(tx, new)
    record_recovered(tx, unprinted_task(tx.connection, row_id), document, warnings)
    forget_recovered(tx, document.requisite)
    adopted = find_receipt(tx.connection, new.key)
    assert adopted is not None
    return adopted


def record_recovered(
    tx: Transaction, task: PrintTask, document: RecoveredDocument, warnings: tuple[str, ...]
) -> PrintTask:
    """Print nothing: this buffered or doubtful receipt has its document. Returns the task as it was just before."""
    printing = task
    if task.status == Status.BUFFERED:
        fn_number, fd_before = document.mark.fn_number, document.mark.fd_number - 1
        tx.move(task, Status.PRINTING, fn_before=fn_number, fd_before=fd_before)
        printing = replace(task, status=Status.PRINTING, fn_before=fn_number, fd_before=fd_before)
    record_printed(tx, printing, document.mark, warnings, REMARK)
    return printing


def forget_recovered(tx: Transaction, requisite: str) -> None:
    """Its receipt is known again."""
    _FORGET(tx.connection, {"requisite": requisite})


_c = recovered.c
_OWNER: Final = PreparedStatement(
    select(_c.requisite).where(_c.fn_number == bindparam("fn_number"), _c.fd_number == bindparam("fd_number")).limit(1)
)
_FIND: Final = PreparedStatement(select(*_c).where(_c.requisite == bindparam("requisite")))
_INSERT: Final = prepared_insert(insert(recovered))
_FORGET: Final = PreparedStatement(delete(recovered).where(_c.requisite == bindparam("requisite")))

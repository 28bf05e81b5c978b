"""Stage 0: settling doubts. What was being printed when something broke: does it exist or not?

The register's own storage decides (never a guess, never a blind repeat): among the documents made since
printing began, ours is the one of the same form, operation and total that carries our digest in FFD tag
1192. Found: adopted. Not found: proven absent, and printed again. A foreign fiscal storage proves nothing.
"""

import logging
from collections.abc import Iterator

from kkt_bridge.errors import RegisterError
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.printing import known_fd_numbers, tasks_in_doubt
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.registers.base import DocumentHeader, FiscalRegister, Printed, PrintJob

RECEIPT_FORM, CORRECTION_FORM = 3, 31

log = logging.getLogger(__name__)


class Unsettled(RegisterError):
    """The doubt cannot be settled without a person; the lane stops."""


class Settler:
    """Settles the doubts of one lane."""

    def __init__(self, kkt: str, register: FiscalRegister, journal: Journal) -> None:
        self._kkt = kkt
        self._register = register
        self._journal = journal

    def settle(self) -> Iterator[tuple[PrintTask, Printed | None]]:
        """Each receipt in doubt with its document, or with None when it is proven that there is none.

        Errors: Unsettled, and those of the register.
        """
        for task in self._journal.read(lambda connection: tasks_in_doubt(connection, self._kkt)):
            log.warning(
                "in doubt whether it was printed: asking %s",
                self._kkt,
                extra={"receipt_id": task.receipt_id, "pos_id": task.pos_id, "kkt": task.kkt},
            )
            yield task, self._find(task)

    def _find(self, task: PrintTask) -> Printed | None:
        status = self._register.status()
        if status.mode == "document_open":
            self._register.cancel_document()
        if status.fn_number != task.fn_before:
            raise Unsettled(
                f"receipt {task.pos_id}:{task.receipt_id} was being printed on fiscal storage {task.fn_before}, "
                f"but {self._kkt} now holds {status.fn_number}: only the old storage can tell whether it exists"
            )
        assert task.fd_before is not None
        if status.last_fd_number < task.fd_before:
            raise Unsettled(
                f"receipt {task.pos_id}:{task.receipt_id} was being printed after FD {task.fd_before}, but "
                f"{self._kkt} now ends with FD {status.last_fd_number}: a storage that lost documents proves nothing"
            )
        receipt = Receipt.model_validate_json(task.body)
        requisite = requisite_1192(task.pos_id, task.receipt_id)
        taken = self._taken(status.fn_number, task.fd_before)
        for fd_number in range(task.fd_before + 1, status.last_fd_number + 1):
            header = self._register.find_document(fd_number)
            if (
                header is not None
                and fd_number not in taken
                and _could_be(header, receipt)
                and self._register.read_requisite(fd_number) == requisite
            ):
                # The tax system does not matter for reading back: the document has its own.
                return self._register.read_back(fd_number, PrintJob(receipt, requisite, receipt.tax_system or "osn"))
        return None

    def _taken(self, fn_number: str, after_fd: int) -> set[int]:
        return self._journal.read(lambda connection: known_fd_numbers(connection, fn_number, after_fd))


def _could_be(header: DocumentHeader, receipt: Receipt) -> bool:
    form = CORRECTION_FORM if receipt.type == "correction" else RECEIPT_FORM
    return (header.form, header.operation, header.total) == (form, receipt.operation, receipt.total)

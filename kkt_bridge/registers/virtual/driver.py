"""A virtual register as the lanes see it: the driver of `kkt_bridge.registers.virtual.model`, in this process.

The register lives where its driver does: the file of its fiscal storage is taken by the first call and
held until `close`, which switches the register off. An error lets go of no file, since there is no line
that could have gone bad; what is in doubt is in doubt as with any other driver.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import tzinfo
from pathlib import Path
from types import MappingProxyType
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import InDoubt, ReceiptRefused, RegisterAway, RegisterError, RegisterNotReady
from kkt_bridge.receipts.checks import print_warnings
from kkt_bridge.receipts.model import Cashier, Receipt
from kkt_bridge.registers.base import (
    Expected,
    Mode,
    Printed,
    PrintJob,
    RegisterStatus,
    ShiftReport,
    StoredDocument,
    UnreadableDocument,
)
from kkt_bridge.registers.virtual import rules as register_rules
from kkt_bridge.registers.virtual.document import cashier_requisites, fiscal_mark, make_document, stored_document
from kkt_bridge.registers.virtual.faults import FaultSwitch
from kkt_bridge.registers.virtual.fiscal_document import registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.registers.virtual.model import ModelStatus, RegisterModel
from kkt_bridge.registers.virtual.rules import NoAnswer, Refusal, Submode
from kkt_bridge.registers.virtual.storage_file import StorageError

_log = logging.getLogger(__name__)

MODEL_NAME: Final = "Virtual KKT"

_MODES: Final = MappingProxyType[register_rules.Mode, Mode](
    {
        register_rules.Mode.SHIFT_OPEN: "shift_open",
        register_rules.Mode.SHIFT_EXPIRED: "shift_expired",
        register_rules.Mode.SHIFT_CLOSED: "shift_closed",
        register_rules.Mode.DOCUMENT_OPEN: "document_open",
    }
)
_WRONG_MODE: Final = frozenset({0x02, 0x73})
"""Refusals that the mode explains."""
_NO_PAPER: Final = frozenset({0x58, 0x6B, 0x72})
_FN_EXHAUSTED: Final = frozenset({0x06})
_PROBLEMS: Final = MappingProxyType(
    {
        0x03: "fn_failure",
        0x07: "clock",
        0x16: "shift_expired",
        0x3D: "shift_closed",
        0x4A: "document_open",
        0x4E: "shift_expired",
        0x50: "busy",
        0x56: "no_document",
        **dict.fromkeys(_NO_PAPER, "paper_out"),
        **dict.fromkeys(_FN_EXHAUSTED, "fn_exhausted"),
    }
)
"""Problems that heal, by error code; any other refusal is the receipt's own fault."""

_HINTS: Final = MappingProxyType(
    {
        "busy": "try again in a moment",
        "clock": "set the clock of the register",
        "document_open": "cancel the open document first",
        "fn_exhausted": "replace the fiscal storage",
        "fn_failure": "look at the disk under the fiscal storage",
        "no_document": "name the number of a stored document",
        "paper_out": "put in a new roll",
        "shift_closed": "open a shift first",
        "shift_expired": "close the shift and open a new one",
        "shift_open": "close the shift first",
    }
)
_OUT_OF_PAPER: Final = frozenset({Submode.NO_PAPER, Submode.PAPER_RAN_OUT})


class VirtualRegister:
    """A `FiscalRegister` whose fiscal storage is a file. The constructor touches nothing.

    `wait` is given the seconds that a document takes on paper; `switch_on` makes the model that is driven, where it is
    not the plain one over `path`.
    """

    def __init__(
        self,
        kkt_id: str,
        path: Path,
        zone: tzinfo,
        clock: Clock,
        print_time_s: float = 1.0,
        *,
        shop: str = "",
        wait: Callable[[float], object] = time.sleep,
        switch_on: Callable[[], RegisterModel] | None = None,
    ) -> None:
        self.path = path
        """The file of its fiscal storage."""
        self._kkt_id = kkt_id
        self._wait = wait
        self._switch_on = switch_on or (
            lambda: RegisterModel.switch_on(
                path, registration_of(kkt_id, shop=shop), FaultSwitch(path), clock, zone, print_time_s
            )
        )
        self._model: RegisterModel | None = None

    def status(self) -> RegisterStatus:
        """See `FiscalRegister.status`."""
        model = self._switched_on()
        with self._answers(model):
            status = model.status()
            if status.submode is Submode.AWAITING_CONTINUE:
                model.continue_print()
                status = model.status()
        storage = model.storage
        return RegisterStatus(
            model=MODEL_NAME,
            serial=storage.registration.kkt_serial,
            registration_number=storage.registration.registration_number,
            fn_number=storage.registration.fn_number,
            fn_expires=storage.expires,
            last_fd_number=storage.last_fd_number,
            mode=_MODES[status.mode],
            shift_number=storage.shift.number,
            shift_opened_at=storage.shift.opened_at,
            paper="out" if status.submode in _OUT_OF_PAPER else "ok",
            clock=status.clock,
            problem=_problem(status),
            busy=_is_busy(status),
        )

    def print_receipt(self, job: PrintJob, expected: Expected) -> Printed:
        """See `FiscalRegister.print_receipt`."""
        model = self._switched_on()
        self._require(expected, model.storage)
        self._open_document(model, job.receipt)
        try:
            document = make_document(model, job)
            self._wait_for_printing(model)
            on_paper = model.finish_printing()
        except NoAnswer as silence:
            raise self._in_doubt(silence) from silence
        except Refusal as refusal:
            self._give_up_document(model)
            raise self._receipt_verdict(model, refusal) from refusal
        mark = fiscal_mark(self._kkt_id, model.storage.registration, document)
        return Printed(mark, print_warnings(job.receipt, on_paper=on_paper))

    def _require(self, expected: Expected, storage: FiscalStorage) -> None:
        found = Expected(storage.registration.fn_number, storage.last_fd_number + 1)
        if found != expected:
            raise RegisterNotReady(
                "storage_changed",
                f"{self._kkt_id}: its next document is FD {found.fd_number} on FN {found.fn_number}, "
                f"not FD {expected.fd_number} on FN {expected.fn_number}; somebody else was at it",
            )

    def read_document(self, fd_number: int) -> StoredDocument | UnreadableDocument | None:
        """See `FiscalRegister.read_document`."""
        model = self._switched_on()
        try:
            document = model.document(fd_number)
        except NoAnswer as silence:
            raise self._away(silence) from silence
        except Refusal as refusal:
            return UnreadableDocument(fd_number, f"{self._kkt_id}: {refusal}")
        except StorageError as damage:
            return UnreadableDocument(fd_number, f"{self._kkt_id}: {damage}")
        if document is None:
            return None
        on_paper = model.printer.interrupted != fd_number
        try:
            return stored_document(self._kkt_id, model.storage.registration, document, on_paper=on_paper)
        except (LookupError, TypeError, ValueError) as lack:
            # Its line is a document's, and what the lane must know of a receipt is not in it.
            return UnreadableDocument(
                fd_number, f"{self._kkt_id}: document {fd_number} lacks what a receipt has: {lack!r}"
            )

    def documents(self, first: int, last: int) -> Iterator[StoredDocument | UnreadableDocument]:
        """See `FiscalRegister.documents`."""
        for fd_number in range(first, last + 1):
            document = self.read_document(fd_number)
            if document is None:
                return
            yield document

    def cancel_document(self) -> None:
        """See `FiscalRegister.cancel_document`."""
        model = self._switched_on()
        with self._answers(model):
            if model.status().mode is register_rules.Mode.DOCUMENT_OPEN:
                model.cancel_document()

    def open_shift(self, cashier: Cashier | None) -> ShiftReport:
        """See `FiscalRegister.open_shift`."""
        model = self._switched_on()
        with self._answers(model, in_doubt="a shift was being opened"):
            document = model.open_shift(cashier_requisites(cashier))
        return ShiftReport(document.shift_number, open=True, fd_number=document.fd_number)

    def close_shift(self, cashier: Cashier | None) -> ShiftReport:
        """See `FiscalRegister.close_shift`."""
        model = self._switched_on()
        with self._answers(model, in_doubt="a shift was being closed"):
            document = model.close_shift(cashier_requisites(cashier))
        return ShiftReport(document.shift_number, open=False, fd_number=document.fd_number)

    def x_report(self) -> None:
        """See `FiscalRegister.x_report`."""
        model = self._switched_on()
        with self._answers(model):
            model.x_report()

    def print_copy(self, fd_number: int | None) -> None:
        """See `FiscalRegister.print_copy`."""
        model = self._switched_on()
        with self._answers(model):
            model.print_copy(fd_number)
            self._wait_for_printing(model)
            on_paper = model.finish_printing()
        if not on_paper:
            raise RegisterNotReady("paper_out", f"{self._kkt_id}: the paper ran out; {_HINTS['paper_out']}")

    def close(self) -> None:
        """Switch the register off and let go of its file; the next call switches it on again."""
        model, self._model = self._model, None
        if model is not None:
            model.storage.close()

    def _switched_on(self) -> RegisterModel:
        if self._model is None:
            try:
                self._model = self._switch_on()
            except (StorageError, Refusal) as error:
                raise RegisterAway(f"{self._kkt_id}: {error}") from error
        return self._model

    def _open_document(self, model: RegisterModel, receipt: Receipt) -> None:
        try:
            model.open_document(receipt.operation, correction=receipt.type == "correction")
        except NoAnswer as silence:
            if silence.reason == "offline":
                raise self._away(silence) from silence
            raise self._in_doubt(silence) from silence
        except Refusal as refusal:
            raise self._receipt_verdict(model, refusal) from refusal

    def _give_up_document(self, model: RegisterModel) -> None:
        """Cancel the refused document; where that fails too, the next one finds it open and says so."""
        try:
            model.cancel_document()
        except (NoAnswer, Refusal) as error:
            _log.warning("%s: the refused document could not be cancelled: %s", self._kkt_id, error)

    def _wait_for_printing(self, model: RegisterModel) -> None:
        if seconds := model.printer.seconds_left:
            self._wait(seconds)

    @contextmanager
    def _answers(self, model: RegisterModel, in_doubt: str | None = None) -> Iterator[None]:
        """Translate what happens to a command that makes no receipt; `in_doubt` says what it may have done unheard."""
        try:
            yield
        except NoAnswer as silence:
            if in_doubt is None or silence.reason == "offline":
                raise self._away(silence) from silence
            raise self._in_doubt(silence, in_doubt) from silence
        except Refusal as refusal:
            raise self._not_ready(model, refusal) from refusal

    def _away(self, silence: NoAnswer) -> RegisterAway:
        return RegisterAway(f"{self._kkt_id}: {silence}; is it switched on and connected?")

    def _in_doubt(self, silence: NoAnswer, when: str = "a receipt was being made") -> InDoubt:
        return InDoubt(f"{self._kkt_id}: {silence} while {when}; its fiscal storage knows")

    def _receipt_verdict(self, model: RegisterModel, refusal: Refusal) -> RegisterError:
        if refusal.code in _WRONG_MODE or refusal.code in _PROBLEMS:
            return self._not_ready(model, refusal)
        return ReceiptRefused("kkt_rejected", f"{self._kkt_id}: the register refused the receipt: {refusal}")

    def _not_ready(self, model: RegisterModel, refusal: Refusal) -> RegisterNotReady:
        problem = _PROBLEMS.get(refusal.code) or _MODES[model.mode]
        return RegisterNotReady(problem, f"{self._kkt_id}: {refusal}; {_HINTS[problem]}")


def _problem(status: ModelStatus) -> str | None:
    if status.fn_exhausted:
        return "fn_exhausted"
    if status.submode in _OUT_OF_PAPER:
        return "paper_out"
    return "busy" if _is_busy(status) else None


def _is_busy(status: ModelStatus) -> bool:
    return status.busy or status.submode is Submode.PRINTING

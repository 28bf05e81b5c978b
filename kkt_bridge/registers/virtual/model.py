"""The model of a fiscal register: a Shtrih-M one with its fiscal storage, command by command.

It knows nothing of bytes, lines and threads: a driver in the same process calls it directly, a byte-level
emulator can stand before it. Each command is answered (the method returns), refused with an error code
(`Refusal`, and nothing has changed) or not answered (`NoAnswer`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from kkt_bridge.clock import Clock
from kkt_bridge.receipts.amounts import KOPECKS_MAX, MICRO
from kkt_bridge.receipts.ffd_codes import Operation
from kkt_bridge.registers.virtual.faults import FaultSwitch, RegisterFaults, Step
from kkt_bridge.registers.virtual.fiscal_document import CORRECTION, RECEIPT, Body, FiscalDocument, Registration
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.registers.virtual.printer import Printer
from kkt_bridge.registers.virtual.rules import Mode, NoAnswer, Refusal, RegisterCommand, Submode, refusal_code

LINES_MAX: Final = 500
NAME_MAX: Final = 128
REQUISITE_MAX: Final = MappingProxyType({1008: 64, 1021: 64, 1179: 32, 1192: 16, 1203: 12})
"""Characters by tag, for those that are text."""
CORRECTION_TAGS: Final = frozenset({1173, 1178})
"""The kind and the date of a correction: mandatory."""

_NEEDS_ARCHIVE: Final = frozenset(
    {
        RegisterCommand.OPEN_SHIFT,
        RegisterCommand.OPEN_DOCUMENT,
        RegisterCommand.CLOSE_DOCUMENT,
        RegisterCommand.CLOSE_SHIFT,
    }
)
_IN_A_ROW: Final = frozenset({RegisterCommand.SET_REQUISITE, RegisterCommand.ADD_LINE})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ItemLine(NamedTuple):
    """One line of a receipt [FF46, FF4D, FF67]: kopecks, millionths, and the FFD's code numbers."""

    name: str
    price: int
    quantity: int
    total: int
    vat: int
    payment_method: int
    payment_subject: int
    unit: int
    marking_code: str | None = None


class Payments(NamedTuple):
    """The money handed over [FF45: payments 1, 2-13, 14, 15, 16], kopecks."""

    cash: int = 0
    electronic: int = 0
    prepaid: int = 0
    credit: int = 0
    provision: int = 0


@dataclass(slots=True)
class _Draft:
    """The open document: in volatile memory until the fiscal storage makes it."""

    operation: Operation
    correction: bool
    requisites: dict[int, str | int] = field(default_factory=dict)
    lines: list[ItemLine] = field(default_factory=list)
    total: int = 0


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The state of the register, as 10h and 11h say it."""

    mode: Mode
    submode: Submode
    busy: bool
    fn_exhausted: bool
    clock: datetime


class RegisterModel:
    """A register that is switched on, over an open fiscal storage; used by one thread at a time."""

    def __init__(
        self, storage: FiscalStorage, faults: FaultSwitch, clock: Clock, zone: tzinfo, print_time_s: float
    ) -> None:
        self.storage = storage
        self.printer = Printer(faults, clock, print_time_s)
        self._faults = faults
        self._clock = clock
        self._zone = zone
        self._draft: _Draft | None = None

    @classmethod
    def switch_on(
        cls,
        path: Path,
        registration: Registration,
        faults: FaultSwitch,
        clock: Clock,
        zone: tzinfo,
        print_time_s: float,
    ) -> Self:
        """Switch on the register whose storage is this file; where there is none, one is made for this registration.

        Errors: StorageError and Refusal, if the storage cannot be used.
        """
        storage = FiscalStorage(path)
        storage.open(registration, (_EPOCH + timedelta(milliseconds=clock.now_ms())).astimezone(zone))
        return cls(storage, faults, clock, zone, print_time_s)

    @property
    def now(self) -> datetime:
        """The register's own clock, in the shop's zone.

        It never shows a time before the last document's, which the fiscal storage would refuse: where the
        system's clock was put back, it stands still until that has caught up.
        """
        offset = timedelta(seconds=self._faults.current.clock_offset_s)
        shown = _EPOCH + timedelta(milliseconds=self._clock.now_ms()) + offset
        return max(shown, self.storage.last.at).astimezone(self._zone)

    @property
    def mode(self) -> Mode:
        """The mode by the open document, the fiscal storage's shift and the clock."""
        if self._draft is not None:
            return Mode.DOCUMENT_OPEN
        if self.storage.shift.opened_at is None:
            return Mode.SHIFT_CLOSED
        return Mode.SHIFT_EXPIRED if self.storage.shift.is_over(self.now) else Mode.SHIFT_OPEN

    def status(self) -> ModelStatus:
        """Return the register's state [10h, 11h, FF01]; never refused, but it counts as a command of `busy_next`."""
        faults = self._receive()
        return ModelStatus(
            mode=self.mode,
            submode=self.printer.submode,
            busy=faults.busy or self._faults.spend("busy_next"),
            fn_exhausted=faults.fn_exhausted,
            clock=self.now,
        )

    def document(self, fd_number: int) -> FiscalDocument | None:
        """A stored document [FF0A, FF3A], None if there is none of this number."""
        self._receive()
        return self.storage.read(fd_number)

    def open_shift(self, requisites: Mapping[int, str]) -> FiscalDocument:
        """Open a shift [FF41, FF0C for each of these tags, E0h]; its report takes no print time."""
        self._begin(RegisterCommand.OPEN_SHIFT)
        return self.storage.open_shift({"requisites": requisites}, self.now)

    def close_shift(self, requisites: Mapping[int, str]) -> FiscalDocument:
        """Close the shift [FF42, FF0C for each of these tags, 41h]; its report takes no print time."""
        self._begin(RegisterCommand.CLOSE_SHIFT)
        return self.storage.close_shift({"requisites": requisites}, self.now)

    def x_report(self) -> None:
        """Print a report of the shift so far [40h]: nothing is kept of it, and it takes no print time."""
        self._begin(RegisterCommand.X_REPORT)

    def open_document(self, operation: Operation, *, correction: bool = False) -> None:
        """Open a receipt [8Dh, types 0 to 3], or a correction of one [80h to 83h]."""
        self._begin(RegisterCommand.OPEN_DOCUMENT)
        self._may_lose_power("open")
        self._draft = _Draft(operation, correction)

    def set_requisite(self, tag: int, value: str | int) -> None:
        """Add a requisite to the open document [FF0C]; text is held to its tag's limit."""
        draft = self._open_draft(RegisterCommand.SET_REQUISITE)
        self._may_lose_power("requisites")
        if tag in draft.requisites:
            raise Refusal(0x33, f"tag {tag} twice")
        if isinstance(value, str) and (len(value) > REQUISITE_MAX.get(tag, NAME_MAX) or min(value, default=" ") < " "):
            raise Refusal(0x33, f"tag {tag}: {value[:NAME_MAX]!r}")
        draft.requisites[tag] = value

    def add_line(self, line: ItemLine) -> None:
        """Add a line to the open document [FF46, and FF4D and FF67 where it has more to say]."""
        draft = self._open_draft(RegisterCommand.ADD_LINE)
        self._may_lose_power("line")
        if refused := next((text for text in self._faults.current.refuse_names if text in line.name), None):
            raise Refusal(0x33, f"line {len(draft.lines) + 1}: the name holds {refused!r}")
        if len(draft.lines) == LINES_MAX:
            raise Refusal(0x94, f"more than {LINES_MAX} lines")
        if len(line.name) > NAME_MAX or abs(line.total * MICRO - line.price * line.quantity) > MICRO:
            raise Refusal(0x33, f"line {len(draft.lines) + 1}")
        if draft.total + line.total > KOPECKS_MAX:
            raise Refusal(0x48)
        draft.lines.append(line)
        draft.total += line.total

    def subtotal(self) -> int:
        """The total of the open document so far, kopecks [89h]."""
        draft = self._open_draft(RegisterCommand.SUBTOTAL)
        self._may_lose_power("subtotal")
        return draft.total

    def close_document(self, payments: Payments, tax_system: int) -> FiscalDocument:
        """Make the open document fiscal and begin to print it [FF45]; `tax_system` is a bit of FFD tag 1055."""
        draft = self._open_draft(RegisterCommand.CLOSE_DOCUMENT)
        self._may_lose_power("before_close")
        body = self._judge(draft, payments, tax_system)
        document = self.storage.make_receipt(body, self.now)
        self._draft = None
        self.printer.start(document.fd_number)
        self._may_lose_power("after_close")
        if self._faults.spend("lose_answer_next"):
            raise NoAnswer("answer_lost")
        return document

    def _judge(self, draft: _Draft, payments: Payments, tax_system: int) -> Body:
        total, change = draft.total, sum(payments) - draft.total
        if self._faults.spend("refuse_next"):
            raise Refusal(0x0B, "told to refuse this receipt")
        if not draft.lines:
            raise Refusal(0x8E, "no lines")
        if sum(payments) - payments.cash > total:
            raise Refusal(0x4D)
        if change < 0:
            raise Refusal(0x45)
        if draft.correction and not draft.requisites.keys() >= CORRECTION_TAGS:
            raise Refusal(0x0D, f"tags {sorted(CORRECTION_TAGS)}")
        return _body(draft, payments, change, tax_system)

    def cancel_document(self) -> None:
        """Cancel the open document [88h, FF08]."""
        self._open_draft(RegisterCommand.CANCEL_DOCUMENT)
        self._draft = None

    def print_copy(self, fd_number: int | None) -> FiscalDocument:
        """Begin to print a non-fiscal copy of a document, of the last one for None [8Ch]."""
        self._begin(RegisterCommand.PRINT_COPY)
        document = self.storage.read(self.storage.last_fd_number if fd_number is None else fd_number)
        if document is None:
            raise Refusal(0x56, f"number {fd_number}")
        self.printer.start(document.fd_number)
        return document

    def finish_printing(self) -> bool:
        """Bring what is being printed to its end, whatever the clock says; False if the paper ran out under it."""
        self._may_lose_power("print")
        self.printer.finish()
        return self.printer.interrupted is None

    def continue_print(self) -> None:
        """Print the rest of what was interrupted, there being paper again [B0h]."""
        self._receive()
        if self.printer.submode is not Submode.AWAITING_CONTINUE:
            raise Refusal(0x72)
        self.printer.resume()

    def power_off(self) -> None:
        """Lose what is volatile: the open document, and what was being printed."""
        self._draft = None
        self.printer.power_off()

    def _receive(self) -> RegisterFaults:
        """Hear a command, by the faults in force now."""
        faults = self._faults.poll()
        if faults.offline:
            raise NoAnswer("offline")
        if self.printer.is_due:
            self.finish_printing()
        return faults

    def _begin(self, command: RegisterCommand) -> None:
        """Hear a command that changes something; refuse it where the tables do."""
        faults = self._receive()
        if faults.busy or self._faults.spend("busy_next"):
            raise Refusal(0x50)
        if faults.fn_exhausted and command in _NEEDS_ARCHIVE:
            raise Refusal(0x06)
        if code := refusal_code(command, self.mode, self.printer.submode):
            raise Refusal(code)

    def _open_draft(self, command: RegisterCommand) -> _Draft:
        """Hear a command about the open document."""
        # Where nothing is amiss and a document open, the tables let these through, and a receipt has many of them, with
        # microseconds in between: faults are looked for before the first and after the last.
        if command not in _IN_A_ROW or self._draft is None or self._faults.any_in_force:
            self._begin(command)
        assert self._draft is not None, "the table lets this command through only with a document open"
        return self._draft

    def _may_lose_power(self, step: Step) -> None:
        if self._faults.cuts_power_at(step):
            self.power_off()
            raise NoAnswer("power_cut")


def _body(draft: _Draft, payments: Payments, change: int, tax_system: int) -> Body:
    requisite = draft.requisites.get(1192)
    return Body(
        form=CORRECTION if draft.correction else RECEIPT,
        type="correction" if draft.correction else draft.operation,
        operation=draft.operation,
        total=draft.total,
        requisite_1192=requisite if isinstance(requisite, str) else None,
        content={
            "tax_system": tax_system,
            # The FFD knows what was kept of the cash, not what was handed over.
            "payments": payments._replace(cash=payments.cash - change)._asdict(),
            "change": change,
            "requisites": {tag: value for tag, value in draft.requisites.items() if tag != 1192},
            "lines": [line._asdict() for line in draft.lines],
        },
    )

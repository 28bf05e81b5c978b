"""The registers: the real model over a real fiscal storage, with a clock, a power cable and other users of its own."""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from support.clocks import ManualClock

from kkt_bridge.registers.virtual.driver import VirtualRegister
from kkt_bridge.registers.virtual.faults import FaultSwitch, RegisterFaults
from kkt_bridge.registers.virtual.fiscal_document import (
    CORRECTION,
    RECEIPT,
    FiscalDocument,
    Registration,
    registration_of,
)
from kkt_bridge.registers.virtual.model import ItemLine, Payments, RegisterModel
from kkt_bridge.registers.virtual.rules import Mode, NoAnswer, Refusal
from kkt_bridge.registers.virtual.storage_file import read_documents
from simulation.effects import Effects

COMMANDS = (
    "open_document",
    "set_requisite",
    "add_line",
    "close_document",
    "cancel_document",
    "open_shift",
    "close_shift",
    "finish_printing",
    "continue_print",
    "status",
    "document",
)
"""Questions of a driver to a register: each of these is an effect."""

ZONE = ZoneInfo("Europe/Moscow")


FOREIGN_LINE = "Another program's"
"""A line in every document that another program has a part in."""


@dataclass(slots=True)
class LateCommand:
    """A command that the register is still at, after its driver was left without an answer."""

    carry_out: Callable[[], object]
    until: float | None
    """Monotonic seconds, and it says that it is busy until then; None: until it was asked how it is, and hides it.

    It answers then that it is at rest, with the last document that its storage shows by then.
    """


class Switch(FaultSwitch):
    """Faults set by hand, without a file."""

    def poll(self) -> RegisterFaults:
        """Return what is in force."""
        return self.current

    def put(self, **faults: Any) -> None:
        """Put these faults in force instead of all others."""
        self._enforce(RegisterFaults.model_validate(faults))


class Register:
    """A register on its shelf. The bridge's processes come and go, and each drives it for a while."""

    def __init__(
        self,
        kkt: str,
        folder: Path,
        *,
        bridge: str,
        clock: ManualClock,
        effects: Effects,
        rng: random.Random,
        print_time_s: float,
        wait: Callable[[float], None],
        apart: bool,
    ) -> None:
        self.kkt = kkt
        self.path = folder / f"{kkt}.fn"
        self.clock = clock
        self.switch = Switch(self.path)
        self.apart = apart
        """True if it has a power supply of its own; else it is switched off when the bridge's process ends."""
        self.power_cut_rate = 0.0
        self.answer_lost_rate = 0.0
        self.late_rate = 0.0
        """How often a receipt is closed long after the driver was left without an answer."""
        self.mixed_rate = 0.0
        """How often another program's line gets into an open receipt, which that program then closes."""
        self.unfinished: LateCommand | None = None
        self.old_storages: list[Path] = []
        self._effects = effects
        self._rng = rng
        self._bridge = bridge
        self._print_time_s = print_time_s
        self._model = model_of(self)
        self._driver = VirtualRegister(kkt, self.path, ZONE, clock, wait=wait, switch_on=self._switch_on)

    def drive(self) -> VirtualRegister:
        """The driver for a new process of the bridge."""
        if not self.apart:
            self.switch_off()
        return self._driver

    def _switch_on(self) -> RegisterModel:
        plain = registration_of(self.kkt, shop=self._bridge)
        # Each new storage of a register has a number of its own.
        registration = registration_of(
            self.kkt, f"{plain.fn_number[:-2]}{len(self.old_storages):02d}", shop=self._bridge
        )
        return self._model.switch_on(self.path, registration, self.switch, self.clock, ZONE, self._print_time_s)

    def switch_off(self) -> None:
        """Cut the power; the next command finds it switched on again."""
        self.unfinished = None
        self._driver.close()

    # -- what happens to a command -------------------------------------------------------------------------

    def before(self, model: RegisterModel, command: str) -> None:
        """The command is on the line."""
        self._effects.trace(f"{self.kkt} {command}")
        self._effects.at(f"register {command}: before", may_switch=True)
        if self._rng.random() < self.power_cut_rate:
            self._effects.trace(f"{self.kkt} loses power before {command}")
            model.power_off()
            raise NoAnswer("power_cut")

    def instead(self, model: RegisterModel, command: str, carry_out: Callable[[], object]) -> None:
        """NoAnswer where the register does something else first: it is slow, or not alone with the bridge."""
        if command != "close_document" or self._effects.is_of_others:
            return
        if self._rng.random() < self.late_rate:
            self._effects.trace(f"{self.kkt} takes its time over {command}")
            until = self.clock.monotonic() + self._rng.uniform(0, 4)
            self.unfinished = LateCommand(carry_out, self._rng.choice([until, None]))
            raise NoAnswer("answer_lost")
        if self._rng.random() < self.mixed_rate:
            self._effects.trace(f"{self.kkt}: another program's line gets into the receipt")
            with self._effects.of_others():
                model.add_line(ItemLine(FOREIGN_LINE, 100, 1_000_000, 100, 1, 4, 1, 0))
                model.close_document(Payments(cash=model.subtotal()), 1)
            raise NoAnswer("answer_lost")

    def finish_late_work(self) -> None:
        """Finish what is overdue, printing included."""
        late = self.unfinished
        if late is not None and late.until is not None and self.clock.monotonic() >= late.until:
            self.unfinished = None
            with self._effects.of_others(), suppress(NoAnswer, Refusal):
                late.carry_out()
                self._driver._switched_on().finish_printing()

    def after(self, model: RegisterModel, command: str) -> None:
        """The command is carried out, and its answer is on the line."""
        if self._rng.random() < self.power_cut_rate:
            self._effects.trace(f"{self.kkt} loses power after {command}")
            model.power_off()
            raise NoAnswer("power_cut")
        if self._rng.random() < self.answer_lost_rate:
            self._effects.trace(f"{self.kkt}: the answer to {command} is lost")
            raise NoAnswer("answer_lost")
        self._effects.at(f"register {command}: after", may_switch=True)

    # -- what others do with it ---------------------------------------------------------------------------

    def sell_past_the_bridge(self, total: int, requisite: str | None) -> None:
        """Another program makes a receipt, if the register lets it."""
        with self._effects.of_others():
            try:
                model = self._driver._switched_on()
                if model.mode is not Mode.SHIFT_OPEN:
                    return
                model.open_document("sale")
                if requisite is not None:
                    model.set_requisite(1192, requisite)
                model.add_line(ItemLine(FOREIGN_LINE, total, 1_000_000, total, 1, 4, 1, 0))
                model.close_document(Payments(cash=total), 1)
                model.finish_printing()
            except (NoAnswer, Refusal):
                self._driver._switched_on().power_off()

    def leave_a_document_open(self) -> None:
        """Another program begins a receipt and dies."""
        with self._effects.of_others():
            try:
                model = self._driver._switched_on()
                if model.mode is Mode.SHIFT_OPEN:
                    model.open_document("sale")
            except (NoAnswer, Refusal):
                return

    def swap_storage(self) -> None:
        """A technician puts in a new fiscal storage."""
        self.switch_off()
        if self.path.exists():
            old = self.path.with_name(f"{self.path.name}.{len(self.old_storages)}")
            self.path.rename(old)
            self.old_storages.append(old)

    # -- what it has made -------------------------------------------------------------------------------------

    def storages(self) -> list[Path]:
        """The files of every storage that it ever had."""
        return [*self.old_storages, *([self.path] if self.path.exists() else [])]

    def fn_number(self) -> str:
        """Of the storage that is in it now; empty before the first one was used."""
        if not self.path.exists():
            return ""
        return Registration.of(next(read_documents(self.path))).fn_number

    def documents(self) -> list[tuple[str, FiscalDocument]]:
        """Its receipts and corrections, each with the number of its storage."""
        found = []
        for path in self.storages():
            fn_number = ""
            for document in read_documents(path):
                fn_number = fn_number or Registration.of(document).fn_number
                if document.body.form in {RECEIPT, CORRECTION}:
                    found.append((fn_number, document))
        return found


def is_mixed(document: FiscalDocument) -> bool:
    """Return whether the document has another program's line."""
    return any(line["name"] == FOREIGN_LINE for line in document.body.content["lines"])


def model_of(register: Register) -> type[RegisterModel]:
    """The model of this register, each command of which is an effect."""

    def command(name: str) -> Callable[..., Any]:
        real = getattr(RegisterModel, name)

        def carried_out(self: RegisterModel, *arguments: Any, **named: Any) -> Any:
            register.before(self, name)
            register.finish_late_work()
            if register.unfinished is not None:
                if name == "status" and register.unfinished.until is None:
                    register.unfinished.until = register.clock.monotonic()
                    return replace(real(self), mode=Mode.SHIFT_OPEN)
                if name == "status":
                    return replace(real(self), busy=True)
                if name != "document":
                    raise Refusal(0x50)
            register.instead(self, name, lambda: real(self, *arguments, **named))
            answer = real(self, *arguments, **named)
            register.after(self, name)
            return answer

        return carried_out

    return type("Model", (RegisterModel,), {name: command(name) for name in COMMANDS})

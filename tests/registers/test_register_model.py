"""The model of a register: its tables, and what it refuses and why."""

from datetime import UTC, datetime

import pytest
from registers.bench import ZONE, ManualClock

from kkt_bridge.receipts.amounts import KOPECKS_MAX
from kkt_bridge.registers.virtual.faults import FaultSwitch, write_faults
from kkt_bridge.registers.virtual.fiscal_document import registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.registers.virtual.model import ItemLine, Payments, RegisterModel
from kkt_bridge.registers.virtual.rules import Mode, NoAnswer, Refusal, RegisterCommand, Submode, refusal_code

SOAP = ItemLine("Мыло", 10_000, 1_000_000, 10_000, 11, 4, 1, 0)


class Bench:
    def __init__(self, folder):
        self.state = folder / "kkt.fn"
        self.clock = ManualClock()
        self.storage = FiscalStorage(self.state)
        self.storage.open(registration_of("kkt-1"), datetime.fromtimestamp(self.clock.ms / 1000, UTC))
        self.model = RegisterModel(self.storage, FaultSwitch(self.state), self.clock, ZONE, 1.0)

    def reach(self, mode):
        if mode is not Mode.SHIFT_CLOSED:
            self.model.open_shift({})
        if mode is Mode.DOCUMENT_OPEN:
            self.model.open_document("sale")
        if mode is Mode.SHIFT_EXPIRED:
            self.clock.advance(24 * 3600)
        assert self.model.mode is mode

    def print_one(self):
        self.model.open_document("sale")
        self.model.add_line(SOAP)
        return self.model.close_document(Payments(cash=10_000), 1)


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.storage.close()


@pytest.fixture
def receipt(bench):
    """A bench whose model has a sale of one line open."""
    bench.reach(Mode.DOCUMENT_OPEN)
    bench.model.add_line(SOAP)
    return bench.model


CALLS = {
    RegisterCommand.OPEN_SHIFT: lambda model: model.open_shift({}),
    RegisterCommand.OPEN_DOCUMENT: lambda model: model.open_document("sale"),
    RegisterCommand.SET_REQUISITE: lambda model: model.set_requisite(1192, "ABC"),
    RegisterCommand.ADD_LINE: lambda model: model.add_line(SOAP),
    RegisterCommand.SUBTOTAL: lambda model: model.subtotal(),
    RegisterCommand.CLOSE_DOCUMENT: lambda model: model.close_document(Payments(cash=10_000), 1),
    RegisterCommand.CANCEL_DOCUMENT: lambda model: model.cancel_document(),
    RegisterCommand.X_REPORT: lambda model: model.x_report(),
    RegisterCommand.CLOSE_SHIFT: lambda model: model.close_shift({}),
    RegisterCommand.PRINT_COPY: lambda model: model.print_copy(None),
}


def code_of(call, *arguments):
    with pytest.raises(Refusal) as refusal:
        call(*arguments)
    return refusal.value.code


def world(bench):
    return bench.storage.last, bench.storage.shift, bench.model._draft, bench.model.status()


@pytest.mark.parametrize("command", RegisterCommand)
@pytest.mark.parametrize("mode", Mode)
def test_a_mode_takes_or_refuses_a_command_by_the_table_and_a_refusal_changes_nothing(bench, command, mode):
    bench.reach(mode)
    expected = refusal_code(command, mode, Submode.IDLE)
    if not expected:
        if command is RegisterCommand.CLOSE_DOCUMENT:
            bench.model.add_line(SOAP)
        CALLS[command](bench.model)
        return
    before = world(bench)
    assert code_of(CALLS[command], bench.model) == expected
    assert world(bench) == before


@pytest.mark.parametrize(
    ("mode", "command", "code"),
    [
        (Mode.SHIFT_CLOSED, RegisterCommand.OPEN_DOCUMENT, 0x3D),
        (Mode.SHIFT_OPEN, RegisterCommand.OPEN_SHIFT, 0x73),
        (Mode.SHIFT_EXPIRED, RegisterCommand.OPEN_DOCUMENT, 0x4E),
        (Mode.SHIFT_EXPIRED, RegisterCommand.CLOSE_SHIFT, 0),
        (Mode.DOCUMENT_OPEN, RegisterCommand.OPEN_DOCUMENT, 0x4A),
        (Mode.SHIFT_OPEN, RegisterCommand.SET_REQUISITE, 0x02),
    ],
)
def test_the_table_says_what_the_protocol_does(mode, command, code):
    assert refusal_code(command, mode, Submode.IDLE) == code


@pytest.mark.parametrize(
    ("submode", "code"),
    [
        (Submode.NO_PAPER, 0x6B),
        (Submode.PAPER_RAN_OUT, 0x72),
        (Submode.AWAITING_CONTINUE, 0x58),
        (Submode.PRINTING, 0x50),
    ],
)
def test_a_printer_that_cannot_refuses_what_is_to_be_printed_but_not_the_cancelling(submode, code):
    assert refusal_code(RegisterCommand.OPEN_DOCUMENT, Mode.SHIFT_OPEN, submode) == code
    assert refusal_code(RegisterCommand.CLOSE_SHIFT, Mode.SHIFT_OPEN, submode) == code
    assert refusal_code(RegisterCommand.CANCEL_DOCUMENT, Mode.DOCUMENT_OPEN, submode) == 0


def test_the_printer_goes_through_its_submodes(bench):
    model = bench.model
    model.open_shift({})
    write_faults(bench.state, {"paper_out_after": 0})
    bench.print_one()
    assert model.status().submode is Submode.PRINTING
    assert code_of(model.open_document, "sale") == 0x50
    bench.clock.advance(1.0)
    assert model.status().submode is Submode.PAPER_RAN_OUT
    assert code_of(model.continue_print) == 0x72
    write_faults(bench.state, {})
    assert model.status().submode is Submode.AWAITING_CONTINUE
    assert code_of(model.open_document, "sale") == 0x58
    model.continue_print()
    assert model.status().submode is Submode.IDLE
    assert code_of(model.continue_print) == 0x72


def test_paper_taken_away_while_nothing_is_printed_heals_by_itself(bench):
    write_faults(bench.state, {"paper_out": True})
    assert bench.model.status().submode is Submode.NO_PAPER
    write_faults(bench.state, {})
    assert bench.model.status().submode is Submode.IDLE


def test_paper_that_ends_within_a_document_lets_it_be_cancelled(bench, receipt):
    write_faults(bench.state, {"paper_out": True})
    assert code_of(receipt.close_document, Payments(cash=10_000), 1) == 0x6B
    receipt.cancel_document()
    assert receipt.mode is Mode.SHIFT_OPEN


@pytest.mark.parametrize(
    ("payments", "code"),
    [
        (Payments(cash=9_999), 0x45),
        (Payments(electronic=5_000, credit=4_999), 0x45),
        (Payments(electronic=10_001), 0x4D),
        (Payments(cash=1, prepaid=5_000, provision=5_001), 0x4D),
    ],
)
def test_payments_must_make_up_the_total_and_only_cash_may_exceed_it(receipt, payments, code):
    assert code_of(receipt.close_document, payments, 1) == code
    assert receipt.subtotal() == 10_000, "the document is still open"
    assert receipt.close_document(Payments(cash=10_050), 1).body.content["change"] == 50


def test_a_document_needs_a_line(bench):
    bench.reach(Mode.DOCUMENT_OPEN)
    assert code_of(bench.model.close_document, Payments(), 1) == 0x8E


def test_a_correction_needs_its_kind_and_date(bench):
    bench.model.open_shift({})
    bench.model.open_document("sale", correction=True)
    bench.model.add_line(SOAP)
    bench.model.set_requisite(1173, 0)
    assert code_of(bench.model.close_document, Payments(cash=10_000), 1) == 0x0D
    bench.model.set_requisite(1178, "2026-11-20")
    assert bench.model.close_document(Payments(cash=10_000), 1).body.form == 31


@pytest.mark.parametrize(
    ("tag", "value"), [(1192, "x" * 17), (1021, "Иванова\n"), (1008, "x" * 65), (1203, "5001007322590")]
)
def test_a_requisite_too_long_or_with_control_characters_is_refused(receipt, tag, value):
    assert code_of(receipt.set_requisite, tag, value) == 0x33


def test_a_requisite_comes_once(receipt):
    receipt.set_requisite(1192, "x" * 16)
    assert code_of(receipt.set_requisite, 1192, "y") == 0x33
    assert receipt.close_document(Payments(cash=10_000), 1).body.requisite_1192 == "x" * 16


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (SOAP._replace(name="x" * 129), 0x33),
        (SOAP._replace(total=10_002), 0x33),
        (SOAP._replace(price=KOPECKS_MAX, total=KOPECKS_MAX), 0x48),
    ],
)
def test_a_line_that_does_not_fit_is_refused_and_the_document_goes_on(receipt, line, code):
    assert code_of(receipt.add_line, line) == code
    assert receipt.subtotal() == 10_000


def test_a_receipt_has_at_most_500_lines(receipt):
    for _ in range(499):
        receipt.add_line(SOAP)
    assert code_of(receipt.add_line, SOAP) == 0x94
    assert receipt.subtotal() == 5_000_000


def test_a_power_cut_loses_the_open_document_and_keeps_the_storage(bench, receipt):
    receipt.power_off()
    assert receipt.mode is Mode.SHIFT_OPEN
    assert bench.storage.last_fd_number == 2


def test_a_power_cut_loses_what_waits_to_be_continued(bench):
    bench.model.open_shift({})
    write_faults(bench.state, {"paper_out_after": 0})
    bench.print_one()
    bench.clock.advance(1.0)
    assert bench.model.status().submode is Submode.PAPER_RAN_OUT
    bench.model.power_off()
    assert bench.model.status().submode is Submode.NO_PAPER


def test_silence_says_whether_the_command_got_there(bench, receipt):
    write_faults(bench.state, {"offline": True})
    with pytest.raises(NoAnswer) as silence:
        receipt.subtotal()
    assert silence.value.reason == "offline"
    assert receipt.mode is Mode.DOCUMENT_OPEN, "a cable pulled out is no power cut"
    write_faults(bench.state, {"power_cut": {"at": "subtotal"}})
    with pytest.raises(NoAnswer) as silence:
        receipt.subtotal()
    assert silence.value.reason == "power_cut"
    assert receipt.mode is Mode.SHIFT_OPEN


def test_power_that_fails_during_printing_shows_in_the_next_command(bench):
    bench.model.open_shift({})
    write_faults(bench.state, {"power_cut": {"at": "print"}})
    bench.print_one()
    bench.clock.advance(1.0)
    with pytest.raises(NoAnswer):
        bench.model.status()
    assert bench.model.status().submode is Submode.IDLE


def test_a_full_fiscal_storage_refuses_to_close_what_is_open(bench, receipt):
    write_faults(bench.state, {"fn_exhausted": True})
    assert code_of(receipt.close_document, Payments(cash=10_000), 1) == 0x06
    assert bench.storage.last_fd_number == 2


def test_every_code_that_the_tables_use_has_a_meaning():
    for command in RegisterCommand:
        for mode in Mode:
            for submode in Submode:
                if code := refusal_code(command, mode, submode):
                    assert f"{code:02X}h" in str(Refusal(code))

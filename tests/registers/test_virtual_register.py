"""The driver of the virtual register: the port's contract, and what is its own."""

import subprocess
import sys
from datetime import datetime

import pytest
from registers.bench import CASHIER, ZONE, ManualClock, VirtualBench, a_correction, a_job, an_item
from registers.port_contract import PortContract
from support.registers import print_on

from kkt_bridge.errors import InDoubt, RegisterAway, RegisterNotReady
from kkt_bridge.registers.base import StoredDocument, UnreadableDocument
from kkt_bridge.registers.virtual.driver import VirtualRegister
from kkt_bridge.registers.virtual.fiscal_document import RECEIPT, Body, registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage


@pytest.fixture
def bench(tmp_path):
    made = VirtualBench(tmp_path)
    yield made
    made.register.close()


class TestVirtualRegister(PortContract):
    """The contract, kept."""


@pytest.fixture
def shop(bench):
    bench.register.open_shift(CASHIER)
    return bench


def test_the_constructor_touches_nothing(tmp_path):
    VirtualRegister("kkt-1", tmp_path / "nowhere" / "kkt-1.fn", ZONE, ManualClock()).close()
    assert list(tmp_path.iterdir()) == []


def test_registers_of_one_shop_differ_and_each_stays_the_same(tmp_path):
    def identity(kkt_id, path):
        register = VirtualRegister(kkt_id, path, ZONE, ManualClock(), 0)
        status = register.status()
        register.close()
        return status.fn_number, status.serial, status.registration_number

    first, again = identity("kkt-1", tmp_path / "a.fn"), identity("kkt-1", tmp_path / "b.fn")
    other = identity("kkt-2", tmp_path / "c.fn")
    assert first == again
    assert all(one != two for one, two in zip(first, other, strict=True))
    assert identity("kkt-9", tmp_path / "a.fn") == first, "the file knows who it is"


def test_printing_takes_its_time(tmp_path):
    bench = VirtualBench(tmp_path, print_time_s=1.5)
    bench.register.open_shift(CASHIER)
    print_on(bench.register, a_job())
    bench.register.print_copy(None)
    bench.break_with(print_time_s=0.25)
    print_on(bench.register, a_job())
    assert bench.waited_s == [1.5, 1.5, 0.25]
    bench.register.close()


def test_a_document_whose_answer_was_lost_is_still_being_printed(tmp_path):
    bench = VirtualBench(tmp_path, print_time_s=2.0)
    bench.register.open_shift(CASHIER)
    bench.break_with(lose_answer_next=1)
    with pytest.raises(InDoubt):
        print_on(bench.register, a_job())
    assert bench.register.status().problem == "busy"
    with pytest.raises(RegisterNotReady) as error:
        print_on(bench.register, a_job())
    assert error.value.problem == "busy"
    bench.clock.advance(2.0)
    assert bench.register.status().problem is None
    bench.register.close()


def test_a_document_left_open_is_reported_kept_and_can_be_cancelled(shop):
    shop.register.status()
    shop.register._model.open_document("sale")
    assert shop.register.status().mode == "document_open"
    for call in (lambda: print_on(shop.register, a_job()), lambda: shop.register.open_shift(None)):
        with pytest.raises(RegisterNotReady) as error:
            call()
        assert error.value.problem == "document_open"
    assert shop.register.status().mode == "document_open"
    shop.register.cancel_document()
    assert shop.register.status().mode == "shift_open"


def test_a_line_that_goes_silent_within_a_document_is_a_doubt(shop, monkeypatch):
    shop.register.status()
    model = shop.register._model
    subtotal = model.subtotal

    def subtotal_then_silence():
        shop.break_with(offline=True)
        return subtotal()

    monkeypatch.setattr(model, "subtotal", subtotal_then_silence)
    with pytest.raises(InDoubt):
        print_on(shop.register, a_job())
    shop.heal()
    assert shop.register.status().mode == "document_open"
    shop.register.cancel_document()


def test_a_refused_document_that_cannot_be_cancelled_stays_open_for_the_next_to_find(shop, monkeypatch, caplog):
    shop.register.status()
    model = shop.register._model
    add_line = model.add_line

    def line_then_busy(line):
        add_line(line)
        shop.break_with(busy=True)

    monkeypatch.setattr(model, "add_line", line_then_busy)
    with pytest.raises(RegisterNotReady) as error:
        print_on(shop.register, a_job())
    assert error.value.problem == "busy"
    assert "could not be cancelled" in caplog.text
    shop.heal()
    assert shop.register.status().mode == "document_open"


def test_a_shift_that_ends_within_a_document_refuses_it_for_now(shop, monkeypatch):
    shop.register.status()
    model = shop.register._model
    subtotal = model.subtotal

    def slow_subtotal():
        shop.clock.advance(24 * 3600)
        return subtotal()

    monkeypatch.setattr(model, "subtotal", slow_subtotal)
    with pytest.raises(RegisterNotReady) as error:
        print_on(shop.register, a_job())
    assert error.value.problem == "shift_expired"
    assert shop.register.status().mode == "shift_expired"
    assert len(shop.documents()) == 2


def test_a_document_holds_everything_that_the_receipt_says(shop):
    item = an_item("«Ёж» 0,5 л — стекло", "50.00") | {
        "quantity": "0.5",
        "total": "25.00",
        "unit": "liter",
        "payment_subject": "excise",
        "payment_method": "advance",
        "vat": "10/110",
        "marking_code": "0104605035006964215OoyE8qxeIOn>",
    }
    job = a_job(
        items=[item],
        payments=[{"type": "cash", "amount": "30.00"}],
        cashier={"name": "Иванова — старшая", "inn": "500100732259"},
        **a_correction("refund", kind="ordered", document_number="12-34/5"),
    )
    print_on(shop.register, job)
    body = shop.documents()[-1].body
    assert body.requisite_1192 == job.requisite
    assert body.content == {
        "tax_system": 1,
        "payments": {"cash": 2500, "electronic": 0, "prepaid": 0, "credit": 0, "provision": 0},
        "change": 500,
        "requisites": {
            "1021": "Иванова - старшая",
            "1203": "500100732259",
            "1008": "buyer@example.com",
            "1173": 1,
            "1178": "2026-11-20",
            "1179": "12-34/5",
        },
        "lines": [
            {
                "name": '"Ёж" 0,5 л - стекло',
                "price": 5000,
                "quantity": 500_000,
                "total": 2500,
                "vat": 4,
                "payment_method": 3,
                "payment_subject": 2,
                "unit": 41,
                "marking_code": "0104605035006964215OoyE8qxeIOn>",
            }
        ],
    }


def test_a_file_that_cannot_be_used_makes_the_register_away_and_is_named(tmp_path):
    foreign = tmp_path / "notes.txt"
    foreign.write_text("not yours\n")
    for path in (foreign, tmp_path, tmp_path / "nowhere" / "kkt-1.fn"):
        register = VirtualRegister("kkt-1", path, ZONE, ManualClock(), 0)
        with pytest.raises(RegisterAway, match=str(path)):
            register.status()
        register.close()
    assert foreign.read_text() == "not yours\n"


def test_a_file_held_by_another_process_is_taken_when_that_ends(tmp_path):
    bench = VirtualBench(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(bench.state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(RegisterAway, match=f"{bench.state}: another process has this fiscal storage open"):
            bench.register.status()
        holder.communicate("", timeout=30)
    assert holder.returncode == 0
    assert bench.register.status().last_fd_number == 1
    bench.register.close()


HOLDER = """
import sys
from datetime import UTC
from pathlib import Path
from kkt_bridge.clock import SystemClock
from kkt_bridge.registers.virtual.driver import VirtualRegister
register = VirtualRegister("kkt-1", Path(sys.argv[1]), UTC, SystemClock(), 0)
register.status()
print("open", flush=True)
sys.stdin.read()
register.close()
"""


def test_a_stored_receipt_that_lacks_what_the_lane_must_know_cannot_be_read_and_its_neighbours_can(tmp_path):
    path, now = tmp_path / "kkt-1.fn", datetime(2026, 11, 22, 12, tzinfo=ZONE)
    storage = FiscalStorage(path)
    storage.open(registration_of("kkt-1"), now)
    storage.open_shift({}, now)
    storage.make_receipt(Body(RECEIPT, "sale", operation="sale", total=1, content={}), now)
    storage.make_receipt(Body(RECEIPT, "sale", operation=None, total=None, content={"change": 0}), now)
    storage.close_shift({}, now)
    storage.close()
    register = VirtualRegister("kkt-1", path, ZONE, ManualClock(), 0)
    found = list(register.documents(2, 5))
    register.close()
    assert [type(document) for document in found] == [
        StoredDocument,
        UnreadableDocument,
        UnreadableDocument,
        StoredDocument,
    ]
    assert "document 3 lacks" in found[1].reason

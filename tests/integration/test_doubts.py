"""In doubt: power cuts, lost answers and kills in the middle of a document. Afterwards there is exactly one."""

import json
import re
import subprocess
import sys
import time
from zoneinfo import ZoneInfo

import pytest
from support.receipts import encoded, receipt, small_receipt
from support.registers import print_on

from kkt_bridge.clock import SystemClock
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.registers.base import PrintJob
from kkt_bridge.registers.virtual.driver import VirtualRegister

STEPS = ("open", "requisites", "line", "subtotal", "before_close", "after_close", "print")
ALL_S = 60


@pytest.fixture(scope="module")
def shop(calm_shop):
    return calm_shop()


@pytest.fixture(scope="module")
def power_cuts(calm_shop):
    """A receipt on each of seven registers, each with two power cuts at another step."""
    kkts = [f"kkt-{step}" for step in STEPS]
    world = calm_shop(registers=kkts)
    for step, kkt in zip(STEPS, kkts, strict=True):
        world.fault(kkt, {"power_cut": {"at": step, "times": 2}})
    world.ids = dict(zip(STEPS, world.publish_receipts(receipt(kkt=kkt) for kkt in kkts), strict=True))
    return world


@pytest.mark.parametrize("step", STEPS)
def test_power_cuts_at_any_step_end_in_one_document_and_one_reply(power_cuts, step):
    world, receipt_id = power_cuts, power_cuts.ids[step]
    reply = world.wait_reply(receipt_id)
    world.wait_status(receipt_id, "synced")
    (document,) = world.documents_of(receipt_id)
    assert (reply["fiscal"]["kkt"], reply["fiscal"]["fd_number"]) == (f"kkt-{step}", document.fd_number)
    assert [reply["final"] for reply in world.replies(receipt_id)].count(True) == 1
    assert world.at_ofd(receipt_id)["times"] == 1
    assert f"register kkt-{step} stands still" in world.bridge.log.read_text(encoding="utf-8")


def test_a_lost_answer_ends_in_one_document_and_one_reply(shop):
    shop.fault("kkt-1", {"lose_answer_next": 2})
    ids = shop.publish_receipts(receipt() for _ in range(4))
    finals = [shop.wait_reply(receipt_id) for receipt_id in ids]
    assert [reply["status"] for reply in finals] == ["printed"] * 4
    numbers = [reply["fiscal"]["fd_number"] for reply in finals]
    assert numbers == sorted(numbers)
    assert [len(shop.documents_of(receipt_id)) for receipt_id in ids] == [1] * 4


def test_twins_are_not_taken_for_each_other(shop):
    """Two receipts of the same content: only the digest in requisite 1192 tells their documents apart."""
    shop.fault("kkt-1", {"lose_answer_next": 1})
    twins = [small_receipt(), small_receipt()]
    finals = [shop.wait_reply(receipt_id) for receipt_id in shop.publish_receipts(twins)]
    assert finals[0]["fiscal"]["fd_number"] != finals[1]["fiscal"]["fd_number"]
    for reply in finals:
        (document,) = shop.documents_of(reply["receipt_id"])
        assert document.fd_number == reply["fiscal"]["fd_number"]


def test_a_correction_in_doubt_is_found_again(shop):
    shop.fault("kkt-1", {"lose_answer_next": 1})
    correction = {"operation": "refund", "kind": "voluntary", "date": "2026-11-20"}
    request = small_receipt(type="correction", correction=correction)
    reply = shop.sell(request)
    assert reply["fiscal"]["type"] == "correction"
    assert len(shop.documents_of(request["receipt_id"])) == 1


@pytest.mark.parametrize("when_s", [0.02, 0.15, 0.4])
def test_a_kill_of_the_bridge_at_any_moment_of_printing_leaves_one_document(make_world, when_s):
    world = make_world(print_time_s=0.3)
    ids = world.publish_receipts(receipt() for _ in range(2))
    time.sleep(when_s)  # the moment of the kill is what the test varies; whatever has happened by then must end well
    world.bridge.kill()
    world.bridge.start()
    world.wait_statuses(ids, "synced")
    for receipt_id in ids:
        assert world.wait_reply(receipt_id)["status"] == "printed"
        assert len(world.documents_of(receipt_id)) == 1
        assert world.at_ofd(receipt_id)["times"] == 1


def test_a_kill_between_the_document_and_its_record_adopts_the_document(make_world):
    world = make_world(print_time_s=1.5)
    receipt_id = world.publish_receipt()
    world.wait_status(receipt_id, "printing")
    world.wait(lambda _: len(world.documents_of(receipt_id)) == 1, "the document", timeout_s=10)
    world.bridge.kill()
    assert world.replies(receipt_id) == []
    world.bridge.start()
    reply = world.wait_reply(receipt_id)
    (document,) = world.documents_of(receipt_id)
    assert reply["fiscal"]["fd_number"] == document.fd_number
    assert reply["fiscal"]["fiscal_sign"] == document.fiscal_sign
    world.wait_status(receipt_id, "synced")


def test_the_document_of_a_stranger_is_not_taken_for_ours(make_world):
    """While the bridge was dead, somebody printed the same sale on this register with another program."""
    world = make_world()
    world.fault("kkt-1", {"power_cut": {"at": "before_close", "times": 1000}})
    request = receipt()
    receipt_id = world.publish_receipt(request)
    world.wait_status(receipt_id, "printing")
    world.bridge.kill()
    world.heal("kkt-1")
    register = VirtualRegister("kkt-1", world.registers["kkt-1"], ZoneInfo("Europe/Moscow"), SystemClock(), 0)
    theirs = print_on(register, PrintJob(Receipt.model_validate_json(encoded(request)), "A" * 16, "osn"))
    register.close()
    world.bridge.start()
    reply = world.wait_reply(receipt_id)
    assert reply["fiscal"]["fd_number"] > theirs.mark.fd_number
    assert len(world.documents_of(receipt_id)) == 1


def test_many_kills_under_load_lose_nothing_and_print_nothing_twice(make_world):
    world = make_world(print_time_s=0.01)
    ids = []
    for _ in range(3):
        sold = world.publish_receipts(small_receipt() for _ in range(20))
        ids += sold
        world.wait_status(sold[4], "printed")  # somewhere in the middle of them
        world.bridge.kill()
        world.bridge.start()
    world.wait_statuses(ids, "synced", timeout_s=ALL_S)
    assert [len(world.documents_of(receipt_id)) for receipt_id in ids] == [1] * len(ids)
    assert len(world.receipts_on()) == len(ids)
    assert {world.wait_reply(receipt_id)["status"] for receipt_id in ids} == {"printed"}
    assert world.ofd_books()["total"] == len(ids)


def test_a_storage_that_was_swapped_in_the_middle_stops_the_lane_loudly(make_world):
    world = make_world({"telemetry.interval_s": 0.5}, print_time_s=1.5)
    receipt_id = world.publish_receipt()
    world.wait_status(receipt_id, "printing")
    world.bridge.kill()
    fn_number = swap_storage(world)
    file = world.registers["kkt-1"]
    world.bridge.start()
    state = world.wait_state("kkt/kkt-1", lambda state: state["problem"] == "unsettled_doubt")
    assert state["ready"] is False
    world.wait_state("health", lambda state: fn_number in (state["components"]["kkt/kkt-1"]["reason"] or ""))
    assert world.query(receipt_id)["status"] == "buffered"
    world.bridge.kill()
    file.unlink()
    file.with_suffix(".old").rename(file)
    world.bridge.start()
    world.wait_status(receipt_id, "synced")
    assert len(world.documents_of(receipt_id)) == 1


# -- settled by hand ---------------------------------------------------------------------------------------

NEW_FN = "9999000000000001"


def swap_storage(world, kkt="kkt-1"):
    """Somebody puts a new fiscal storage into the register; the number of the old one."""
    file = world.registers[kkt]
    file.rename(file.with_suffix(".old"))
    registration = file.with_suffix(".old").read_bytes().splitlines(keepends=True)[0]
    fn_number = re.search(rb'"fn_number":"(\d+)"', registration)[1]
    file.write_bytes(registration.replace(fn_number, NEW_FN.encode()))
    return fn_number.decode()


@pytest.fixture
def doubtful(make_world):
    """Two registers; the storage of the first was swapped while the bridge was dead in the middle of a receipt."""
    world = make_world(
        {"telemetry.interval_s": 0.5},
        print_time_s=1.0,
        registers=["kkt-1", "kkt-2"],
        pos={"pos-1": "kkt-1", "pos-2": "kkt-2"},
    )
    world.doubtful_id = world.publish_receipt(receipt())
    world.wait_status(world.doubtful_id, "printing")
    world.wait(lambda _: len(world.documents_of(world.doubtful_id)) == 1, "the document", timeout_s=10)
    world.bridge.kill()
    (world.document,) = world.documents_of(world.doubtful_id)
    world.old_fn = swap_storage(world)
    world.waiting_id = world.publish_receipt(receipt())
    world.bridge.start()
    world.wait_event("alert", lambda alert: alert["state"] == "raised")
    return world


def kkt_bridge(world, *words):
    """What `kkt-bridge settle ...` says."""
    command = [sys.executable, "-m", "kkt_bridge", "settle", *words, "--config", str(world.bridge.file)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert b"Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def alerts(world):
    """Each alert once: what a kill left unacknowledged in the outbox is published again, word for word."""
    told = world.events("alert")
    return [alert for number, alert in enumerate(told) if alert not in told[:number]]


def check_the_lane_goes_on(world):
    """By itself, with what had waited behind; and what was raised is cleared."""
    assert world.wait_reply(world.waiting_id)["fiscal"]["fn_number"] == NEW_FN
    world.wait_state("kkt/kkt-1", lambda state: state["ready"] and state["doubts_total"] == 0)
    world.wait_event("alert", lambda alert: (alert["code"], alert["state"]) == ("unsettled_doubt", "cleared"))
    told = [(alert["code"], alert["state"], alert["kkt"]) for alert in alerts(world) if "doubt" in alert["code"]]
    assert told == [("unsettled_doubt", "raised", "kkt-1"), ("unsettled_doubt", "cleared", "kkt-1")]
    world.wait_statuses([world.doubtful_id, world.waiting_id], "synced")


def the_doubt(world):
    """The number of the one doubt on kkt-1."""
    (doubt,) = world.wait_state("kkt/kkt-1", lambda state: state["doubts_total"] == 1)["doubts"]
    return doubt["doubt"]


def test_a_doubt_is_shown_raised_once_and_stops_one_register_alone(doubtful):
    world = doubtful
    state = world.wait_state("kkt/kkt-1", lambda state: state["problem"] == "unsettled_doubt")
    (doubt,) = state["doubts"]
    assert (doubt["receipt_id"], doubt["pos_id"], doubt["total"]) == (world.doubtful_id, "pos-1", "200.50")
    assert (doubt["fn_number"], doubt["fd_number"]) == (world.old_fn, world.document.fd_number - 1)
    (alert,) = alerts(world)
    assert (alert["severity"], alert["subject"]) == ("critical", "kkt-1")
    assert world.sell(receipt(pos_id="pos-2"))["fiscal"]["kkt"] == "kkt-2"
    world.bridge.kill()
    world.bridge.start()
    world.wait_state("kkt/kkt-1", lambda state: state["doubts_total"] == 1)
    world.sell(receipt(pos_id="pos-2"))
    assert len(alerts(world)) == 1, "a start is no news"
    status, listed, _ = kkt_bridge(world, "list")
    first, last = listed.splitlines()
    assert status == 0
    assert first.startswith(f"{world.doubtful_id} of pos-1: 200.50 on kkt-1, doubt ")
    assert last == "receipts in doubt: 1, shown: 1"
    world.done("settle", receipt_id=world.doubtful_id, print_again=True, doubt=the_doubt(world), reason="a test")
    world.wait_reply(world.waiting_id)


def test_a_document_of_the_old_storage_is_adopted_from_its_paper(doubtful):
    world, document = doubtful, doubtful.document
    status, said, complaint = kkt_bridge(
        world,
        "adopt",
        world.doubtful_id,
        f"--fd={document.fd_number}",
        f"--fn={world.old_fn}",
        f"--sign={document.fiscal_sign}",
        f"--at={document.at.isoformat()}",
        f"--shift={document.shift_number}",
        f"--number={document.receipt_number}",
        "--reason=на ленте старого ФН",
    )
    assert (status, complaint) == (0, "")
    assert said == f"{world.doubtful_id} of pos-1 has FD {document.fd_number} of FN {world.old_fn}\n"
    reply = world.wait_reply(world.doubtful_id)
    assert (reply["status"], reply["fiscal"]["fd_number"]) == ("printed", document.fd_number)
    assert (reply["fiscal"]["fn_number"], reply["fiscal"]["fiscal_sign"]) == (world.old_fn, document.fiscal_sign)
    check_the_lane_goes_on(world)
    assert world.steps(world.doubtful_id)[-2]["error"] == "settled by hand: на ленте старого ФН"
    event = world.wait_event("command", lambda event: event["name"] == "settle")
    assert (event["ok"], event["reason"]) == (True, "на ленте старого ФН")
    assert world.at_ofd(world.doubtful_id)["fd_number"] == document.fd_number
    assert world.documents_of(world.doubtful_id) == [], "nothing of it on the new storage"
    assert (
        world.failed("settle", receipt_id=world.doubtful_id, print_again=True, doubt=1, reason="x")["code"]
        == "not_in_doubt"
    )


def test_a_receipt_that_a_person_did_not_find_is_printed_again(doubtful):
    world = doubtful
    status, said, _ = kkt_bridge(
        world, "print-again", world.doubtful_id, f"--doubt={the_doubt(world)}", "--reason=not in its report", "--json"
    )
    assert (status, json.loads(said)["outcome"]) == (0, "queued")
    reply = world.wait_reply(world.doubtful_id)
    assert reply["fiscal"]["fn_number"] == NEW_FN
    check_the_lane_goes_on(world)
    assert len(world.documents_of(world.doubtful_id)) == 1


def unmarked(request):
    """As a cashier sells on the register itself: the document has an empty requisite 1192."""
    return PrintJob(Receipt.model_validate_json(encoded(request)), "", "osn")


def figures(mark):
    """All that the paper says of a document, as options of `settle adopt`."""
    return (
        f"--fd={mark.fd_number}",
        f"--fn={mark.fn_number}",
        f"--sign={mark.fiscal_sign}",
        f"--at={mark.datetime}",
        f"--shift={mark.shift_number}",
        f"--number={mark.receipt_number}",
    )


def test_a_document_that_another_program_made_on_the_new_storage_is_adopted(doubtful):
    """A cashier, tired of waiting, sold the same on the register itself."""
    world = doubtful
    world.bridge.kill()
    register = VirtualRegister("kkt-1", world.registers["kkt-1"], ZoneInfo("Europe/Moscow"), SystemClock(), 0)
    register.open_shift(None)
    request = receipt(receipt_id=world.doubtful_id)
    theirs = print_on(register, unmarked(request)).mark
    small = Receipt.model_validate_json(encoded(small_receipt()))
    other = print_on(register, PrintJob(small, "cash desk 7", "osn")).mark
    register.close()
    world.bridge.start()
    refused = [(f"--fd={theirs.fd_number}",), figures(other), (*figures(theirs)[1:], "--fd=99")]
    for options, code in zip(refused, ("document_mismatch", "document_mismatch", "no_document"), strict=True):
        status, _, complaint = kkt_bridge(world, "adopt", world.doubtful_id, *options, "--reason=x")
        assert (status, complaint.count("\n")) == (1, 1)
        assert complaint.startswith(f"kkt-bridge: {code}: ")
    status, _, complaint = kkt_bridge(world, "adopt", world.doubtful_id, *figures(theirs), "--reason=the roll")
    assert (status, complaint) == (0, "")
    reply = world.wait_reply(world.doubtful_id)
    assert (reply["fiscal"]["fn_number"], reply["fiscal"]["fd_number"]) == (NEW_FN, theirs.fd_number)
    check_the_lane_goes_on(world)


def test_a_register_that_is_away_cannot_be_settled_with(doubtful):
    world = doubtful
    world.fault("kkt-1", {"offline": True})
    world.wait_state("kkt/kkt-1", lambda state: state["problem"] == "offline")
    status, _, complaint = kkt_bridge(
        world, "print-again", world.doubtful_id, f"--doubt={the_doubt(world)}", "--reason=x"
    )
    assert status == 1
    assert complaint.startswith("kkt-bridge: failed: kkt-1: no answer")
    world.heal("kkt-1")
    world.done("settle", receipt_id=world.doubtful_id, print_again=True, doubt=the_doubt(world), reason="a test")
    check_the_lane_goes_on(world)

"""In doubt: power cuts, lost answers and kills in the middle of a document. Afterwards there is exactly one."""

import re
import time
from zoneinfo import ZoneInfo

import pytest
from support.receipts import encoded, receipt, small_receipt

from kkt_bridge.clock import SystemClock
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.registers.base import PrintJob
from kkt_bridge.registers.virtual import VirtualRegister

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
    time.sleep(when_s)  # the moment of the kill, not a hope: what has happened by then is what the test varies
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
    theirs = register.print_receipt(PrintJob(Receipt.model_validate_json(encoded(request)), "A" * 16, "osn"))
    register.close()
    world.bridge.start()
    reply = world.wait_reply(receipt_id)
    assert reply["fiscal"]["fd_number"] > theirs.mark.fd_number
    assert len(world.documents_of(receipt_id)) == 1


def test_many_kills_under_load_lose_nothing_and_print_nothing_twice(make_world):
    world = make_world(print_time_s=0.01)
    ids = []
    for _ in range(3):
        ids += world.publish_receipts(small_receipt() for _ in range(20))
        time.sleep(0.1)  # somewhere in the middle of them
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
    file = world.registers["kkt-1"]
    file.rename(file.with_suffix(".old"))
    registration = file.with_suffix(".old").read_bytes().splitlines(keepends=True)[0]
    fn_number = re.search(rb'"fn_number":"(\d+)"', registration)[1]
    file.write_bytes(registration.replace(fn_number, b"9999000000000001"))
    world.bridge.start()
    state = world.wait_state("kkt/kkt-1", lambda state: state["problem"] == "unsettled_doubt")
    assert state["ready"] is False
    world.wait_state("health", lambda state: fn_number.decode() in (state["components"]["kkt/kkt-1"]["reason"] or ""))
    assert world.query(receipt_id)["status"] == "buffered"
    world.bridge.kill()
    file.unlink()
    file.with_suffix(".old").rename(file)
    world.bridge.start()
    world.wait_status(receipt_id, "synced")
    assert len(world.documents_of(receipt_id)) == 1

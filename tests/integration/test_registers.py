"""Several registers, and what may be wrong with one: it delays its own receipts and nobody else's."""

import time

import pytest
from support.receipts import receipt, small_receipt

SHORTLY = {"reply.buffered_after_s": 0.3, "telemetry.interval_s": 0.5}
THREE = ("kkt-1", "kkt-2", "kkt-3")
COMPLAINTS = {"paper_out": {"paper_out": True}, "busy": {"busy": True}, "fn_exhausted": {"fn_exhausted": True}}
MAPPED = {"pos-1": "kkt-1", "pos-2": "kkt-2", "pos-3": "kkt-3"}


@pytest.fixture(scope="module")
def shop(calm_shop):
    return calm_shop(registers=THREE, pos=MAPPED)


@pytest.fixture(scope="module")
def single(calm_shop):
    return calm_shop(settings=SHORTLY)


def test_each_pos_prints_on_its_own_register(shop):
    for pos, kkt in MAPPED.items():
        request = receipt(pos_id=pos)
        fiscal = shop.sell(request)["fiscal"]
        assert fiscal["kkt"] == kkt
        (document,) = shop.documents_of(request["receipt_id"], pos)
        assert document in shop.dump(kkt)
    serials = {shop.wait_state(f"kkt/{kkt}", lambda state: state["serial"])["serial"] for kkt in THREE}
    assert len(serials) == len(THREE)


def test_a_receipt_may_name_its_register(shop):
    assert shop.sell(receipt(pos_id="pos-1", kkt="kkt-3"))["fiscal"]["kkt"] == "kkt-3"
    assert shop.sell(receipt(pos_id="pos-9", kkt="kkt-2"))["fiscal"]["kkt"] == "kkt-2"


@pytest.mark.parametrize("changes", [{"kkt": "kkt-4"}, {"pos_id": "pos-9"}], ids=["no such register", "no mapping"])
def test_a_receipt_for_no_register_is_refused(shop, changes):
    error = shop.refusal(receipt(**changes))
    assert (error["code"], error["retryable"]) == ("unknown_kkt", False)
    assert "kkt-2" in error["message"]
    assert [field["path"] for field in error["fields"]] == ["kkt"]


def test_with_one_register_no_mapping_is_needed(single):
    assert single.sell(receipt(pos_id="any-pos.of_mine"))["fiscal"]["kkt"] == "kkt-1"


def test_a_register_that_is_away_delays_nobody_else(make_world):
    world = make_world(SHORTLY, registers=THREE, pos=MAPPED)
    world.fault("kkt-2", {"offline": True})
    waiting = [world.publish_receipt(receipt(pos_id="pos-2")) for _ in range(3)]
    for receipt_id in waiting:
        reply = world.wait_reply(receipt_id, final=False)
        assert (reply["status"], reply["final"], reply["fiscal"], reply["error"]) == ("buffered", False, None, None)
    for pos in ("pos-1", "pos-3"):
        world.sell(receipt(pos_id=pos))
    state = world.wait_state("kkt/kkt-2", lambda state: state["problem"] == "offline")
    assert (state["ready"], state["queue"]) == (False, 3)
    health = world.wait_state("health", lambda state: state["components"]["kkt/kkt-2"]["status"] == "unhealthy")
    assert health["status"] == "degraded"
    world.heal("kkt-2")
    finals = [world.wait_reply(receipt_id) for receipt_id in waiting]
    assert [reply["status"] for reply in finals] == ["printed"] * 3
    numbers = [reply["fiscal"]["fd_number"] for reply in finals]
    assert numbers == sorted(numbers)
    assert [len(world.replies(receipt_id)) for receipt_id in waiting] == [2, 2, 2]
    assert world.wait_state("kkt/kkt-2", lambda state: state["ready"])["problem"] is None


def test_a_quick_register_sends_no_word_in_between(single):
    receipt_id = single.sell()["receipt_id"]
    single.wait_status(receipt_id, "synced")
    assert len(single.replies(receipt_id)) == 1


@pytest.fixture(scope="module")
def ailing(calm_shop):
    """A shop of which each register has another complaint, and a receipt that waits for it."""
    world = calm_shop(settings=SHORTLY, registers=list(COMPLAINTS))
    for kkt, faults in COMPLAINTS.items():
        world.fault(kkt, faults)
    world.ids = dict(zip(COMPLAINTS, world.publish_receipts(receipt(kkt=kkt) for kkt in COMPLAINTS), strict=True))
    return world


@pytest.mark.parametrize("kkt", COMPLAINTS)
def test_what_heals_makes_receipts_wait(ailing, kkt):
    receipt_id = ailing.ids[kkt]
    assert ailing.wait_reply(receipt_id, final=False)["status"] == "buffered"
    state = ailing.wait_state(f"kkt/{kkt}", lambda state: state["problem"] == kkt)
    assert (state["ready"], state["queue"]) == (False, 1)
    if kkt == "paper_out":
        ailing.wait_state(f"kkt/{kkt}", lambda state: state["paper"] == "out")
    if kkt == "fn_exhausted":
        assert ailing.refusal(receipt(kkt=kkt))["code"] == "fn_exhausted"
    ailing.heal(kkt)
    assert ailing.wait_reply(receipt_id)["fiscal"]["kkt"] == kkt
    assert len(ailing.documents_of(receipt_id)) == 1
    ailing.wait_state(f"kkt/{kkt}", lambda state: state["ready"] and state["paper"] == "ok")


def test_a_register_that_is_busy_for_a_moment_only_costs_the_moment(single):
    single.fault("kkt-1", {"busy_next": 1})
    receipt_id = single.publish_receipt()
    assert single.wait_reply(receipt_id)["status"] == "printed"
    assert len(single.documents_of(receipt_id)) == 1


def test_paper_that_runs_out_under_a_receipt_leaves_it_fiscal(single):
    single.fault("kkt-1", {"paper_out_after": 1})
    assert single.sell()["warnings"] == []
    torn = single.sell()
    assert (torn["warnings"], torn["final"]) == (["not_on_paper"], True)
    assert torn["fiscal"]["fd_number"] > 0
    waiting = single.publish_receipt()
    assert single.wait_reply(waiting, final=False)["status"] == "buffered"
    single.wait_state("kkt/kkt-1", lambda state: state["paper"] == "out" and state["problem"] == "paper_out")
    single.heal("kkt-1")
    assert single.wait_reply(waiting)["warnings"] == []
    assert single.query(torn["receipt_id"])["warnings"] == ["not_on_paper"]
    single.wait_statuses([torn["receipt_id"], waiting], "synced")
    assert len(single.documents_of(torn["receipt_id"])) == 1


def test_what_the_register_refuses_is_rejected_for_good_and_the_next_goes_on(single):
    single.fault("kkt-1", {"refuse_names": ["Запрещ"]})
    refused = small_receipt({"name": "Запрещённая оправа"})
    ids = single.publish_receipts([small_receipt(), refused, small_receipt()])
    replies = [single.wait_reply(receipt_id) for receipt_id in ids]
    assert [reply["status"] for reply in replies] == ["printed", "rejected", "printed"]
    error = replies[1]["error"]
    assert (error["code"], error["retryable"]) == ("kkt_rejected", False)
    assert single.way(refused["receipt_id"])[-1:] in ([], ["printing"], ["rejected"])
    single.wait_status(refused["receipt_id"], "rejected")
    single.heal("kkt-1")
    again = single.wait_reply(single.publish_receipt(refused), duplicate=True)
    assert (again["status"], again["error"]) == ("rejected", error)
    assert single.documents_of(refused["receipt_id"]) == []
    assert single.done("receipt", receipt_id=refused["receipt_id"])["status"] == "rejected"


def test_a_receipt_that_waited_too_long_is_rejected_unprinted(make_world):
    world = make_world(SHORTLY | {"print.max_age_s": 0.5})
    world.fault("kkt-1", {"offline": True})
    receipt_id = world.publish_receipt()
    published = time.monotonic()
    world.wait_reply(receipt_id, final=False)
    world.wait(lambda _: time.monotonic() - published > 0.6, "the receipt to be too old")
    world.heal("kkt-1")
    assert world.wait_reply(receipt_id)["error"]["code"] == "kkt_rejected"
    assert world.documents_of(receipt_id) == []
    assert world.sell()["status"] == "printed"


def test_a_shift_is_closed_in_time_and_opened_for_the_next_receipt(make_world):
    world = make_world({"shift.close_after_s": 1.5})
    first = world.sell()["fiscal"]
    world.wait_event("shift", lambda event: not event["open"])
    second = world.sell()["fiscal"]
    assert second["shift_number"] > first["shift_number"]
    assert second["receipt_number"] == 1
    events = [(event["open"], event["kkt"]) for event in world.events("shift")]
    assert events[:3] == [(True, "kkt-1"), (False, "kkt-1"), (True, "kkt-1")]
    numbers = [document.fd_number for document in world.dump()]
    assert numbers == list(range(1, len(numbers) + 1))

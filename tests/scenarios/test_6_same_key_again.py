"""Scenario 6: the same key again gets the same fiscal document: one paper, one delivery, however often and whenever."""

import pytest
from support.receipts import changed, receipt

AT_ONCE = 20


@pytest.fixture(scope="module")
def shop(calm_shop):
    return calm_shop()


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"])
def test_a_repeat_gets_the_same_document_and_prints_nothing(request, shop, make_world, broker):
    world = shop if broker == "mosquitto" else make_world(broker=request.getfixturevalue(broker))
    request = receipt()
    first = world.sell(request)
    world.wait_status(request["receipt_id"], "synced")
    for _ in range(3):
        again = world.sell(request)
        assert again["duplicate"]
        assert again["hlc"].pop("server_time") > 0
        assert again == first | {"duplicate": True, "hlc": {key: first["hlc"][key] for key in ("wall_ms", "counter")}}
    assert_once(world, request)


def test_another_spelling_of_the_same_content_is_a_repeat(shop):
    request = receipt()
    shop.sell(request)
    spelt = changed(changed(request, "items.0.price", 150), "items.0.payment_method", "full_payment")
    assert shop.sell(dict(reversed(spelt.items())))["duplicate"]
    assert_once(shop, request)


@pytest.mark.parametrize("print_time_s", [0, 0.3])
def test_twenty_at_once_make_one_document(make_world, print_time_s):
    world = make_world(print_time_s=print_time_s)
    request = receipt()
    receipt_id = request["receipt_id"]
    world.publish_receipts([request] * AT_ONCE)
    final = world.wait_reply(receipt_id)
    world.wait_status(receipt_id, "synced")
    assert world.sell(request)["fiscal"] == final["fiscal"]
    assert_once(world, request)
    assert {reply["fiscal"]["fd_number"] for reply in world.replies(receipt_id) if reply["final"]} == {
        final["fiscal"]["fd_number"]
    }
    assert all(reply["duplicate"] for reply in world.replies(receipt_id) if not reply["final"])


def test_a_repeat_after_the_bridge_came_back_is_still_a_repeat(world):
    request = receipt()
    first = world.sell(request)
    for end in (world.bridge.terminate, world.bridge.kill):
        end()
        world.bridge.start()
        since = len(world.observer.messages)
        world.publish_receipt(request)  # after a kill the first reply may come again, too: nobody had noted it as told
        assert world.wait_reply(request["receipt_id"], since=since, duplicate=True)["fiscal"] == first["fiscal"]
    world.wait_status(request["receipt_id"], "synced")
    assert_once(world, request)


def test_the_same_id_with_other_content_is_a_conflict_and_the_first_stands(shop):
    request = receipt()
    first = shop.sell(request)
    other = changed(request, "items.0.name", "Оправа другая")
    error = shop.refusal(other)
    assert (error["code"], error["retryable"]) == ("idempotency_conflict", False)
    assert shop.sell(request)["fiscal"] == first["fiscal"]
    assert shop.query(request["receipt_id"])["fiscal"] == first["fiscal"]
    shop.wait_status(request["receipt_id"], "synced")
    assert_once(shop, request)


def test_the_same_id_from_another_pos_is_another_receipt(shop):
    request = receipt()
    of_another = request | {"pos_id": "pos-2"}
    first, second = shop.sell(request), shop.sell(of_another)
    assert first["fiscal"]["fd_number"] != second["fiscal"]["fd_number"]
    assert not second["duplicate"]
    assert len(shop.documents_of(request["receipt_id"], "pos-2")) == 1
    shop.wait_ofd(lambda _: shop.at_ofd(request["receipt_id"]) and shop.at_ofd(request["receipt_id"], "pos-2"), "both")
    assert shop.failed("receipt", receipt_id=request["receipt_id"])["code"] == "ambiguous"
    assert shop.done("receipt", receipt_id=request["receipt_id"], pos_id="pos-2")["reply"]["fiscal"] == second["fiscal"]
    assert shop.query(request["receipt_id"], "pos-2")["fiscal"] == second["fiscal"]


def assert_once(world, request):
    (document,) = world.documents_of(request["receipt_id"])
    entry = world.at_ofd(request["receipt_id"])
    assert (entry["times"], entry["fd_number"]) == (1, document.fd_number)

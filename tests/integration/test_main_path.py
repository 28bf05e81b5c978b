"""The main path over both brokers: what a POS, an operator and a dashboard see of a bridge that works."""

import pytest
from support.mqtt_client import MqttClient
from support.processes import wait_until
from support.receipts import receipt

STATES = ("online", "health", "buffer", "breaker", "sync", "kkt/kkt-1")


@pytest.fixture(scope="module", params=["mosquitto", "amqtt"])
def shop(request, calm_shop):
    return calm_shop(request.getfixturevalue(request.param), {"telemetry.interval_s": 1.2})


def test_the_bridge_speaks_the_best_protocol_that_the_broker_has(shop):
    protocol = "MQTT 5" if type(shop.broker).__name__ == "MosquittoProcess" else "MQTT 3.1.1"
    wait_until(lambda: f"with {protocol}" in shop.bridge.log.read_text(encoding="utf-8"), 5, "the line in the log")


def test_every_state_stands_there_for_whoever_comes_later(shop):
    shop.sell()
    with MqttClient(shop.broker.host, shop.broker.port, [f"{shop.branch}/state/#"]) as late:
        for name in STATES:
            found = late.wait(lambda message, name=name: message.topic == f"{shop.branch}/state/{name}", name)
            assert found.retain
            shop.contract.check(found.topic, found.payload)


def test_replies_and_events_are_not_retained(shop):
    shop.wait_status(shop.sell()["receipt_id"], "synced")
    with MqttClient(shop.broker.host, shop.broker.port, [f"{shop.branch}/#"]) as late:
        late.wait(lambda message: message.topic.endswith("/state/kkt/kkt-1"), "the last of the states")
        assert {message.topic.split("/")[3] for message in late.messages} == {"state"}


def test_state_is_published_again_now_and_then(shop):
    since = len(shop.observer.messages)
    for name in ("buffer", "breaker", "health"):
        first = shop.wait_state(name, bool, since=since)
        shop.wait_state(name, lambda state, first=first: state["at"] > first["at"], since=since)


def test_a_topic_of_state_speaks_at_most_once_a_second(shop):
    ids = shop.publish_receipts(receipt() for _ in range(50))
    shop.wait_statuses(ids, "synced")
    shop.wait_state("buffer", lambda state: state["pending"] == 0)
    for name in ("buffer", "sync", "kkt/kkt-1", "health"):
        times = [message.at for message in shop.observer.messages if message.topic == f"{shop.branch}/state/{name}"]
        assert len(times) <= times[-1] - times[0] + 2, (name, times)


def test_a_query_tells_what_became_of_a_receipt_and_prints_nothing(shop):
    sold = shop.sell()
    told = shop.query(sold["receipt_id"])
    assert (told["status"], told["fiscal"], told["final"], told["duplicate"]) == (
        "printed",
        sold["fiscal"],
        True,
        False,
    )
    nobody = shop.query(receipt()["receipt_id"])
    assert (nobody["status"], nobody["final"], nobody["error"]["code"]) == ("unknown", False, "not_found")
    strange = shop.query(sold["receipt_id"], pos="pos-9")
    assert (strange["status"], strange["pos_id"]) == ("unknown", "pos-9")


def test_each_receipt_tells_all_its_steps_in_order(shop):
    ids = shop.publish_receipts(receipt() for _ in range(30))
    shop.wait_statuses(ids, "synced")
    for receipt_id in ids:
        steps = shop.steps(receipt_id)
        assert [step["to"] for step in steps] == ["buffered", "printing", "printed", "synced"]
        assert [step["from"] for step in steps] == [None, "buffered", "printing", "printed"]
        assert {step["pos_id"] for step in steps} == {"pos-1"}
        assert {step["kkt"] for step in steps} == {"kkt-1"}
        assert steps[2]["fd_number"] == shop.documents_of(receipt_id)[0].fd_number
        assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)


def test_the_hybrid_clock_orders_receipts_as_they_were_taken(shop):
    sold = [shop.sell() for _ in range(5)]
    stamps = [(reply["hlc"]["wall_ms"], reply["hlc"]["counter"]) for reply in sold]
    assert stamps == sorted(set(stamps))


def test_a_receipt_at_qos_0_is_taken_all_the_same(shop):
    receipt_id = shop.publish_receipt(qos=0)
    assert shop.wait_reply(receipt_id)["status"] == "printed"


def test_a_receipt_at_qos_2_is_taken_once(shop):
    receipt_id = shop.publish_receipt(qos=2)
    assert shop.wait_reply(receipt_id)["status"] == "printed"
    assert len(shop.documents_of(receipt_id)) == 1


def test_the_largest_request_is_taken(shop):
    request = receipt(
        items=[
            {"name": "Я" * 128, "price": "1.00", "quantity": 1, "total": "1.00", "vat": "22", "marking_code": "~" * 200}
            for _ in range(400)
        ],
        payments=[{"type": "cash", "amount": "400.00"}],
    )
    sold = shop.sell(request)
    assert sold["fiscal"]["total"] == "400.00"
    shop.wait_status(request["receipt_id"], "synced")


def test_what_asks_for_nothing_does_no_harm(shop):
    for topic in ("pos/pos-1/receipts", "pos/receipt", "pos/a/b/receipt", "command", "command/a/b", "pos/pos-1/"):
        shop.publish_strange(topic, b"{}")
    assert shop.sell()["status"] == "printed"

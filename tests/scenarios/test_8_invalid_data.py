"""Scenario 8: whatever is wrong with a request, it is answered with what and where, and nothing is printed."""

import json

import pytest
from support.invalid_receipts import invalid_kinds
from support.receipts import odd_but_valid_kinds, receipt

ALL_S = 60


@pytest.fixture(scope="module")
def shop(calm_shop):
    return calm_shop()


def test_every_kind_of_bad_request_gets_its_code_and_path_and_prints_nothing(shop):
    kinds = invalid_kinds()
    topic = f"{shop.branch}/pos/pos-1/receipt"
    for number, kind in enumerate(kinds):
        shop.pos.publish(topic, kind.payload, correlation=b"%d" % number)
    wrong, answered = [], answers(shop, len(kinds))
    for number, kind in enumerate(kinds):
        (reply,) = answered[b"%d" % number]
        paths = [field["path"] for field in reply["error"]["fields"]]
        right = (reply["status"], reply["final"], reply["error"]["code"]) == ("rejected", True, kind.code)
        if not right or (kind.path is not None and kind.path not in paths):
            wrong.append((kind.name, kind.code, kind.path, reply["error"]))
        assert reply["error"]["retryable"] is False
        assert reply["pos_id"] == "pos-1"
    assert wrong == []

    assert shop.receipts_on() == []
    assert shop.sell(receipt())["status"] == "printed"
    refused = [step for event in shop.events("receipt") for step in event["steps"] if step["to"] == "rejected"]
    assert len(refused) == len(kinds)
    assert shop.wait_state("buffer", lambda state: state["by_status"]["printed"] + state["by_status"]["synced"] == 1)


def test_the_id_is_given_back_wherever_it_can_be_read(shop):
    request = receipt(type="sell")
    assert shop.wait_reply(shop.publish_receipt(request))["error"]["code"] == "invalid_receipt"
    shop.pos.publish(f"{shop.branch}/pos/pos-1/receipt", b'{"receipt_id": "')
    assert shop.wait_reply(None, pos="pos-1")["error"]["code"] == "invalid_json"
    mended = request | {"type": "sale"}
    assert shop.sell(mended)["duplicate"] is False


def test_bad_queries_and_commands_are_answered_too(shop):
    for payload in (b"", b"{}", b'{"receipt_id": 1}', b'{"receipt_id": "x", "more": 1}', b"\xff", b"[]"):
        since = len(shop.observer.messages)
        shop.pos.publish(f"{shop.branch}/pos/pos-1/query", payload)
        found = shop.wait(lambda message: message.topic == f"{shop.branch}/pos/pos-1/reply", "a reply", since=since)
        assert found.content["error"]["code"] in {"invalid_json", "invalid_receipt"}, payload
    named = b'{"command_id": "x", "issued_by": "a", "args": {}}'
    for payload, id_given_back in ((b"", None), (b"{}", None), (b"[]", None), (named, "x"), (b"\xff", None)):
        since = len(shop.observer.messages)
        shop.pos.publish(f"{shop.branch}/command/status", payload)
        assert not shop.wait_result("status", id_given_back, since=since)["ok"], payload
    assert shop.done("status")


def test_what_looks_odd_and_is_right_is_printed(shop):
    kinds = odd_but_valid_kinds()
    topic = f"{shop.branch}/pos/pos-1/receipt"
    shop.pos.publish_all((topic, kind.payload) for kind in kinds)
    ids = [json.loads(kind.payload)["receipt_id"] for kind in kinds]
    replies = [shop.wait_reply(id_, timeout_s=ALL_S) for id_ in ids]
    refused = [
        (kind.name, reply["error"]) for kind, reply in zip(kinds, replies, strict=True) if reply["status"] != "printed"
    ]
    assert refused == []
    assert [len(shop.documents_of(id_)) for id_ in ids[::20]] == [1] * len(ids[::20])
    shop.wait_statuses(ids, "synced")


def answers(shop, count):
    """Replies by correlation data, once there are as many as requests."""
    topic = f"{shop.branch}/pos/pos-1/reply"

    def replies():
        return [message for message in shop.observer.messages if message.topic == topic]

    shop.wait(lambda _: len(replies()) >= count, f"{count} replies", timeout_s=ALL_S)
    by_request = {}
    for message in replies():
        by_request.setdefault(message.correlation, []).append(message.content)
    return by_request

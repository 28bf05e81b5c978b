"""Delivery to the OFD: lost answers, refusals, wishes to wait, and one bad document among good ones."""

import time
import uuid
from datetime import datetime

import pytest
from support.receipts import encoded, receipt

NEVER_S = 3600


@pytest.fixture(scope="module")
def delivery(calm_shop):
    return calm_shop(settings={"breaker.fail_max": 1000})


@pytest.fixture
def shop(delivery):
    yield delivery
    delivery.ofd_faults()


def test_a_lost_answer_leads_to_a_repeat_with_the_same_key(shop):
    shop.ofd_faults(drop_answers_next=2)
    receipt_id = shop.sell()["receipt_id"]
    shop.wait_status(receipt_id, "synced")
    assert shop.at_ofd(receipt_id)["times"] == 3
    assert shop.ofd_books()["conflicts"] == []


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(shop, status):
    shop.ofd_faults(fail_next=1, status=status)
    receipt_id = shop.sell()["receipt_id"]
    shop.wait_status(receipt_id, "synced")
    (entry,) = [entry for entry in shop.ofd_books()["documents"] if entry["key"].endswith(receipt_id)]
    assert entry["times"] == 1


@pytest.mark.parametrize("status", [400, 402, 409, 410, 413, 422])
def test_a_refused_document_is_dead_at_once_and_the_next_goes_on(shop, status):
    shop.ofd_faults(fail_next=1, status=status)
    receipt_id = shop.sell()["receipt_id"]
    shop.wait_status(receipt_id, "dead")
    (letter,) = [letter for letter in shop.done("dlq-list")["letters"] if letter["receipt_id"] == receipt_id]
    assert (letter["reason"], letter["attempts"]) == ("refused", 1)
    assert str(status) in letter["last_error"]
    shop.wait_status(shop.sell()["receipt_id"], "synced")
    assert shop.query(receipt_id)["status"] == "printed"
    shop.done("dlq-discard", receipt_id=receipt_id, reason="a test")


@pytest.mark.parametrize("status", [401, 403, 404, 405, 407])
def test_a_bridge_that_is_refused_once_keeps_its_document(shop, status):
    shop.ofd_faults(fail_next=1, status=status)
    receipt_id = shop.sell()["receipt_id"]
    shop.wait_status(receipt_id, "synced")
    assert shop.done("dlq-list")["total"] == 0


def test_retry_after_is_honoured_and_nothing_overtakes(shop):
    shop.ofd_faults(fail_next=1, status=429, retry_after_s=2)
    printed_at = time.time()
    first = shop.sell()["receipt_id"]
    shop.wait_state("sync", lambda state: state["paused_until"] is not None)
    second = shop.sell()["receipt_id"]
    shop.wait_statuses([first, second], "synced")
    arrived = {id_: datetime.fromisoformat(shop.at_ofd(id_)["first_at"]).timestamp() for id_ in (first, second)}
    assert printed_at + 1.9 <= arrived[first] <= arrived[second]


def test_a_failing_service_that_asks_for_a_long_wait_is_tried_again_all_the_same(shop):
    shop.ofd_faults(fail_next=1, status=503, retry_after_s=NEVER_S)
    receipt_id = shop.sell()["receipt_id"]
    shop.wait_status(receipt_id, "synced")


def test_a_slow_ofd_delays_no_receipt(shop):
    shop.ofd_faults(latency_s=1.2)
    shop.sell()
    started = time.monotonic()
    for _ in range(5):
        shop.sell()
    assert time.monotonic() - started < 3.0  # the OFD would have taken six


def test_a_stop_in_the_middle_of_a_backlog_sends_nothing_twice(make_world):
    world = make_world()
    world.ofd_faults(outage=True)
    ids = world.publish_receipts(receipt() for _ in range(100))
    world.wait_statuses(ids, "printed")
    world.ofd_faults(latency_s=0.02)
    world.bridge.terminate()
    world.bridge.start()
    world.wait_ofd(lambda books: books["total"] >= 30, "some of them to arrive")
    world.bridge.terminate()
    assert 0 < world.ofd_books()["total"] < 100
    world.bridge.start()
    world.wait_statuses(ids, "synced")
    assert {entry["times"] for entry in world.ofd_books()["documents"]} == {1}


def test_a_second_sync_while_the_first_runs_is_refused(shop):
    shop.ofd_faults(latency_s=0.3)
    ids = [shop.sell()["receipt_id"] for _ in range(2)]
    since, commands = len(shop.observer.messages), [str(uuid.uuid4()) for _ in range(2)]
    shop.pos.publish_all(
        (
            f"{shop.branch}/command/sync",
            encoded({"command_id": command_id, "issued_by": "tests", "args": {"force": True}}),
        )
        for command_id in commands
    )
    first, second = (shop.wait_result("sync", command_id, since=since) for command_id in commands)
    assert (second["ok"], second["error"]["code"]) == (False, "sync_in_progress")
    assert set(first["result"]) == {"sent", "failed", "skipped", "duration_s"}
    shop.wait_statuses(ids, "synced")
    assert shop.done("sync") == {"sent": 0, "failed": 0, "skipped": 0, "duration_s": pytest.approx(0, abs=0.5)}


@pytest.mark.parametrize("health_path", ["/ofd/v1/health", ""], ids=["health check", "none"])
def test_one_bad_document_does_not_stop_the_good_ones_behind_it(make_world, health_path):
    settings = {"ofd.health_path": health_path, "sync.max_attempts": 20, "sync.backoff_max_s": 0.1}
    world = make_world(settings)
    bad = world.publish_receipt_after(lambda key: world.ofd_faults(error_keys=[key]))
    world.wait(lambda _: world.ofd_books()["requests"] >= 6, "the bad one to be tried alone for a while")
    good = world.publish_receipts(receipt() for _ in range(10))
    world.wait_statuses(good, "synced")
    assert [world.at_ofd(receipt_id)["times"] for receipt_id in good] == [1] * 10
    if health_path:
        world.wait_status(bad, "dead")
        (letter,) = world.done("dlq-list")["letters"]
        assert (letter["receipt_id"], letter["attempts"], letter["reason"]) == (bad, 20, "max_attempts")
    assert world.ofd_books()["total"] == 10


def test_a_bridge_killed_while_answers_get_lost_delivers_one_document(make_world):
    world = make_world({"breaker.fail_max": 1000})
    world.ofd_faults(drop_answers_next=1000)
    receipt_id = world.sell()["receipt_id"]
    world.wait(lambda _: (world.at_ofd(receipt_id) or {"times": 0})["times"] >= 2, "two deliveries")
    world.bridge.kill()
    world.ofd_faults()
    world.bridge.start()
    world.wait_status(receipt_id, "synced")
    books = world.ofd_books()
    assert (books["total"], books["conflicts"]) == (1, [])
    assert len(world.documents_of(receipt_id)) == 1


def test_an_outage_longer_than_all_attempts_kills_no_document(make_world):
    # Two, not one: a document that fails just before the OFD is back, and alive, has a strike.
    world = make_world({"sync.max_attempts": 2, "breaker.fail_max": 1000, "sync.interval_s": 0.05})
    world.ofd_faults(outage=True)
    ids = [world.sell()["receipt_id"] for _ in range(3)]
    world.wait(lambda _: world.ofd_books()["requests"] > 30, "ten rounds")
    assert world.done("dlq-list")["total"] == 0
    world.ofd_faults()
    world.wait_statuses(ids, "synced")

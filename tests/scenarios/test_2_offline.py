"""Scenario 2: the OFD is away. Selling goes on, documents wait, nothing is given up, and all arrive afterwards."""

import pytest
from support.processes import wait_until
from support.receipts import receipt

SALES = 5
ENOUGH = 5


@pytest.mark.parametrize("fail_max", [1000, ENOUGH], ids=["tried all along", "breaker open"])
def test_what_is_sold_while_the_ofd_is_away_waits_and_arrives_when_it_is_back(make_world, fail_max):
    world = make_world({"sync.max_attempts": 3, "breaker.fail_max": fail_max})
    world.ofd.stop()
    sold = [world.sell(receipt()) for _ in range(SALES)]
    ids = [reply["receipt_id"] for reply in sold]

    wait_until(lambda: sum(entry["attempts"] for entry in pending(world)) >= ENOUGH, 20, f"{ENOUGH} attempts")
    waiting = pending(world)
    assert [(entry["receipt_id"], entry["status"]) for entry in waiting] == [(id_, "printed") for id_ in ids]
    assert "refused" in waiting[0]["last_error"].lower()
    buffer = world.wait_state("buffer", lambda state: state["by_status"]["printed"] == SALES)
    assert (buffer["pending"], buffer["dlq_size"], buffer["by_status"]["dead"]) == (SALES, 0, 0)
    register = world.wait_state("kkt/kkt-1", lambda state: state["ofd_unsent"] == SALES)
    assert register["ofd_first_unsent_at"] <= register["at"]
    assert world.wait_state("sync", lambda state: state["network"] == "offline")["last_success_at"] is None
    health = world.wait_state("health", lambda state: state["components"]["ofd"]["status"] == "degraded")
    assert (health["status"], bool(health["components"]["ofd"]["reason"])) == ("degraded", True)

    world.ofd.start()
    world.wait_statuses(ids, "synced")
    arrived = world.ofd_books()["documents"]
    assert [entry["fd_number"] for entry in arrived] == [reply["fiscal"]["fd_number"] for reply in sold]
    assert world.done("dlq-list") == {"letters": [], "total": 0, "next": None}
    assert world.wait_state("buffer", lambda state: state["pending"] == 0)["by_status"]["synced"] == SALES
    world.wait_state("sync", lambda state: state["network"] == "online" and state["sent_total"] == SALES)
    assert [(event["from"], event["to"]) for event in world.events("network")] == [
        ("online", "offline"),
        ("offline", "online"),
    ]


def test_what_waits_is_sent_by_a_bridge_that_was_killed_meanwhile(make_world):
    world = make_world()
    world.ofd.stop()
    ids = [world.sell()["receipt_id"] for _ in range(SALES)]
    world.bridge.kill()
    world.ofd.start()
    world.bridge.start()
    world.wait_statuses(ids, "synced")
    assert [entry["times"] for entry in world.ofd_books()["documents"]] == [1] * SALES


def pending(world):
    return world.done("buffer-list")["receipts"]

"""Whatever an OFD answers that is no document's fault: none is given up for it, and all go out by themselves later."""

from typing import Any

import pytest
from support.receipts import receipt
from support.world import World

PATIENT: dict[str, Any] = {"sync.interval_s": 0.1, "breaker.fail_max": 3, "breaker.reset_timeout_s": 0.1}
HASTY: dict[str, Any] = PATIENT | {"ofd.timeout_s": 0.3}
"""For answers that never end: each costs three times that."""

FAULTS = [
    pytest.param({"post_status": 401}, "refuses this bridge: 401", PATIENT, id="401"),
    pytest.param({"post_status": 404}, "refuses this bridge: 404", PATIENT, id="404"),
    pytest.param({"post_status": 302}, "refuses this bridge: 302 to http://portal.example", PATIENT, id="redirected"),
    pytest.param({"login_page": True}, "but not what an OFD says: text/html", PATIENT, id="login page"),
    pytest.param({"post_status": 500}, "500", PATIENT, id="500, health check well"),
    pytest.param({"drip": "head"}, "no answer in time", HASTY, id="dripping head"),
    pytest.param({"drip": "continue"}, "no answer in time", HASTY | {"ofd.health_path": ""}, id="100 for ever"),
]


@pytest.mark.parametrize(("faults", "reason", "settings"), FAULTS)
def test_what_is_no_documents_fault_costs_none_and_all_go_out_in_order_by_themselves(
    make_world, faults, reason, settings
):
    world = make_world(settings)
    first = world.sell()["receipt_id"]
    world.wait_status(first, "synced")
    world.ofd_faults(outage=True)  # else the first alone would be tried, and be at fault, before there are others
    ids = world.publish_receipts(receipt() for _ in range(6))
    world.wait_statuses(ids, "printed")
    world.ofd_faults(**faults)
    health = world.wait_state("health", lambda state: reason in (state["components"]["ofd"].get("reason") or ""))
    assert health["status"] == "degraded", "the shop sells"
    requests = world.ofd_books()["requests"]
    tries = 2 if settings is not PATIENT else 8
    world.wait_ofd(lambda books: books["requests"] >= requests + tries, f"{tries} more attempts")
    ids.append(world.sell()["receipt_id"])
    world.wait_status(ids[-1], "printed")
    assert world.done("dlq-list")["total"] == 0
    assert {world.way(receipt_id)[-1] for receipt_id in ids} == {"printed"}, "what nobody confirmed is not delivered"

    world.ofd_faults()
    world.wait_statuses(ids, "synced")
    numbers = arrived(world)
    assert sorted(numbers) == [document.fd_number for document in world.receipts_on()]
    assert are_in_order_but_for_one(numbers), numbers
    assert world.done("dlq-list")["total"] == 0
    world.wait_state("health", lambda state: state["status"] == "healthy")


def test_a_limit_of_the_ofds_is_kept_to_in_order_and_is_no_outage(make_world):
    """At 20 documents a second, three seconds' worth of them."""
    world = make_world({"buffer.capacity": 1000})
    world.ofd_faults(rate_limit_per_s=20)
    ids = world.publish_receipts(receipt() for _ in range(60))
    world.wait_state("sync", lambda state: state["paused_until"] is not None)
    world.wait_statuses(ids, "synced")
    books = world.ofd_books()
    assert books["requests"] > 60, "some were told to come later"
    numbers = arrived(world)
    assert numbers == sorted(numbers)
    assert len(numbers) == 60
    assert world.events("breaker") == [], "an OFD that asks for patience is there"
    assert world.done("dlq-list")["total"] == 0


def arrived(world: World) -> list[int]:
    """The FD numbers at the OFD, in the order in which they came."""
    entries = sorted(world.ofd_books()["documents"], key=lambda entry: entry["order"])
    return [entry["fd_number"] for entry in entries]


def are_in_order_but_for_one(numbers: list[int]) -> bool:
    """One may have been tried out of turn, to see whether it is the oldest that is bad, just as the OFD was well."""
    return any(rest == sorted(rest) for rest in (numbers[:at] + numbers[at + 1 :] for at in range(len(numbers))))

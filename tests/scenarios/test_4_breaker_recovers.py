"""Scenario 4: the breaker recovers by itself: open, half open, closed; in events and in the state."""

from itertools import pairwise

import pytest

SALES = 4


@pytest.mark.parametrize("health_path", ["/ofd/v1/health", "/ofd/v1/nothing-here"], ids=["health check", "none"])
def test_the_breaker_closes_when_the_ofd_is_back_and_everything_goes_out(make_world, health_path):
    world = make_world({"breaker.reset_timeout_s": 0.4, "ofd.health_path": health_path})
    world.ofd_faults(outage=True)
    sold = [world.sell() for _ in range(SALES)]
    world.wait_event("breaker", lambda event: event["to"] == "open")
    world.ofd_faults()
    world.wait_statuses([reply["receipt_id"] for reply in sold], "synced")
    closed = world.wait_state("breaker", lambda state: state["state"] == "closed")
    assert (closed["failures"], closed["opened_at"], closed["next_probe_at"]) == (0, None, None)

    changes = [(event["from"], event["to"]) for event in world.events("breaker")]
    assert changes[0] == ("closed", "open")
    assert changes[-2:] == [("open", "half_open"), ("half_open", "closed")]
    for (_, came), (went, _) in pairwise(changes):
        assert came == went
    books = world.ofd_books()
    assert [entry["fd_number"] for entry in books["documents"]] == [reply["fiscal"]["fd_number"] for reply in sold]
    assert books["duplicates"] == 0


def test_a_failed_probe_opens_it_again(make_world):
    world = make_world({"breaker.reset_timeout_s": 0.5})
    world.ofd_faults(outage=True)
    reply = world.sell()
    reopened = [("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("open", "half_open")]
    world.wait_event("breaker", lambda _: len(world.events("breaker")) >= len(reopened))
    assert [(event["from"], event["to"]) for event in world.events("breaker")][: len(reopened)] == reopened
    world.ofd_faults()
    world.wait_status(reply["receipt_id"], "synced")
    world.wait_event("breaker", lambda event: event["to"] == "closed")


def test_half_open_is_seen_in_the_state(make_world):
    world = make_world({"breaker.reset_timeout_s": 1.0, "ofd.timeout_s": 10})
    world.ofd_faults(outage=True)
    since = len(world.observer.messages)
    world.sell()
    opened = world.wait_state("breaker", lambda state: state["state"] == "open", since=since)
    assert opened["next_probe_at"] > opened["opened_at"]
    world.ofd_faults(latency_s=0.8)  # two probes of it: a state is told once a second at most
    world.wait_state("breaker", lambda state: state["state"] == "half_open", since=since)
    world.wait_state("breaker", lambda state: state["state"] == "closed" and state["failures"] == 0, since=since)

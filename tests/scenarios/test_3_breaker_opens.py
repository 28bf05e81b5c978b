"""Scenario 3: five failures open the breaker, and the next document is not even tried."""


def test_five_failures_open_the_breaker_and_the_next_document_is_not_tried(make_world):
    world = make_world({"breaker.reset_timeout_s": 3600})
    world.ofd_faults(outage=True)
    world.sell()
    breaker = world.wait_state("breaker", lambda state: state["state"] == "open")
    assert (breaker["failures"], breaker["fail_max"]) == (5, 5)
    assert "503" in breaker["last_error"]
    assert breaker["opened_at"] < breaker["next_probe_at"]
    assert world.ofd_books()["requests"] == 5

    ids = [world.sell()["receipt_id"] for _ in range(3)]
    result = world.done("sync")
    assert (result["sent"], result["failed"], result["skipped"]) == (0, 0, 4)
    assert world.ofd_books()["requests"] == 5
    untried = [entry for entry in world.done("buffer-list")["receipts"] if entry["receipt_id"] in ids]
    assert [entry["attempts"] for entry in untried] == [0, 0, 0]
    status = world.done("status")
    assert status["breaker"]["state"] == "open"
    assert status["buffer"]["pending"] == status["kkt"]["kkt-1"]["ofd_unsent"] == 4
    (event,) = world.events("breaker")
    assert (event["from"], event["to"], event["failures"]) == ("closed", "open", 5)
    health = world.wait_state("health", lambda state: state["components"]["ofd"]["status"] == "degraded")
    assert "open" in health["components"]["ofd"]["reason"]


def test_four_failures_do_not_open_it(make_world):
    world = make_world({"breaker.reset_timeout_s": 3600})
    world.ofd_faults(fail_next=4, status=503)
    world.wait_status(world.sell()["receipt_id"], "synced")
    assert world.ofd_books()["requests"] == 5
    assert world.events("breaker") == []
    assert world.wait_state("breaker", lambda state: state["failures"] == 0)["state"] == "closed"

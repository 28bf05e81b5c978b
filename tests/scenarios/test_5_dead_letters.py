"""Scenario 5: twenty attempts that fail make a dead letter; its count is kept, and a requeue brings it home."""

ATTEMPTS = 20


def test_twenty_forced_syncs_make_a_dead_letter_that_a_requeue_brings_home(make_world):
    world = make_world({"breaker.reset_timeout_s": 3600, "breaker.fail_max": 1, "sync.interval_s": 3600})
    world.ofd_faults(outage=True)
    receipt_id = world.sell()["receipt_id"]
    world.wait_event("breaker", lambda event: event["to"] == "open")
    for attempt in range(ATTEMPTS):
        if attempt == ATTEMPTS // 2:
            world.bridge.kill()  # the count is in the journal
            world.bridge.start()
        assert world.done("dlq-list")["total"] == 0
        result = world.done("sync", force=True)
        assert (result["sent"], result["failed"]) == (0, 1), (attempt, result)
    world.wait_status(receipt_id, "dead")

    (letter,) = world.done("dlq-list")["letters"]
    assert (letter["receipt_id"], letter["pos_id"], letter["stage"]) == (receipt_id, "pos-1", "ofd")
    assert (letter["attempts"], letter["reason"]) == (ATTEMPTS, "max_attempts")
    assert "503" in letter["last_error"]
    buffer = world.wait_state("buffer", lambda state: state["dlq_size"] == 1)
    assert (buffer["pending"], buffer["by_status"]["dead"]) == (0, 1)

    assert world.query(receipt_id)["status"] == "printed"

    world.ofd_faults()
    assert world.done("dlq-requeue", receipt_id=receipt_id) == {"requeued": 1}
    assert world.done("sync", force=True)["sent"] == 1  # the breaker is still open
    world.wait_status(receipt_id, "synced")
    assert world.done("dlq-list")["total"] == 0
    assert world.at_ofd(receipt_id)["times"] == 1
    assert world.way(receipt_id) == ["buffered", "printing", "printed", "dead", "printed", "synced"]
    audited = [event for event in world.events("command") if event["name"] == "dlq-requeue"]
    assert [(event["issued_by"], event["ok"]) for event in audited] == [("tests", True)]


def test_a_requeue_into_an_ofd_that_still_fails_dies_again_after_as_many_strikes(make_world):
    world = make_world({"sync.max_attempts": 3})
    ids = [world.sell()["receipt_id"]]
    world.wait_status(ids[0], "synced")
    doomed = world.publish_receipt_after(lambda key: world.ofd_faults(error_keys=[key]))
    world.wait_status(doomed, "dead")
    (letter,) = world.done("dlq-list")["letters"]
    assert (letter["attempts"], letter["reason"]) == (3, "max_attempts")
    world.done("dlq-requeue", all=True)
    world.wait(lambda _: world.way(doomed).count("dead") == 2, "the second death")
    (letter,) = world.done("dlq-list")["letters"]
    assert (letter["attempts"], letter["reason"]) == (3, "max_attempts"), "its strikes began anew"
    world.ofd_faults()
    world.done("dlq-requeue", all=True)
    world.wait_status(doomed, "synced")


def test_a_discarded_letter_is_gone_with_its_reason_on_record(make_world):
    world = make_world()
    doomed = world.publish_receipt_after(lambda key: world.ofd_faults(refuse_keys=[key]))
    world.wait_status(doomed, "dead")
    assert world.failed("dlq-discard", receipt_id=doomed)["code"] == "invalid_command"
    assert world.done("dlq-discard", receipt_id=doomed, reason="sent by hand")
    assert world.done("dlq-list")["total"] == 0
    assert world.failed("dlq-discard", receipt_id=doomed, reason="again")["code"] == "not_found"
    history = world.done("receipt", receipt_id=doomed)["history"]
    assert "sent by hand" in history[-1]["error"]
    world.wait(lambda _: "sent by hand" in (world.steps(doomed)[-1]["error"] or ""), "the event of the discard")

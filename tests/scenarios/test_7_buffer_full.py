"""Scenario 7: 200 receipts wait for the OFD, the next one is refused, and taken again as soon as one is synced."""

from support.receipts import receipt, small_receipt

CAPACITY = 200


def test_the_buffer_takes_its_capacity_refuses_the_next_and_takes_again_after_one_sync(make_world):
    world = make_world({"buffer.capacity": CAPACITY, "breaker.reset_timeout_s": 3600, "sync.interval_s": 3600})
    world.ofd_faults(outage=True)
    ids = world.publish_receipts(small_receipt() for _ in range(CAPACITY))
    world.wait_statuses(ids, "printed")

    refused = receipt()
    error = world.refusal(refused)
    assert (error["code"], error["retryable"]) == ("buffer_full", True)
    assert world.query(refused["receipt_id"])["status"] == "unknown"
    assert world.refusal(receipt())["code"] == "buffer_full"
    buffer = world.wait_state("buffer", lambda state: state["pending"] == CAPACITY)
    assert (buffer["percent_full"], buffer["accepting"], buffer["capacity"]) == (100, False, CAPACITY)
    assert world.wait_state("health", lambda state: "full" in str(state["components"]["buffer"]["reason"]))
    assert {document.body.requisite_1192 for document in world.receipts_on()} == requisites(world, ids)

    assert pending_ids(world) == ids
    assert world.sell(refused | {"receipt_id": ids[0]} | first_request(world, ids[0]))["duplicate"]

    world.ofd_faults(error_keys=[f"pos-1:{id_}" for id_ in ids[1:]])
    assert world.done("sync", force=True)["sent"] == 1
    world.wait_status(ids[0], "synced")
    accepted = world.sell(refused)
    assert not accepted["duplicate"]
    assert world.refusal(receipt())["code"] == "buffer_full"

    world.ofd_faults()
    assert world.done("sync", force=True, timeout_s=60)["sent"] == CAPACITY
    world.wait_statuses([*ids, refused["receipt_id"]], "synced")
    assert world.ofd_books()["total"] == CAPACITY + 1
    assert world.wait_state("buffer", lambda state: state["pending"] == 0)["accepting"]


def test_a_burst_into_a_small_buffer_takes_exactly_what_fits(make_world):
    world = make_world({"buffer.capacity": 10, "breaker.reset_timeout_s": 3600})
    world.ofd_faults(outage=True)
    ids = world.publish_receipts(small_receipt() for _ in range(30))
    replies = [world.wait_reply(id_) for id_ in ids]
    assert [reply["status"] for reply in replies] == ["printed"] * 10 + ["rejected"] * 20
    assert {reply["error"]["code"] for reply in replies[10:]} == {"buffer_full"}
    assert len(world.receipts_on()) == 10
    world.wait_state("buffer", lambda state: state["pending"] == 10 and not state["accepting"])


def pending_ids(world):
    after, ids = 0, []
    while after is not None:
        page = world.done("buffer-list", limit=70, after=after)
        ids += [entry["receipt_id"] for entry in page["receipts"]]
        after = page["next"]
    assert page["total"] == len(ids)
    return ids


def first_request(world, receipt_id):
    return world.done("receipt", receipt_id=receipt_id)["receipt"]


def requisites(world, ids):
    found = [world.documents_of(id_) for id_ in ids[:: len(ids) // 10]]
    assert all(len(documents) == 1 for documents in found)
    return {document.body.requisite_1192 for document in world.receipts_on()}

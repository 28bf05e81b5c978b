"""Five hundred receipts of ten POS on three registers, all at once."""

from collections import Counter, defaultdict

from support.receipts import small_receipt

RECEIPTS, POS, REGISTERS = 500, 10, ("kkt-1", "kkt-2", "kkt-3")
ALL_S = 60


def test_a_burst_is_printed_once_and_delivered_in_order(make_world):
    mapped = {f"pos-{number}": REGISTERS[number % len(REGISTERS)] for number in range(POS)}
    world = make_world({"buffer.capacity": RECEIPTS}, registers=REGISTERS, pos=mapped)
    requests = [small_receipt(pos_id=f"pos-{number % POS}") for number in range(RECEIPTS)]
    ids = world.publish_receipts(requests)
    world.wait_statuses(ids, "synced", timeout_s=ALL_S)

    finals = [message.content for message in world.observer.messages if message.topic.endswith("/reply")]
    assert Counter(reply["receipt_id"] for reply in finals if reply["final"]) == dict.fromkeys(ids, 1)
    assert {reply["status"] for reply in finals if reply["final"]} == {"printed"}
    documents = [document for kkt in REGISTERS for document in world.receipts_on(kkt)]
    assert len(documents) == len({document.body.requisite_1192 for document in documents}) == RECEIPTS
    for kkt in REGISTERS:
        assert [document.fd_number for document in world.dump(kkt)] == list(range(1, len(world.dump(kkt)) + 1))

    arrived = defaultdict(list)
    for entry in world.ofd_books()["documents"]:
        assert entry["times"] == 1
        arrived[entry["kkt"]].append(entry["fd_number"])
    assert sum(map(len, arrived.values())) == RECEIPTS
    for kkt, numbers in arrived.items():
        assert numbers == sorted(numbers), kkt
    for reply in finals:
        assert reply["fiscal"]["kkt"] == mapped[reply["pos_id"]]
    state = world.wait_state("buffer", lambda state: state["by_status"]["synced"] == RECEIPTS)
    assert (state["pending"], state["dlq_size"]) == (0, 0)
    world.wait_state("sync", lambda state: state["sent_total"] == RECEIPTS and state["failed_total"] == 0)


def test_each_pos_has_its_receipts_printed_in_the_order_it_sent_them(make_world):
    world = make_world({"buffer.capacity": 1000})
    ids = world.publish_receipts(small_receipt() for _ in range(200))
    world.wait_statuses(ids, "printed", timeout_s=ALL_S)
    numbers = [world.wait_reply(receipt_id)["fiscal"]["fd_number"] for receipt_id in ids]
    assert numbers == sorted(numbers)

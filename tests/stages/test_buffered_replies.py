"""Stage 2b: a POS whose receipt is safe but not on paper hears `buffered`, once, and not too soon."""

import pytest
from support.receipts import receipt
from support.stages import TOPICS, InProcessBridge, break_disk, mend_disk, run

from kkt_bridge.journal.print_queue import lease, release
from kkt_bridge.stages.buffered_replies import BATCH_MAX, IDLE_S


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path, registers=("kkt-1", "kkt-2"), pos={"pos-1": "kkt-1", "pos-2": "kkt-2"})
    yield opened
    opened.kill()


def notices(shop, pos="pos-1"):
    return [reply["receipt_id"] for reply in shop.replies(pos) if reply["status"] == "buffered"]


def look(shop):
    return run(shop.notices.step)


def lease_one(shop, kkt="kkt-1"):
    (task,) = shop.journal.write(lambda tx: lease(tx, kkt, "9999078900000001", 1, 1))
    return task


def test_a_notice_comes_after_its_time_and_once(shop):
    request = receipt()
    shop.sell(request, correlation=b"7")
    shop.clock.advance(1.999)
    look(shop)
    assert notices(shop) == []
    shop.clock.advance(0.001)
    look(shop)
    assert notices(shop) == [request["receipt_id"]]
    (message,) = shop.outbox()
    assert (message.topic, message.correlation) == (TOPICS.reply("pos-1"), b"7")
    shop.clock.advance(1000)
    look(shop)
    assert len(notices(shop)) == 1
    (reply,) = shop.replies()
    assert (reply["final"], reply["duplicate"], reply["fiscal"]) == (False, False, None)


def test_what_is_printed_in_time_needs_no_notice(shop):
    shop.sell(receipt())
    shop.print_all()
    shop.clock.advance(10)
    look(shop)
    assert notices(shop) == []


def test_a_receipt_on_the_printer_is_noticed_too(shop):
    request = receipt()
    shop.sell(request)
    lease_one(shop)
    shop.clock.advance(2)
    look(shop)
    look(shop)
    assert notices(shop) == [request["receipt_id"]]


def test_a_final_reply_follows_the_notice(shop):
    shop.sell(receipt())
    shop.clock.advance(3)
    look(shop)
    shop.print_all()
    assert [(reply["status"], reply["final"]) for reply in shop.replies()] == [("buffered", False), ("printed", True)]


def test_every_register_has_its_own_notices_in_order(shop):
    first = [receipt() for _ in range(3)]
    second = [receipt(pos_id="pos-2") for _ in range(3)]
    for one, other in zip(first, second, strict=True):
        shop.sell(one)
        shop.sell(other, pos="pos-2")
        shop.clock.advance(1)
    look(shop)
    assert notices(shop) == [request["receipt_id"] for request in first[:2]]
    assert notices(shop, "pos-2") == [request["receipt_id"] for request in second[:2]]


def test_a_large_backlog_is_noticed_without_delay(shop):
    shop.restart(buffer={"capacity": 1000})
    for _ in range(2 * BATCH_MAX + 5):
        shop.arrive(TOPICS.receipt("pos-1"), receipt())
    run(shop.intake.step)
    shop.clock.advance(2)
    look(shop)
    assert len(notices(shop)) == 2 * BATCH_MAX + 5


def test_a_notice_is_not_lost_with_a_full_disk(shop, caplog):
    request = receipt()
    shop.sell(request)
    shop.clock.advance(2)
    break_disk(shop.journal)
    look(shop)
    mend_disk(shop.journal)
    look(shop)
    assert notices(shop) == [request["receipt_id"]]


def test_a_notice_survives_a_restart_and_is_not_repeated(shop):
    first, second = receipt(), receipt()
    shop.sell(first)
    shop.clock.advance(2)
    look(shop)
    shop.sell(second)
    shop.restart()
    shop.clock.advance(2)
    look(shop)
    assert notices(shop) == [first["receipt_id"], second["receipt_id"]]


def test_jumps_of_the_wall_clock_neither_hasten_nor_delay_a_notice(shop):
    shop.sell(receipt())
    shop.clock.jump(100_000)
    look(shop)
    assert notices(shop) == []
    shop.clock.jump(-1_000_000)
    shop.clock.advance(2)
    look(shop)
    assert len(notices(shop)) == 1


def test_a_receipt_that_goes_back_into_the_queue_between_two_looks_is_not_missed(shop):
    """It was being printed, and is older than the one that has been looked at in the queue."""
    older, younger = receipt(), receipt()
    shop.sell(older)
    task = lease_one(shop)
    shop.sell(younger)
    shop.clock.advance(2)
    reading = shop.journal.read
    looks = []

    def read(query):
        found = reading(query)
        looks.append(found)
        if len(looks) == 1:
            shop.journal.write(lambda tx: release(tx, task))
        return found

    shop.journal.read = read
    look(shop)
    look(shop)
    assert sorted(notices(shop)) == sorted([older["receipt_id"], younger["receipt_id"]])


def test_an_idle_bridge_looks_seldom_and_reads_nothing(shop):
    shop.journal.read = None
    assert shop.notices.step() == IDLE_S

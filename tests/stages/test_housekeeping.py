"""Stage 5: the journal stays bounded, and what is purged is still answered for."""

import sqlite3
from contextlib import closing

import pytest
from support.receipts import receipt, small_receipt
from support.stages import TOPICS, InProcessBridge, a_receipt, break_disk, check_counts, mend_disk

from kkt_bridge.journal.document_queue import dead_letter, ready_documents, record_sent
from kkt_bridge.journal.journal import COMMIT_OPERATIONS_MAX
from kkt_bridge.journal.outbox import set_steps_published
from kkt_bridge.journal.print_queue import lease, record_rejected
from kkt_bridge.journal.receipts import insert_receipt
from kkt_bridge.journal.retention import space_of
from kkt_bridge.settings import RetentionSettings
from kkt_bridge.stages.housekeeping import (
    BATCH_MAX,
    FLUSH_S,
    FREE_PAGES_MIN,
    INTERVAL_S,
    LITTLE_FREE,
    LOOK_MAX,
    PAUSE_S,
    Housekeeping,
)

DAY_S = 86_400


class Keeper:
    """A shop and its housekeeping."""

    def __init__(self, folder, **retention):
        self.shop = InProcessBridge(folder, buffer={"capacity": 1000})
        self.retention = RetentionSettings(**retention)
        self._open()

    def _open(self):
        shop = self.shop
        self.housekeeping = Housekeeping(settings=self.retention, journal=shop.journal, clock=shop.clock)

    def restart(self):
        self.shop.restart()
        self._open()

    def sync(self):
        """Everything printed reaches the OFD."""
        shop = self.shop
        for due in shop.journal.read(lambda c: ready_documents(c, "kkt-1", 0, 10_000)):
            shop.journal.write(lambda tx, due=due: record_sent(tx, due, 1_795_345_381))

    def tell(self):
        """The broker has every step."""
        (last,) = self.shop.rows("SELECT max(id) FROM steps")[0]
        self.shop.journal.write(lambda tx: set_steps_published(tx, last or 0))

    def keep(self, seconds=1.0):
        """Let it work for a while."""
        end = self.shop.clock.monotonic() + seconds
        for _ in range(100_000):
            wait = self.housekeeping.step()
            if self.shop.clock.monotonic() >= end:
                return
            self.shop.clock.advance(wait)
        raise AssertionError("housekeeping does not sleep")

    def sold(self, count=1, *, sync=True, **changes):
        requests = [small_receipt(**changes) for _ in range(count)]
        for request in requests:
            self.shop.sell(request)
        self.shop.print_all()
        if sync:
            self.sync()
        self.tell()
        return requests

    def purged(self, requests):
        return [self.shop.stored(request["receipt_id"]).id is None for request in requests]


@pytest.fixture
def keeper(tmp_path):
    opened = Keeper(tmp_path)
    yield opened
    mend_disk(opened.shop.journal)
    check_counts(opened.shop.journal, tmp_path)
    opened.shop.kill()


def test_a_duplicate_after_the_purge_gets_the_stored_reply(keeper):
    shop = keeper.shop
    (request,) = keeper.sold()
    first = shop.replies()[-1]
    shop.clock.advance(8 * DAY_S)
    keeper.keep()
    assert keeper.purged([request]) == [True]
    shop.sell(request)
    assert shop.replies()[-1] == {
        **first,
        "duplicate": True,
        "hlc": {**first["hlc"], "server_time": 1_795_345_381},
    }
    shop.sell({**request, "payments": [{"type": "card", "amount": "10.00"}]})
    assert shop.replies()[-1]["error"]["code"] == "idempotency_conflict"
    shop.query(request["receipt_id"])
    assert shop.replies()[-1]["status"] == "printed"
    shop.print_all()
    assert len(shop.documents()) == 1


def test_a_rejection_after_the_purge_stays_one(keeper):
    shop = keeper.shop
    shop.break_register(refuse_names=["дефект"])
    request = small_receipt({"name": "дефект"})
    shop.sell(request)
    shop.print_all()
    keeper.tell()
    first = shop.replies()[-1]
    shop.clock.advance(8 * DAY_S)
    keeper.keep()
    assert keeper.purged([request]) == [True]
    shop.heal_register()
    shop.sell(request)
    assert shop.replies()[-1] == {**first, "duplicate": True}


def test_refunds_are_held_to_the_sum_of_a_purged_sale(keeper):
    shop = keeper.shop
    (sale,) = keeper.sold(position={"price": "25.00", "total": "25.00"}, payments=[{"type": "cash", "amount": "25"}])
    keeper.sold(type="refund", original_receipt_id=sale["receipt_id"])
    shop.clock.advance(8 * DAY_S)
    keeper.keep()
    keeper.sold(type="refund", original_receipt_id=sale["receipt_id"])
    shop.sell(small_receipt(type="refund", original_receipt_id=sale["receipt_id"]))
    assert shop.replies()[-1]["error"]["code"] == "refund_exceeds_original"


def test_a_purge_is_done_a_little_at_a_time(keeper):
    requests = keeper.sold(2 * BATCH_MAX + 3)
    keeper.keep()
    keeper.shop.clock.advance(8 * DAY_S)
    for done in (BATCH_MAX, 2 * BATCH_MAX):
        assert keeper.housekeeping.step() == PAUSE_S
        assert sum(keeper.purged(requests)) == done
    keeper.keep()
    assert all(keeper.purged(requests))


def test_no_step_makes_more_than_one_commit_and_each_is_followed_by_a_pause(keeper):
    """Receipts get in between any two, and so do the notices and the telemetry, who share the thread."""
    shop = keeper.shop
    keeper.sold(3 * BATCH_MAX)
    for _ in range(3 * BATCH_MAX):
        shop.sell(receipt(items=[]))
        shop.journal.write(lambda tx: tx.publish("event", b"{}", is_event=True))
    keeper.keep()
    keeper.tell()
    shop.clock.advance(8 * DAY_S)
    commits = []
    shop.journal.listen(commits.append)
    busy = 0
    for _ in range(100):
        before = len(commits)
        wait = keeper.housekeeping.step()
        assert len(commits) - before <= 1
        assert wait in {PAUSE_S, FLUSH_S}
        if wait == FLUSH_S:
            break
        busy += len(commits) - before
    for table in ("receipts", "refusals", "steps"):
        assert shop.rows(f"SELECT count(*) FROM {table}") == [(0,)]
    assert busy >= 3 * 3, "receipts, refusals, events"


def test_a_purge_touches_no_more_pages_than_a_busy_commit(keeper):
    """With ids that fall anywhere, each receipt has pages of its own in the indexes."""
    shop = keeper.shop
    driver = shop.journal._database.writer.connection
    log = shop.folder / "journal.db-wal"

    def frames_of(work):
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        work()
        return log.stat().st_size // 4120

    def take(count):
        shop.journal.write(lambda tx: [insert_receipt(tx, a_receipt(body="x" * 700)) for _ in range(count)])

    for _ in range(40):
        take(50)
        tasks = shop.journal.write(lambda tx: lease(tx, "kkt-1", "9999078900000001", 1, 50))
        shop.journal.write(lambda tx, tasks=tasks: [record_rejected(tx, task, "kkt_rejected", "no") for task in tasks])
    busy = frames_of(lambda: take(COMMIT_OPERATIONS_MAX))
    keeper.tell()
    keeper.keep(5)
    shop.clock.advance(8 * DAY_S)
    touched = []
    for _ in range(50):
        touched.append(frames_of(keeper.housekeeping.step))
        shop.clock.advance(PAUSE_S)
    assert max(touched) <= busy
    assert sum(touched) > 50, "it did purge"


def test_looking_through_what_may_not_go_costs_no_commit(keeper):
    shop = keeper.shop
    for _ in range(LOOK_MAX // 50 + 1):
        shop.journal.write(lambda tx: [insert_receipt(tx, a_receipt()) for _ in range(50)])
    keeper.keep()
    shop.clock.advance(100 * DAY_S)
    commits = []
    shop.journal.listen(commits.append)
    keeper.keep(10)
    assert commits == []
    assert shop.journal.pending() == 50 * (LOOK_MAX // 50 + 1)


@pytest.mark.parametrize("years", [10, -10, -56])
def test_a_jump_of_the_wall_clock_purges_nothing_and_keeps_nothing(keeper, years):
    requests = keeper.sold(3)
    keeper.shop.clock.jump(years * 365 * DAY_S)
    keeper.keep(INTERVAL_S + 10)
    assert keeper.purged(requests) == [False] * 3
    keeper.shop.clock.advance(8 * DAY_S)
    keeper.keep()
    assert keeper.purged(requests) == [True] * 3


def test_a_dead_letter_that_nobody_decides_on_expires_aloud(keeper, caplog):
    shop = keeper.shop
    (request,) = keeper.sold(sync=False)
    (due,) = shop.journal.read(lambda c: ready_documents(c, "kkt-1", 0, 10))
    shop.journal.write(lambda tx: dead_letter(tx, due, reason="refused", error="422"))
    keeper.tell()
    first = shop.replies()[-1]
    keeper.keep()
    shop.clock.advance(90 * DAY_S + 1)
    keeper.keep(INTERVAL_S + 10)
    assert shop.journal.counts()["kkt-1", "dlq"] == 0
    assert "in time have expired: 1" in caplog.text
    assert keeper.purged([request]) == [False], "its last step is still to be told"
    last = shop.rows("SELECT from_status, to_status, error FROM steps ORDER BY id DESC LIMIT 1")
    assert last == [("dead", "dead", "expired: nobody requeued or discarded it in time")]
    keeper.tell()
    keeper.keep(INTERVAL_S + 10)
    assert keeper.purged([request]) == [True]
    shop.sell(request)
    assert shop.replies()[-1] == {**first, "duplicate": True}


def test_what_is_young_pending_or_dead_stays(keeper):
    old = keeper.sold(3)
    keeper.shop.clock.advance(8 * DAY_S)
    young = keeper.sold(3)
    pending = receipt()
    keeper.shop.sell(pending)
    keeper.keep()
    assert keeper.purged(old) == [True] * 3
    assert keeper.purged([*young, pending]) == [False] * 4


def test_purges_are_some_time_apart(keeper):
    keeper.keep()
    requests = keeper.sold()
    keeper.shop.clock.advance(8 * DAY_S)
    keeper.keep()
    others = keeper.sold()
    keeper.keep(INTERVAL_S - 10)
    assert (keeper.purged(requests), keeper.purged(others)) == ([True], [False])


def test_nothing_is_purged_of_which_the_world_was_not_told(tmp_path):
    keeper = Keeper(tmp_path, synced_days=0.5)
    request = receipt()
    keeper.shop.sell(request)
    keeper.shop.print_all()
    keeper.sync()
    keeper.shop.clock.advance(DAY_S)
    keeper.keep()
    assert keeper.purged([request]) == [False], "the broker is away: its steps are not yet published"
    keeper.tell()
    keeper.keep(INTERVAL_S + 1)
    assert keeper.purged([request]) == [True]
    keeper.shop.kill()


def test_refusals_in_any_number_do_not_pile_up(keeper):
    shop = keeper.shop
    for _ in range(3):
        for _ in range(BATCH_MAX):
            shop.arrive(TOPICS.receipt("pos-1"), receipt(items=[]))
        for _ in range(BATCH_MAX):
            shop.intake.step()
    keeper.tell()
    shop.clock.advance(8 * DAY_S)
    keeper.keep(30)
    assert shop.rows("SELECT count(*) FROM refusals") == [(0,)]
    assert shop.rows("SELECT count(*) FROM steps") == [(0,)]


def test_old_events_go_and_old_replies_stay(keeper):
    shop = keeper.shop
    shop.journal.write(lambda tx: tx.publish("event", b"{}", is_event=True))
    shop.journal.write(lambda tx: tx.publish("reply", b"{}"))
    shop.clock.advance(7 * DAY_S + 1)
    shop.journal.write(lambda tx: tx.publish("news", b"{}", is_event=True))
    keeper.keep()
    assert [message.topic for message in shop.outbox()] == ["reply", "news"]


def test_what_was_posted_is_written_within_a_second(keeper):
    keeper.keep()
    keeper.shop.journal.post(lambda tx: tx.publish("topic", b"posted"))
    assert keeper.housekeeping.step() <= FLUSH_S
    assert [message.payload for message in keeper.shop.outbox()] == [b"posted"]


def test_a_full_disk_is_waited_out_and_found_to_be_well_again(keeper, caplog):
    keeper.sold()
    keeper.keep()
    break_disk(keeper.shop.journal)
    keeper.shop.journal.post(lambda tx: tx.publish("topic", b"lost"))
    for _ in range(3):
        assert keeper.housekeeping.step() == FLUSH_S
    assert keeper.shop.journal.failing is not None
    mend_disk(keeper.shop.journal)
    keeper.housekeeping.step()
    assert keeper.shop.journal.failing is None
    assert "Traceback" not in caplog.text


def test_a_purge_interrupted_by_a_kill_goes_on(keeper):
    requests = keeper.sold(BATCH_MAX + 20)
    keeper.keep()
    keeper.shop.clock.advance(8 * DAY_S)
    keeper.housekeeping.step()
    keeper.restart()
    keeper.keep()
    assert all(keeper.purged(requests))


def test_a_round_that_the_disk_broke_off_begins_again_when_it_is_well(keeper):
    requests = keeper.sold(3 * BATCH_MAX)
    keeper.keep()
    keeper.shop.clock.advance(8 * DAY_S)
    keeper.housekeeping.step()
    break_disk(keeper.shop.journal)
    assert keeper.housekeeping.step() == FLUSH_S
    mend_disk(keeper.shop.journal)
    keeper.keep(10)
    assert all(keeper.purged(requests)), "not after the next interval"


# -- space --------------------------------------------------------------------------------------------


def bulky_receipts(shop, count):
    """Receipts of 60 pages each, to their end."""
    for _ in range(count):
        shop.journal.write(lambda tx: insert_receipt(tx, a_receipt(body="x" * 250_000)))
        (task,) = shop.journal.write(lambda tx: lease(tx, "kkt-1", "9999078900000001", 1, 1))
        shop.journal.write(lambda tx, task=task: record_rejected(tx, task, "kkt_rejected", "no"))


def test_a_file_that_a_burst_has_swollen_shrinks_again(keeper):
    shop = keeper.shop
    bulky_receipts(shop, 2 * FREE_PAGES_MIN // 60)
    keeper.tell()
    keeper.keep()
    swollen = shop.journal.read(space_of)
    shop.clock.advance(8 * DAY_S)
    keeper.keep(INTERVAL_S)
    space = shop.journal.read(space_of)
    assert shop.rows("SELECT count(*) FROM receipts") == [(0,)]
    assert space.pages < swollen.pages
    assert space.free <= max(FREE_PAGES_MIN, space.pages * LITTLE_FREE)
    assert shop.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_little_empty_space_is_left_for_the_next_receipts(keeper):
    shop = keeper.shop
    bulky_receipts(shop, FREE_PAGES_MIN // 2 // 60)
    keeper.tell()
    keeper.keep()
    before = shop.journal.read(space_of)
    shop.clock.advance(8 * DAY_S)
    keeper.keep(INTERVAL_S)
    space = shop.journal.read(space_of)
    assert space.pages >= before.pages
    assert space.free > space.pages / 2


def test_a_round_ends_on_a_file_that_cannot_be_made_smaller(tmp_path):
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.execute("CREATE TABLE made_before (x)")
    keeper = Keeper(tmp_path)
    bulky_receipts(keeper.shop, 2 * FREE_PAGES_MIN // 60)
    keeper.tell()
    keeper.keep()
    keeper.shop.clock.advance(8 * DAY_S)
    for _ in range(100):
        if keeper.housekeeping.step() == FLUSH_S:
            break
        keeper.shop.clock.advance(PAUSE_S)
    else:
        raise AssertionError("the round does not end")
    assert keeper.shop.journal.read(space_of).free > FREE_PAGES_MIN
    keeper.shop.kill()

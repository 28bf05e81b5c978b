"""Stage 4: what the disk holds the broker is told, at least once and in order."""

import json

import pytest
from support.clocks import ManualClock
from support.stages import TOPICS, ZONE, Line, a_receipt, break_disk, kill, mend_disk, new_journal, rows

from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.receipts import find_receipts, insert_receipt
from kkt_bridge.journal.transaction import Movable
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.stages.publishing import EVENT_DELAY_S, IN_FLIGHT_MAX, Publisher
from kkt_bridge.wire.messages import STEPS_PER_EVENT_MAX

DAY_S = 86_400
RECEIPT_EVENT = TOPICS.event("receipt")


class Desk:
    """A publisher over a journal, and the broker's side of its link."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = ManualClock()
        self.start()

    def start(self):
        self.journal = new_journal(self.folder, self.clock)
        self.line = Line()
        self.publisher = Publisher(
            journal=self.journal,
            link=self.line,
            topics=TOPICS,
            zone=ZONE,
            events_max_age_s=7 * DAY_S,
            clock=self.clock,
        )
        self.journal.listen(self.publisher.committed)

    def restart(self):
        kill(self.journal)
        self.start()
        self.publisher.link_up()

    def say(self, *payloads, topic="topic", is_event=False):
        """Put these into the outbox, in one commit."""
        self.journal.write(lambda tx: [tx.publish(topic, payload, is_event=is_event) for payload in payloads])

    def take_receipts(self, count):
        """Take receipts in one commit: a step each."""
        self.journal.write(lambda tx: [insert_receipt(tx, a_receipt()) for _ in range(count)])

    def run(self):
        """Step until the publisher has nothing to do now; what went out."""
        for _ in range(200):
            wait = self.publisher.step()
            if wait is None or wait > 0:
                return self.line.take()
        raise AssertionError("the publisher does not rest")

    def run_past_the_delay(self):
        self.clock.advance(EVENT_DELAY_S)
        return self.run()

    def acknowledge(self, messages):
        for message in messages:
            self.publisher.published(message.token)

    def outbox(self):
        return [payload for (payload,) in rows(self.folder, "SELECT payload FROM outbox ORDER BY id")]


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    kill(made.journal)


@pytest.fixture
def up(desk):
    desk.publisher.link_up()
    assert desk.run() == []
    return desk


def payloads(messages):
    return [message.payload for message in messages]


def steps_in(messages):
    return [json.loads(message.payload)["steps"] for message in messages if message.topic == RECEIPT_EVENT]


# -- messages --------------------------------------------------------------------------------------------


def test_nothing_goes_out_without_a_link(desk):
    desk.say(b"1")
    assert desk.run() == []
    assert desk.publisher.step() is None


def test_what_waited_goes_out_in_order_when_the_link_comes_up(desk):
    for payload in (b"1", b"2", b"3"):
        desk.say(payload)
    desk.publisher.link_up()
    assert payloads(desk.run()) == [b"1", b"2", b"3"]


def test_a_message_goes_out_at_once_and_once(up):
    up.say(b"1")
    assert payloads(up.run()) == [b"1"]
    assert up.run() == []


def test_a_message_goes_out_as_it_was_written(up):
    up.journal.write(lambda tx: tx.publish("topic", b"1", b"\x00\xff"))
    (message,) = up.run()
    assert (message.topic, message.correlation, message.retain) == ("topic", b"\x00\xff", False)
    assert message.token is not None


def test_a_message_is_kept_until_the_broker_has_it(up):
    up.say(b"1", b"2")
    first, _second = up.run()
    up.acknowledge([first])
    up.run()
    assert up.outbox() == [b"1", b"2"], "forgetting waits for a commit to go along with"
    up.journal.flush()
    assert up.outbox() == [b"2"]


def test_what_the_broker_did_not_have_goes_out_again_on_the_next_connection(up):
    up.say(b"1", b"2", b"3")
    first, *_ = up.run()
    up.acknowledge([first])
    up.run()
    up.journal.flush()
    up.publisher.link_down()
    up.say(b"4")
    assert up.run() == []
    up.publisher.link_up()
    assert payloads(up.run()) == [b"2", b"3", b"4"]


def test_what_the_broker_did_not_have_goes_out_again_after_a_kill(up):
    up.say(b"1", b"2")
    up.acknowledge(up.run()[:1])
    up.restart()
    assert payloads(up.run()) == [b"1", b"2"], "the first one twice: its forgetting was not yet on the disk"


def test_acknowledgements_out_of_order_lose_nothing(up):
    up.say(b"1", b"2", b"3")
    first, second, third = up.run()
    up.acknowledge([third, first])
    up.run()
    up.journal.flush()
    assert up.outbox() == [b"2"]
    up.acknowledge([second])
    up.run()
    up.journal.flush()
    assert up.outbox() == []


def test_so_many_are_on_their_way_and_no_more(up):
    up.say(*(b"%d" % number for number in range(IN_FLIGHT_MAX + 50)))
    first = up.run()
    assert len(first) == IN_FLIGHT_MAX
    up.acknowledge(first[:10])
    assert payloads(up.run()) == [b"%d" % number for number in range(IN_FLIGHT_MAX, IN_FLIGHT_MAX + 10)]
    up.acknowledge(first[10:])
    assert len(up.run()) == 40


def test_a_disk_that_takes_nothing_makes_repeats_not_losses(up):
    up.say(b"1")
    up.acknowledge(up.run())
    break_disk(up.journal)
    up.run()
    up.journal.flush()
    mend_disk(up.journal)
    up.publisher.link_down()
    up.publisher.link_up()
    assert payloads(up.run()) == [b"1"]


# -- steps -----------------------------------------------------------------------------------------------


def test_steps_are_gathered_for_a_moment(up):
    up.take_receipts(1)
    wait = up.publisher.step()
    assert 0 < wait <= EVENT_DELAY_S
    assert up.line.take() == []
    up.clock.advance(EVENT_DELAY_S / 2)
    up.take_receipts(2)
    assert up.run() == []
    up.clock.advance(EVENT_DELAY_S / 2)
    (steps,) = steps_in(up.run())
    assert len(steps) == 3, "the first one is not made to wait by those behind it"


def test_a_step_says_what_happened(up):
    new = a_receipt()
    up.journal.write(lambda tx: insert_receipt(tx, new))
    ((step,),) = steps_in(up.run_past_the_delay())
    assert step == {
        "receipt_id": new.receipt_id,
        "pos_id": "pos-1",
        "kkt": "kkt-1",
        "from": None,
        "to": "buffered",
        "fd_number": None,
        "error": None,
        "type": "sale",
        "total": "10.00",
        "received_at": "2026-11-22T12:03:00.000+03:00",
        "at": "2026-11-22T12:03:00.000+03:00",
    }


def test_later_steps_tell_the_sale_too_with_its_own_time_of_arrival(up):
    new = a_receipt()
    up.journal.write(lambda tx: insert_receipt(tx, new))
    up.run_past_the_delay()
    up.clock.advance(60)
    (stored,) = up.journal.read(lambda connection: find_receipts(connection, new.receipt_id))
    taken = Movable(stored.id, stored.receipt_id, stored.pos_id, stored.kkt, stored.status)
    up.journal.write(lambda tx: tx.move(taken, Status.REJECTED, error="kkt_rejected"))
    ((step,),) = steps_in(up.run_past_the_delay())
    assert (step["to"], step["type"], step["total"]) == ("rejected", "sale", "10.00")
    assert (step["received_at"][:19], step["at"][:19]) == ("2026-11-22T12:03:00", "2026-11-22T12:04:00")
    up.restart()
    told = [step["total"] for steps in steps_in(up.run()) for step in steps]
    assert told == ["10.00"] * 2, "also of what is read from the disk"


def test_what_cannot_be_looked_up_is_told_without_its_sum(up, monkeypatch):
    up.take_receipts(1)

    def unreadable(_query):
        raise StorageUnavailable("the disk is gone")

    monkeypatch.setattr(up.journal, "read", unreadable)
    ((step,),) = steps_in(up.run_past_the_delay())
    assert (step["to"], step["type"], step["total"], step["received_at"]) == ("buffered", None, None, None)


def test_no_event_has_too_many_steps_and_no_commit_is_torn(up):
    for count in (150, 100, 60, 40, 199, 1, 200):
        up.take_receipts(count)
        up.clock.advance(0.001)
    messages = steps_in(up.run_past_the_delay())
    assert [len(steps) for steps in messages] == [150, 200, 200, 200]
    commits = [{step["at"] for step in steps} for steps in messages]
    assert sum(len(times) for times in commits) == 7, "each commit's time stands in one message"


def test_a_commit_that_fits_into_no_event_is_told_in_several(up):
    up.take_receipts(2 * STEPS_PER_EVENT_MAX + 30)
    messages = steps_in(up.run_past_the_delay())
    assert [len(steps) for steps in messages] == [200, 200, 30]


def test_many_steps_come_whole_and_in_order(up):
    for _ in range(60):
        up.take_receipts(17)
    up.clock.advance(EVENT_DELAY_S)
    told = []
    while sent := up.run():
        up.acknowledge(sent)
        told += [step["receipt_id"] for steps in steps_in(sent) for step in steps]
    assert told == [receipt_id for (receipt_id,) in rows(up.folder, "SELECT receipt_id FROM steps ORDER BY id")]


def test_the_cursor_follows_the_acknowledgements_in_order(up):
    up.take_receipts(200)
    up.take_receipts(200)
    _first, second = up.run_past_the_delay()
    up.acknowledge([second])
    up.run()
    up.journal.flush()
    up.restart()
    assert [len(steps) for steps in steps_in(up.run())] == [200, 200], "the first is not known to be there"


def test_the_cursor_survives_a_restart(up):
    up.take_receipts(3)
    up.acknowledge(up.run_past_the_delay())
    up.run()
    up.journal.flush()
    up.restart()
    assert up.run() == []
    up.take_receipts(1)
    assert [len(steps) for steps in steps_in(up.run_past_the_delay())] == [1]


def test_unacknowledged_steps_are_told_again(up):
    up.take_receipts(3)
    assert len(steps_in(up.run_past_the_delay())) == 1
    up.publisher.link_down()
    up.publisher.link_up()
    assert [len(steps) for steps in steps_in(up.run())] == [3]


def test_a_refused_request_is_told_as_a_step_without_a_beginning(up):
    def refuse(tx):
        tx.step(
            receipt=None,
            receipt_id=None,
            pos_id="pos-1",
            kkt=None,
            current=None,
            target=Status.REJECTED,
            error="invalid_json",
        )

    up.journal.write(refuse)
    ((step,),) = steps_in(up.run_past_the_delay())
    assert (step["receipt_id"], step["from"], step["to"], step["error"]) == (None, None, "rejected", "invalid_json")


def test_steps_too_old_to_be_news_are_passed_over_but_replies_never(desk):
    desk.take_receipts(450)
    desk.say(b"an old reply")
    desk.clock.advance(7 * DAY_S + 1)
    desk.take_receipts(2)
    desk.publisher.link_up()
    sent = desk.run()
    assert [message.payload for message in sent if message.topic == "topic"] == [b"an old reply"]
    assert [len(steps) for steps in steps_in(sent)] == [2]
    desk.acknowledge(sent)
    desk.run()
    desk.journal.flush()
    desk.restart()
    assert desk.run() == []


@pytest.mark.parametrize("years", [10, -10, -56])
def test_what_is_news_is_not_the_wall_clocks_affair(desk, years):
    desk.take_receipts(3)
    desk.clock.jump(years * 365 * DAY_S)
    desk.take_receipts(2)
    desk.publisher.link_up()
    assert [len(steps) for steps in steps_in(desk.run())] == [5]


def test_steps_grow_old_by_a_clock_that_stands_still(desk):
    desk.take_receipts(3)
    now = desk.clock.now_ms()
    desk.clock.advance(7 * DAY_S + 1)
    desk.clock.wall_ms = now
    desk.take_receipts(2)
    desk.publisher.link_up()
    assert [len(steps) for steps in steps_in(desk.run())] == [2]


def test_the_publisher_rests_when_all_is_said(up):
    up.take_receipts(1)
    up.say(b"1")
    up.acknowledge(up.run_past_the_delay())
    assert up.publisher.step() is None

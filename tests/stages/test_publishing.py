"""Stage 4: what the disk holds the broker is told, at least once and in order."""

import json

import pytest
from support.clocks import ManualClock
from support.stages import TOPICS, ZONE, Line, a_receipt, break_disk, kill, mend_disk, new_journal, rows

from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.receipts import find_receipts, insert_receipt
from kkt_bridge.journal.transaction import ReceiptRow
from kkt_bridge.mqtt.refused_publications import HOLDS_MAX, INITIAL_WAIT_S, REFUSED_WAIT_MAX_S, HoldKind
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.stages.publishing import EVENT_BYTES_MAX, EVENT_DELAY_S, IN_FLIGHT_MAX, UNREADABLE_S, Publisher
from kkt_bridge.wire.messages import STEPS_PER_EVENT_MAX, ReceiptEvent

DAY_S = 86_400
RECEIPT_EVENT = TOPICS.event("receipt")


class CommandWorker:
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
def command_worker(tmp_path):
    made = CommandWorker(tmp_path)
    yield made
    kill(made.journal)


@pytest.fixture
def up(command_worker):
    command_worker.publisher.link_up()
    assert command_worker.run() == []
    return command_worker


def unreadable(_query):
    raise StorageUnavailable("the disk is gone")


def payloads(messages):
    return [message.payload for message in messages]


def steps_in(messages):
    return [json.loads(message.payload)["steps"] for message in messages if message.topic == RECEIPT_EVENT]


# -- messages --------------------------------------------------------------------------------------------


def test_nothing_goes_out_without_a_link(command_worker):
    command_worker.line.online = False
    command_worker.say(b"1")
    assert command_worker.run() == []
    assert command_worker.publisher.step() is None


def test_what_waited_goes_out_in_order_when_the_link_comes_up(command_worker):
    for payload in (b"1", b"2", b"3"):
        command_worker.say(payload)
    command_worker.publisher.link_up()
    assert payloads(command_worker.run()) == [b"1", b"2", b"3"]


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
    up.line.online = False
    up.say(b"4")
    assert up.run() == []
    up.line.online = True
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
        "receipt_id": new.key.receipt_id,
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
    (stored,) = up.journal.read(lambda connection: find_receipts(connection, new.key.receipt_id))
    taken = ReceiptRow(stored.id, stored.key, stored.kkt, stored.status)
    up.journal.write(lambda tx: tx.move(taken, Status.REJECTED, error="kkt_rejected"))
    ((step,),) = steps_in(up.run_past_the_delay())
    assert (step["to"], step["type"], step["total"]) == ("rejected", "sale", "10.00")
    assert (step["received_at"][:19], step["at"][:19]) == ("2026-11-22T12:03:00", "2026-11-22T12:04:00")
    up.restart()
    told = [step["total"] for steps in steps_in(up.run()) for step in steps]
    assert told == ["10.00"] * 2, "also of what is read from the disk"


def test_what_cannot_be_looked_up_is_told_without_its_sum(up, monkeypatch):
    up.take_receipts(1)
    monkeypatch.setattr(up.journal, "read", unreadable)
    ((step,),) = steps_in(up.run_past_the_delay())
    assert (step["to"], step["type"], step["total"], step["received_at"]) == ("buffered", None, None, None)


def packet_bytes(message):
    return len(message.payload) + len(message.topic) + 32


def test_no_event_is_larger_than_brokers_take_and_no_commit_that_fits_is_torn(up):
    for count in (15, 10, 6, 4, 19, 1, 20):
        up.take_receipts(count)
        up.clock.advance(0.001)
    sent = up.run_past_the_delay()
    assert max(packet_bytes(message) for message in sent) <= EVENT_BYTES_MAX
    commits = [{step["at"] for step in steps} for steps in steps_in(sent)]
    assert sum(len(times) for times in commits) == 7, "each commit's time stands in one message"
    assert len(sent) < 7, "and small commits travel together"


def test_a_commit_that_fits_into_no_event_is_told_in_several(up):
    up.take_receipts(2 * STEPS_PER_EVENT_MAX + 30)
    sent = up.run_past_the_delay()
    assert sum(len(steps) for steps in steps_in(sent)) == 2 * STEPS_PER_EVENT_MAX + 30
    assert max(packet_bytes(message) for message in sent) <= EVENT_BYTES_MAX
    assert max(len(steps) for steps in steps_in(sent)) <= STEPS_PER_EVENT_MAX


def test_an_event_is_what_its_schema_says(up):
    up.take_receipts(3)
    (message,) = up.run_past_the_delay()
    steps = json.loads(message.payload)["steps"]
    assert ReceiptEvent.model_validate(steps_of_schema(steps)).payload() == message.payload


def steps_of_schema(steps):
    return {"steps": steps}


def test_names_of_any_length_make_no_large_event(up):
    """Some were taken by earlier versions: brokers with a limit cut the connection over them, again and again."""

    def refuse(tx):
        for _ in range(5):
            tx.step(None, ("п" * 65_000, "r" * 70_000), "k" * 65_000, None, Status.REJECTED, error="invalid_json")

    up.journal.write(refuse)
    sent = up.run_past_the_delay()
    assert max(packet_bytes(message) for message in sent) <= EVENT_BYTES_MAX
    step = steps_in(sent)[0][0]
    assert step["pos_id"] == "п" * 63 + "…"


# -- what the broker does not take ------------------------------------------------------------------------


def hold(command_worker, message, key=None, kind=HoldKind.REFUSED):
    """As the session does when the broker refuses a message."""
    command_worker.line.holds.hold(key or message.topic, kind, "no", command_worker.clock.monotonic())
    command_worker.publisher.refused(message.token)


def on(messages, topic):
    return [message.payload for message in messages if message.topic == topic]


def test_a_refused_reply_stays_in_the_outbox_and_stops_no_other_topic(up):
    up.say(b"1", topic="refused")
    (message,) = up.run()
    hold(up, message)
    up.say(b"2", topic="refused")
    up.say(b"3", topic="fine")
    sent = up.run()
    assert payloads(sent) == [b"3"]
    up.acknowledge(sent)
    up.run()
    up.journal.flush()
    assert up.outbox() == [b"1", b"2"]


def test_a_refused_reply_is_tried_again_for_ever(up):
    up.say(b"1", topic="refused")
    (message,) = up.run()
    for _ in range(20):
        hold(up, message)
        assert up.run() == []
        up.clock.advance(REFUSED_WAIT_MAX_S)
        (message,) = up.run()
        assert message.payload == b"1"
    up.acknowledge([message])
    up.run()
    up.journal.flush()
    assert up.outbox() == []
    assert not up.line.holds


def test_a_topic_that_is_taken_again_flows_in_its_order(up):
    up.say(*(b"%d" % number for number in range(120)), topic="refused")
    sent = up.run()
    for message in sent:
        hold(up, message)
    up.say(*(b"%d" % number for number in range(120, 130)), topic="refused")
    assert up.run() == []
    up.clock.advance(INITIAL_WAIT_S)
    (probe,) = up.run()
    assert probe.payload == b"0"
    up.say(b"130", topic="refused")
    assert up.run() == [], "until the probe is taken"
    up.acknowledge([probe])
    up.say(b"131", topic="refused")
    rest = up.run()
    assert payloads(rest) == [b"%d" % number for number in range(1, 132)]
    up.acknowledge(rest)
    up.run()
    up.journal.flush()
    assert up.outbox() == []


def test_a_topic_that_is_refused_in_the_middle_is_held_again(up):
    up.say(b"1", b"2", b"3", topic="refused")
    for message in up.run():
        hold(up, message)
    up.clock.advance(INITIAL_WAIT_S)
    up.acknowledge(up.run())
    second, third = up.run()
    up.line.holds.hold("refused", HoldKind.REFUSED, "no", up.clock.monotonic())
    up.say(b"4", topic="refused")
    sent = up.run()
    assert payloads(sent) in ([], [b"4"])
    for message in (second, third, *sent):
        hold(up, message)
    up.clock.advance(REFUSED_WAIT_MAX_S)
    sent = up.run()
    up.acknowledge(sent)
    told = payloads(sent + up.run())
    assert told == [b"2", b"3", b"4"]


def test_a_message_that_is_at_fault_itself_does_not_hold_up_its_topic(up):
    up.say(b"poison", b"2", topic="topic")
    poison, second = up.run()
    hold(up, poison, key=poison.token, kind=HoldKind.CUT)
    up.acknowledge([second])
    up.say(b"3", topic="topic")
    up.acknowledge(up.run())
    up.run()
    up.journal.flush()
    assert up.outbox() == [b"poison"]
    up.clock.advance(INITIAL_WAIT_S)
    assert payloads(up.run()) == [b"poison"]


def test_what_is_held_is_learned_anew_after_a_restart(up):
    up.say(b"1", topic="refused")
    hold(up, *up.run())
    up.restart()
    assert payloads(up.run()) == [b"1"]


def test_a_new_connection_does_not_forget_what_is_held(up):
    up.say(b"1", topic="refused")
    hold(up, *up.run())
    up.publisher.link_up()
    assert up.run() == []
    up.clock.advance(INITIAL_WAIT_S)
    assert payloads(up.run()) == [b"1"]


def test_more_refusals_than_can_be_noted_lose_nothing(up):
    count = HOLDS_MAX + 100
    for number in range(count):
        up.say(b"%d" % number, topic=f"refused/{number}")
    while sent := up.run():
        for message in sent:
            hold(up, message)
    up.clock.advance(REFUSED_WAIT_MAX_S)
    told = set()
    for _ in range(20):
        sent = up.run()
        told |= set(payloads(sent))
        up.acknowledge(sent)
        up.clock.advance(REFUSED_WAIT_MAX_S)
    assert told == {b"%d" % number for number in range(count)}


def test_events_refused_beyond_what_can_be_noted_are_told_too_also_when_the_disk_fails_just_then(up, monkeypatch):
    up.say(*(b"%d" % number for number in range(HOLDS_MAX)))
    while sent := up.run():
        for message in sent:
            hold(up, message, key=message.token)
    up.take_receipts(3)
    (event,) = up.run_past_the_delay()
    hold(up, event)
    assert RECEIPT_EVENT not in up.line.holds
    up.run()
    up.clock.advance(REFUSED_WAIT_MAX_S)
    with monkeypatch.context() as patch:
        patch.setattr(up.journal, "read", unreadable)
        assert up.run() == []
    up.clock.advance(UNREADABLE_S)
    assert [len(steps) for steps in steps_in(up.run())] == [3]


def test_refused_events_are_kept_and_tried_again_while_replies_flow(up):
    up.take_receipts(3)
    (event,) = up.run_past_the_delay()
    hold(up, event)
    up.say(b"reply")
    up.take_receipts(2)
    assert payloads(up.run_past_the_delay()) == [b"reply"]
    up.clock.advance(INITIAL_WAIT_S)
    sent = up.run()
    assert [len(steps) for steps in steps_in(sent)] == [5]
    up.acknowledge(sent)
    up.take_receipts(1)
    assert [len(steps) for steps in steps_in(up.run_past_the_delay())] == [1]
    assert not up.line.holds


def test_no_event_follows_one_that_is_on_trial(up):
    """The topic may be allowed between the two: a life's end would be told before its middle."""
    up.take_receipts(3 * STEPS_PER_EVENT_MAX)
    for event in up.run_past_the_delay():
        hold(up, event)
    up.clock.advance(INITIAL_WAIT_S)
    (trial,) = up.run()
    hold(up, trial)
    up.clock.advance(REFUSED_WAIT_MAX_S)
    (trial,) = up.run()
    up.take_receipts(1)
    assert up.run_past_the_delay() == [], "until it is known what becomes of it"
    up.acknowledge([trial])
    told = [trial]
    while sent := up.run():
        up.acknowledge(sent)
        told += sent
    ids = [step["receipt_id"] for steps in steps_in(told) for step in steps]
    assert ids == [receipt_id for (receipt_id,) in rows(up.folder, "SELECT receipt_id FROM steps ORDER BY id")]


def test_a_late_answer_to_an_earlier_event_decides_no_trial(up):
    up.take_receipts(2 * STEPS_PER_EVENT_MAX)
    first, *others = up.run_past_the_delay()
    hold(up, first)
    up.clock.advance(INITIAL_WAIT_S)
    (trial,) = up.run()
    up.acknowledge(others)
    assert up.run() == []
    up.acknowledge([trial])
    assert sum(len(steps) for steps in steps_in(up.run())) + len(steps_in([trial])[0]) == 2 * STEPS_PER_EVENT_MAX


def test_a_trial_that_was_under_way_when_the_connection_was_lost_is_made_again(up):
    up.take_receipts(3)
    hold(up, *up.run_past_the_delay())
    up.clock.advance(INITIAL_WAIT_S)
    assert len(up.run()) == 1
    up.line.holds.link_down()
    up.publisher.link_up()
    (trial,) = up.run()
    up.acknowledge([trial])
    up.take_receipts(1)
    assert [len(steps) for steps in steps_in(up.run_past_the_delay())] == [1]


def test_a_trial_that_the_disk_stops_is_made_when_it_can_be_read(up, monkeypatch):
    up.take_receipts(3)
    hold(up, *up.run_past_the_delay())
    up.clock.advance(INITIAL_WAIT_S)
    with monkeypatch.context() as patch:
        patch.setattr(up.journal, "read", unreadable)
        assert up.run() == []
    up.clock.advance(UNREADABLE_S)
    assert [len(steps) for steps in steps_in(up.run())] == [3]


def test_events_that_are_refused_until_they_are_old_are_passed_over(up):
    up.take_receipts(450)
    for event in up.run_past_the_delay():
        hold(up, event)
    up.clock.advance(7 * DAY_S + 1)
    up.take_receipts(1)
    sent = up.run_past_the_delay()
    assert [len(steps) for steps in steps_in(sent)] == [1]


def test_where_all_that_was_refused_is_too_old_the_next_event_goes_out_as_ever(up):
    up.take_receipts(450)
    for event in up.run_past_the_delay():
        hold(up, event)
    up.clock.advance(7 * DAY_S + 1)
    assert up.run() == []
    assert not up.line.holds
    up.take_receipts(1)
    assert [len(steps) for steps in steps_in(up.run_past_the_delay())] == [1]


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
    up.take_receipts(20)
    up.take_receipts(20)
    _first, second = up.run_past_the_delay()
    up.acknowledge([second])
    up.run()
    up.journal.flush()
    up.restart()
    assert [len(steps) for steps in steps_in(up.run())] == [20, 20], "the first is not known to be there"


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
    up.publisher.link_up()
    assert [len(steps) for steps in steps_in(up.run())] == [3]


def test_a_refused_request_is_told_as_a_step_without_a_beginning(up):
    def refuse(tx):
        tx.step(None, ("pos-1", None), None, None, Status.REJECTED, error="invalid_json")

    up.journal.write(refuse)
    ((step,),) = steps_in(up.run_past_the_delay())
    assert (step["receipt_id"], step["from"], step["to"], step["error"]) == (None, None, "rejected", "invalid_json")


def test_steps_too_old_to_be_news_are_passed_over_but_replies_never(command_worker):
    command_worker.take_receipts(450)
    command_worker.say(b"an old reply")
    command_worker.clock.advance(7 * DAY_S + 1)
    command_worker.take_receipts(2)
    command_worker.publisher.link_up()
    sent = command_worker.run()
    assert [message.payload for message in sent if message.topic == "topic"] == [b"an old reply"]
    assert [len(steps) for steps in steps_in(sent)] == [2]
    command_worker.acknowledge(sent)
    command_worker.run()
    command_worker.journal.flush()
    command_worker.restart()
    assert command_worker.run() == []


@pytest.mark.parametrize("years", [10, -10, -56])
def test_what_is_news_is_not_the_wall_clocks_affair(command_worker, years):
    command_worker.take_receipts(3)
    command_worker.clock.jump(years * 365 * DAY_S)
    command_worker.take_receipts(2)
    command_worker.publisher.link_up()
    assert [len(steps) for steps in steps_in(command_worker.run())] == [5]


def test_steps_grow_old_by_a_clock_that_stands_still(command_worker):
    command_worker.take_receipts(3)
    now = command_worker.clock.now_ms()
    command_worker.clock.advance(7 * DAY_S + 1)
    command_worker.clock.wall_ms = now
    command_worker.take_receipts(2)
    command_worker.publisher.link_up()
    assert [len(steps) for steps in steps_in(command_worker.run())] == [2]


def test_the_publisher_rests_when_all_is_said(up):
    up.take_receipts(1)
    up.say(b"1")
    up.acknowledge(up.run_past_the_delay())
    assert up.publisher.step() is None

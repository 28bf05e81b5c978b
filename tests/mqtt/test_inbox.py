"""The hand-over from the session to the intake: in order, bounded, and never asleep over a message."""

import threading
from itertools import count

from kkt_bridge.mqtt.inbox import ARRIVING, CROWD, CROWD_TAKE, AckToken, Inbox, Incoming


def a_message(mid, *, pos="pos-1", payload=b"", qos=1, kind="receipt"):
    return Incoming(AckToken(1, mid, qos), f"kkt/v1/store/pos/{pos}/{kind}", payload, redelivered=False)


def mids(messages):
    return [message.token.mid for message in messages]


def test_messages_come_out_as_they_went_in():
    inbox = Inbox(10)
    for mid in range(5):
        inbox.put(a_message(mid))
    assert mids(inbox.take(3)) == [0, 1, 2]
    assert mids(inbox.take(3)) == [3, 4]
    assert inbox.take(3) == []


def test_the_bell_rings_while_messages_wait():
    inbox = Inbox(10)
    assert not inbox.arrived.is_set()
    inbox.put(a_message(1))
    inbox.put(a_message(2))
    assert inbox.arrived.is_set()
    inbox.take(1)
    assert inbox.arrived.is_set()
    inbox.take(1)
    assert not inbox.arrived.is_set()


def test_it_says_when_it_is_full_and_loses_nothing_all_the_same():
    inbox = Inbox(2)
    assert not inbox.is_full()
    for mid in range(3):
        inbox.put(a_message(mid))
    assert inbox.is_full()
    inbox.take(1)
    assert inbox.is_full()
    inbox.take(1)
    assert not inbox.is_full()
    assert mids(inbox.take(9)) == [2]


def test_a_writer_and_a_reader_never_miss_each_other():
    """The reader sleeps on the bell alone: were one ring lost, this would not end."""
    inbox, sent = Inbox(100), 20_000

    def write():
        for mid in range(sent):
            inbox.put(a_message(mid))

    writer = threading.Thread(target=write)
    writer.start()
    received = []
    for _ in count():
        assert inbox.arrived.wait(10)
        received += mids(inbox.take(7))
        if len(received) == sent:
            break
    writer.join()
    assert received == list(range(sent))


# -- turns -----------------------------------------------------------------------------------------------------


def test_senders_take_turns_and_each_keeps_its_order():
    inbox = Inbox(100)
    for mid in range(6):
        inbox.put(a_message(mid, kind="query" if mid == 1 else "receipt"))
    inbox.put(a_message(10, pos="pos-2"))
    inbox.put(a_message(11, pos="pos-2"))
    inbox.put(a_message(20, pos="pos-3"))
    assert mids(inbox.take(4)) == [0, 10, 20, 1]
    assert mids(inbox.take(9)) == [11, 2, 3, 4, 5]


def test_a_sender_whose_turn_was_used_up_goes_behind_those_who_wait():
    inbox = Inbox(100)
    for mid in range(3):
        inbox.put(a_message(mid))
    assert mids(inbox.take(1)) == [0]
    inbox.put(a_message(10, pos="pos-2"))
    assert mids(inbox.take(9)) == [1, 10, 2]


def crowded(count=CROWD + 1):
    inbox = Inbox(10 * CROWD)
    for mid in range(count):
        inbox.put(a_message(mid))
    return inbox


def test_of_a_crowd_that_still_arrives_little_is_taken_at_a_time():
    inbox = crowded()
    assert len(inbox.take(64)) == CROWD_TAKE
    for mid in range(ARRIVING + 1):
        inbox.put(a_message(mid))
    assert len(inbox.take(64)) == CROWD_TAKE
    assert len(inbox.take(64)) == 64, "no more has come meanwhile"


def test_of_a_crowd_that_still_arrives_each_sender_has_its_turn():
    inbox = crowded()
    for number in range(2 * CROWD_TAKE):
        inbox.put(a_message(number, pos=f"till-{number}"))
    taken = inbox.take(64)
    assert len({message.topic for message in taken}) == len(taken) == 2 * CROWD_TAKE + 1


def test_what_comes_quickly_and_is_no_crowd_is_taken_together():
    assert len(crowded(CROWD).take(64)) == 64


def test_topics_of_absurd_length_share_one_turn():
    """One client must not become a thousand senders whose names alone fill the memory."""
    inbox = Inbox(100)
    for mid in range(4):
        inbox.put(a_message(mid, pos=f"{mid}" * 60_000))
    inbox.put(a_message(10))
    assert mids(inbox.take(2)) == [0, 10]


def test_it_is_bounded_in_bytes_too():
    inbox = Inbox(100, bytes_max=10_000)
    inbox.put(a_message(1, payload=b"x" * 9_000))
    assert not inbox.is_full()
    inbox.put(a_message(2, payload=b"x" * 9_000))
    assert inbox.is_full()
    inbox.take(1)
    assert not inbox.is_full()


def test_what_is_taken_together_is_bounded_in_bytes_and_never_nothing():
    inbox = Inbox(100)
    for mid in range(3):
        inbox.put(a_message(mid, payload=b"x" * 5_000))
    assert mids(inbox.take(9, bytes_max=6_000)) == [0, 1]
    assert mids(inbox.take(9, bytes_max=1)) == [2]


# -- acknowledgements ------------------------------------------------------------------------------------------


def tokens(*numbers, qos=1):
    return [AckToken(1, mid, qos) for mid in numbers]


def test_acknowledgements_keep_the_order_of_arrival_whatever_was_decided_first():
    inbox = Inbox(100)
    for mid in range(4):
        inbox.put(a_message(mid, pos=f"pos-{mid}"))
    assert inbox.release_pubacks(tokens(2)) == []
    assert inbox.release_pubacks(tokens(0)) == tokens(0)
    assert inbox.release_pubacks(tokens(3)) == []
    assert inbox.release_pubacks(tokens(1)) == tokens(1, 2, 3)


def test_it_tells_how_many_wait_for_the_acknowledgement_of_earlier_ones():
    inbox = Inbox(100)
    for mid in range(4):
        inbox.put(a_message(mid, pos=f"pos-{mid}"))
    inbox.release_pubacks(tokens(1, 2))
    assert inbox.pubacks_held_back == 2
    inbox.release_pubacks(tokens(0))
    assert inbox.pubacks_held_back == 0


def test_what_wants_no_acknowledgement_holds_none_up():
    inbox = Inbox(100)
    inbox.put(a_message(0, qos=0))
    inbox.put(a_message(7))
    assert inbox.release_pubacks(tokens(7)) == tokens(7)
    assert inbox.release_pubacks(tokens(0, qos=0)) == []


def test_a_packet_id_that_comes_twice_is_acknowledged_twice():
    inbox = Inbox(100)
    inbox.put(a_message(7))
    inbox.put(a_message(7))
    assert inbox.release_pubacks(tokens(7, 7)) == tokens(7, 7)
    inbox.put(a_message(7))
    assert inbox.release_pubacks(tokens(7)) == tokens(7)

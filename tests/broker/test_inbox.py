"""The hand-over from the session to the intake: in order, bounded, and never asleep over a message."""

import threading
from itertools import count

from kkt_bridge.broker.inbox import AckToken, Inbox, Incoming


def a_message(mid):
    return Incoming(AckToken(1, mid, 1), "topic", b"", redelivered=False)


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

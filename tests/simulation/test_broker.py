"""The simulated broker's line: one that is full for a while loses nothing, sends nothing twice, and is no cut."""

import random

import pytest

from simulation import packets
from simulation.broker import Broker
from simulation.effects import Effects

MANY = 2000
"""Small packets, several times as many as a socket pair takes before somebody reads."""


@pytest.fixture
def line():
    broker = Broker(Effects(random.Random(1)), receive_maximum=512)
    bridge = broker.dial()
    bridge.setblocking(False)
    yield broker, bridge
    broker.cut()
    bridge.close()


def test_what_the_line_does_not_take_yet_goes_when_the_bridge_has_read(line):
    broker, bridge = line
    sent = [packets.packet(packets.PUBACK, 0, mid.to_bytes(2)) for mid in range(1, MANY + 1)]
    for packet in sent:
        broker._send(packet)
    assert broker._leaving
    assert not broker.can_push
    got = bridge.recv(1 << 20)
    while broker.can_push:
        broker.push()
        got += bridge.recv(1 << 20)
    assert got == b"".join(sent)


def test_what_the_bridge_has_sent_before_the_line_was_full_is_not_sent_again(line):
    broker, bridge = line
    pings = packets.packet(packets.PINGREQ, 0, b"") * MANY
    taken = bridge.send(bytearray(pings))
    assert 0 < taken < len(pings)
    assert taken == broker.unread

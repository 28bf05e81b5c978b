"""The session to a real broker, stepped by the test: birth, will and farewell; nothing acknowledged that is not
committed; nothing of an old connection in a new one."""

import json
import socket
import struct
import threading
import time
import uuid
from contextlib import ExitStack, closing, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.brokers import HOST, AmqttProcess, MosquittoProcess, free_port
from support.clocks import ManualClock

from kkt_bridge.clock import SystemClock
from kkt_bridge.mqtt.birth_and_will import Presence
from kkt_bridge.mqtt.client import BrokerClient
from kkt_bridge.mqtt.inbox import AckToken, Inbox, Incoming
from kkt_bridge.mqtt.messages import Publication
from kkt_bridge.mqtt.redial import DOWNGRADE_S, SILENCES_MAX, TAKEN_OVER_WAIT_S, TRIAL_S, WAIT_MAX_S
from kkt_bridge.mqtt.refused_publications import CUTS_MAX, Occurrences
from kkt_bridge.mqtt.session import (
    BEFORE_SUBACK_BYTES_MAX,
    HANDSHAKE_TIMEOUT_S,
    PUBACK_TIMEOUT_MAX_S,
    PUBACK_TIMEOUT_S,
    WINDOW_MAX,
    Session,
)
from kkt_bridge.settings import MqttSettings
from kkt_bridge.wire.messages import ID_SOUGHT_BYTES, REQUEST_BYTES_MAX
from kkt_bridge.wire.topics import Topics

SOON_S = 15.0
ONLINE = b'{"online": true, "since": "2026-11-22T14:00:00.000+03:00", "boot_id": "mine"}'
OFFLINE = ONLINE.replace(b"true", b"false")


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with MosquittoProcess(tmp_path_factory.mktemp("broker")) as process:
        yield process


@pytest.fixture(scope="module")
def amqtt(tmp_path_factory):
    with AmqttProcess(tmp_path_factory.mktemp("amqtt")) as process:
        yield process


class Owner:
    """Listens to the session, and is told what becomes of its messages."""

    def __init__(self):
        self.heard = []

    def link_up(self):
        self.heard.append("up")

    def published(self, token):
        self.heard.append(token)

    def refused(self, token):
        self.heard.append(("refused", token))


class Bench:
    """A session with its inbox and a listener; `until` steps it."""

    def __init__(self, port, *, bridge=None, clock=None, inbox=100, boot_id=b"mine", hour=b"14", **settings):
        self.topics = Topics("kkt/v1", bridge or f"store-{uuid.uuid4().hex[:8]}")
        self.inbox = Inbox(inbox)
        self.owner = Owner()
        self.clock = clock or SystemClock()
        online, offline = (said.replace(b"mine", boot_id).replace(b"T14", b"T" + hour) for said in (ONLINE, OFFLINE))
        since = json.loads(online)["since"]
        presence = Presence(self.topics.state("online"), online, offline, boot_id.decode(), since)
        mqtt = MqttSettings(host=HOST, port=port, **settings)
        self.session = Session(mqtt, self.topics, presence, self.inbox, self.clock)
        self.session.listen(self.owner.link_up)

    def until(self, condition, what, step=None):
        deadline = time.monotonic() + SOON_S
        while not condition():
            assert time.monotonic() < deadline, f"never: {what}; {self.session.complaint}"
            (step or self.step)()

    def step(self):
        self.session.step(0.02)

    def hurry(self):
        """One step, without the pauses between attempts."""
        if self.session._client is None:
            self.clock.advance(WAIT_MAX_S)
        self.session.step(0.01)

    def come_online(self):
        self.until(lambda: self.session.online, "online")
        return self

    def receive(self, count):
        """The next messages, as many as that."""
        received = []

        def enough():
            received.extend(self.inbox.take(100))
            return len(received) >= count

        self.until(enough, f"{count} messages")
        return received

    def settle(self):
        """Let pass what is on its way: a message of our own to the broker and back to its acknowledgement."""
        token = object()
        self.session.publish(Publication(self.topics.event("alert"), b"{}", token=token, owner=self.owner))
        self.until(lambda: token in self.owner.heard, "a round trip")

    def acknowledge(self, messages):
        self.session.acknowledge(message.token for message in messages)
        self.settle()

    def cut(self):
        """Lose the connection without a word, as a pulled cable does, and note it."""
        self.session._client.buffered._line.shutdown(socket.SHUT_RDWR)
        self.until(lambda: not self.session.online, "the loss")


@pytest.fixture
def bench(broker):
    made = Bench(broker.port)
    yield made
    made.session.close()


@pytest.fixture
def pos(broker):
    with BrokerClient(HOST, broker.port) as client:
        yield client


def payloads(messages):
    return [message.payload for message in messages]


def retained(broker, topic):
    """What the broker keeps on a topic."""
    with BrokerClient(HOST, broker.port) as client:
        client.subscribe([topic])
        received = client.get(SOON_S)
        assert received is not None
        return received


# -- birth, will, farewell ---------------------------------------------------------------------------------


def test_birth_is_retained_and_listeners_hear_of_it(broker, bench):
    assert bench.session.complaint == "not yet connected"
    bench.come_online()
    assert bench.owner.heard == ["up"]
    assert bench.session.complaint is None
    birth = retained(broker, bench.topics.state("online"))
    assert (birth.payload, birth.retain) == (ONLINE, True)


def test_a_lost_connection_is_told_by_the_will(broker, bench, pos):
    pos.subscribe([bench.topics.state("online")])
    bench.come_online()
    assert pos.get(SOON_S).payload == ONLINE
    bench.session.close()
    assert pos.get(SOON_S).payload == OFFLINE
    assert bench.owner.heard == ["up"]
    assert retained(broker, bench.topics.state("online")).payload == OFFLINE


def test_a_farewell_says_all_that_is_queued_and_then_goodbye(broker, bench, pos):
    bench.come_online()
    pos.subscribe([f"{bench.topics.branch}/#"])
    assert pos.get(SOON_S).payload == ONLINE
    for number in range(300):
        bench.session.publish(Publication(bench.topics.reply("pos-1"), b"%d" % number, token=number, owner=bench.owner))
    bench.session.publish_offline()
    bench.until(lambda: bench.session.gone, "gone")
    received = [pos.get(SOON_S).payload for _ in range(301)]
    assert received == [*(b"%d" % number for number in range(300)), OFFLINE]
    assert retained(broker, bench.topics.state("online")).payload == OFFLINE
    assert bench.owner.heard == ["up", *range(300)]
    bench.session.step(0.01)
    assert bench.session.gone, "and it does not come back"


def test_a_farewell_without_a_broker_is_short():
    bench = Bench(free_port())
    bench.session.step(0.01)
    bench.session.publish_offline()
    assert bench.session.gone
    bench.session.close()


# -- receiving ---------------------------------------------------------------------------------------------


def test_a_request_comes_with_everything_that_belongs_to_it(bench, pos):
    bench.come_online()
    topic = bench.topics.receipt("pos-1")
    pos.publish(topic, b"\x00\xff", response_topic="kkt/somewhere", correlation=b"\x01\x02")
    (message,) = bench.receive(1)
    assert (message.topic, message.payload, message.redelivered) == (topic, b"\x00\xff", False)
    assert (message.response_topic, message.correlation) == ("kkt/somewhere", b"\x01\x02")
    assert message.token.qos == 1


def test_everything_addressed_to_the_bridge_comes_in_order_and_nothing_else(bench, pos):
    bench.come_online()
    topics = bench.topics
    mine = [topics.receipt("pos-1"), topics.query("pos-2"), topics.command("status")]
    for topic in (mine[0], "kkt/v1/another/pos/pos-1/receipt", mine[1], topics.reply("pos-1"), mine[2]):
        pos.publish(topic, b"{}")
    assert [message.topic for message in bench.receive(3)] == mine
    bench.settle()
    assert bench.inbox.take(10) == []


def test_what_is_not_acknowledged_comes_again_and_says_so(bench, pos):
    bench.come_online()
    topic = bench.topics.receipt("pos-1")
    for number in range(4):
        pos.publish(topic, b"%d" % number)
    received = bench.receive(4)
    bench.acknowledge(received[:2])
    bench.cut()
    bench.come_online()
    again = bench.receive(2)
    assert [(message.payload, message.redelivered) for message in again] == [(b"2", True), (b"3", True)]
    bench.acknowledge(again)
    bench.cut()
    bench.come_online()
    bench.settle()
    assert bench.inbox.take(10) == []


def test_an_acknowledgement_of_an_old_connection_is_dropped(bench, pos):
    """The same packet id can be another message by now: it would be lost."""
    bench.come_online()
    pos.publish(bench.topics.receipt("pos-1"), b"first")
    (first,) = bench.receive(1)
    bench.cut()
    bench.session.acknowledge([first.token])
    bench.come_online()
    (again,) = bench.receive(1)
    assert again.token != first.token
    bench.session.acknowledge([first.token])
    bench.settle()
    bench.cut()
    bench.come_online()
    (third,) = bench.receive(1)
    assert third.redelivered
    bench.acknowledge([third])


def test_what_is_published_while_the_bridge_is_away_waits_for_it(bench, pos):
    bench.come_online()
    bench.cut()
    for number in range(20):
        pos.publish(bench.topics.receipt("pos-1"), b"%d" % number)
    bench.come_online()
    received = bench.receive(20)
    assert payloads(received) == [b"%d" % number for number in range(20)]
    bench.acknowledge(received)


def test_a_retained_request_that_comes_again_counts_as_a_redelivery(bench, pos):
    """It comes with every connection: what was refused once must not be taken behind the cashier's back."""
    bench.come_online()
    topic = bench.topics.receipt("pos-1")
    pos.publish(topic, b"retained by mistake", retain=True)
    (first,) = bench.receive(1)
    assert not first.redelivered
    bench.acknowledge([first])
    bench.cut()
    bench.come_online()
    bench.settle()
    assert [message.redelivered for message in bench.inbox.take(10)] in ([True], [])
    pos.publish(topic, b"", retain=True)


def test_a_message_at_qos_0_is_taken_as_it_comes(bench, pos):
    bench.come_online()
    pos.publish(bench.topics.receipt("pos-1"), b"{}", qos=0)
    received = bench.receive(1)
    assert received[0].token.qos == 0
    bench.acknowledge(received)


def test_a_full_inbox_is_not_read_into_and_loses_nothing(broker, pos):
    bench = Bench(broker.port, inbox=5, receive_maximum=1000).come_online()
    for number in range(100):
        pos.publish(bench.topics.receipt("pos-1"), b"%d" % number)
    for _ in range(50):
        bench.session.step(0.01)
    assert 5 <= len(bench.inbox) <= 40
    received = bench.receive(100)
    assert payloads(received) == [b"%d" % number for number in range(100)]
    bench.acknowledge(received)
    bench.session.close()


# -- publishing --------------------------------------------------------------------------------------------


def test_messages_go_out_in_order_and_are_reported_when_the_broker_has_them(bench, pos):
    bench.come_online()
    pos.subscribe([bench.topics.reply("pos-1")])
    count = 2 * WINDOW_MAX + 10
    for number in range(count):
        bench.session.publish(Publication(bench.topics.reply("pos-1"), b"%d" % number, token=number, owner=bench.owner))
    bench.until(lambda: len(bench.owner.heard) == count + 1, "all acknowledgements")
    assert bench.owner.heard == ["up", *range(count)]
    assert [pos.get(SOON_S).payload for _ in range(count)] == [b"%d" % number for number in range(count)]


def test_a_message_has_its_correlation_and_its_retain_flag(broker, bench, pos):
    bench.come_online()
    pos.subscribe([bench.topics.reply("pos-1")])
    bench.session.publish(Publication(bench.topics.reply("pos-1"), b"{}", correlation=b"\x00\x07"))
    well = Publication(bench.topics.state("health"), b"well", retain=True, token="said", owner=bench.owner)
    bench.session.publish(well)
    bench.until(lambda: "said" in bench.owner.heard, "the state")
    received = pos.get(SOON_S)
    assert (received.correlation, received.retain) == (b"\x00\x07", False)
    assert retained(broker, bench.topics.state("health")).payload == b"well"


def test_without_a_connection_a_message_is_not_kept(bench):
    bench.session.publish(Publication("topic", b"lost", token="lost", owner=bench.owner))
    bench.come_online()
    bench.settle()
    assert "lost" not in bench.owner.heard


def test_what_was_on_its_way_when_the_line_broke_is_not_reported(bench):
    bench.come_online()
    bench.session._client.buffered._line.shutdown(socket.SHUT_RDWR)
    for number in range(10):
        bench.session.publish(Publication(bench.topics.reply("pos-1"), b"%d" % number, token=number, owner=bench.owner))
    bench.until(lambda: not bench.session.online, "the loss")
    bench.come_online()
    assert bench.owner.heard == ["up", "up"]


def test_a_ring_wakes_the_session(bench):
    bench.come_online()
    ringing = threading.Timer(0.1, bench.session.wake)
    started = time.monotonic()
    ringing.start()
    bench.session.step(10)
    ringing.join()
    assert time.monotonic() - started < 5


# -- brokers that go and come -------------------------------------------------------------------------------


def test_a_broker_that_restarts_finds_everything_again(tmp_path):
    with MosquittoProcess(tmp_path) as broker:
        bench = Bench(broker.port).come_online()
        with BrokerClient(HOST, broker.port) as pos:
            pos.publish(bench.topics.receipt("pos-1"), b"before")
        (before,) = bench.receive(1)
        broker.restart()
        bench.until(lambda: not bench.session.online, "the loss")
        bench.come_online()
        assert retained(broker, bench.topics.state("online")).payload == ONLINE
        (again,) = bench.receive(1)
        assert (again.payload, again.redelivered) == (b"before", True)
        with BrokerClient(HOST, broker.port) as pos:
            pos.publish(bench.topics.receipt("pos-1"), b"after")
        assert payloads(bench.receive(1)) == [b"after"]
        assert before.token.epoch < again.token.epoch
        bench.session.close()


def test_a_broker_that_lost_its_memory_is_subscribed_to_again(tmp_path):
    with MosquittoProcess(tmp_path / "first") as broker:
        bench = Bench(broker.port).come_online()
        port, ws_port = broker.port, broker.ws_port
        broker.kill()
        bench.until(lambda: not bench.session.online, "the loss")
    with MosquittoProcess(tmp_path / "second", port, ws_port) as broker:
        bench.come_online()
        with BrokerClient(HOST, broker.port) as pos:
            pos.publish(bench.topics.receipt("pos-1"), b"1")
        assert payloads(bench.receive(1)) == [b"1"]
        bench.session.close()


def test_nobody_there_is_said_and_tried_again_less_and_less_often(caplog):
    clock = ManualClock()
    bench = Bench(free_port(), clock=clock)
    waits = []
    for _ in range(10):
        bench.session.step(0)
        waits.append(bench.session._redial.not_before - clock.monotonic())
        clock.advance(waits[-1])
    assert f"{HOST}:{bench.session._settings.port}" in bench.session.complaint
    assert waits[0] < 0.3
    assert max(waits) <= WAIT_MAX_S * 1.2
    assert min(waits[-3:]) >= WAIT_MAX_S * 0.8
    assert "the broker is away" in caplog.text
    bench.session.close()


def test_a_second_bridge_with_one_id_is_detected_and_not_fought(broker, caplog):
    clock = ManualClock()
    first = Bench(broker.port, bridge="twin", clock=clock).come_online()
    second = Bench(broker.port, bridge="twin", boot_id=b"other", hour=b"15").come_online()
    first.until(lambda: not first.session.online, "the loss")
    if "second bridge" not in first.session.complaint:  # a broker that cuts without a word is found out at the next try
        clock.advance(WAIT_MAX_S)
        first.until(lambda: "second bridge" in first.session.complaint, "the suspicion")
    assert first.session._redial.not_before - clock.monotonic() >= TAKEN_OVER_WAIT_S * 0.8
    assert "kkt-bridge-twin" in caplog.text
    assert "second bridge" in (first.session.status.rival or "")
    assert second.session.status.rival is None
    for bench in (first, second):
        bench.session.close()


def test_what_an_earlier_run_left_is_no_rival(broker):
    for boot_id in (b"first", b"second"):
        bench = Bench(broker.port, bridge="crashing", boot_id=boot_id).come_online()
        bench.settle()
        assert bench.session.online
        bench.cut()
        bench.come_online()
        bench.settle()
        assert bench.session.online
        bench.session.close()


@pytest.mark.parametrize("presence", [b"", b"null", b"[]", b"not JSON", b"\xff", b'{"online": true}', b'{"online": 1}'])
def test_rubbish_on_the_topic_of_presence_harms_nothing(bench, pos, presence):
    bench.come_online()
    bench.cut()
    bench.come_online()
    pos.publish(bench.topics.state("online"), presence, retain=True)
    bench.settle()
    bench.cut()
    bench.come_online()
    bench.settle()
    assert bench.session.online
    assert bench.inbox.take(10) == []


def test_a_refused_login_is_said(tmp_path):
    class StrictMosquitto(MosquittoProcess):
        def command(self):
            program, *rest = super().command()
            file = self.directory / f"mosquitto-{self.port}.conf"
            file.write_text(file.read_text().replace("allow_anonymous true", "allow_anonymous false"))
            return [program, *rest]

    with StrictMosquitto(tmp_path) as broker:
        bench = Bench(broker.port, username="store-017", password="wrong")
        bench.until(lambda: "refused" in bench.session.complaint, "a refusal")
        assert "Not authorized" in bench.session.complaint
        assert "wrong" not in bench.session.complaint
        bench.session.close()


# -- protocols --------------------------------------------------------------------------------------------------


def protocol(bench):
    return bench.session.status.protocol


def test_mqtt_5_is_spoken_where_it_is_understood(bench):
    bench.come_online()
    assert protocol(bench) == "5"


def test_mqtt_3_is_spoken_where_it_is_not(amqtt):
    bench = Bench(amqtt.port).come_online()
    assert protocol(bench) == "3.1.1"
    with BrokerClient(HOST, amqtt.port) as pos:
        pos.subscribe([bench.topics.reply("pos-1")])
        pos.publish(bench.topics.receipt("pos-1"), b"request")
        (message,) = bench.receive(1)
        assert (message.payload, message.response_topic, message.correlation) == (b"request", None, None)
        bench.acknowledge([message])
        bench.session.publish(Publication(bench.topics.reply("pos-1"), b"reply", correlation=b"unsaid"))
        bench.settle()
        assert pos.get(SOON_S).payload == b"reply"
    bench.session.publish_offline()
    bench.until(lambda: bench.session.gone, "gone")
    bench.session.close()


def test_a_broken_handshake_does_not_stick_to_the_old_protocol(tmp_path):
    """A broker that is just going down cuts the first try; what comes back speaks MQTT 5 as ever."""
    port = free_port()
    with closing(socket.create_server((HOST, port))) as listener:
        bench = Bench(port)
        bench.session.step(0)
        connection = listener.accept()[0]
    connection.close()
    for _ in range(5):
        bench.session.step(0.02)
    with MosquittoProcess(tmp_path, port):
        bench.come_online()
        assert protocol(bench) == "5"
        bench.session.close()


# -- peers that are no good brokers: spoken to byte by byte ------------------------------------------------------


CONNACK_5 = bytes.fromhex("20 03 00 00 00")
SUBACK_5_GRANTED = "90 07 {:04x} 00 01 01 01 00"


class Doorway:
    """A listening socket that closes behind everybody it let in."""

    def __init__(self):
        self._listener = socket.create_server((HOST, 0))
        self._let_in = []
        self.port = self._listener.getsockname()[1]

    def accept(self, timeout_s=SOON_S):
        self._listener.settimeout(timeout_s)
        connection, _ = self._listener.accept()
        self._let_in.append(connection)
        return connection

    def close(self):
        for each in (self._listener, *self._let_in):
            each.close()


class Peer:
    """The other end of a session's connection."""

    def __init__(self, listener):
        self.connection = listener.accept()
        self.connection.settimeout(SOON_S)
        self._buffer = b""

    def read(self):
        """The next packet: its type, and its content behind the length."""
        while True:
            if packet := self._whole_packet():
                return packet
            received = self.connection.recv(65536)
            assert received, "the session closed"
            self._buffer += received

    def _whole_packet(self):
        length, shift = 0, 0
        for index, byte in enumerate(self._buffer[1:5], start=1):
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                end = index + 1 + length
                if len(self._buffer) < end:
                    return None
                packet, self._buffer = self._buffer[:end], self._buffer[end:]
                return packet[0] >> 4, packet[index + 1 :]
        return None

    def send(self, content):
        self.connection.sendall(bytes.fromhex(content) if isinstance(content, str) else content)

    def welcome(self, connack=CONNACK_5):
        """Answer CONNECT and SUBSCRIBE."""
        kind, _ = self.read()
        assert kind == 1
        self.send(connack)
        kind, content = self.read()
        assert kind == 8
        self.send(SUBACK_5_GRANTED.format(struct.unpack("!H", content[:2])[0]))

    def publish(self, mid, topic, payload):
        self.send(publish_of(mid, topic, payload))


def length_of(body):
    """The remaining length as MQTT writes it: seven bits a byte, the lowest first."""
    left, written = len(body), bytearray()
    while left > 0x7F:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*written, left])


def publish_of(mid, topic, payload, *, modern=True):
    """A PUBLISH at QoS 1."""
    name = topic.encode()
    body = struct.pack("!H", len(name)) + name + struct.pack("!H", mid) + b"\0" * modern + payload
    return bytes([0x32]) + length_of(body) + body


@contextmanager
def peer_session(**settings):
    """A session and a listener for it; each `Peer(listener)` is a connection."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(Doorway()))
        bench = Bench(listener.port, **settings)
        stack.callback(bench.session.close)
        yield bench, listener


def in_thread(work):
    """Have the peer work while the session steps; what it returns."""
    result = []
    thread = threading.Thread(target=lambda: result.append(work()), daemon=True)
    thread.start()
    return thread, result


def play(bench, work, *, then=lambda: True):
    thread, result = in_thread(work)
    bench.until(lambda: not thread.is_alive() and then(), "the peer's part")
    return result[0]


def test_acknowledgements_go_out_in_the_order_given():
    with peer_session() as (bench, listener):
        peer = play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        assert peer.read()[0] == 3
        for mid in (11, 12, 13, 14):
            peer.publish(mid, bench.topics.receipt("pos-1"), b"{}")
        received = bench.receive(4)
        bench.session.acknowledge([received[0].token, received[1].token])
        bench.session.acknowledge([AckToken(99, 13, 1)])
        bench.session.acknowledge([received[2].token, received[3].token])
        for _ in range(5):
            bench.session.step(0.01)
        acknowledged = [peer.read() for _ in range(4)]
        assert [(kind, struct.unpack("!H", content[:2])[0]) for kind, content in acknowledged] == [
            (4, 11),
            (4, 12),
            (4, 13),
            (4, 14),
        ]


def welcomed(listener, connack=CONNACK_5):
    peer = Peer(listener)
    peer.welcome(connack)
    return peer


def test_the_brokers_own_limit_of_messages_on_their_way_is_kept():
    receive_maximum_3 = bytes.fromhex("20 06 00 00 03 21 00 03")
    with peer_session() as (bench, listener):
        peer = play(bench, lambda: welcomed(listener, receive_maximum_3), then=lambda: bench.session.online)
        for number in range(10):
            bench.session.publish(Publication("topic", b"%d" % number, token=number, owner=bench.owner))
        for _ in range(5):
            bench.session.step(0.01)
        sent = [peer.read() for _ in range(3)]
        assert [kind for kind, _ in sent] == [3, 3, 3]
        peer.connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.read()


def mid_of(publish):
    """The packet id of a PUBLISH at QoS 1."""
    return publish[2 + struct.unpack("!H", publish[:2])[0] :][:2]


def topic_of(publish):
    return publish[2 : 2 + struct.unpack("!H", publish[:2])[0]].decode()


def read_publish(bench, peer):
    """The next PUBLISH of the session, which is stepped meanwhile."""
    while True:
        kind, content = play(bench, peer.read)
        if kind == 3:
            return content


@pytest.mark.parametrize("reason", [0x80, 0x83, 0x87, 0x90, 0x97])
def test_a_message_that_the_broker_refuses_is_told_held_and_no_end_of_the_rest(caplog, reason):
    with peer_session() as (bench, listener):
        peer = play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        assert peer.read()[0] == 3
        bench.session.publish(Publication(bench.topics.reply("pos-1"), b"{}", token=1, owner=bench.owner))
        peer.send(b"\x40\x03" + mid_of(read_publish(bench, peer)) + bytes([reason]))
        bench.until(lambda: ("refused", 1) in bench.owner.heard, "the answer")
        assert 1 not in bench.owner.heard
        assert bench.session.online
        assert bench.topics.reply("pos-1") in caplog.text
        refused = bench.session.status.refused_topics
        assert refused.count == 1
        assert bench.topics.reply("pos-1") in refused.example
        assert bench.topics.reply("pos-1") in bench.session.holds


def test_a_message_larger_than_the_broker_takes_does_not_cost_the_connection(caplog):
    """It would be cut, come first again on the next one, and so for ever."""
    maximum_packet_size_256 = bytes.fromhex("20 08 00 00 05 27 00 00 01 00")
    with peer_session() as (bench, listener):
        peer = play(bench, lambda: welcomed(listener, maximum_packet_size_256), then=lambda: bench.session.online)
        assert peer.read()[0] == 3
        bench.session.publish(Publication(bench.topics.reply("pos-1"), bytes(1000), token=1, owner=bench.owner))
        bench.session.publish(Publication(bench.topics.reply("pos-1"), b"small", token=2, owner=bench.owner))
        bench.until(lambda: ("refused", 1) in bench.owner.heard, "an end of it")
        assert read_publish(bench, peer)[-5:] == b"small"
        assert bench.session.online
        assert bench.topics.reply("pos-1") in caplog.text


@pytest.mark.parametrize("limit", ["ff ff ff ff", "10 00 00 00", "00 00 00 00"])
def test_a_limit_that_is_none_keeps_nobody_from_mqtt_5(limit):
    connack = bytes.fromhex("20 0b 00 00 08 27" + limit + "21 00 00")
    with peer_session() as (bench, listener):
        peer = play(bench, lambda: welcomed(listener, connack), then=lambda: bench.session.online)
        assert bench.session.status.protocol == "5"
        bench.session.publish(Publication(bench.topics.reply("pos-1"), b"{}", token=1, owner=bench.owner))
        assert topic_of(read_publish(bench, peer)) == bench.topics.state("online")
        assert topic_of(read_publish(bench, peer)) == bench.topics.reply("pos-1")


def answering(listener, granted):
    peer = Peer(listener)
    peer.read()
    peer.send(CONNACK_5)
    _, content = peer.read()
    peer.send(b"\x90\x07" + content[:2] + b"\x00" + bytes(granted))
    return peer


def test_a_broker_that_refuses_receipts_is_served_with_nothing():
    """A session that the broker remembers may let receipts in all the same: they would be printed, nobody answered."""
    with peer_session() as (bench, listener):

        def refuse():
            peer = Peer(listener)
            peer.read()
            peer.send(CONNACK_5)
            _, content = peer.read()
            peer.publish(7, bench.topics.receipt("pos-1"), b"{}")
            peer.send(b"\x90\x07" + content[:2] + b"\x00" + bytes([0x87, 1, 1, 0]))
            return peer

        play(bench, refuse, then=lambda: "check its access list" in (bench.session.complaint or ""))
        assert not bench.session.online
        assert bench.owner.heard == []
        assert bench.inbox.take(10) == []
        assert bench.session.status.protocol == "5", "that was no question of the protocol"


@pytest.mark.parametrize("which", [1, 2, 3])
def test_what_is_granted_is_served_and_what_is_refused_is_said(caplog, which):
    with peer_session() as (bench, listener):
        granted = [0x87 if number == which else 1 for number in range(4)]
        peer = play(bench, lambda: answering(listener, granted), then=lambda: bench.session.online)
        filters = [*bench.topics.subscriptions(), bench.topics.state("online")]
        assert bench.session.status.refused_subscriptions == ((filters[which],) if which < 3 else ()), (
            "presence is a plus"
        )
        assert filters[which] in caplog.text
        peer.publish(7, bench.topics.receipt("pos-1"), b"{}")
        assert len(bench.receive(1)) == 1


def test_what_comes_before_the_subscription_is_granted_is_not_lost():
    with peer_session() as (bench, listener):

        def early():
            peer = Peer(listener)
            peer.read()
            peer.send(CONNACK_5)
            peer.publish(7, bench.topics.receipt("pos-1"), b"early")
            _, content = peer.read()
            peer.send(SUBACK_5_GRANTED.format(struct.unpack("!H", content[:2])[0]))
            return peer

        play(bench, early, then=lambda: bench.session.online)
        assert payloads(bench.receive(1)) == [b"early"]


def test_of_a_payload_too_large_for_any_request_only_length_digest_and_beginning_are_kept():
    with peer_session() as (bench, listener):
        topic, payload = bench.topics.receipt("pos-1"), b"x" * (REQUEST_BYTES_MAX + 1)

        def early():
            peer = Peer(listener)
            peer.read()
            peer.send(CONNACK_5)
            peer.publish(7, topic, payload)
            peer.publish(8, topic, payload[1:])
            _, content = peer.read()
            peer.send(SUBACK_5_GRANTED.format(struct.unpack("!H", content[:2])[0]))
            peer.publish(9, topic, payload)
            return peer

        play(bench, early, then=lambda: bench.session.online)
        before, whole, after = bench.receive(3)
        assert whole == Incoming(whole.token, topic, payload[1:], redelivered=False)
        for cut in (before, after):
            assert (cut.payload, cut.excess.length) == (payload[:ID_SOUGHT_BYTES], len(payload))
            assert cut.digest == Incoming(cut.token, topic, payload, redelivered=False).digest


def test_much_that_comes_before_the_suback_is_bounded_in_bytes_and_not_lost():
    """The SUBACK stands behind it, so it is taken; and while nothing takes it, the socket is left unread."""
    clock = ManualClock()
    with peer_session(clock=clock, inbox=10_000) as (bench, listener):
        count = 3 * BEFORE_SUBACK_BYTES_MAX // REQUEST_BYTES_MAX

        def early():
            peer = Peer(listener)
            peer.read()
            peer.send(CONNACK_5)
            _, content = peer.read()
            for mid in range(1, count + 1):
                peer.publish(mid, bench.topics.receipt("pos-1"), b"%d" % mid + bytes(REQUEST_BYTES_MAX - 10))
            peer.send(SUBACK_5_GRANTED.format(struct.unpack("!H", content[:2])[0]))
            return peer

        thread, _ = in_thread(early)
        bench.until(bench.inbox.is_full, "a full inbox")
        for _ in range(5):
            clock.advance(HANDSHAKE_TIMEOUT_S - 1)
            bench.session.step(0)
        assert bench.session._before_suback == []
        assert len(bench.inbox) * REQUEST_BYTES_MAX <= 2 * BEFORE_SUBACK_BYTES_MAX
        assert bench.session.complaint == "not yet connected", "no end of the handshake"
        received = bench.receive(count)
        assert [message.payload.rstrip(b"\0") for message in received] == [b"%d" % mid for mid in range(1, count + 1)]
        bench.until(lambda: bench.session.online and not thread.is_alive(), "online")


def test_a_slow_line_with_much_that_waited_is_no_silence():
    """The broker sends what it kept before its SUBACK: over a slow line that takes longer than any handshake."""
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):

        def early():
            peer = Peer(listener)
            peer.read()
            peer.send(CONNACK_5)
            return peer, peer.read()[1]

        peer, content = play(bench, early)
        for mid in range(1, 4):
            clock.advance(HANDSHAKE_TIMEOUT_S - 1)
            peer.publish(mid, bench.topics.receipt("pos-1"), b"early")
            for _ in range(5):
                bench.session.step(0.02)
        peer.send(SUBACK_5_GRANTED.format(struct.unpack("!H", content[:2])[0]))
        bench.until(lambda: bench.session.online, "the session is online")
        assert payloads(bench.receive(3)) == [b"early"] * 3


def test_a_broker_that_agrees_to_no_subscription_is_given_up():
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):

        def early():
            peer = Peer(listener)
            peer.read()
            peer.send(CONNACK_5)
            return peer.read()

        play(bench, early)
        clock.advance(HANDSHAKE_TIMEOUT_S + 0.1)
        bench.session.step(0.02)
        assert bench.session._client is None


# -- brokers that fall silent, cut, and say odd things --------------------------------------------------------------


def test_a_broker_that_owes_a_puback_is_left_and_tried_again():
    """One that answers pings and takes nothing would leave every POS without an answer, and nobody told."""
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):
        play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        bench.session.step(0.01)
        clock.advance(PUBACK_TIMEOUT_S - 1)
        bench.session.step(0.01)
        assert bench.session.online
        assert bench.session.status.last_puback_age_s == PUBACK_TIMEOUT_S - 1
        clock.advance(2)
        bench.session.step(0.01)
        assert not bench.session.online
        assert "acknowledges nothing" in bench.session.complaint
        assert bench.session.status.parked.count == 0
        play(bench, lambda: in_good_time(listener, clock), then=lambda: bench.session.online)


def in_good_time(listener, clock):
    clock.advance(WAIT_MAX_S)
    return welcomed(listener)


def test_while_messages_come_a_puback_may_stand_behind_them_but_not_for_ever():
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):
        peer = play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        bench.session.step(0.01)
        waited_s, mid = 0.0, 0
        while waited_s + PUBACK_TIMEOUT_S < PUBACK_TIMEOUT_MAX_S:
            clock.advance(PUBACK_TIMEOUT_S - 1)
            waited_s, mid = waited_s + PUBACK_TIMEOUT_S - 1, mid + 1
            peer.publish(mid, bench.topics.receipt("pos-1"), b"{}")
            assert len(bench.receive(1)) == 1
            assert bench.session.online, waited_s
        peer.publish(mid + 1, bench.topics.receipt("pos-1"), b"{}")
        assert len(bench.receive(1)) == 1
        clock.advance(PUBACK_TIMEOUT_MAX_S - waited_s + 1)
        peer.publish(mid + 2, bench.topics.receipt("pos-1"), b"{}")
        bench.until(lambda: not bench.session.online, "the end")
        assert "acknowledges nothing" in bench.session.complaint


def test_when_messages_cease_the_broker_has_as_long_for_its_puback_as_after_none():
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):
        peer = play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        bench.session.step(0.01)
        clock.advance(PUBACK_TIMEOUT_S - 1)
        peer.publish(1, bench.topics.receipt("pos-1"), b"{}")
        assert len(bench.receive(1)) == 1
        clock.advance(PUBACK_TIMEOUT_S - 1)
        bench.session.step(0.01)
        assert bench.session.online
        clock.advance(2)
        bench.session.step(0.01)
        assert not bench.session.online


def test_while_the_inbox_is_full_nobody_owes_a_puback():
    clock = ManualClock()
    with peer_session(clock=clock, inbox=1) as (bench, listener):
        peer = play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        peer.publish(7, bench.topics.receipt("pos-1"), b"{}")
        bench.until(bench.inbox.is_full, "a full inbox")
        bench.session.step(0.01)
        clock.advance(3 * PUBACK_TIMEOUT_S)
        bench.session.step(0.01)
        assert bench.session.online, "its PUBACK may have been lying there all the while"


@pytest.mark.parametrize("token", [1, object()])
def test_a_message_over_which_the_broker_cuts_is_parked_and_the_rest_goes_on(token):
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):
        poison = Publication("kkt/v1/poison", b"poison", token=token, owner=bench.owner)

        def until_poison():
            peer = welcomed(listener)
            while True:
                kind, content = peer.read()
                if kind == 3 and topic_of(content) == poison.topic:
                    peer.connection.close()
                    return
                if kind == 3:
                    peer.send(b"\x40\x02" + mid_of(content))

        for _ in range(CUTS_MAX):
            thread, _ = in_thread(until_poison)
            clock.advance(WAIT_MAX_S)
            bench.until(lambda: bench.session.online, "online")
            bench.session.publish(poison)
            bench.until(lambda: not bench.session.online and not thread.is_alive(), "the cut")  # noqa: B023
        assert ("refused", token) in bench.owner.heard
        assert bench.session.status.parked.count == 1
        assert poison.topic in bench.session.status.parked.example
        assert poison.key in bench.session.holds


def test_a_forged_or_cleared_presence_is_answered_with_the_birth(broker, bench, pos):
    clock = bench.clock
    bench.come_online()
    bench.settle()
    pos.subscribe([bench.topics.state("online")])
    assert pos.get(SOON_S).payload == ONLINE
    for said in (b"", OFFLINE, b"nonsense"):
        pos.publish(bench.topics.state("online"), said, retain=True)
        assert pos.get(SOON_S).payload == said
        answers = []

        def answered(answers=answers):
            if (message := pos.get(0)) is not None:
                answers.append(message.payload)
            return answers == [ONLINE]

        bench.until(answered, "the birth again")
    assert retained(broker, bench.topics.state("online")).payload == ONLINE
    assert clock is bench.clock


def test_the_birth_is_repeated_as_all_retained_state_is():
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):
        peer = play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        for _ in range(3):
            content = read_publish(bench, peer)
            assert content.endswith(ONLINE)
            peer.send(b"\x40\x02" + mid_of(content))
            bench.until(lambda: not bench.session._in_flight, "the acknowledgement")
            clock.advance(30)


def test_a_packet_that_cannot_be_read_is_taken_with_the_old_protocol_and_then_the_new_comes_back():
    """Over MQTT 3.1.1 the same message comes without what could not be read, and can be acknowledged at last."""
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):
        peer = play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        peer.send(b"\x36\x02\x00\x00")  # a PUBLISH at QoS 3: no broker sends that
        bench.until(lambda: not bench.session.online, "the end")
        assert "cannot be read" in bench.session.complaint
        clock.advance(WAIT_MAX_S)

        def old():
            peer = Peer(listener)
            _, content = peer.read()
            assert content[6] == 4
            peer.send(b"\x20\x02\x01\x00")
            _, content = peer.read()
            peer.send(b"\x90\x06" + content[:2] + b"\x01\x01\x01\x00")
            name = bench.topics.receipt("pos-1").encode()
            body = struct.pack("!H", len(name)) + name + struct.pack("!H", 9) + b"{}"
            peer.send(bytes([0x3A, len(body)]) + body)
            return peer

        peer = play(bench, old, then=lambda: bench.session.online)
        (message,) = bench.receive(1)
        bench.session.acknowledge([message.token])
        while (packet := play(bench, peer.read))[0] != 4:
            pass
        assert packet[1] == struct.pack("!H", 9)
        clock.advance(DOWNGRADE_S + 1)
        play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        assert bench.session.status.protocol == "5"


def old_welcomed(listener):
    """Answer a handshake of MQTT 3.1.1."""
    peer = Peer(listener)
    _, content = peer.read()
    assert content[6] == 4
    peer.send(b"\x20\x02\x00\x00")
    _, content = peer.read()
    peer.send(b"\x90\x06" + content[:2] + b"\x01\x01\x01\x00")
    return peer


def acknowledge_birth(bench, peer):
    """Take the birth, which is said again after a while, so that nothing of the session's is on its way."""
    kind, birth = play(bench, peer.read)
    assert (kind, birth.endswith(ONLINE)) == (3, True)
    peer.send(b"\x40\x02" + mid_of(birth))
    bench.until(lambda: not bench.session._in_flight, "the acknowledgement")


def test_a_broker_that_was_silent_for_a_while_is_asked_for_mqtt_5_again_when_nothing_is_on_its_way():
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):
        for _ in range(SILENCES_MAX):
            bench.until(lambda: bench.session._client is not None, "an attempt", bench.hurry)
            peer = play(bench, lambda: Peer(listener))
            assert play(bench, peer.read)[1][6] == 5
            peer.connection.close()
            bench.until(lambda: bench.session._client is None, "the loss")
        clock.advance(WAIT_MAX_S)
        peer = play(bench, lambda: old_welcomed(listener), then=lambda: bench.session.online)
        assert bench.session.status.protocol == "3.1.1"
        acknowledge_birth(bench, peer)
        peer.send(publish_of(7, bench.topics.receipt("pos-1"), b"{}", modern=False))
        bench.until(lambda: len(bench.inbox) == 1, "a message")
        clock.advance(TRIAL_S + 1)
        acknowledge_birth(bench, peer)
        bench.session.step(0.01)
        assert bench.session.online, "a message waits"
        bench.receive(1)
        play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        assert bench.session.status.protocol == "5"


@pytest.mark.parametrize(("answer", "complaint"), [(b"\x20\x02\x00\x05", "Not authorized"), (b"", "disconnected")])
def test_the_complaint_is_that_of_the_last_attempt(answer, complaint):
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):

        def refuse_new_and_drop_old():
            peer = Peer(listener)
            peer.read()
            peer.send(b"\x20\x03\x00\x84\x00")
            peer.connection.close()
            peer = Peer(listener)
            _, content = peer.read()
            assert content[6] == 4
            peer.send(answer)
            peer.connection.close()

        play(bench, refuse_new_and_drop_old, then=lambda: bench.session._client is None)
        assert complaint in bench.session.complaint
        assert "protocol" not in bench.session.complaint


def test_a_protocol_that_is_set_is_the_only_one_tried():
    with peer_session(protocol="3.1.1", client_id="shop-17") as (bench, listener):
        peer = play(bench, lambda: Peer(listener))
        kind, content = play(bench, peer.read)
        assert (kind, content[6]) == (1, 4)
        assert b"\x00\x07shop-17" in content


def test_messages_for_nobody_and_answers_that_go_elsewhere_are_said_once(bench, pos, caplog):
    bench.come_online()
    topic = bench.topics.receipt("pos-1")
    for _ in range(3):
        pos.publish(topic, b"{}", response_topic="kkt/v1/another/branch")
    bench.receive(3)
    assert caplog.text.count("outside of its own branch") == 1
    assert bench.session.status.unroutable.count == 0
    bench.session._warnings.check("kkt/v1/store/017/pos/pos-1/receipt", None, None)
    bench.session._warnings.check("kkt/v1/store/017/pos/pos-1/receipt", None, None)
    assert caplog.text.count("is no topic of this bridge") == 1
    assert bench.session.status.unroutable == Occurrences(2, "kkt/v1/store/017/pos/pos-1/receipt")


@given(blocks=st.lists(st.binary(max_size=40), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_whatever_stands_among_the_properties_the_message_comes_once_and_is_acknowledged(blocks):
    with peer_session() as (bench, listener):
        peer = play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        name = bench.topics.receipt("pos-1").encode()
        for mid, block in enumerate(blocks, start=1):
            body = struct.pack("!H", len(name)) + name + struct.pack("!H", mid) + bytes([len(block)]) + block + b"{}"
            peer.send(bytes([0x32, len(body)]) + body)
        received = bench.receive(len(blocks))
        assert payloads(received) == [b"{}"] * len(blocks)
        bench.session.acknowledge(message.token for message in received)
        acknowledged = []
        while len(acknowledged) < len(blocks):
            kind, content = play(bench, peer.read)
            acknowledged += [struct.unpack("!H", content)[0]] if kind == 4 else []
        assert acknowledged == list(range(1, len(blocks) + 1))
        assert bench.session.online


def test_a_message_with_a_property_that_makes_no_sense_is_taken_as_any_other(broker, bench):
    """Mosquitto forwards a payload format indicator of 2; without it the message would come back for ever."""
    bench.come_online()
    topic = bench.topics.receipt("pos-1").encode()
    with socket.create_connection((HOST, broker.port)) as raw:
        raw.sendall(bytes.fromhex("10 10 00044d515454 05 02 003c 00 0003 616263"))
        raw.recv(100)
        body = struct.pack("!H", len(topic)) + topic + b"\x00\x01" + b"\x02\x01\x02" + b"{}"
        raw.sendall(bytes([0x32, len(body)]) + body)
        (message,) = bench.receive(1)
    assert message.payload == b"{}"
    bench.acknowledge([message])
    assert bench.session.online


def test_a_peer_that_does_not_answer_is_given_up():
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):
        bench.session.step(0)
        listener.accept()
        bench.session.step(0)
        clock.advance(HANDSHAKE_TIMEOUT_S + 0.1)
        bench.session.step(0)
        assert bench.session._client is None


@pytest.mark.parametrize(
    "rubbish",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(64), b"\xff" * 64, bytes.fromhex("20 ff ff ff ff ff"), b"\x20\x02"],
)
def test_a_peer_that_speaks_something_else_ends_nothing(rubbish):
    clock = ManualClock()
    with peer_session(clock=clock) as (bench, listener):
        for _ in range(3):
            bench.until(lambda: bench.session._client is not None, "an attempt", bench.hurry)
            connection = listener.accept()
            connection.sendall(rubbish)
            connection.close()
            bench.until(lambda: bench.session._client is None, "the loss")
        thread, _ = in_thread(lambda: until_welcomed(listener))
        bench.until(lambda: bench.session.online and not thread.is_alive(), "a good broker's welcome", bench.hurry)


def until_welcomed(listener):
    """Turn away connections of the old protocol until one of the new comes."""
    for _ in range(5):
        peer = Peer(listener)
        _, content = peer.read()
        if content[6] == 5:
            peer.send(CONNACK_5)
            _, content = peer.read()
            peer.send(SUBACK_5_GRANTED.format(struct.unpack("!H", content[:2])[0]))
            return peer
        peer.connection.close()
    raise AssertionError("no MQTT 5")


def test_a_topic_that_is_no_text_does_not_come_back_for_ever():
    with peer_session() as (bench, listener):
        peer = play(bench, lambda: welcomed(listener), then=lambda: bench.session.online)
        body = b"\x00\x02\xff\xfe" + struct.pack("!H", 7) + b"\0{}"
        peer.send(bytes([0x32, len(body)]) + body)
        (message,) = bench.receive(1)
        assert message.topic == ""
        bench.session.acknowledge([message.token])
        for _ in range(5):
            bench.session.step(0.01)
        assert peer.read()[0] == 3
        assert peer.read() == (4, struct.pack("!H", 7))


def test_the_wire_is_not_delayed(bench):
    bench.come_online()
    assert bench.session._client.buffered._line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_session_is_a_persistent_one():
    with peer_session(session_expiry_s=3600, receive_maximum=77, keepalive_s=20) as (bench, listener):
        peer = play(bench, lambda: Peer(listener))
        kind, content = play(bench, peer.read)
        peer.connection.close()
        assert kind == 1
        assert content[:7] == b"\x00\x04MQTT\x05"
        flags, keepalive = content[7], struct.unpack("!H", content[8:10])[0]
        assert (flags & 0x02, keepalive) == (0, 20)
        assert b"\x11" + struct.pack("!I", 3600) in content
        assert b"\x21" + struct.pack("!H", 77) in content
        assert f"kkt-bridge-{bench.topics.bridge}".encode() in content
        assert OFFLINE in content, "the will"

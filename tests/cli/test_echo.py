"""An echo through the broker shows whether topics arrive as they were sent."""

import socket
import struct
import threading

from support.brokers import HOST, MosquittoProcess

from kkt_bridge.cli.checkup.broker import echo_check
from kkt_bridge.mqtt.client import BrokerClient
from kkt_bridge.wire.topics import Topics

TOPICS = Topics("kkt/v1", "store.017")


def test_an_honest_broker_gives_back_what_it_got(tmp_path):
    with MosquittoProcess(tmp_path) as broker, BrokerClient(HOST, broker.port) as client:
        echo = echo_check(client, TOPICS)
        assert echo.is_true
        assert echo.topic.startswith("kkt/v1/store.017/pos/echo-")


def test_an_echo_leaves_nothing_behind_and_is_no_request(tmp_path):
    with (
        MosquittoProcess(tmp_path) as broker,
        BrokerClient(HOST, broker.port) as client,
        BrokerClient(HOST, broker.port) as bridge,
    ):
        bridge.subscribe(TOPICS.subscriptions())
        assert echo_check(client, TOPICS).is_true
        client.publish(TOPICS.query("pos-1"), b"{}")
        assert bridge.get(5).topic == TOPICS.query("pos-1"), "and nothing before it"


class SlashesOfDots(threading.Thread):
    """A broker of MQTT 3.1.1 that makes slashes of dots, as RabbitMQ does, or forgets all that it takes."""

    def __init__(self, *, forgets=False):
        super().__init__(daemon=True)
        self.forgets = forgets
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.serve(connection.makefile("rwb"))

    def serve(self, line):
        while head := line.read(1):
            size = line.read(1)[0]
            if size & 0x80:
                size = size & 0x7F | line.read(1)[0] << 7
            body = line.read(size)
            match head[0] >> 4:
                case 1:
                    modern = body[6] == 5
                    line.write(b"\x20\x02\x00" + bytes([modern]))
                    if modern:
                        line.flush()
                        return
                case 3:
                    length = struct.unpack("!H", body[:2])[0]
                    line.write(b"\x40\x02" + body[2 + length : 4 + length])
                    if not self.forgets:
                        back = body[:2] + body[2 : 2 + length].replace(b".", b"/") + body[4 + length :]
                        line.write(bytes([0x30, len(back)]) + back)
                case 8:
                    line.write(b"\x90\x03" + body[:2] + b"\x01")
            line.flush()


def test_a_broker_that_changes_topics_is_found_out():
    broker = SlashesOfDots()
    with BrokerClient(HOST, broker.port) as client:
        echo = echo_check(client, TOPICS)
    broker.listener.close()
    assert not echo.is_true
    assert echo.heard_on == echo.topic.replace(".", "/")


def test_a_broker_that_loses_the_message_is_found_out():
    broker = SlashesOfDots(forgets=True)
    with BrokerClient(HOST, broker.port) as client:
        echo = echo_check(client, TOPICS, timeout_s=0.2)
    broker.listener.close()
    assert (echo.is_true, echo.heard_on, echo.problem) == (False, None, None)


def test_a_broker_that_is_gone_is_said(tmp_path):
    with MosquittoProcess(tmp_path) as broker:
        client = BrokerClient(HOST, broker.port)
        client.connect()
        broker.kill()
        echo = echo_check(client, TOPICS)
        client.close()
    assert echo.problem
    assert not echo.is_true

"""The bridge's needs of a broker, asked of both; then the embedded one's own behaviour."""

import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support.brokers import EMBEDDED, HOST, AmqttProcess, MosquittoProcess, free_port
from support.mqtt_client import MQTT_3_1_1, MqttClient
from support.processes import wait_until
from websockets.sync.client import connect as connect_web

from kkt_bridge.simulators.mqtt_broker import IN_FLIGHT_LIMIT, BrokerStartError, EmbeddedBroker

SOON_S = 10.0
DOOMED_CLIENT = """
import sys, paho.mqtt.client as mqtt
port, transport = int(sys.argv[1]), sys.argv[2]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "doomed", transport=transport)
client.will_set("kkt/v1/store/state/online", b'{"online": false}', qos=1, retain=True)
client.on_connect = lambda *_: print("connected", flush=True)
client.connect("127.0.0.1", port)
client.loop_forever()
"""


@pytest.fixture(scope="module", params=[AmqttProcess, MosquittoProcess], ids=["amqtt", "mosquitto"])
def broker(request, tmp_path_factory):
    with request.param(tmp_path_factory.mktemp("broker")) as process:
        yield process
    assert "Traceback" not in process.log.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def amqtt(tmp_path_factory):
    with AmqttProcess(tmp_path_factory.mktemp("amqtt")) as process:
        yield process
    assert "Traceback" not in process.log.read_text(encoding="utf-8")


@pytest.fixture(params=[False, True], ids=["tcp", "websockets"])
def web(request):
    return request.param


@pytest.fixture
def topic(request):
    """A topic of the test's own: what one test retains, no other sees."""
    return f"test/{request.node.name.replace('#', '-')}"


def party(broker, client_id, *, web=False, **options):
    """A client with MQTT 3.1.1 that does not come back; entering connects it, leaving ends it with DISCONNECT."""
    return MqttClient(
        HOST,
        broker.ws_port if web else broker.port,
        client_id=client_id,
        protocols=MQTT_3_1_1,
        transport="websockets" if web else "tcp",
        reconnect_on_failure=False,
        **options,
    )


def cut(client):
    """End the client's connection without DISCONNECT."""
    line = client.paho.socket()
    getattr(line, "_socket", line).shutdown(socket.SHUT_RDWR)


def connect_packet(client_id, keep_alive, will_topic):
    """CONNECT of MQTT 3.1.1 with a clean session and a will at QoS 1, not retained."""
    fields = (client_id, will_topic, "gone")
    body = b"\x00\x04MQTT\x04\x0e" + struct.pack("!H", keep_alive)
    body += b"".join(struct.pack("!H", len(field)) + field.encode() for field in fields)
    return bytes([0x10, len(body)]) + body


def publish_packet(topic, payload, packet_id):
    """PUBLISH at QoS 1."""
    body = struct.pack("!H", len(topic)) + topic.encode() + struct.pack("!H", packet_id) + payload
    assert len(body) < 128
    return bytes([0x32, len(body)]) + body


class RawLine:
    """A connection whose bytes the test chooses."""

    def __init__(self, broker, web):
        self._web = connect_web(f"ws://127.0.0.1:{broker.ws_port}", subprotocols=["mqtt"]) if web else None
        self.socket = self._web.socket if web else socket.create_connection(("127.0.0.1", broker.port), SOON_S)

    def send(self, data):
        if self._web:
            self._web.send(data)
        else:
            self.socket.sendall(data)

    def expect(self, size):
        """Return when so many bytes have come."""
        while size > 0:
            data = self._web.recv(SOON_S) if self._web else self.socket.recv(size)
            assert data, f"{size} bytes did not come"
            size -= len(data)

    def close(self):
        """End the connection without a word in the protocol it carries."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        if self._web:
            self._web.close()


@contextmanager
def raw_line(broker, web):
    with closing(RawLine(broker, web)) as line:
        yield line


def test_a_message_passes_at_qos_1_from_each_listener_to_each(broker, web, topic):
    with party(broker, "pos", web=web) as pos, party(broker, "here", web=web) as here, party(broker, "there") as there:
        here.subscribe(topic)
        there.subscribe(topic)
        pos.publish(topic, b"receipt")
        for receiver in (here, there):
            assert receiver.payloads(1) == [b"receipt"]
            assert (receiver.messages[0].qos, receiver.messages[0].retain) == (1, False)


def test_the_largest_payload_passes_unchanged(broker, web, topic):
    largest, a_little_more = os.urandom(256 * 1024), os.urandom(300 * 1024)
    with party(broker, "pos", web=web) as pos, party(broker, "bridge") as bridge:
        bridge.subscribe(topic)
        pos.publish(topic, largest)
        pos.publish(topic, a_little_more)
        assert bridge.payloads(2) == [largest, a_little_more]


def test_a_retained_message_greets_later_subscribers_until_it_is_cleared(broker, web, topic):
    with party(broker, "bridge") as bridge, party(broker, "early", web=web) as early:
        bridge.publish(topic, b"state", retain=True)
        early.subscribe(topic)
        assert early.payloads(1) == [b"state"]
        assert early.messages[0].retain
        bridge.publish(topic, b"", retain=True)
        assert early.payloads(2) == [b"state", b""]
        with party(broker, "late", web=web) as late:
            late.subscribe(topic)
            bridge.publish(topic, b"now")
            assert late.payloads(1) == [b"now"]


def test_a_retained_message_comes_to_nobody_who_did_not_subscribe(broker, topic):
    with party(broker, "bridge") as bridge, party(broker, "dashboard") as dashboard:
        bridge.publish(topic, b"state", retain=True)
        dashboard.subscribe("test/#")
        with party(broker, "pos") as pos:
            pos.subscribe(f"{topic}/reply")
            bridge.publish(f"{topic}/reply", b"reply")
            assert pos.payloads(1) == [b"reply"]


def test_the_will_of_a_killed_client_is_published_and_retained(broker, web):
    transport, port = ("websockets", broker.ws_port) if web else ("tcp", broker.port)
    with party(broker, "dashboard") as dashboard:
        arguments = [sys.executable, "-c", DOOMED_CLIENT, str(port), transport]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as doomed:
            assert doomed.stdout.readline() == b"connected\n"
            dashboard.subscribe("kkt/v1/store/state/online")
            dashboard.messages.clear()
            doomed.kill()
        wait_until(
            lambda: any(not message.retain for message in dashboard.messages), SOON_S, "the will as a live message"
        )
        assert dashboard.messages[-1].payload == b'{"online": false}'
    with party(broker, "later") as later:
        later.subscribe("kkt/v1/store/state/online")
        assert later.payloads(1) == [b'{"online": false}']


def test_the_will_of_a_reset_connection_is_published(broker, topic):
    with party(broker, "dashboard") as dashboard:
        dashboard.subscribe(topic)
        with socket.create_connection(("127.0.0.1", broker.port)) as line:
            line.sendall(connect_packet("reset", 60, topic))
            assert line.recv(4) == b"\x20\x02\x00\x00"
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert dashboard.payloads(1) == [b"gone"]


def test_the_will_of_a_client_that_falls_silent_is_published(broker, topic):
    with party(broker, "dashboard") as dashboard:
        dashboard.subscribe(topic)
        with socket.create_connection(("127.0.0.1", broker.port)) as line:
            line.sendall(connect_packet("silent", 1, topic))
            assert dashboard.payloads(1) == [b"gone"]


def test_the_will_of_a_client_that_says_goodbye_is_not_published(broker, web, topic):
    with party(broker, "dashboard") as dashboard:
        dashboard.subscribe(topic)
        with party(broker, "polite", web=web, will=(topic, b"gone", 1)):
            pass
        dashboard.publish(topic, b"still here")
        assert dashboard.payloads(1) == [b"still here"]


def test_what_comes_while_a_persistent_client_is_away_is_delivered_on_its_return(broker, web, topic):
    with party(broker, "away", web=web, clean=False) as away:
        assert not away.session_present
        away.subscribe(topic)
    with party(broker, "pos") as pos:
        for number in range(3):
            pos.publish(topic, b"%d" % number)
    with party(broker, "away", web=web, clean=False) as back:
        assert back.payloads(3) == [b"0", b"1", b"2"]
        assert back.session_present
        assert not any(message.retain for message in back.messages)
        assert {message.qos for message in back.messages} == {1}
    with party(broker, "away", clean=True):
        pass


def test_a_long_queue_is_delivered_whole_and_in_order(broker, topic):
    expected = [b"%d" % number for number in range(IN_FLIGHT_LIMIT + 500)]
    with party(broker, "queue", clean=False) as away:
        away.subscribe(topic)
    with party(broker, "pos") as pos:
        pos.publish_all((topic, payload) for payload in expected)
    with party(broker, "queue", clean=False) as back:
        assert back.payloads(len(expected)) == expected
    with party(broker, "queue", clean=True):
        pass


def test_what_was_not_acknowledged_is_delivered_again(broker, web, topic):
    with party(broker, "bridge", web=web, clean=False, manual_ack=True) as bridge, party(broker, "pos") as pos:
        bridge.subscribe(topic)
        pos.publish(topic, b"kept")
        pos.publish(topic, b"taken")
        assert bridge.payloads(2) == [b"kept", b"taken"]
        bridge.acknowledge(bridge.messages[1])
        bridge.publish(f"{topic}/behind", b"its PUBACK shows that the broker has the one before")
        cut(bridge)
        wait_until(lambda: bridge.losses, SOON_S, "the end of the first connection")
    with party(broker, "bridge", web=web, clean=False) as back, party(broker, "pos") as pos:
        pos.publish(topic, b"new")
        assert back.payloads(2) == [b"kept", b"new"]
        assert back.messages[0].dup
    with party(broker, "bridge", clean=True):
        pass


def test_nothing_is_lost_while_a_client_loses_its_line_again_and_again(broker, web, topic):
    seen, rounds, each = [], 20, 100
    with party(broker, "pos") as pos, ExitStack() as lines:
        for number in range(rounds):
            # Every second time the former connection still stands when the next one takes over.
            bridge = lines.enter_context(party(broker, "shaky", web=web, clean=False, manual_ack=True))
            bridge.subscribe(topic)
            before = len(seen)
            bridge.paho.on_message = lambda client, _data, message: (
                seen.append(int(message.payload)),
                client.ack(message.mid, message.qos),
            )
            for payload in range(each * number, each * (number + 1)):
                pos.post(topic, b"%d" % payload)
            wait_until(lambda count=before: len(seen) > count + each // 2, SOON_S, "half of a round's messages")
            if number % 2:
                cut(bridge)
        with party(broker, "shaky", web=web, clean=False) as last:
            last.paho.on_message = lambda _client, _data, message: seen.append(int(message.payload))
            everything = set(range(rounds * each))
            wait_until(
                lambda: everything.issubset([*seen, *(int(one.payload) for one in last.messages)]), SOON_S, "all"
            )
    with party(broker, "shaky", clean=True):
        pass


@pytest.mark.parametrize("clean", [False, True], ids=["persistent", "clean"])
def test_a_second_connection_of_one_client_takes_over_from_the_first(broker, clean, topic):
    will = (f"{topic}/online", b"false", 1, True)
    with party(broker, "pos") as pos, party(broker, "bridge", clean=clean, will=will) as first:
        first.subscribe(topic)
        with party(broker, "bridge", clean=clean, will=will) as second:
            second.publish(f"{topic}/online", b"true", retain=True)
            wait_until(lambda: first.losses, SOON_S, "the end of the first connection")
            if clean:
                second.subscribe(topic)
            pos.publish(topic, b"receipt")
            assert second.payloads(1) == [b"receipt"]
            assert not first.messages
            pos.subscribe(f"{topic}/online")
            assert pos.payloads(1) == [b"true"]
    with party(broker, "bridge", clean=True):
        pass


def test_a_session_is_kept_though_the_client_was_there_with_a_clean_one_before(broker, topic):
    with party(broker, "mended", clean=True):
        pass
    with party(broker, "mended", clean=False) as kept:
        assert not kept.session_present
        kept.subscribe(topic)
    with party(broker, "pos") as pos:
        pos.publish(topic, b"receipt")
    with party(broker, "mended", clean=False) as back:
        assert back.payloads(1) == [b"receipt"]
    with party(broker, "mended", clean=True):
        pass


@pytest.mark.parametrize("session_expiry_s", [None, 3600], ids=["bare", "session-expiry"])
def test_mqtt_5_is_refused_at_once_with_unsupported_protocol_version(amqtt, web, session_expiry_s):
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        "five",
        protocol=mqtt.MQTTv5,
        transport="websockets" if web else "tcp",
        reconnect_on_failure=False,
    )
    properties = Properties(PacketTypes.CONNECT)
    if session_expiry_s:
        properties.SessionExpiryInterval = session_expiry_s
    reasons, lost = [], []
    client.on_connect = lambda _client, _data, _flags, reason, _properties: reasons.append(reason)
    client.on_disconnect = lambda *_: lost.append(True)
    client.connect("127.0.0.1", amqtt.ws_port if web else amqtt.port, clean_start=False, properties=properties)
    client.loop_start()
    wait_until(lambda: bool(lost), SOON_S, "the refusal and the end of the connection")
    client.loop_stop()
    assert [(reason.value, reason.getName()) for reason in reasons] == [(132, "Unsupported protocol version")]
    with party(amqtt, "five", web=web, clean=False):
        pass


@pytest.mark.parametrize(
    "connect",
    [
        pytest.param(b"\x10\x10\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x02me", id="3.1"),
        pytest.param(b"\x10\x14\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\xff\xfe\xfd\xfc\x00\x02me", id="5"),
    ],
)
def test_other_levels_than_3_1_1_get_return_code_1_and_the_end(amqtt, connect):
    with socket.create_connection(("127.0.0.1", amqtt.port), timeout=SOON_S) as line:
        line.sendall(connect)
        assert line.recv(16) == b"\x20\x02\x00\x01"
        assert line.recv(16) == b""


def test_qos_2_is_granted_as_qos_1(amqtt, topic):
    with party(amqtt, "bridge") as bridge, party(amqtt, "pos") as pos:
        assert bridge.subscribe(topic, qos=2) == [1]
        pos.publish(topic, b"receipt", qos=2)
        assert bridge.payloads(1) == [b"receipt"]
        assert bridge.messages[0].qos == 1


def test_a_client_that_does_not_acknowledge_gets_no_more_than_a_window(amqtt, topic):
    with party(amqtt, "slow", manual_ack=True) as slow, party(amqtt, "pos") as pos:
        slow.subscribe(topic)
        slow.subscribe(f"{topic}/fence", qos=0)
        pos.publish_all((topic, b"%d" % number) for number in range(IN_FLIGHT_LIMIT + 1))
        pos.publish(f"{topic}/fence", b"fence")
        assert slow.payloads(IN_FLIGHT_LIMIT + 1)[-2:] == [b"%d" % (IN_FLIGHT_LIMIT - 1), b"fence"]
        slow.acknowledge(slow.messages[0])
        assert slow.payloads(IN_FLIGHT_LIMIT + 2)[-1] == b"%d" % IN_FLIGHT_LIMIT


def test_a_web_client_that_dies_while_it_is_answered_leaves_no_error(amqtt, topic):
    requests = b"".join(publish_packet(topic, b"receipt", number) for number in range(1, 1000))
    for _ in range(5):
        with raw_line(amqtt, web=True) as line:
            line.send(connect_packet("dying", 60, f"{topic}/will"))
            line.expect(4)
            line.send(requests)
    with party(amqtt, "after"):
        pass


def test_what_a_client_saw_acknowledged_arrives_though_it_leaves_at_once(amqtt, web, topic):
    expected = [b"%d" % number for number in range(1000)]
    requests = b"".join(publish_packet(topic, payload, number + 1) for number, payload in enumerate(expected))
    with party(amqtt, "bridge") as bridge:
        bridge.subscribe(topic)
        with raw_line(amqtt, web) as line:
            line.send(connect_packet("hasty", 60, f"{topic}/will"))
            line.expect(4)
            line.send(requests)
            line.expect(4 * len(expected))
        assert bridge.payloads(len(expected)) == expected


def test_the_largest_payload_reaches_a_web_client_too(amqtt, topic):
    payload = os.urandom(300 * 1024)
    with party(amqtt, "bridge") as bridge, party(amqtt, "dashboard", web=True) as dashboard:
        dashboard.subscribe(topic)
        bridge.publish(topic, payload)
        assert dashboard.payloads(1) == [payload]


def test_half_a_message_of_a_client_that_dies_is_not_delivered(amqtt, topic):
    payload = b"0123456789" * 5
    body = struct.pack("!H", len(topic)) + topic.encode() + payload
    packet = bytes([0x30, len(body)]) + body
    with party(amqtt, "bridge") as bridge:
        bridge.subscribe(topic)
        with connect_web(f"ws://127.0.0.1:{amqtt.ws_port}", subprotocols=["mqtt"]) as line:
            line.send(connect_packet("half", 60, f"{topic}/will"))
            assert line.recv() == b"\x20\x02\x00\x00"
            for part in (packet[:-50], packet[-50:-40], packet[-40:-30]):
                line.send(part)
        bridge.publish(topic, b"whole")
        assert bridge.payloads(1) == [b"whole"]


@pytest.mark.parametrize("packet", [b"GET / HTTP/1.1\r\n\r\n", b"\x10\x02\x00", b"\x10\xff\xff\xff\x7f", b"\xf0\x00"])
def test_what_is_not_mqtt_is_hung_up_on(amqtt, packet):
    with socket.create_connection(("127.0.0.1", amqtt.port), timeout=SOON_S) as line:
        line.sendall(packet)
        line.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert line.recv(16) == b""
    with party(amqtt, "after"):
        pass


def test_every_accepted_connection_has_tcp_nodelay(topic):
    with EmbeddedBroker(port=0, ws_port=0) as broker, party(broker, "tcp"), party(broker, "web", web=True):
        accepted = {
            port: [line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for line in accepted_on(port)]
            for port in (broker.port, broker.ws_port)
        }
    assert {port: [bool(flag) for flag in flags] for port, flags in accepted.items()} == {
        broker.port: [True],
        broker.ws_port: [True],
    }


def accepted_on(port):
    """The sockets of this process that were accepted on the port."""
    for descriptor in [int(file.name) for file in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError), closing(socket.socket(fileno=os.dup(descriptor))) as line:
            if line.family == socket.AF_INET and line.getsockname()[1] == port and line.getpeername():
                yield line


def test_the_broker_can_be_stopped_and_started_again_on_its_port():
    broker = EmbeddedBroker(port=0, ws_port=None)
    for _ in range(2):
        broker.start()
        with party(broker, "pos"):
            pass
        broker.stop()
    broker.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", broker.port)) != 0


def test_a_taken_port_is_said_and_the_other_one_left_free():
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(BrokerStartError, match=rf"127\.0\.0\.1:{taken}: Address already in use"):
            EmbeddedBroker(port=port, ws_port=taken).start()
    with EmbeddedBroker(port=port, ws_port=None):
        pass


def test_it_says_that_it_is_not_for_a_shop_and_amqtt_says_nothing(caplog, topic):
    caplog.set_level(logging.DEBUG)
    with EmbeddedBroker(port=0, ws_port=0) as broker, party(broker, "pos") as pos:
        pos.subscribe(topic)
        pos.publish(topic, b"receipt")
        assert pos.payloads(1) == [b"receipt"]
    said = [record.getMessage() for record in caplog.records if record.name != "asyncio"]
    assert said == ["the embedded broker is for trying out and for tests, not for a shop: its sessions live in memory"]


@contextmanager
def command(*options):
    with subprocess.Popen(
        [sys.executable, "-c", EMBEDDED, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_its_ports_and_ends_well_on_a_signal(end):
    with command("--port", "0", "--no-ws", "--json") as process:
        ready = json.loads(process.stdout.readline())
        assert (ready["host"], ready["ws_port"]) == ("127.0.0.1", None)
        socket.create_connection(("127.0.0.1", ready["port"])).close()
        process.send_signal(end)
        assert process.wait(SOON_S) == 0


def test_the_command_tells_a_person_where_it_listens():
    with command("--port", "0", "--ws-port", "0") as process:
        line = process.stdout.readline()
    assert line.startswith("MQTT 3.1.1 broker on 127.0.0.1:")
    assert "WebSockets on port" in line


def test_the_command_fails_in_one_line_when_its_port_is_taken(amqtt):
    with command("--port", str(amqtt.port), "--no-ws") as process:
        out, err = process.communicate(timeout=SOON_S)
    assert (process.returncode, out) == (1, "")
    assert err == (
        f"kkt-bridge broker: cannot listen on 127.0.0.1:{amqtt.port}: Address already in use; "
        "free the port or choose another\n"
    )


def test_the_command_refuses_what_is_no_port():
    with command("--port", "65536") as process:
        _, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 2
    assert "'65536' is not a port from 0 to 65535" in err


def test_an_idle_broker_costs_nothing(amqtt):
    with party(amqtt, "pos"), party(amqtt, "web", web=True):
        before, until = cpu_s(amqtt.pid), time.monotonic() + 2
        wait_until(lambda: time.monotonic() > until, SOON_S, "two seconds")
        assert cpu_s(amqtt.pid) - before < 0.1


def cpu_s(pid):
    """Processor time of the process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

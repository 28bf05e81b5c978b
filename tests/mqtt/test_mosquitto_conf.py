"""The repository's mosquitto.conf: every line is taken by a real Mosquitto and does what its comment says."""

import re
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from support.brokers import MOSQUITTO_CONF, MosquittoProcess, derived_conf, free_port
from support.processes import EndedByItselfError, wait_until

SOON_S = 10.0
LOOPBACK = "0100007F"
LISTENING = "0A"


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory):
    with MosquittoProcess(tmp_path_factory.mktemp("mosquitto")) as process:
        yield process


def connected(broker, client_id, *, clean=True, manual_ack=False):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=clean, manual_ack=manual_ack)
    client.max_inflight_messages_set(1000)
    client.received = []
    client.on_message = lambda _client, _data, message: client.received.append(message)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    wait_until(client.is_connected, SOON_S, f"CONNACK for {client_id}")
    return client


def left(client):
    client.disconnect()
    client.loop_stop()


def subscribe(client, topic_filter):
    answered = []
    client.on_subscribe = lambda *_: answered.append(True)
    client.subscribe(topic_filter, qos=1)
    wait_until(lambda: bool(answered), SOON_S, f"SUBACK for {topic_filter}")


def publish_all(client, topic, payloads, *, retain=False):
    for sent in [client.publish(topic, payload, qos=1, retain=retain) for payload in payloads]:
        sent.wait_for_publish(SOON_S)
        assert sent.is_published()


def received(client, count):
    wait_until(lambda: len(client.received) >= count, SOON_S, f"{count} messages, {len(client.received)} came")
    return [message.payload for message in client.received]


def test_the_file_starts_a_broker_which_finds_no_error_in_it(mosquitto):
    assert "error" not in mosquitto.log.read_text().lower()


def test_only_ports_place_and_user_differ_from_the_file_under_test(tmp_path):
    ours = MOSQUITTO_CONF.read_text(encoding="utf-8").splitlines()
    derived = derived_conf(free_port(), free_port(), tmp_path).splitlines()
    changed = [line.split()[0] for line, other in zip(ours, derived, strict=True) if line != other]
    assert changed == ["listener", "listener", "persistence_location", "user"]


def test_both_ports_are_open_on_this_machine_only(mosquitto):
    tables = [table for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if table.exists()]
    lines = [line.split() for table in tables for line in table.read_text().splitlines()]
    for port in (mosquitto.port, mosquitto.ws_port):
        listening = [line[1] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == LISTENING]
        assert listening == [f"{LOOPBACK}:{port:04X}"]


def test_tcp_nodelay_is_asked_for():
    assert re.search(r"^set_tcp_nodelay true$", MOSQUITTO_CONF.read_text(encoding="utf-8"), re.MULTILINE)


def test_sessions_queues_and_retained_messages_survive_a_restart(tmp_path):
    with MosquittoProcess(tmp_path) as broker:
        bridge = connected(broker, "bridge", clean=False)
        subscribe(bridge, "pos/#")
        left(bridge)
        pos = connected(broker, "pos")
        publish_all(pos, "pos/receipt", [b"1", b"2"])
        publish_all(pos, "state", [b"retained"], retain=True)
        left(pos)
        broker.restart()
        bridge = connected(broker, "bridge", clean=False)
        assert received(bridge, 2) == [b"1", b"2"]
        subscribe(bridge, "state")
        assert received(bridge, 3)[2] == b"retained"
        left(bridge)


def test_a_kill_loses_no_more_than_the_changes_since_the_last_save(tmp_path):
    interval = setting("autosave_interval")
    with MosquittoProcess(tmp_path) as broker:
        bridge = connected(broker, "bridge", clean=False)
        subscribe(bridge, "pos/#")
        left(bridge)
        pos = connected(broker, "pos")
        for number in range(3 * interval):
            publish_all(pos, "pos/receipt", [b"%d" % number])
        broker.kill()
        left(pos)
        broker.start()
        bridge = connected(broker, "bridge", clean=False)
        expected = [b"%d" % number for number in range(2 * interval)]
        assert received(bridge, 2 * interval)[: 2 * interval] == expected
        left(bridge)


def test_more_messages_wait_for_an_absent_bridge_than_the_default_of_a_thousand(mosquitto):
    expected = [b"%d" % number for number in range(3000)]
    bridge = connected(mosquitto, "queue", clean=False)
    subscribe(bridge, "queue/#")
    left(bridge)
    pos = connected(mosquitto, "pos")
    publish_all(pos, "queue/receipt", expected)
    left(pos)
    bridge = connected(mosquitto, "queue", clean=False)
    assert received(bridge, len(expected)) == expected
    left(bridge)
    left(connected(mosquitto, "queue", clean=True))


def test_a_bridge_may_hold_more_than_twenty_unacknowledged_messages(mosquitto):
    in_flight = setting("max_inflight_messages")
    bridge = connected(mosquitto, "window", manual_ack=True)
    subscribe(bridge, "window/#")
    pos = connected(mosquitto, "pos")
    publish_all(pos, "window/receipt", [b"x"] * in_flight)
    assert len(received(bridge, in_flight)) == in_flight
    left(bridge)
    left(pos)


def test_a_request_above_its_limit_still_reaches_the_bridge_which_can_answer_it(mosquitto):
    assert setting("message_size_limit") > 256 * 1024
    bridge, pos = connected(mosquitto, "size"), connected(mosquitto, "pos")
    subscribe(bridge, "size/#")
    publish_all(pos, "size/receipt", [bytes(setting("message_size_limit"))])
    assert len(received(bridge, 1)[0]) == setting("message_size_limit")
    left(bridge)
    left(pos)


def test_a_line_that_mosquitto_does_not_know_is_not_taken_silently(tmp_path):
    """Whether the tests above would see a misspelt directive."""

    class Misspelt(MosquittoProcess):
        def command(self):
            program, option, file = super().command()
            with Path(file).open("a") as conf:
                conf.write("set_tcp_nodelai true\n")
            return [program, option, file]

    with pytest.raises(EndedByItselfError, match="set_tcp_nodelai"):
        Misspelt(tmp_path).start()


def setting(name):
    return int(re.search(rf"^{name} (\d+)$", MOSQUITTO_CONF.read_text(encoding="utf-8"), re.MULTILINE)[1])

"""The repository's mosquitto.conf: every line is taken by a real Mosquitto and does what its comment says."""

import re
from pathlib import Path

import pytest
from support.brokers import HOST, MOSQUITTO_CONF, MosquittoProcess, derived_conf, free_port
from support.mqtt_client import MQTT_3_1_1, MqttClient
from support.processes import EndedByItselfError

LOOPBACK = "0100007F"
LISTENING = "0A"


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory):
    with MosquittoProcess(tmp_path_factory.mktemp("mosquitto")) as process:
        yield process


def party(broker, client_id, **options):
    return MqttClient(HOST, broker.port, client_id=client_id, protocols=MQTT_3_1_1, **options)


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
        with party(broker, "bridge", clean=False) as bridge:
            bridge.subscribe("pos/#")
        with party(broker, "pos") as pos:
            pos.publish_all([("pos/receipt", b"1"), ("pos/receipt", b"2")])
            pos.publish("state", b"retained", retain=True)
        broker.restart()
        with party(broker, "bridge", clean=False) as bridge:
            assert bridge.payloads(2) == [b"1", b"2"]
            bridge.subscribe("state")
            assert bridge.payloads(3)[2] == b"retained"


def test_a_kill_loses_no_more_than_the_changes_since_the_last_save(tmp_path):
    interval = setting("autosave_interval")
    with MosquittoProcess(tmp_path) as broker:
        with party(broker, "bridge", clean=False) as bridge:
            bridge.subscribe("pos/#")
        with party(broker, "pos") as pos:
            for number in range(3 * interval):
                pos.publish("pos/receipt", b"%d" % number)
            broker.kill()
        broker.start()
        with party(broker, "bridge", clean=False) as bridge:
            expected = [b"%d" % number for number in range(2 * interval)]
            assert bridge.payloads(2 * interval)[: 2 * interval] == expected


def test_more_messages_wait_for_an_absent_bridge_than_the_default_of_a_thousand(mosquitto):
    expected = [b"%d" % number for number in range(3000)]
    with party(mosquitto, "queue", clean=False) as bridge:
        bridge.subscribe("queue/#")
    with party(mosquitto, "pos") as pos:
        pos.publish_all(("queue/receipt", payload) for payload in expected)
    with party(mosquitto, "queue", clean=False) as bridge:
        assert bridge.payloads(len(expected)) == expected
    with party(mosquitto, "queue", clean=True):
        pass


def test_a_bridge_may_hold_more_than_twenty_unacknowledged_messages(mosquitto):
    in_flight = setting("max_inflight_messages")
    with party(mosquitto, "window", manual_ack=True) as bridge, party(mosquitto, "pos") as pos:
        bridge.subscribe("window/#")
        pos.publish_all([("window/receipt", b"x")] * in_flight)
        assert len(bridge.payloads(in_flight)) == in_flight


def test_a_request_above_its_limit_still_reaches_the_bridge_which_can_answer_it(mosquitto):
    assert setting("message_size_limit") > 256 * 1024
    with party(mosquitto, "size") as bridge, party(mosquitto, "pos") as pos:
        bridge.subscribe("size/#")
        pos.publish("size/receipt", bytes(setting("message_size_limit")))
        assert len(bridge.payloads(1)[0]) == setting("message_size_limit")


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

"""The client against real brokers: both protocols, the broker's word, and its absence."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.brokers import HOST, AmqttProcess, BrokerProcess, MosquittoProcess, free_port
from support.processes import wait_until

from kkt_bridge.errors import BrokerAway
from kkt_bridge.mqtt.client import BrokerClient, Received

SOON_S = 10.0


class ClosedMosquitto(MosquittoProcess):
    """Mosquitto that lets `till` in, who may say something on `open/...` alone."""

    def command(self) -> list[str]:
        (self.directory / "acl").write_text("user till\ntopic readwrite open/#\n", encoding="utf-8")
        (self.directory / "users").write_text(
            # "secret", by mosquitto_passwd
            "till:$7$101$FVbVYitEmx5BaT97$"
            "A/zAItcoT2Zcp73hj8nNjiH6YlXZKGlfegBxKm3d/o+KbazHfzqszw2PGjagb2onFGLp4ZJuF09gBlhe6ZpKsw==\n",
            encoding="utf-8",
        )
        command = super().command()
        file = Path(command[-1])
        text = "\n".join(
            line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("allow_anonymous")
        )
        closed = f"\nallow_anonymous false\npassword_file {self.directory}/users\nacl_file {self.directory}/acl\n"
        file.write_text(text + closed, encoding="utf-8")
        return command


@pytest.fixture(params=[MosquittoProcess, AmqttProcess], ids=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    with request.param(tmp_path) as process:
        yield process


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[BrokerProcess]:
    with MosquittoProcess(tmp_path) as process:
        yield process


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


def take(client: BrokerClient) -> Received:
    message = client.get(SOON_S)
    assert message is not None
    return message


@pytest.mark.parametrize(("kind", "protocol"), [(MosquittoProcess, 5), (AmqttProcess, 4)])
def test_speaks_mqtt_5_and_falls_back_to_3_1_1(kind: type[BrokerProcess], protocol: int, tmp_path: Path) -> None:
    with kind(tmp_path) as broker, BrokerClient(broker.host, broker.port) as client:
        assert client.protocol == protocol
        client.subscribe(["shop/+"])
        client.publish("shop/till", "чек".encode(), response_topic="shop/answer", correlation=b"42")
        message = take(client)
        assert (message.topic, message.payload.decode(), message.retain) == ("shop/till", "чек", False)
        assert message.correlation == (b"42" if protocol == 5 else None)


def test_what_is_published_in_a_row_comes_in_order(broker: BrokerProcess) -> None:
    payloads = [b"%d" % number for number in range(1000)]
    with BrokerClient(broker.host, broker.port) as client:
        client.subscribe(["load/#"])
        for payload in payloads:
            client.publish("load/x", payload)
        assert [take(client).payload for _ in payloads] == payloads


def test_tells_retained_messages(broker: BrokerProcess) -> None:
    with BrokerClient(broker.host, broker.port) as client:
        client.publish("state/x", b"old", retain=True)
        client.subscribe(["state/x"])
        assert take(client).retain


def test_waits_no_longer_than_told_for_a_message(mosquitto: BrokerProcess) -> None:
    with BrokerClient(mosquitto.host, mosquitto.port) as client:
        assert client.get(0.05) is None
        assert client.get(-1) is None


def test_a_callback_that_fails_costs_one_message(broker: BrokerProcess, caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    def note(message: Received) -> None:
        seen.append(message.payload)
        if message.payload == b"bad":
            raise ValueError(message.payload)

    with BrokerClient(broker.host, broker.port) as client:
        client.on_message = note
        client.subscribe(["x"])
        for payload in (b"bad", b"good"):
            client.publish("x", payload)
        wait_until(lambda: len(seen) == 2, SOON_S, "both messages")
    assert seen == [b"bad", b"good"]
    assert "could not be handled" in caplog.text


def test_nobody_there_is_one_line_at_once() -> None:
    port, started = free_port(), time.monotonic()
    with pytest.raises(BrokerAway) as caught:
        BrokerClient(HOST, port).connect()
    assert str(caught.value) == f"{HOST}:{port}: no MQTT broker there: Connection refused"
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("host", ["", "no.such.host.invalid"])
def test_a_host_that_is_none_is_a_broker_that_is_away(host: str) -> None:
    with pytest.raises(BrokerAway, match="no MQTT broker there"):
        BrokerClient(host, 1883).connect(1)


def test_a_server_that_says_nothing_is_given_up_in_time(silent_port: int) -> None:
    started = time.monotonic()
    with pytest.raises(BrokerAway, match="does not let us in: no answer within"):
        BrokerClient(HOST, silent_port).connect(1)
    assert time.monotonic() - started < 5


def test_a_broker_that_goes_is_told_and_may_come_back(broker: BrokerProcess) -> None:
    with BrokerClient(broker.host, broker.port) as client:
        client.subscribe(["x"])
        broker.kill()
        wait_until(lambda: not client.connected, SOON_S, "the end of the connection")
        with pytest.raises(BrokerAway, match="the connection broke"):
            client.publish("x", b"")
        with pytest.raises(BrokerAway, match="the connection broke"):
            client.subscribe(["y"])
        broker.start()
        client.connect()
        client.subscribe(["x"])
        client.publish("x", b"again")
        assert take(client).payload == b"again"


def test_a_closed_client_says_so(mosquitto: BrokerProcess) -> None:
    client = BrokerClient(mosquitto.host, mosquitto.port)
    with client:
        assert client.connected
    client.close()
    assert not client.connected
    with pytest.raises(BrokerAway, match="no connection: closed"):
        client.publish("x", b"")


def test_a_broker_that_lets_only_some_in(tmp_path: Path) -> None:
    with ClosedMosquitto(tmp_path) as broker:
        with pytest.raises(BrokerAway, match=r"does not let us in: Not authorized"):
            BrokerClient(broker.host, broker.port).connect()
        with BrokerClient(broker.host, broker.port, username="till", password="secret") as client:
            client.publish("open/x", b"")
            with pytest.raises(BrokerAway, match=r"refuses a message on closed/x: Not authorized"):
                client.publish("closed/x", b"")

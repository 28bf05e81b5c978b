"""The broker goes and comes back; the bridge goes and comes back; messages come twice, late, retained."""

import pytest
from support.brokers import AmqttProcess, MosquittoProcess
from support.lossy_line import LossyLine
from support.mqtt_client import MQTT_3_1_1, MqttClient
from support.processes import wait_until
from support.receipts import encoded, receipt, small_receipt
from support.world import World

STATES = ("online", "health", "buffer", "breaker", "sync", "kkt/kkt-1")
BROKERS = {"mosquitto": MosquittoProcess, "amqtt": AmqttProcess}


@pytest.fixture(params=BROKERS)
def own_broker(request, tmp_path):
    with BROKERS[request.param](tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def own_world(make_world, own_broker):
    world = make_world({"telemetry.interval_s": 3600}, own_broker)
    world.sees_everything = False  # the observer, too, loses its broker
    return world


def forget_everything(broker):
    """Start the broker as if its disk had been replaced."""
    broker.kill()
    for database in broker.directory.glob("mosquitto-*/*"):
        database.unlink()
    broker.start()


def test_a_broker_that_forgot_everything_is_told_everything_again(own_world):
    own_world.sell()
    born = own_world.wait_state("online", lambda state: state["online"])
    forget_everything(own_world.broker)
    with MqttClient(own_world.broker.host, own_world.broker.port, [f"{own_world.branch}/state/#"]) as late:
        for name in STATES:
            topic = f"{own_world.branch}/state/{name}"
            told = late.wait(lambda message, topic=topic: message.topic == topic, f"state/{name}")
            assert name != "online" or told.content == born
    wait_until(own_world.observer.is_ready, 20, "the observer to be back")
    wait_until(own_world.pos.is_ready, 20, "the POS to be back")
    assert own_world.sell()["status"] == "printed"
    assert own_world.done("status")["online"] == born


def test_what_was_printed_while_the_broker_was_away_is_told_when_it_is_back(make_world, tmp_path):
    with MosquittoProcess(tmp_path / "broker") as broker:
        world = make_world(broker=broker, print_time_s=1.0)
        world.sees_everything = False
        # A POS as it should be: its session outlives a connection, so that no reply can be missed.
        with MqttClient(
            broker.host,
            broker.port,
            [f"{world.branch}/pos/pos-1/reply"],
            client_id="pos-1",
            protocols=MQTT_3_1_1,
            clean=False,
        ) as pos:
            receipt_id = world.publish_receipt()
            world.wait_status(receipt_id, "printing")
            broker.stop()
            wait_until(lambda: (world.at_ofd(receipt_id) or {}).get("times") == 1, 20, "the OFD to have it meanwhile")
            broker.start()
            wait_until(
                lambda: any(reply.content["status"] == "printed" for reply in pos.messages), 20, "the final reply"
            )
        assert {reply.content["receipt_id"] for reply in pos.messages} == {receipt_id}
        assert len(world.documents_of(receipt_id)) == 1


def test_what_comes_while_the_bridge_is_down_is_kept_and_printed_in_order(make_world, any_broker):
    world = make_world(broker=any_broker)
    world.bridge.terminate()
    ids = world.publish_receipts(small_receipt() for _ in range(50))
    world.bridge.start()
    numbers = [world.wait_reply(receipt_id)["fiscal"]["fd_number"] for receipt_id in ids]
    assert numbers == sorted(numbers)
    world.wait_statuses(ids, "synced")
    assert len(world.receipts_on()) == len(ids)


def test_a_kill_is_told_by_the_last_will(make_world, any_broker):
    world = make_world(broker=any_broker)
    born = world.wait_state("online", lambda state: state["online"])
    world.bridge.kill()
    assert world.wait_state("online", lambda state: not state["online"]) == born | {"online": False}
    world.bridge.start()
    again = world.wait_state("online", lambda state: state["online"])
    assert again["boot_id"] != born["boot_id"]
    assert again["since"] > born["since"]


def test_a_retained_receipt_is_printed_once_however_often_it_comes(make_world, any_broker):
    world = make_world(broker=any_broker)
    request = receipt()
    world.publish_receipt(request, retain=True)
    first = world.wait_reply(request["receipt_id"])
    world.bridge.restart()
    world.sell()
    assert {reply["fiscal"]["fd_number"] for reply in world.replies(request["receipt_id"])} == {
        first["fiscal"]["fd_number"]
    }
    assert len(world.documents_of(request["receipt_id"])) == 1
    world.pos.publish(f"{world.branch}/pos/pos-1/receipt", b"", retain=True)
    assert world.wait_reply(None)["error"]["code"] == "invalid_json"


@pytest.fixture
def line(mosquitto):
    with LossyLine(mosquitto.port) as line:
        yield line


@pytest.fixture
def any_line(any_broker):
    with LossyLine(any_broker.port) as line:
        yield line


def test_a_redelivered_refusal_is_repeated_and_not_judged_afresh(make_world, any_broker, any_line):
    line, settings = any_line, {"buffer.capacity": 1, "breaker.reset_timeout_s": 3600}
    world = make_world(settings, any_broker, mqtt_port=line.port)
    world.ofd_faults(outage=True)
    sold = world.sell()["receipt_id"]
    refused = receipt()
    line.swallow_pubacks = True
    world.publish_receipt(refused, correlation=b"once")
    first = world.wait_reply(refused["receipt_id"])
    assert first["error"]["code"] == "buffer_full"
    world.ofd_faults()
    world.done("sync", force=True)
    world.wait_status(sold, "synced")
    line.swallow_pubacks = False
    assert line.swallowed > 0
    since = len(world.observer.messages)
    line.cut()
    again = world.wait_reply(refused["receipt_id"], since=since)
    assert again == first
    assert world.documents_of(refused["receipt_id"]) == []
    assert world.sell(refused)["duplicate"] is False  # the cashier's own repeat is judged afresh


def test_a_redelivered_receipt_is_printed_once(make_world, any_broker, any_line):
    line = any_line
    world = make_world(broker=any_broker, mqtt_port=line.port)
    line.swallow_pubacks = True
    ids = [world.sell()["receipt_id"] for _ in range(5)]
    line.swallow_pubacks = False
    since = len(world.observer.messages)
    line.cut()
    for receipt_id in ids:
        assert world.wait_reply(receipt_id, since=since, duplicate=True)["status"] == "printed"
    assert len(world.receipts_on()) == len(ids)


def test_a_redelivered_command_is_carried_out_once(make_world, line):
    world = make_world(mqtt_port=line.port)
    world.sell()
    line.swallow_pubacks = True
    closed = world.command("shift-close")
    line.swallow_pubacks = False
    since = len(world.observer.messages)
    line.cut()
    assert closed["ok"]
    assert world.wait_result("shift-close", closed["command_id"], since=since) == closed
    assert [document.body.type for document in world.dump()].count("shift_close") == 1


def test_a_line_that_breaks_again_and_again_loses_nothing(make_world, line):
    world = make_world(mqtt_port=line.port)
    ids = []
    for _ in range(6):
        ids += world.publish_receipts(small_receipt() for _ in range(10))
        line.cut()
    world.wait_statuses(ids, "synced")
    assert {world.wait_reply(receipt_id)["status"] for receipt_id in ids} == {"printed"}
    assert len(world.receipts_on()) == len(ids)


def test_two_bridges_of_one_name_are_noticed(make_world):
    """They take the session from each other; one of them says so, and what could be the reason."""
    world = make_world()
    rival = World(world.directory / "rival", world.broker, {"bridge_id": world.bridge.id})
    try:
        rival.bridge.launch()
        logs = [world.bridge.log, rival.bridge.log]
        wait_until(lambda: any("bridge_id" in log.read_text(encoding="utf-8") for log in logs), 15, "word in a log")
    finally:
        rival.close(check=False)


def test_a_large_burst_of_nonsense_between_good_receipts_does_no_harm(world):
    topic = f"{world.branch}/pos/pos-1/receipt"
    good = [receipt() for _ in range(5)]
    for request in good:
        world.pos.publish_all([(topic, b"\xff" * 1000)] * 50 + [(topic, encoded(request))])
    for request in good:
        assert world.wait_reply(request["receipt_id"])["status"] == "printed"

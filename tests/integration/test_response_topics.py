"""MQTT 5: a response topic inside the asker's own branch is honoured there only; any other is ignored."""

import json
import shutil
import subprocess
import uuid

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support.brokers import left_out
from support.mqtt_client import MqttClient
from support.receipts import encoded, receipt

CORRELATION = b"\x00\xffcorrelation"


@pytest.fixture(scope="module")
def shop(calm_shop):
    return calm_shop(registers=["kkt-1"])


def test_a_response_topic_in_the_branch_of_the_pos_gets_the_reply_and_the_fixed_topic_does_not(shop):
    mine = f"{shop.branch}/pos/pos-1/mine"
    shop.contract.answers_on(mine)
    receipt_id = shop.publish_receipt(response_topic=mine, correlation=CORRELATION)
    reply = answer(shop, receipt_id, mine)
    assert reply.content["status"] == "printed"
    assert reply.correlation == CORRELATION
    shop.wait_status(receipt_id, "synced")  # whatever was said before this is there now
    assert shop.replies(receipt_id) == []


def test_the_correlation_data_comes_back_on_the_fixed_topic_too(shop):
    receipt_id = shop.publish_receipt(correlation=CORRELATION)
    assert answer(shop, receipt_id, f"{shop.branch}/pos/pos-1/reply").correlation == CORRELATION
    receipt_id = shop.publish_receipt()
    assert answer(shop, receipt_id, f"{shop.branch}/pos/pos-1/reply").correlation is None


def test_the_fixed_reply_topic_may_be_named(shop):
    fixed = f"{shop.branch}/pos/pos-1/reply"
    receipt_id = shop.publish_receipt(response_topic=fixed)
    assert answer(shop, receipt_id, fixed).content["status"] == "printed"
    assert len(shop.replies(receipt_id)) == 1


@pytest.mark.parametrize(
    "named",
    [
        "{branch}/pos/pos-10/mine",
        "{branch}/pos/pos-10/reply",
        "{branch}/pos/pos-1",
        "{branch}/pos/pos-1/",
        "{branch}/pos/pos-1/+",
        "{branch}/pos/pos-1/#",
        "{branch}/pos/pos-1/a/+/b",
        "{branch}/pos/+/mine",
        "{branch}/pos/pos-1/" + "x" * 65_000,
        "{branch}/pos/pos-1/receipt",
        "{branch}/pos/pos-1/query",
        "{branch}/pos/pos-2/receipt",
        "{branch}/command/pause",
        "{branch}/state/online",
        "{branch}/event/receipt",
        "{branch}-other/pos/pos-1/mine",
        "kkt/v1/config/fleet",
        "elsewhere",
        "/{branch}/pos/pos-1/mine",
    ],
)
def test_any_other_response_topic_is_ignored(shop, named):
    topic = named.format(branch=shop.branch)
    since = len(shop.observer.messages)
    request = receipt()
    receipt_id = shop.publish_receipt(request, response_topic=topic, correlation=CORRELATION)
    reply = answer(shop, receipt_id, f"{shop.branch}/pos/pos-1/reply")
    assert (reply.content["status"], reply.correlation) == ("printed", CORRELATION)
    shop.wait_status(receipt_id, "synced")
    told = [message for message in shop.observer.messages[since:] if names(message, receipt_id)]
    expected = {f"{shop.branch}/pos/pos-1/receipt", f"{shop.branch}/event/receipt", reply.topic}
    assert {message.topic for message in told} == expected
    assert [message.payload for message in told if message.topic.endswith("/pos-1/receipt")] == [encoded(request)]


def test_properties_that_some_library_does_not_take_harm_nobody_else(make_world):
    """U+FEFF is legal in MQTT, and paho throws out whoever sends it. At QoS 1 it would come again, for ever."""
    world = make_world()
    world.hang_up()  # paho is our library, too
    world.sees_everything = False
    for char in ("\x01", "\x7f", "\x85", "\ufffe", "\ufeff", "\U0001f453"):
        for name, value in (
            ("ResponseTopic", f"{world.branch}/pos/pos-1/mi{char}ne"),
            ("ContentType", f"application/{char}json"),
            ("UserProperty", (f"na{char}me", f"va{char}lue")),
        ):
            properties = Properties(PacketTypes.PUBLISH)
            setattr(properties, name, value)
            if name == "ResponseTopic" and char.isprintable():
                world.contract.answers_on(value)
            with MqttClient(world.broker.host, world.broker.port) as asker:
                asker.post(f"{world.branch}/pos/pos-1/receipt", encoded(receipt()), properties)
    world.connect()
    assert world.sell()["status"] == "printed"
    assert "is away" not in world.bridge.log.read_text(encoding="utf-8")


def test_topics_of_names_that_nobody_has_harm_nobody(make_world):
    """The longest topic that MQTT knows has 65535 bytes, and a result's topic is longer than its command's."""
    world = make_world()
    world.hang_up()
    world.sees_everything = False
    for kind, ending in (("command", ""), ("pos", "/query"), ("pos", "/receipt")):
        room = 65_535 - len(f"{world.branch}/{kind}/{ending}")
        for name in ("x" * room, "x" * 1100, " ", "\ufeff", "\U0001f453", "$SYS", "я" * 500):
            with MqttClient(world.broker.host, world.broker.port) as asker:
                asker.post(f"{world.branch}/{kind}/{name}{ending}", b"{}")
    world.connect()
    assert world.sell()["status"] == "printed"
    assert "is away" not in world.bridge.log.read_text(encoding="utf-8")


def test_buffered_and_final_both_go_to_the_response_topic(make_world):
    world = make_world({"reply.buffered_after_s": 0.2})
    mine = f"{world.branch}/pos/pos-1/mine"
    world.contract.answers_on(mine)
    world.fault("kkt-1", {"offline": True})
    receipt_id = world.publish_receipt(response_topic=mine, correlation=CORRELATION)
    first = world.wait_reply(receipt_id, final=False, topic=mine)
    assert (first["status"], first["final"]) == ("buffered", False)
    world.bridge.kill()
    world.bridge.start()
    world.heal("kkt-1")
    assert world.wait_reply(receipt_id, topic=mine)["status"] == "printed"
    correlations = {message.correlation for message in world.observer.messages if message.topic == mine}
    assert correlations == {CORRELATION}
    assert world.replies(receipt_id) == []


def test_whoever_asks_again_in_the_meantime_gets_the_final_reply(make_world):
    world = make_world({"reply.buffered_after_s": 0.2})
    world.fault("kkt-1", {"offline": True})
    request = receipt()
    world.publish_receipt(request)
    world.wait_reply(request["receipt_id"], final=False)
    mine = f"{world.branch}/pos/pos-1/second"
    world.contract.answers_on(mine)
    world.publish_receipt(request, response_topic=mine)
    assert world.wait_reply(request["receipt_id"], final=False, topic=mine)["duplicate"]
    world.heal("kkt-1")
    assert world.wait_reply(request["receipt_id"], topic=mine)["status"] == "printed"


def test_queries_and_refusals_answer_there_too(shop):
    mine = f"{shop.branch}/pos/pos-1/deep/down/mine"
    shop.contract.answers_on(mine)
    sold = shop.sell()
    content = encoded({"receipt_id": sold["receipt_id"]})
    shop.pos.publish(f"{shop.branch}/pos/pos-1/query", content, response_topic=mine, correlation=b"q")
    assert answer(shop, sold["receipt_id"], mine).correlation == b"q"
    refused = shop.publish_receipt(receipt(type="sell"), response_topic=mine, correlation=b"r")
    assert answer(shop, refused, mine).content["error"]["code"] == "invalid_receipt"
    assert shop.replies(refused) == []


@pytest.mark.parametrize("inside", ["command/mine", "command/status/mine", "command/a/b/c"])
def test_a_command_answers_inside_the_command_branch(shop, inside):
    """`command/mine` is where a command of that name would be: the bridge must not talk to itself."""
    topic = f"{shop.branch}/{inside}"
    command_id = str(uuid.uuid4())
    own = inside.count("/") == 1
    if not own:
        shop.contract.answers_on(topic)
    content = encoded({"command_id": command_id, "issued_by": "tests", "args": {}})
    shop.pos.publish(f"{shop.branch}/command/status", content, response_topic=topic, correlation=b"c")
    expected = f"{shop.branch}/command/status/result" if own else topic
    found = shop.wait(
        lambda message: message.topic == expected and message.content["command_id"] == command_id, "the result"
    )
    assert (found.content["ok"], found.correlation) == (True, b"c")


@pytest.mark.parametrize("outside", ["pos/pos-1/mine", "state/health", "../command/x"])
def test_a_command_answers_nowhere_else(shop, outside):
    command_id = str(uuid.uuid4())
    content = encoded({"command_id": command_id, "issued_by": "tests", "args": {}})
    shop.pos.publish(f"{shop.branch}/command/status", content, response_topic=f"{shop.branch}/{outside}")
    assert shop.wait_result("status", command_id)["ok"]
    shop.wait_event("command", lambda event: event["command_id"] == command_id)
    told = {message.topic for message in shop.observer.messages if names(message, command_id)}
    assert told == {f"{shop.branch}/{topic}" for topic in ("command/status", "command/status/result", "event/command")}


def test_mosquitto_rr_gets_its_reply(shop):
    program = shutil.which("mosquitto_rr") or left_out("mosquitto-clients")
    mine = f"{shop.branch}/pos/pos-1/rr-{uuid.uuid4().hex}"
    shop.contract.answers_on(mine)
    request = receipt()
    arguments = ["-V", "5", "-h", shop.broker.host, "-p", str(shop.broker.port), "-q", "1", "-W", "20"]
    topics = ["-t", f"{shop.branch}/pos/pos-1/receipt", "-e", mine, "-D", "publish", "correlation-data", "rr-1"]
    finished = subprocess.run(
        [program, *arguments, *topics, "-m", encoded(request)], capture_output=True, timeout=30, check=True
    )
    reply = json.loads(finished.stdout)
    assert (reply["receipt_id"], reply["status"]) == (request["receipt_id"], "printed")


def answer(shop, receipt_id, topic):
    return shop.wait(
        lambda message: message.topic == topic and message.content["receipt_id"] == receipt_id, f"a reply on {topic}"
    )


def names(message, receipt_id):
    return receipt_id.encode() in message.payload

"""A terminal that floods the bridge: the others sell on, each refusal is answered, and the disk does not fill."""

import json
import shutil
import subprocess
from contextlib import contextmanager

import pytest
from support.brokers import left_out
from support.mqtt_client import MqttClient
from support.processes import wait_until
from support.receipts import encoded, small_receipt
from support.stages import rows

from kkt_bridge.journal.receipts import REFUSALS_OF_POS_MAX
from kkt_bridge.stages.intake.intake import BATCH_MAX, TRIM_AFTER

TILLS = {"pos-1": "kkt-1", "pos-2": "kkt-1"}
ALL_S = 60
MANY = 10_000
"""Messages: far more than are answered while they are published."""
SIZE_MAX = 24 * 1024 * 1024
"""Bytes of the journal's files: SQLite's log of writes has up to 16 MiB, and is written anew after that."""

STEPS_OF_REFUSALS = "SELECT count(*) FROM steps WHERE receipt IS NULL"


def mosquitto_pub():
    return shutil.which("mosquitto_pub") or left_out("mosquitto-clients")


@contextmanager
def flood(world, count, payload):
    """So many messages as `pos-1`, by a program that publishes faster than the bridge reads."""
    lines = world.directory / "flood.txt"
    lines.write_bytes((payload + b"\n") * count)
    arguments = ["-p", str(world.broker.port), "-q", "1", "-l", "-t", f"{world.branch}/pos/pos-1/receipt"]
    with lines.open("rb") as source, subprocess.Popen([mosquitto_pub(), *arguments], stdin=source) as program:
        yield program


def sell(world, till):
    """Have `pos-2` sell."""
    request, since = small_receipt(pos_id="pos-2"), len(till.messages)
    till.publish(f"{world.branch}/pos/pos-2/receipt", encoded(request))
    reply = till.wait(lambda message: message.content["final"], "the reply", since=since, timeout_s=ALL_S).content
    assert (reply["receipt_id"], reply["status"]) == (request["receipt_id"], "printed")


def test_a_receipt_behind_a_flood_is_served_long_before_its_end(make_world):
    """The broker has all of the flood when the receipt comes."""
    world = make_world(pos=TILLS)
    world.hang_up()
    world.sees_everything = False
    flooded, sold = (f"{world.branch}/pos/{pos}/reply" for pos in TILLS)
    with MqttClient("127.0.0.1", world.broker.port, [flooded, sold]) as ears:
        with flood(world, MANY, b"{}") as program:
            program.wait(ALL_S)
        before = len(ears.messages)
        ears.publish(f"{world.branch}/pos/pos-2/receipt", encoded(small_receipt(pos_id="pos-2")))
        reply = ears.wait(lambda message: message.topic == sold, "the reply", since=before, timeout_s=ALL_S)
        overtaken = ears.messages.index(reply) - before
        wait_until(lambda: len(ears.messages) > MANY, ALL_S, "an answer to each message")
    assert overtaken < (MANY - before) / 2


@pytest.mark.parametrize(("count", "size"), [(3_000, 20), (800, 33_000)])
def test_the_others_sell_on_and_the_disk_does_not_fill(make_world, count, size):
    world = make_world(pos=TILLS)
    world.hang_up()
    world.sees_everything = False
    replies = f"{world.branch}/pos/{{}}/reply"
    with (
        MqttClient("127.0.0.1", world.broker.port, [replies.format("pos-2")]) as till,
        MqttClient("127.0.0.1", world.broker.port, [replies.format("pos-1")]) as flooder,
        flood(world, count, json.dumps({"a": "x" * size}).encode()) as program,
    ):
        while program.poll() is None or len(flooder.messages) < count:
            sell(world, till)
        wait_until(lambda: len(flooder.messages) == count, ALL_S, "an answer to each message")
        assert {message.content["error"]["code"] for message in flooder.messages} == {"invalid_receipt"}
        assert len(till.messages) >= 2
    world.connect()
    ((kept,),) = rows(world.directory, "SELECT count(*) FROM refusals")
    assert kept <= REFUSALS_OF_POS_MAX + TRIM_AFTER + BATCH_MAX
    wait_until(lambda: rows(world.directory, STEPS_OF_REFUSALS) == [(0,)], ALL_S, "their steps to be told and dropped")
    files = [world.directory / name for name in ("journal.db", "journal.db-wal")]
    assert sum(file.stat().st_size for file in files) < SIZE_MAX
    warnings = world.bridge.log.read_text(encoding="utf-8").count(" WARNING stages.intake.flood: ")
    assert 0 < warnings < count / 5, "a flood does not fill the log either"

"""A broker that forgets, refuses, or brings things back: what was committed is neither lost nor done twice."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.brokers import MosquittoProcess, left_out
from support.lossy_line import LossyLine
from support.mqtt_client import MqttClient
from support.processes import wait_until
from support.receipts import cash, receipt, small_receipt
from support.stages import rows
from support.world import World
from support.world_fixtures import MakeWorld

SOON_S = 20.0
STATES = ("online", "health", "buffer", "breaker", "sync", "kkt/kkt-1", "kkt/kkt-2")
TILLS = {"pos-1": "kkt-1", "pos-2": "kkt-2"}


def forget_everything(broker: MosquittoProcess) -> None:
    """End the broker and empty its disk."""
    broker.kill()
    for database in broker.directory.glob("mosquitto-*/*"):
        database.unlink()


def statuses(world: World) -> dict[str, str]:
    """Every receipt in the journal, and where it stands."""
    return dict(rows(world.directory, "SELECT receipt_id, status FROM receipts"))


def has_said_everything(world: World) -> bool:
    """Whether the outbox is empty, and this is on the disk."""
    return rows(world.directory, "SELECT count(*) FROM outbox") == [(0,)]


def test_a_broker_that_forgot_everything_with_receipts_in_every_state(make_world: MakeWorld, tmp_path: Path) -> None:
    with MosquittoProcess(tmp_path / "broker") as broker, LossyLine(broker.port) as line:
        settings = {"telemetry.interval_s": 3600, "breaker.reset_timeout_s": 3600}
        world = make_world(settings, broker, registers=TILLS.values(), pos=TILLS, mqtt_port=line.port)
        world.sees_everything = False  # the observer, too, loses its broker
        synced = world.sell()["receipt_id"]
        world.wait_status(synced, "synced")
        dead = world.publish_receipt_after(lambda key: world.ofd_faults(refuse_keys=[key]))
        world.wait_status(dead, "dead")
        world.fault("kkt-1", {"refuse_names": ["дефект"]})
        rejected = world.publish_receipt(small_receipt({"name": "дефект"}))
        world.wait_status(rejected, "rejected")
        world.ofd_faults(outage=True)
        printed = world.sell()["receipt_id"]
        world.wait_state("breaker", lambda state: state["state"] == "open")
        world.fault("kkt-1", {"print_time_s": 2})
        world.fault("kkt-2", {"offline": True})
        on_the_line = world.publish_receipt()
        waiting = world.publish_receipt(receipt(pos_id="pos-2"))
        wait_until(lambda: len(world.documents_of(on_the_line)) == 1, SOON_S, "the document")
        world.wait_status(waiting, "buffered")

        line.refuses = True
        forget_everything(broker)
        world.heal("kkt-2")
        ours = {on_the_line: "printed", waiting: "printed", printed: "printed"}
        ended = {synced: "synced", dead: "dead", rejected: "rejected"}
        wait_until(lambda: statuses(world) == ours | ended, SOON_S, "everything to go on without a broker")

        broker.start()
        wait_until(lambda: world.observer.is_ready() and world.pos.is_ready(), SOON_S, "the others to be back")
        since = len(world.observer.messages)
        line.refuses = False
        for receipt_id in (on_the_line, waiting):
            assert world.wait_reply(receipt_id, since=since)["status"] == "printed"
        with MqttClient(broker.host, broker.port, [f"{world.branch}/state/#"]) as late:
            for name in STATES:
                late.wait(lambda message, name=name: message.topic.endswith(f"/state/{name}"), name)  # type: ignore[misc]
        wait_until(lambda: has_said_everything(world), SOON_S, "an empty outbox")
        world.heal("kkt-1")
        assert world.sell()["status"] == "printed"
        world.ofd_faults()
        world.done("sync", force=True)
        world.wait_statuses([*ours], "synced")
        assert {name: len(world.documents_of(name)) for name in (synced, dead, printed, on_the_line)} == dict.fromkeys(
            (synced, dead, printed, on_the_line), 1
        )


# -- what comes back ---------------------------------------------------------------------------------------


def plant_a_bug(world: World, total: int) -> None:
    """Have the journal itself refuse receipts of this total, as it would for a reason that nobody thought of."""
    with closing(sqlite3.connect(world.directory / "journal.db", isolation_level=None)) as journal:
        journal.execute(
            f"CREATE TRIGGER bug BEFORE INSERT ON receipts WHEN NEW.total = {total} "
            "BEGIN SELECT RAISE(ABORT, 'a bug'); END"
        )


@pytest.mark.parametrize("lost", ["nothing", "acknowledgements"])
def test_poison_and_its_neighbours_over_restarts_of_everybody(tmp_path: Path, lost: str) -> None:
    """Nothing comes back for ever, and what does come again changes nothing."""
    with MosquittoProcess(tmp_path / "broker") as broker, LossyLine(broker.port) as line:
        world = World(tmp_path / "world", broker, mqtt_port=line.port).start()
        try:
            plant_a_bug(world, 77700)
            line.swallow_pubacks = lost == "acknowledgements"
            poison = small_receipt({"price": "777", "total": "777"}, payments=cash("777"))
            good = [receipt(), receipt()]
            world.publish_receipts([good[0], poison, good[1]])
            world.pos.publish(f"{world.branch}/pos/pos-1/receipt", b"[" * 200_000)
            first = {one["receipt_id"]: world.wait_reply(one["receipt_id"]) for one in good}
            refusal = world.wait_reply(poison["receipt_id"])
            assert "the bridge failed on this message" in refusal["error"]["message"]
            assert world.wait_reply(None)["error"]["code"] == "invalid_json"
            if lost == "acknowledgements":
                wait_until(lambda: line.swallowed >= 4, SOON_S, "the acknowledgements")
            line.swallow_pubacks = False
            wait_until(lambda: has_said_everything(world), SOON_S, "the broker to have every answer")

            world.bridge.kill()
            broker.restart()
            wait_until(lambda: world.observer.is_ready() and world.pos.is_ready(), SOON_S, "the others to be back")
            since = len(world.observer.messages)
            world.bridge.start()
            world.sell()
            again = [message.content for message in world.observer.messages[since:] if message.topic.endswith("/reply")]
            told = {reply["receipt_id"]: reply for reply in again}
            if lost == "acknowledgements":
                assert told[poison["receipt_id"]] == refusal
                for receipt_id, reply in first.items():
                    assert (told[receipt_id]["fiscal"], told[receipt_id]["duplicate"]) == (reply["fiscal"], True)
            else:
                assert not told.keys() & {poison["receipt_id"], None, *first}
            assert [len(world.documents_of(one["receipt_id"])) for one in (*good, poison)] == [1, 1, 0]
        finally:
            world.close(check=False)  # the bug's traceback is in the log, as it should


# -- what is refused -----------------------------------------------------------------------------------------


class GuardedMosquitto(MosquittoProcess):
    """Mosquitto with its dynamic security: it refuses the subscription to receipts until it is told not to."""

    guarded = True

    def command(self) -> list[str]:
        plugins = [*Path("/usr").glob("lib/**/mosquitto_dynamic_security.so")]
        if not plugins:
            left_out("mosquitto")
        rules = [{"acltype": "subscribePattern", "topic": "#", "priority": 0, "allow": True}]
        if self.guarded:
            rules.append({"acltype": "subscribePattern", "topic": "kkt/v1/+/pos/#", "priority": 1, "allow": False})
        access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
        security = {
            "defaultACLAccess": access,
            "roles": [{"rolename": "anybody", "acls": rules}],
            "groups": [{"groupname": "anybody", "roles": [{"rolename": "anybody"}]}],
            "anonymousGroup": "anybody",
        }
        (self.directory / "security.json").write_text(json.dumps(security), encoding="utf-8")
        command = super().command()
        with Path(command[-1]).open("a", encoding="utf-8") as file:
            file.write(f"\nplugin {plugins[0]}\nplugin_opt_config_file {self.directory}/security.json\n")
        return command


def test_a_refused_subscription_is_said_and_heals(tmp_path: Path) -> None:
    with GuardedMosquitto(tmp_path / "broker") as broker:
        world: Any = World(tmp_path / "world", broker)
        world.sees_everything = False
        world.bridge.launch()
        try:
            refused = f"refused the subscription to {world.branch}/pos/+/receipt"
            wait_until(lambda: refused in world.bridge.tail(), SOON_S, "word in the log")
            assert "check its access list" in world.bridge.tail()
            broker.guarded = False
            broker.restart()
            world.connect()
            world.wait_state("online", lambda state: state["online"])
            assert world.sell()["status"] == "printed"
        finally:
            world.close()

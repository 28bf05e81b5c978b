"""The sample access list at a real Mosquitto: everybody can do his work, and nobody another's."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli.running_bridge import run
from support.bridge import BridgeProcess
from support.brokers import HOST, MosquittoProcess, left_out
from support.processes import wait_until
from support.receipts import encoded, small_receipt

from kkt_bridge.errors import BrokerAway
from kkt_bridge.mqtt.client import BrokerClient
from kkt_bridge.simulators.ofd import OfdSimulator

ACL = Path(__file__).parents[2] / "deploy" / "mosquitto.acl"
BRANCH = "kkt/v1/store-017"
USERS = ("store-017", "store-017.pos-1", "store-017.pos-2", "viewer", "operator", "fleet")
ANSWER_TIMEOUT_S = 20.0
SILENCE_S = 0.5
"""For a message that must not come; one that is let through takes milliseconds."""

CONFIG = """
bridge_id = "store-017"
mqtt = {{ port = {port}, username = "store-017", password_file = "{directory}/store-017" }}
journal = {{ url = "sqlite:///{directory}/journal.db" }}
kkt = [{{ id = "kkt-1", driver = "virtual", state = "{directory}/kkt-1.fn", print_time_s = 0 }}]
ofd = {{ url = "{ofd}" }}
"""


class GuardedMosquitto(MosquittoProcess):
    """Mosquitto that lets in only who has a password, and each only where the sample says."""

    def command(self) -> list[str]:
        program = shutil.which("mosquitto_passwd") or left_out("mosquitto-clients")
        passwords, acl = self.directory / "passwd", self.directory / "acl"
        passwords.touch()
        for user in USERS:
            subprocess.run([program, "-b", str(passwords), user, user], check=True)
            secret = self.directory / user
            secret.write_text(user, encoding="utf-8")
            secret.chmod(0o600)
        shutil.copy(ACL, acl)
        words = super().command()
        conf = Path(words[-1])
        guarded = f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}"
        conf.write_text(
            conf.read_text(encoding="utf-8").replace("\nallow_anonymous true", f"\n{guarded}"), encoding="utf-8"
        )
        return words

    @contextmanager
    def connect(self, user: str, *filters: str) -> Iterator[BrokerClient]:
        with BrokerClient(HOST, self.port, username=user, password=user) as client:
            if filters:
                client.subscribe(filters)
            yield client


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with GuardedMosquitto(tmp_path_factory.mktemp("guarded")) as process:
        yield process


@pytest.fixture(scope="module")
def bridge(broker, tmp_path_factory):
    """A bridge that is online there; its configuration."""
    directory = tmp_path_factory.mktemp("bridge")
    shutil.copy(broker.directory / "store-017", directory)
    ofd = OfdSimulator()
    ofd.start()
    process = BridgeProcess(CONFIG.format(port=broker.port, directory=directory, ofd=ofd.url), directory)
    with broker.connect("viewer", f"{BRANCH}/state/online") as viewer:
        process.launch()
        try:
            wait_until(lambda: is_online(viewer), ANSWER_TIMEOUT_S, "the bridge online")
            yield process.file
        finally:
            process.stop()
            ofd.stop()


def is_online(client):
    message = client.get(0.2)
    return message is not None and json.loads(message.payload or b"{}").get("online") is True


def test_a_pos_sells_and_only_it_reads_the_reply(broker, bridge):
    request = small_receipt()
    reply_topic = f"{BRANCH}/pos/pos-1/reply"
    with broker.connect("store-017.pos-1", reply_topic) as pos, broker.connect("viewer", "kkt/#") as viewer:
        pos.publish(f"{BRANCH}/pos/pos-1/receipt", encoded(request))
        message = pos.get(ANSWER_TIMEOUT_S)
        assert message is not None
        assert json.loads(message.payload)["status"] == "printed"
        seen = []
        wait_until(
            lambda: bool((heard := viewer.get(0.2)) and (seen.append(heard.topic) or "/event/receipt" in heard.topic)),
            ANSWER_TIMEOUT_S,
            "the event",
        )
        while heard := viewer.get(SILENCE_S):
            seen.append(heard.topic)
    assert not [topic for topic in seen if "/pos/" in topic]


def test_a_response_topic_in_its_own_branch_is_served(broker, bridge):
    where = f"{BRANCH}/pos/pos-1/answers/1"
    with broker.connect("store-017.pos-1", where) as pos:
        receipt = encoded(small_receipt())
        pos.publish(f"{BRANCH}/pos/pos-1/receipt", receipt, response_topic=where, correlation=b"1")
        message = pos.get(ANSWER_TIMEOUT_S)
        assert message is not None
        assert (json.loads(message.payload)["status"], message.correlation) == ("printed", b"1")


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        ("store-017.pos-1", f"{BRANCH}/pos/pos-2/receipt"),
        ("store-017.pos-1", f"{BRANCH}/pos/pos-1/reply"),
        ("store-017.pos-1", f"{BRANCH}/command/pause"),
        ("store-017.pos-1", f"{BRANCH}/state/online"),
        ("viewer", f"{BRANCH}/command/pause"),
        ("viewer", f"{BRANCH}/pos/pos-1/receipt"),
        ("operator", f"{BRANCH}/pos/pos-1/receipt"),
        ("operator", "kkt/v1/config/fleet"),
        ("fleet", f"{BRANCH}/command/pause"),
        ("store-017", "kkt/v1/store-018/state/online"),
        ("store-017", "kkt/v1/config/fleet"),
    ],
)
def test_what_is_not_granted_is_refused(broker, user, topic):
    with broker.connect(user) as client, pytest.raises(BrokerAway, match="refuses a message"):
        client.publish(topic, b"{}")


def test_one_pos_does_not_hear_the_other(broker):
    with broker.connect("store-017") as bridge_user, broker.connect("store-017.pos-1", f"{BRANCH}/pos/#") as pos:
        bridge_user.publish(f"{BRANCH}/pos/pos-2/reply", b"for another")
        bridge_user.publish(f"{BRANCH}/pos/pos-1/reply", b"for it")
        message = pos.get(ANSWER_TIMEOUT_S)
        assert message is not None
        assert message.payload == b"for it"


def test_an_operator_has_his_commands_carried_out(broker, bridge):
    who = ("--username", "operator", "--password-file", broker.directory / "operator", "--port", broker.port)
    done = run("status", "--bridge", "store-017", *who, "--json")
    assert done.returncode in {0, 1, 5}, done.stderr
    assert json.loads(done.stdout)["online"]["online"] is True


def test_doctor_finds_an_installation_with_an_access_list_well(bridge):
    done = run("doctor", "--config", bridge, "--json")
    checks = json.loads(done.stdout)["checks"]
    assert [check for check in checks if check["verdict"] == "FAIL"] == []
    (asked,) = (check for check in checks if check["check"] == "bridge answers")
    assert "may not send commands" in asked["reason"]

"""What an earlier configuration left at the broker is cleared: with a real broker, and a real session."""

import time

import pytest
from support.brokers import HOST, MosquittoProcess
from support.clocks import ManualClock
from support.stages import break_disk, kill, mend_disk, new_journal

from kkt_bridge.mqtt.birth_and_will import Presence
from kkt_bridge.mqtt.client import BrokerClient
from kkt_bridge.mqtt.inbox import Inbox
from kkt_bridge.mqtt.messages import Publication
from kkt_bridge.mqtt.session import Session
from kkt_bridge.settings import MqttSettings
from kkt_bridge.stages.stale_topics import StaleTopics
from kkt_bridge.wire.topics import Topics

SOON_S = 15.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with MosquittoProcess(tmp_path_factory.mktemp("broker")) as process:
        yield process


class Run:
    """One life of a bridge as far as its retained topics go; the journal outlives it."""

    def __init__(self, folder, port, *, root, registers):
        self.topics = Topics(root, "store-017")
        self.journal = new_journal(folder, ManualClock())
        presence = Presence(self.topics.state("online"), b'{"online": true}', b"{}", "mine", "2026-11-22T14:00+03:00")
        self.inbox = Inbox(100)
        settings = MqttSettings(host=HOST, port=port, client_id="retained-topics")
        self.session = Session(settings, self.topics, presence, self.inbox, ManualClock())
        self.retained = StaleTopics(journal=self.journal, link=self.session, topics=self.topics, registers=registers)
        self.session.listen(self.retained.link_up)
        self.registers = registers

    def live(self):
        """Come online, publish state, and take leave."""
        self.until(lambda: self.session.online)
        for name in ("health", *(f"kkt/{kkt}" for kkt in self.registers)):
            self.session.publish(Publication(self.topics.state(name), b"state", retain=True))
        self.session.publish_offline()
        self.until(lambda: self.session.gone)
        self.end()

    def until(self, condition):
        deadline = time.monotonic() + SOON_S
        while not condition():
            assert time.monotonic() < deadline, self.session.complaint
            self.session.step(0.01)
            self.journal.flush()

    def end(self):
        self.journal.flush()
        self.session.close()
        kill(self.journal)


def retained(port, branch):
    """The retained topics under a branch."""
    with BrokerClient(HOST, port) as client:
        client.subscribe([f"{branch}/#", "end/of/it"])
        client.publish("end/of/it", b"end")
        found = set()
        while (message := client.get(SOON_S)).topic != "end/of/it":
            assert message.retain
            found.add(message.topic.removeprefix(branch + "/"))
        return found


def test_a_register_that_is_taken_out_does_not_stay_ready(tmp_path, broker):
    Run(tmp_path, broker.port, root="one", registers=["kkt-1", "kkt-2"]).live()
    assert retained(broker.port, "one/store-017") == {
        "state/online",
        "state/health",
        "state/kkt/kkt-1",
        "state/kkt/kkt-2",
    }
    Run(tmp_path, broker.port, root="one", registers=["kkt-1"]).live()
    assert retained(broker.port, "one/store-017") == {"state/online", "state/health", "state/kkt/kkt-1"}


def test_another_root_leaves_nothing_behind_and_hears_nothing_of_the_old_one(tmp_path, broker):
    Run(tmp_path, broker.port, root="old", registers=["kkt-1"]).live()
    Run(tmp_path, broker.port, root="new", registers=["kkt-1"]).live()
    assert retained(broker.port, "old/store-017") == set()
    assert retained(broker.port, "new/store-017") == {"state/online", "state/health", "state/kkt/kkt-1"}
    again = Run(tmp_path, broker.port, root="new", registers=["kkt-1"])
    again.until(lambda: again.session.online)
    with BrokerClient(HOST, broker.port) as pos:
        pos.publish("old/store-017/pos/pos-1/receipt", b"to nobody")
        pos.publish("new/store-017/pos/pos-1/receipt", b"to us")
    messages = []

    def arrived():
        messages.extend(again.inbox.take(10))
        return messages

    again.until(arrived)
    assert [message.payload for message in messages] == [b"to us"]
    again.end()


def test_a_journal_that_cannot_be_read_costs_no_connection(tmp_path, broker, monkeypatch):
    run = Run(tmp_path, broker.port, root="broken", registers=["kkt-1"])
    break_disk(run.journal)
    run.until(lambda: run.session.online)
    mend_disk(run.journal)
    run.end()

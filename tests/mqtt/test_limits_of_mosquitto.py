"""A real Mosquitto with an access list and limits: what it does not take neither stops the rest nor is lost."""

import json
import time
from collections.abc import Callable

import pytest
from support.brokers import HOST, MosquittoProcess
from support.clocks import ManualClock
from support.stages import ZONE, a_receipt, kill, new_journal, rows

from kkt_bridge.journal.receipts import insert_receipt
from kkt_bridge.mqtt.birth_and_will import Presence
from kkt_bridge.mqtt.client import BrokerClient
from kkt_bridge.mqtt.inbox import Inbox
from kkt_bridge.mqtt.refused_publications import INITIAL_WAIT_S
from kkt_bridge.mqtt.session import Session
from kkt_bridge.settings import MqttSettings
from kkt_bridge.stages.publishing import Publisher
from kkt_bridge.wire.topics import Topics

SOON_S = 15.0
TOPICS = Topics("kkt/v1", "store-017")


class LimitedMosquitto(MosquittoProcess):
    """With more lines in its configuration; `access` is its access list for everybody."""

    def __init__(self, directory, *, lines=(), access=()):
        super().__init__(directory)
        self.lines = list(lines)
        if access:
            file = directory / "acl"
            file.write_text("\n".join(access) + "\n", encoding="utf-8")
            file.chmod(0o600)
            self.lines.append(f"acl_file {file}")

    def command(self):
        command = super().command()
        file = self.directory / f"mosquitto-{self.port}.conf"
        file.write_text("\n".join([file.read_text(encoding="utf-8"), *self.lines, ""]), encoding="utf-8")
        return command


class PublishingBridge:
    """A journal, its publisher and a session, in one thread; the clock stands unless it is advanced."""

    def __init__(self, folder, port, **settings):
        self.folder = folder
        self.clock = ManualClock()
        self.journal = new_journal(folder, self.clock)
        presence = Presence(
            TOPICS.state("online"), b'{"online": true}', b'{"online": false}', "mine", "2026-11-22T14:00Z"
        )
        mqtt = MqttSettings(host=HOST, port=port, **settings)
        self.session = Session(mqtt, TOPICS, presence, Inbox(100), self.clock)
        self.publisher = Publisher(
            journal=self.journal, link=self.session, topics=TOPICS, zone=ZONE, events_max_age_s=1e6, clock=self.clock
        )
        self.journal.listen(self.publisher.committed)
        self.session.listen(self.publisher.link_up)

    def until(self, condition: Callable[[], bool], what: str):
        deadline = time.monotonic() + SOON_S
        while not condition():
            assert time.monotonic() < deadline, f"never: {what}; {self.session.complaint}; {self.outbox()}"
            self.publisher.step()
            self.session.step(0.01)
            self.journal.flush()
        return self

    def say(self, topic, payload):
        self.journal.write(lambda tx: tx.publish(topic, payload))

    def outbox(self):
        return [payload for (payload,) in rows(self.folder, "SELECT payload FROM outbox ORDER BY id")]


@pytest.fixture
def open_shop(tmp_path):
    shops = []

    def make(port, **settings):
        shops.append(PublishingBridge(tmp_path, port, **settings))
        return shops[-1].until(lambda: shops[-1].session.online, "online")

    yield make
    for shop in shops:
        shop.session.close()
        kill(shop.journal)


def test_replies_that_the_access_list_forbids_wait_for_its_correction(tmp_path, open_shop):
    access = ["topic read #", "topic write kkt/v1/store-017/pos/pos-1/reply", "topic write kkt/v1/store-017/state/#"]
    with LimitedMosquitto(tmp_path, access=access) as broker:
        shop = open_shop(broker.port, protocol="5")
        shop.say(TOPICS.reply("pos-1"), b"1")
        shop.say(TOPICS.reply("pos-2"), b"2")
        shop.say(TOPICS.reply("pos-1"), b"3")
        shop.until(lambda: shop.outbox() == [b"2"] and shop.session.status.refused_topics.count == 1, "the refusal")
        assert TOPICS.reply("pos-2") in shop.session.status.refused_topics.example
        with (tmp_path / "acl").open("a", encoding="utf-8") as file:
            file.write("topic write kkt/v1/store-017/pos/+/reply\n")
        broker.restart()
        shop.until(lambda: not shop.session.online, "the loss")
        shop.clock.advance(INITIAL_WAIT_S)
        with BrokerClient(HOST, broker.port) as pos:
            pos.subscribe([TOPICS.reply("pos-2")])
            shop.until(lambda: shop.outbox() == [], "the reply")
            assert pos.get(SOON_S).payload == b"2"
        assert shop.session.status.refused_topics.count == 0


@pytest.mark.parametrize("line", ["message_size_limit 8192", "max_packet_size 8192"])
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_events_fit_and_a_large_answer_does_not_stop_the_small_ones(tmp_path, open_shop, line, protocol):
    with LimitedMosquitto(tmp_path, lines=[line]) as broker:
        shop = open_shop(broker.port, protocol=protocol)
        with BrokerClient(HOST, broker.port) as dashboard:
            dashboard.subscribe([TOPICS.event("receipt"), TOPICS.reply("pos-1")])
            shop.journal.write(lambda tx: [insert_receipt(tx, a_receipt()) for _ in range(200)])
            shop.say(TOPICS.command_result("receipt"), b"x" * 20_000)
            shop.say(TOPICS.reply("pos-1"), b"small")
            heard = []

            def all_heard():
                while (message := dashboard.get(0)) is not None:
                    heard.append(message)
                shop.clock.advance(0.1)
                steps = sum(len(json.loads(m.payload)["steps"]) for m in heard if m.topic == TOPICS.event("receipt"))
                return steps >= 200 and any(m.payload == b"small" for m in heard)

            shop.until(all_heard, "everything small")
            assert max(len(message.payload) for message in heard) <= 8192

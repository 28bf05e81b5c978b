"""A journal with a made-up past is one that a bridge takes for its own."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from support.mqtt_client import MqttClient
from support.processes import wait_until
from support.simulated_ofd import OfdProcess

from benchmarks.load import HOST
from benchmarks.past import past_of
from benchmarks.programs import BridgeConfig
from benchmarks.site import Site, load_bridge

COPIES = 40
MORE = 5


def test_a_bridge_goes_on_from_a_pending_past_and_delivers_it(site: Site) -> None:
    directory = past_of(site, "pending", COPIES, pending=True)
    check_whole(directory / "journal.db", "printed")
    ofd = OfdProcess(directory)
    shop = BridgeConfig(ofd.url, settings={"breaker": {"reset_timeout_s": 0.1}})
    with site.bridge(shop, directory) as bridge:
        assert pending(site, bridge.branch) == COPIES + 1
        load_bridge(bridge, replace(site.load(), count=MORE))
        with ofd:
            wait_until(lambda: ofd.received()["total"] == COPIES + 1 + MORE, 10, "every document at the OFD")
            assert ofd.received()["conflicts"] == []


def test_a_delivered_past_is_nothing_to_do(site: Site) -> None:
    directory = past_of(site, "stored", COPIES, pending=False)
    check_whole(directory / "journal.db", "synced")
    with site.bridge(BridgeConfig(site.away), directory) as bridge:
        assert pending(site, bridge.branch) == 0
        load_bridge(bridge, replace(site.load(), count=MORE))


def check_whole(journal: Path, status: str) -> None:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        counted = connection.execute("SELECT kkt, status, count(*) FROM receipts GROUP BY kkt, status").fetchall()
        kept = connection.execute("SELECT kkt, name, value FROM figures WHERE kkt != '' AND value != 0").fetchall()
        assert counted == kept == [("kkt-1", status, COPIES + 1)]
        (ids,) = connection.execute(
            "SELECT count(DISTINCT json_extract(body, '$.receipt_id')) FROM requests"
        ).fetchone()
        assert ids == COPIES + 1


def pending(site: Site, branch: str) -> int:
    topic = f"{branch}/state/buffer"
    with MqttClient(HOST, site.broker.port, [topic]) as client:
        state = client.wait(lambda message: message.topic == topic, "the state of the buffer")
    return int(state.content["pending"])

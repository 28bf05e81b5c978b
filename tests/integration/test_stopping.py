"""SIGTERM, whatever the bridge is doing: it ends well within 10 s, and the next start loses and repeats nothing.

The simpler cases (idle, a document on the line, a queue, a broker that is away) are in test_process.
"""

import json
import os
import resource
import signal
import socket
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.brokers import HOST, MosquittoProcess
from support.clocks import ManualClock
from support.processes import wait_until
from support.receipts import encoded, receipt, small_receipt
from support.stages import TOPICS, InProcessBridge, a_receipt, rows
from support.world import World
from support.world_fixtures import MakeWorld

from kkt_bridge.clock import SystemClock
from kkt_bridge.journal.receipts import insert_receipt
from kkt_bridge.receipts.model import Receipt

STOP_S = 10.0
SOON_S = 20.0
MANY = 10_000
TILLS = {"pos-1": "kkt-1", "pos-2": "kkt-2"}


def test_everything_hangs_at_once_and_somebody_loses_patience(make_world: MakeWorld, tmp_path: Path) -> None:
    """A register prints for a minute, an OFD answers in an hour, the broker is frozen, there is a second SIGTERM."""
    with MosquittoProcess(tmp_path / "broker") as broker:
        world = make_world({"ofd.timeout_s": 60}, broker, registers=TILLS.values(), pos=TILLS)
        world.sees_everything = False
        world.ofd_faults(latency_s=3600)
        at_the_ofd = world.sell()["receipt_id"]
        world.wait_state("sync", lambda state: state["in_progress"])
        world.fault("kkt-2", {"print_time_s": 60})
        on_the_line = world.publish_receipt(receipt(pos_id="pos-2"))
        wait_until(lambda: len(world.documents_of(on_the_line, "pos-2")) == 1, SOON_S, "the document")
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            impatient = threading.Timer(2, world.bridge.process.send_signal, [signal.SIGTERM])
            impatient.start()
            assert world.bridge.terminate() < STOP_S
            impatient.cancel()
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        assert "did not end in time" in world.bridge.tail()
        world.heal("kkt-2")
        world.ofd_faults()
        world.bridge.start()
        assert world.wait_reply(on_the_line)["status"] == "printed"
        world.wait_statuses([at_the_ofd, on_the_line], "synced")
        assert [len(world.documents_of(at_the_ofd)), len(world.documents_of(on_the_line, "pos-2"))] == [1, 1]
        world.bridge.terminate()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A broker that takes connections and never says a word."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


def test_a_broker_that_never_answers(tmp_path: Path, mosquitto: Any, silent_port: int) -> None:
    world = World(tmp_path / "world", mosquitto, mqtt_port=silent_port)
    try:
        world.bridge.launch()
        wait_until(lambda: "is up" in world.bridge.tail(), SOON_S, "the bridge to be up")
        assert world.bridge.terminate() < STOP_S
    finally:
        world.close()


# -- a disk that fails -------------------------------------------------------------------------------------


def full_disk(world: World) -> Callable[[], object]:
    """Let no file of the bridge grow; mends itself with the next process."""
    resource.prlimit(world.bridge.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    return int


def held_journal(world: World) -> Callable[[], object]:
    """Have another program hold the journal's file; returns how it lets go."""
    other = sqlite3.connect(world.directory / "journal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other.close


@pytest.mark.parametrize("fail", [full_disk, held_journal])
def test_a_disk_that_fails_with_a_document_on_the_line(
    make_world: MakeWorld, fail: Callable[[World], Callable[[], object]]
) -> None:
    world = make_world(print_time_s=1.0)
    world.sees_everything = False  # the last steps of the first process are told by the second
    on_the_line, behind = world.publish_receipts([receipt(), receipt()])
    wait_until(lambda: len(world.documents_of(on_the_line)) == 1, SOON_S, "the document")
    heal = fail(world)
    try:
        refused = receipt()
        world.publish_receipt(refused)
        assert world.bridge.terminate() < STOP_S
    finally:
        heal()
    world.bridge.start()
    for receipt_id in (on_the_line, behind):
        assert world.wait_reply(receipt_id)["status"] == "printed"
        assert len(world.documents_of(receipt_id)) == 1


# -- a start -------------------------------------------------------------------------------------------------


def test_a_start_that_is_stopped_at_any_moment(make_world: MakeWorld) -> None:
    """Before Python reads our code nobody can catch the signal: it ends the process, and nothing has begun."""
    world = make_world(print_time_s=0.1)
    world.sees_everything = False
    world.sell()
    world.bridge.terminate()
    ids = world.publish_receipts(small_receipt() for _ in range(20))
    log = world.bridge.log
    for word in (None, "is up", "printed as"):
        known = log.stat().st_size
        world.bridge.launch()
        if word is not None:
            wait_until(lambda known=known, word=word: word in log.read_text()[known:], SOON_S, word)  # type: ignore[misc]
        world.bridge.process.send_signal(signal.SIGTERM)
        status = world.bridge.wait_end(STOP_S)
        assert status == 0 or (word is None and status == -signal.SIGTERM)
    world.bridge.start()
    world.wait_statuses(ids, "synced")
    assert [len(world.documents_of(receipt_id)) for receipt_id in ids] == [1] * len(ids)


# -- a great heap of work ------------------------------------------------------------------------------------


def take_in_an_earlier_life(directory: Path) -> None:
    """Receipts that an earlier process has taken and not printed."""
    shop = InProcessBridge(directory, clock=ManualClock(SystemClock().now_ms()))
    body = Receipt.model_validate_json(encoded(small_receipt())).canonical().decode()
    sample = json.loads(body)["receipt_id"]
    for _ in range(MANY // 1000):
        ids = [str(uuid.uuid4()) for _ in range(1000)]
        taken = [a_receipt(receipt_id=new, body=body.replace(sample, new)) for new in ids]
        shop.journal.write(lambda tx, taken=taken: [insert_receipt(tx, new) for new in taken])  # type: ignore[misc]
    shop.kill()


def test_ten_thousand_receipts_that_wait(tmp_path: Path, mosquitto: Any) -> None:
    world = World(tmp_path / "world", mosquitto, {"bridge_id": TOPICS.bridge})
    take_in_an_earlier_life(world.directory)
    file = world.registers["kkt-1"]
    world.sees_everything = False
    world.connect()
    try:
        for documents in (50, 300):
            world.bridge.launch()
            wait_until(lambda n=documents: lines(file) > n, SOON_S, "documents")  # type: ignore[misc]
            assert world.bridge.terminate() < STOP_S
        printed = {document.body.requisite_1192 for document in world.receipts_on()}
        assert len(printed) == len(world.receipts_on())
        known = dict(rows(world.directory, "SELECT status, count(*) FROM receipts GROUP BY status"))
        assert sum(known.values()) == MANY
        assert known.pop("printed", 0) + known.pop("synced", 0) == len(printed)
        assert known.keys() == {"buffered"}, "what was leased and not begun is given back"
    finally:
        world.close()


def lines(file: Path) -> int:
    """Documents in a fiscal storage, or 0 where there is none yet."""
    return file.read_bytes().count(b"\n") if file.exists() else 0

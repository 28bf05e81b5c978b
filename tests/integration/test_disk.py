"""The disk under a running bridge: full, held by another program, slow, failing in the middle of a commit.

A receipt that comes then is refused before it is acknowledged, is not printed, and goes through later under the same
id; nobody restarts anything.
"""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.lossy_line import LossyLine
from support.processes import wait_until
from support.receipts import receipt, small_receipt
from support.world import World
from support.world_fixtures import MakeWorld

from kkt_bridge.registers.virtual.fiscal_document import RECEIPT, Body, registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage

FRAME = 4096 + 24
"""A page and its header in SQLite's log of writes."""

SLOW_S = 2.0
"""Below the 5 s after which the journal gives up a commit."""

SOON_S = 20.0
TILLS = {"pos-1": "kkt-1", "pos-2": "kkt-2"}
BULK = 2 * 1024 * 1024
"""More than the journal's files ever have in a test: a limit here meets the fiscal storage alone."""


class BridgeOnBadDisk:
    """Two registers on one bridge, and a line to the broker that counts the bridge's acknowledgements."""

    def __init__(self, world: World, line: LossyLine) -> None:
        self.world = world
        self.line = line

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """A disk on which no file of the bridge grows beyond this size."""
        pid = self.world.bridge.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Another program writes in the journal's file, and does not come to an end."""
        with closing(sqlite3.connect(self.world.directory / "journal.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                other.execute("ROLLBACK")

    @contextmanager
    def nothing_is_acknowledged(self) -> Iterator[None]:
        """Fail if the bridge acknowledges a request meanwhile."""
        swallowed, self.line.swallow_pubacks = self.line.swallowed, True
        try:
            yield
        finally:
            self.line.swallow_pubacks = False
        assert self.line.swallowed == swallowed

    def check_refused(self, request: dict[str, Any]) -> None:
        """Refused, so that it may be repeated; shown as the journal's fault; not printed."""
        error = self.world.refusal(request)
        assert (error["code"], error["retryable"]) == ("storage_unavailable", True)
        health = self.world.wait_state(
            "health", lambda state: state["components"]["journal"]["status"] == "unhealthy", timeout_s=SOON_S
        )
        assert (health["status"], bool(health["components"]["journal"]["reason"])) == ("unhealthy", True)
        assert self.world.documents_of(request["receipt_id"], request["pos_id"]) == []

    def check_healed(self, *requests: dict[str, Any]) -> None:
        """Well again without a restart: the same requests go through, each once."""
        self.world.wait_state("health", lambda state: state["components"]["journal"]["status"] == "healthy")
        for request in requests:
            receipt_id, since = self.world.publish_receipt(request), len(self.world.observer.messages)
            # The refusal may come once more: told past the journal first, and again when the journal takes it.
            self.world.wait(
                lambda message, receipt_id=receipt_id: (  # type: ignore[misc]
                    message.topic.endswith("/reply")
                    and (message.content["receipt_id"], message.content["status"]) == (receipt_id, "printed")
                ),
                "the receipt to be printed after all",
                since=since,
            )
            assert len(self.world.documents_of(receipt_id, request["pos_id"])) == 1
        assert "session resumed" not in self.world.bridge.tail(), "the line to the broker stood all the time"


@pytest.fixture(scope="module")
def shop(calm_shop: MakeWorld, mosquitto: Any) -> Iterator[BridgeOnBadDisk]:
    with LossyLine(mosquitto.port) as line:
        settings = {"telemetry.interval_s": 0.5}
        world = calm_shop(settings=settings, registers=TILLS.values(), pos=TILLS, print_time_s=0.5, mqtt_port=line.port)
        yield BridgeOnBadDisk(world, line)


def a_request(pos: str = "pos-1") -> dict[str, Any]:
    return receipt(pos_id=pos)


def test_a_full_disk(shop: BridgeOnBadDisk) -> None:
    world = shop.world
    sold = world.sell()
    mine, theirs = a_request(), a_request("pos-2")
    with shop.room_for(1):
        with shop.nothing_is_acknowledged():
            shop.check_refused(mine)
            shop.check_refused(theirs)
            assert world.query(sold["receipt_id"])["fiscal"] == sold["fiscal"]
        assert world.failed("status")["code"] == "storage_unavailable"
    shop.check_healed(mine, theirs)


def test_a_full_disk_with_hundreds_waiting(shop: BridgeOnBadDisk) -> None:
    """More than a commit takes: each is refused, and taken when it comes again; nobody restarts anything."""
    world, requests = shop.world, [small_receipt(pos_id="pos-1") for _ in range(300)]
    since = len(world.observer.messages)

    def refused() -> int:
        return sum(b"storage_unavailable" in message.payload for message in world.observer.messages[since:])

    with shop.room_for(1), shop.nothing_is_acknowledged():
        world.publish_receipts(requests)
        wait_until(lambda: refused() >= len(requests), SOON_S, "a refusal of each")
    shop.check_healed(requests[0], requests[150], requests[-1])


def test_a_disk_that_is_full_when_the_document_exists(shop: BridgeOnBadDisk) -> None:
    """It cannot be written down at once: neither forgotten nor made again."""
    world, request = shop.world, a_request()
    receipt_id = world.publish_receipt(request)
    wait_until(lambda: len(world.documents_of(receipt_id)) == 1, SOON_S, "the document")
    with shop.room_for(1):
        world.wait_state("health", lambda state: state["components"]["journal"]["status"] == "unhealthy")
        assert world.replies(receipt_id) == []
    assert world.wait_reply(receipt_id)["status"] == "printed"
    world.wait_status(receipt_id, "synced")
    assert len(world.documents_of(receipt_id)) == 1
    shop.check_healed()


@pytest.mark.parametrize("frames", [0, 2])
def test_a_disk_that_fails_in_the_middle_of_a_commit(shop: BridgeOnBadDisk, frames: int) -> None:
    """The log of writes takes so many pages of the commit, and half of another."""
    request = small_receipt()
    log_size = (shop.world.directory / "journal.db-wal").stat().st_size
    with shop.room_for(log_size + frames * FRAME + FRAME // 2), shop.nothing_is_acknowledged():
        shop.check_refused(request)
    shop.check_healed(request)


def test_a_slow_disk_makes_receipts_late_and_nothing_else(shop: BridgeOnBadDisk) -> None:
    """A writer of another program that takes two seconds: the session and the registers go on, nobody is refused."""
    world, requests = shop.world, [a_request(), a_request("pos-2")]
    since = len(world.observer.messages)
    with shop.held():
        started = world.observer.messages[-1].at
        ids = world.publish_receipts(requests)
        world.fault("kkt-2", {"paper_out": True})
        world.wait_state("kkt/kkt-2", lambda state: state["problem"] == "paper_out", timeout_s=SOON_S)
        wait_until(lambda: world.observer.messages[-1].at > started + SLOW_S, SOON_S, "two seconds of other messages")
    world.heal("kkt-2")
    for receipt_id in ids:
        assert world.wait_reply(receipt_id, since=since)["status"] == "printed"
        assert len(world.documents_of(receipt_id, requests[ids.index(receipt_id)]["pos_id"])) == 1
    assert not [message for message in world.observer.messages[since:] if b"storage_unavailable" in message.payload]


def test_a_journal_that_another_program_does_not_let_go(shop: BridgeOnBadDisk) -> None:
    request = a_request()
    with shop.held(), shop.nothing_is_acknowledged():
        shop.check_refused(request)
        health = shop.world.wait_state("health", bool)
        assert "locked" in health["components"]["journal"]["reason"]
    shop.check_healed(request)


# -- the fiscal storage of a virtual register on the same disk ---------------------------------------------


def a_bulky_storage(path: Path) -> None:
    """A fiscal storage that is larger than any other file here."""
    storage, now = FiscalStorage(path), datetime.now().astimezone()
    storage.open(registration_of("kkt-1"), now)
    storage.open_shift({}, now)
    storage.make_receipt(Body(RECEIPT, "sale", operation="sale", total=1, content={"change": 0, "x": "x" * BULK}), now)
    storage.close()


def test_a_fiscal_storage_without_room_stops_its_lane_until_there_is_some(
    tmp_path: Path, make_world: MakeWorld
) -> None:
    (tmp_path / "world-0").mkdir()
    file = tmp_path / "world-0" / "kkt-1.fn"
    a_bulky_storage(file)
    world = make_world({"reply.buffered_after_s": 0.3}, registers=TILLS.values(), pos=TILLS)
    size = file.stat().st_size
    before = resource.prlimit(world.bridge.process.pid, resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
    receipt_id = world.publish_receipt(a_request())
    state = world.wait_state("kkt/kkt-1", lambda state: state["problem"] == "fn_failure")
    assert state["ready"] is False
    assert world.wait_reply(receipt_id, final=False)["status"] == "buffered"
    assert file.stat().st_size == size, "the part that was taken is cut off again"
    assert world.sell(a_request("pos-2"))["fiscal"]["kkt"] == "kkt-2"
    resource.prlimit(world.bridge.process.pid, resource.RLIMIT_FSIZE, before)
    assert world.wait_reply(receipt_id)["status"] == "printed"
    world.wait_state("kkt/kkt-1", lambda state: state["ready"] and state["problem"] is None)
    assert len(world.documents_of(receipt_id)) == 1

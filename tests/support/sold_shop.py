"""A shop that sold, printed and delivered, whose journal, storages and OFD can be falsified one by one."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from support.receipts import full_receipt, receipt, small_receipt
from support.stages import InProcessBridge

from kkt_bridge.simulators.ofd import OfdSimulator
from kkt_bridge.stages.housekeeping import Housekeeping


@pytest.fixture
def ofd(tmp_path) -> Iterator[OfdSimulator]:
    """An OFD that keeps its documents in memory."""
    ofd = OfdSimulator()
    ofd.start()
    yield ofd
    ofd.stop()


@pytest.fixture
def shop(tmp_path, ofd) -> Iterator[InProcessBridge]:
    """Two registers, nothing sold yet."""
    shop = InProcessBridge(
        tmp_path,
        registers=("kkt-1", "kkt-2"),
        pos={"pos-1": "kkt-1", "pos-2": "kkt-2"},
        ofd={"url": ofd.url},
    )
    yield shop
    shop.kill()


@pytest.fixture
def sold(shop) -> list[dict]:
    """Four receipts that are at the OFD, of several kinds and on both registers."""
    requests = [receipt(), full_receipt(), small_receipt(type="refund"), receipt(pos_id="pos-2")]
    for request in requests:
        shop.sell(request, pos=request["pos_id"])
    shop.print_all()
    shop.sync.run()
    assert [shop.status(request) for request in requests] == ["synced"] * 4
    return requests


@pytest.fixture
def purge(shop):
    """Lets a year pass, until what ended is tombstones."""

    def run() -> None:
        shop.clock.advance(timedelta(days=400).total_seconds())
        housekeeping = Housekeeping(settings=shop.settings.retention, journal=shop.journal, clock=shop.clock)
        for _ in range(200):
            housekeeping.step()
            shop.clock.advance(1)
        assert shop.rows("SELECT count(*) FROM receipts") == [(0,)]

    return run

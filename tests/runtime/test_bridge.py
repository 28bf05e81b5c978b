"""A whole bridge in this process: its threads start, end in time whatever holds them up, and leave nothing open."""

import threading
import time

import pytest
from support.brokers import free_port
from support.processes import wait_until
from support.receipts import receipt
from support.stages import InProcessBridge, settings_for

from kkt_bridge.errors import JournalInUse
from kkt_bridge.registers.virtual.faults import write_faults
from kkt_bridge.registers.virtual.storage_file import read_documents
from kkt_bridge.runtime import bridge as bridge_module
from kkt_bridge.runtime.bridge import Bridge

SOON_S = 15.0


@pytest.fixture
def settings(tmp_path):
    return settings_for(tmp_path, ["kkt-1"], mqtt={"host": "127.0.0.1", "port": free_port()})


@pytest.fixture
def ours():
    """The threads that the test starts."""
    before = set(threading.enumerate())
    return lambda: [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]


def taken_before(tmp_path, count=1):
    """Receipts that an earlier run has taken; it was killed."""
    shop = InProcessBridge(tmp_path)
    requests = [receipt() for _ in range(count)]
    for request in requests:
        shop.sell(request)
    shop.kill()
    return requests


def test_it_starts_and_stops_without_a_broker(settings, ours):
    bridge = Bridge(settings)
    bridge.start()
    assert {"intake", "print-kkt-1", "deliver", "command", "keep", "show", "mqtt"} <= set(ours())
    started = time.monotonic()
    bridge.stop()
    assert time.monotonic() - started < 5
    assert ours() == []


def test_a_bridge_that_never_started_can_be_stopped(settings):
    Bridge(settings).stop()


def test_a_second_one_on_the_same_journal_is_refused_and_leaves_no_threads(settings, ours):
    first, second = Bridge(settings), Bridge(settings)
    first.start()
    threads = sorted(ours())
    with pytest.raises(JournalInUse):
        second.start()
    second.stop()
    assert sorted(ours()) == threads
    first.stop()


def test_what_an_earlier_run_has_taken_is_printed_without_being_asked(settings, tmp_path):
    taken_before(tmp_path, 3)
    bridge = Bridge(settings)
    bridge.start()
    wait_until(lambda: receipts_printed(tmp_path) == 3, SOON_S, "three documents")
    bridge.stop()
    shop = InProcessBridge(tmp_path)
    assert len(shop.replies()) == 3
    shop.kill()


def receipts_printed(tmp_path):
    file = tmp_path / "kkt-1.fn"
    return sum(document.body.form == 3 for document in read_documents(file)) if file.exists() else 0


def test_a_stop_waits_for_the_document_on_the_line(settings, tmp_path):
    taken_before(tmp_path, 2)
    write_faults(tmp_path / "kkt-1.fn", {"print_time_s": 0.5})
    bridge = Bridge(settings)
    bridge.start()
    wait_until(lambda: receipts_printed(tmp_path) == 1, SOON_S, "the first document")
    bridge.stop()
    shop = InProcessBridge(tmp_path)
    assert [reply["status"] for reply in shop.replies()] == ["printed"]
    assert shop.journal.counts()["kkt-1", "printing"] == 0, "what was leased is given back"
    shop.kill()


def test_a_stop_does_not_wait_for_ever_and_leaves_a_doubt_not_a_loss(settings, tmp_path, monkeypatch, caplog, ours):
    monkeypatch.setattr(bridge_module, "STOP_LANES_S", 0.2)
    (request,) = taken_before(tmp_path)
    write_faults(tmp_path / "kkt-1.fn", {"print_time_s": 3})
    bridge = Bridge(settings)
    bridge.start()
    wait_until(lambda: receipts_printed(tmp_path) == 1, SOON_S, "the document")
    started = time.monotonic()
    bridge.stop()
    assert time.monotonic() - started < 3
    assert "did not end in time" in caplog.text
    wait_until(lambda: ours() == [], SOON_S, "the end of the stuck thread")
    bridge._service.lanes["kkt-1"]._register.close()
    shop = InProcessBridge(tmp_path)
    shop.print_patiently(2)
    assert shop.status(request) == "printed"
    assert len(shop.documents()) == 1
    shop.kill()

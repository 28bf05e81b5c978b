"""Where the threads of a running bridge compute."""

import os
from pathlib import Path

import pytest
from support.bridge import BridgeProcess
from support.brokers import MosquittoProcess


def cores_of_all_threads(pid):
    return [os.sched_getaffinity(int(thread.name)) for thread in Path(f"/proc/{pid}/task").iterdir()]


@pytest.fixture
def broker(tmp_path):
    with MosquittoProcess(tmp_path) as process:
        yield process


@pytest.mark.parametrize("cores", ["one", "all"])
def test_all_threads_stay_on_one_core_unless_told_otherwise(broker, tmp_path, cores):
    config = {
        "bridge_id": "store-017",
        "mqtt": {"host": broker.host, "port": broker.port},
        "journal": {"url": f"sqlite:///{tmp_path / 'journal.db'}"},
        "kkt": [{"id": "kkt-1", "driver": "virtual", "state": str(tmp_path / "kkt-1.fn")}],
        "ofd": {"url": "http://127.0.0.1:9"},
        "process": {"cores": cores},
    }
    bridge = BridgeProcess(config, tmp_path)
    bridge.start()
    try:
        threads = cores_of_all_threads(bridge.process.pid)
        expected = 1 if cores == "one" else len(os.sched_getaffinity(0))
        assert {len(cores) for cores in threads} == {expected}
        assert len(set(map(frozenset, threads))) == 1
        assert len(threads) > 5
    finally:
        bridge.terminate()

"""The bridge as a process: signals, settings, journals."""

import resource
import signal

import pytest
from support.bridge import BridgeProcess
from support.brokers import MosquittoProcess
from support.receipts import receipt, small_receipt
from support.world import World, overlaid

STOP_S = 10


def test_sigterm_finishes_the_document_on_the_line_and_says_goodbye(make_world):
    world = make_world(print_time_s=1.0)
    born = world.wait_state("online", lambda state: state["online"])
    on_the_line = world.publish_receipt()
    world.wait_status(on_the_line, "printing")
    took_s = world.bridge.terminate()
    assert took_s < STOP_S
    assert world.wait_reply(on_the_line)["status"] == "printed"
    assert world.wait_state("online", lambda state: not state["online"]) == born | {"online": False}
    assert len(world.documents_of(on_the_line)) == 1


def test_sigterm_leaves_the_queue_for_the_next_start(make_world):
    world = make_world(print_time_s=0.25)
    ids = world.publish_receipts(small_receipt() for _ in range(6))
    world.wait_status(ids[0], "printed")
    assert world.bridge.terminate() < STOP_S
    assert len(world.receipts_on()) < len(ids)
    world.bridge.start()
    world.wait_statuses(ids, "printed")
    assert [len(world.documents_of(receipt_id)) for receipt_id in ids] == [1] * len(ids)


def test_sigterm_ends_a_bridge_whose_ofd_hangs(make_world):
    world = make_world({"ofd.timeout_s": 60})
    world.ofd_faults(latency_s=60)
    world.sell()
    world.wait_state("sync", lambda state: state["in_progress"])
    assert world.bridge.terminate() < STOP_S


def test_sigterm_ends_a_bridge_without_broker_and_register(make_world, tmp_path):
    with MosquittoProcess(tmp_path / "broker") as broker:
        world = make_world(broker=broker)
        world.sees_everything = False
        world.fault("kkt-1", {"offline": True})
        receipt_id = world.publish_receipt()
        world.wait_status(receipt_id, "buffered")
        broker.stop()
        assert world.bridge.terminate() < STOP_S


def test_a_bridge_that_finds_no_broker_waits_for_it(make_world, mosquitto, tmp_path):
    broker = MosquittoProcess(tmp_path / "broker")
    world = World(tmp_path / "world", broker)
    world.bridge.launch()
    try:
        broker.start()
        world.observer.connect()
        world.pos.connect()
        world.bridge.wait_online()
        assert world.sell()["status"] == "printed"
        world.bridge.terminate()
    finally:
        world.close()
        broker.stop()


def test_sigint_is_as_good(world):
    world.bridge.process.send_signal(signal.SIGINT)
    assert world.bridge.wait_end(STOP_S) == 0


def test_a_second_bridge_on_the_same_journal_is_refused_with_one_line(world, tmp_path):
    second = BridgeProcess(world.config, tmp_path)
    second.launch()
    assert second.wait_end() == 1
    (line,) = second.log.read_text(encoding="utf-8").splitlines()
    assert line.startswith("kkt-bridge: ")
    assert "journal.db" in line
    assert world.sell()["status"] == "printed"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("buffer.capacity", 0, "buffer.capacity"),
        ("buffer.capacitie", 200, "buffer.capacitie"),
        ("ofd.url", "ofd.example.com", "ofd.url"),
        ("timezone", "Europe/Nowhere", "timezone"),
        ("pos.pos-1", "kkt-7", "pos.pos-1"),
        ("bridge_id", "a/b", "bridge_id"),
    ],
)
def test_bad_settings_end_the_start_with_2_and_name_file_and_key(tmp_path, key, value, said):
    bridge = BridgeProcess(overlaid(config_in(tmp_path), {key: value}), tmp_path)
    bridge.launch()
    assert bridge.wait_end() == 2
    text = bridge.log.read_text(encoding="utf-8")
    assert str(bridge.file) in text
    assert said in text
    assert "Traceback" not in text


def test_a_wrong_variable_is_named_by_its_name(tmp_path):
    variable = {"KKT_BRIDGE__BUFFER__CAPACITY": "a few"}
    bridge = BridgeProcess(config_in(tmp_path), tmp_path, variable)
    bridge.launch()
    assert bridge.wait_end() == 2
    assert "KKT_BRIDGE__BUFFER__CAPACITY" in bridge.log.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "not toml", "[mqtt]\nport = 1883\nport = 1884\n"])
def test_a_file_that_is_none_ends_the_start_with_2(tmp_path, text):
    bridge = BridgeProcess("bridge_id = 'x'\n[mqtt]\n", tmp_path)
    bridge.file.write_text(text, encoding="utf-8")
    bridge.launch()
    assert bridge.wait_end() == 2
    assert str(bridge.file) in bridge.log.read_text(encoding="utf-8")


def test_a_variable_overrides_the_file(make_world, tmp_path, mosquitto):
    world = World(tmp_path / "world", mosquitto, environment={"KKT_BRIDGE__BUFFER__CAPACITY": "7"})
    world.start()
    assert world.wait_state("buffer", bool)["capacity"] == 7
    world.close()


def test_a_journal_that_is_none_is_left_alone(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("these are my notes, and no database at all\n" * 100)
    bridge = BridgeProcess(overlaid(config_in(tmp_path), {"journal.url": f"sqlite:///{notes}"}), tmp_path)
    bridge.launch()
    assert bridge.wait_end() == 1
    *_, line = bridge.log.read_text(encoding="utf-8").splitlines()
    assert "notes.txt" in line
    assert notes.read_text().startswith("these are my notes")


def test_a_full_disk_refuses_before_accepting_and_heals_by_itself(world):
    sold = world.sell()
    pid = world.bridge.process.pid
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    request = receipt()
    error = world.refusal(request)
    assert (error["code"], error["retryable"]) == ("storage_unavailable", True)
    health = world.wait_state("health", lambda state: state["components"]["journal"]["status"] == "unhealthy")
    assert (health["status"], bool(health["components"]["journal"]["reason"])) == ("unhealthy", True)
    assert world.query(sold["receipt_id"])["fiscal"] == sold["fiscal"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
    world.wait_state("health", lambda state: state["components"]["journal"]["status"] == "healthy")
    since = len(world.observer.messages)
    receipt_id = world.publish_receipt(request)
    # The refusal may come once more: it is told past the journal first, and again when the journal takes it.
    topic = f"{world.branch}/pos/pos-1/reply"
    world.wait(
        lambda message: message.topic == topic and message.content["status"] == "printed", "a reply", since=since
    )
    assert len(world.documents_of(receipt_id)) == 1


def test_paused_means_refused_until_resumed_also_over_a_restart(world):
    assert world.done("pause") == {"paused": True}
    request = receipt()
    error = world.refusal(request)
    assert (error["code"], error["retryable"]) == ("paused", True)
    state = world.wait_state("buffer", lambda state: not state["accepting"])
    assert state["paused"]
    world.bridge.kill()
    world.bridge.start()
    assert world.refusal(request)["code"] == "paused"
    assert world.done("resume") == {"paused": False}
    assert world.sell(request)["duplicate"] is False
    assert world.wait_state("buffer", lambda state: state["accepting"])["paused"] is False


def test_what_was_taken_before_the_pause_is_printed_and_sent(make_world):
    world = make_world(print_time_s=0.3)
    ids = world.publish_receipts(receipt() for _ in range(3))
    world.wait_status(ids[0], "buffered")
    world.done("pause")
    world.wait_statuses(ids, "synced")


def config_in(directory):
    """Settings that are right, of a bridge that finds neither broker nor OFD."""
    return {
        "bridge_id": "store-1",
        "mqtt": {"host": "127.0.0.1", "port": 1},
        "journal": {"url": f"sqlite:///{directory / 'journal.db'}"},
        "buffer": {},
        "sync": {},
        "kkt": [{"id": "kkt-1", "driver": "virtual", "state": str(directory / "kkt-1.fn")}],
        "pos": {},
        "ofd": {"url": "http://127.0.0.1:1"},
    }

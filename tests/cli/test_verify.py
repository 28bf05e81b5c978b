"""`kkt-bridge verify` as an operator meets it: beside a running bridge, after a kill, and where books were spoilt."""

import json
import threading

from cli.running_bridge import run
from support.mqtt_client import MqttClient
from support.receipts import encoded, small_receipt


def sell(shop, count):
    """Have so many receipts taken."""
    topic = "kkt/v1/store-017/pos/pos-1/receipt"
    with MqttClient("127.0.0.1", shop.broker.port) as client:
        client.publish_all([(topic, encoded(small_receipt())) for _ in range(count)])


def until_synced(shop, count):
    shop.until(lambda state: state["buffer"]["by_status"]["synced"] >= count, f"{count} receipts at the OFD")


def verified(shop, *args):
    done = shop.run("verify", "--json", *args)
    assert done.stderr == ""
    content = json.loads(done.stdout)
    assert content["ok"] == (done.returncode == 0) == (content["differences"] == [])
    return content


def test_beside_a_bridge_under_load_what_is_in_progress_is_no_difference(own_shop):
    stop = threading.Event()

    def sell_on():
        while not stop.is_set():
            sell(own_shop, 20)

    seller = threading.Thread(target=sell_on)
    seller.start()
    try:
        for _ in range(3):
            assert verified(own_shop)["differences"] == []
    finally:
        stop.set()
        seller.join()
    own_shop.kill_bridge()
    assert [found["kind"] for found in verified(own_shop)["differences"] if found["kind"] != "in_doubt"] == []
    own_shop.start_bridge()
    own_shop.until(lambda state: state["buffer"]["pending"] == 0, "everything at the OFD")
    own_shop.stop_bridge()
    content = verified(own_shop)
    assert content["differences"] == []
    taken = content["sums"]["taken"]
    assert taken >= 60
    expected = f"taken {taken} = printed {taken} = fiscal documents {taken} = at the OFD {taken}"
    assert content["summary"] == expected
    assert own_shop.run("verify").stdout.splitlines() == [expected, "the books agree"]


def test_each_difference_is_one_line_with_names_and_advice(own_shop):
    sell(own_shop, 2)
    until_synced(own_shop, 2)
    own_shop.stop_bridge()
    lines = own_shop.storage.read_bytes().splitlines(keepends=True)
    own_shop.storage.write_bytes(b"".join(lines[:-1]))
    done = own_shop.run("verify")
    assert (done.returncode, done.stderr) == (1, "")
    missing, sums, verdict = done.stdout.splitlines()
    assert missing.startswith("missing_document pos-1:")
    assert " kkt-1 FN 9999" in missing
    assert "; the storage lost it" in missing
    assert (sums.startswith("taken 2 = printed 2 ≠ fiscal documents 1"), verdict) == (True, "1 difference")
    (found,) = verified(own_shop)["differences"]
    assert set(found) == {"kind", "pos_id", "receipt_id", "kkt", "fn_number", "fd_number", "what", "advice"}
    assert (found["kind"], found["pos_id"], found["fd_number"]) == ("missing_document", "pos-1", len(lines))


def test_what_cannot_be_checked_is_one_line_and_status_1(tmp_path):
    config = tmp_path / "bridge.toml"
    config.write_text(
        f'bridge_id = "store-1"\njournal.url = "sqlite:///{tmp_path}/journal.db"\nofd.url = "http://127.0.0.1:9"\n'
        f'kkt = [{{ id = "kkt-1", driver = "virtual", state = "{tmp_path}/kkt-1.fn" }}]\n'
    )
    done = run("verify", "--config", config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kkt-bridge verify: ")
    assert "there is no journal" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [config]


def test_unusable_settings_and_arguments_end_it_with_2(tmp_path):
    assert run("verify").returncode == 2
    assert run("verify", "--config", tmp_path / "nowhere.toml").returncode == 2


def test_the_doctor_names_a_journal_that_was_moved_aside(own_shop):
    own_shop.stop_bridge()
    own_shop.journal.rename(own_shop.directory / "journal.db.damaged-20260101T000000Z")
    checks = json.loads(own_shop.run("doctor", "--json").stdout)["checks"]
    (check,) = (check for check in checks if check["check"] == "journal file")
    assert (check["verdict"], "journal.db.damaged-20260101T000000Z" in check["reason"]) == ("FAIL", True)
    assert "kkt-bridge verify --rebuild" in check["advice"]

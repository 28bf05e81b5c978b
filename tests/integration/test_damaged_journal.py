"""A journal damaged under a real bridge: moved aside, made anew, and no sale is printed twice or forgotten."""

import json
import sqlite3
from contextlib import closing

import pytest
from cli.running_bridge import run
from support.receipts import receipt, small_receipt

PAGE = 4096


def overwrite_the_middle(path):
    """Rubbish over the middle half of the file, as a dying disk leaves it."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4 // PAGE * PAGE)
        file.write(b"\xa5" * (size // 2))


def overwrite_the_beginning(path):
    with path.open("r+b") as file:
        file.write(b"\xa5" * 16 * PAGE)


def empty(path):
    path.write_bytes(b"")


def refused_start(world):
    """The one line that the bridge ends with."""
    before = len(world.bridge.log.read_text(encoding="utf-8").splitlines())
    world.bridge.launch()
    assert world.bridge.wait_end() == 1
    (line,) = world.bridge.log.read_text(encoding="utf-8").splitlines()[before:]
    return line


@pytest.mark.parametrize("damage", [overwrite_the_middle, overwrite_the_beginning, empty])
def test_a_damaged_journal_is_made_anew_and_every_repeat_gets_its_own_document(make_world, damage):
    world = make_world(settings={"buffer.capacity": 1000})
    requests = [receipt() for _ in range(40)]
    ids = world.publish_receipts(requests)
    world.wait_statuses(ids, "synced")
    papers = {receipt_id: world.wait_reply(receipt_id)["fiscal"] for receipt_id in ids}
    world.ofd_faults(outage=True)
    unsent = [receipt() for _ in range(5)]
    papers |= {reply["receipt_id"]: reply["fiscal"] for reply in map(world.sell, unsent)}
    world.fault("kkt-1", {"offline": True})
    waiting = [small_receipt() for _ in range(5)]
    world.publish_receipts(waiting)
    world.wait_statuses([request["receipt_id"] for request in waiting], "buffered")
    world.bridge.terminate()

    journal = world.directory / "journal.db"
    damage(journal)
    line = refused_start(world)
    assert line.startswith(f"kkt-bridge: {journal}: the journal is damaged: ")
    assert "it was moved to journal.db.damaged-" in line
    assert "run `kkt-bridge verify --rebuild --config FILE`" in line
    again = refused_start(world)
    assert "there is no journal, and journal.db.damaged-" in again, "also for whoever restarts it always"
    assert "verify --rebuild" in again

    done = run("verify", "--rebuild", "--config", world.bridge.file, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)["rebuilt"]

    world.ofd_faults()
    world.heal("kkt-1")
    world.sees_everything = False  # the life of a receipt that the journal forgot begins anew
    world.bridge.start()
    since = len(world.observer.messages)
    for request in [*requests, *unsent, *waiting]:
        world.publish_receipt(request)
    for request in [*requests, *unsent]:
        reply = world.wait_reply(request["receipt_id"], since=since)
        assert (reply["status"], reply["duplicate"]) == ("printed", True)
        assert reply["fiscal"] == papers[request["receipt_id"]]
    for request in waiting:
        assert world.wait_reply(request["receipt_id"], since=since)["status"] == "printed", told
    everything = [request["receipt_id"] for request in [*requests, *unsent, *waiting]]
    assert [len(world.documents_of(receipt_id)) for receipt_id in everything] == [1] * 50
    world.wait_ofd(lambda books: books["total"] == 50, "everything at the OFD")
    world.wait_state("buffer", lambda state: state["pending"] == 0)
    world.bridge.terminate()
    verdict = run("verify", "--config", world.bridge.file)
    assert verdict.stdout.splitlines() == [
        "taken 50 = printed 50 = fiscal documents 50 = at the OFD 50",
        "the books agree",
    ]
    assert verdict.returncode == 0
    world.bridge.start()


def test_what_waits_in_a_readable_row_is_printed_though_nobody_repeats_it(make_world):
    world = make_world()
    world.sell()
    world.fault("kkt-1", {"offline": True})
    waiting = world.publish_receipt()
    world.wait_status(waiting, "buffered")
    world.bridge.terminate()
    with (world.directory / "journal.db").open("r+b") as file:
        file.write(b"\xff" * 100)
    assert "it was moved to journal.db.damaged-" in refused_start(world)
    done = run("verify", "--rebuild", "--config", world.bridge.file)
    assert done.returncode == 0
    first, kept, last = done.stdout.splitlines()
    assert first.startswith("from journal.db.damaged-")
    assert ", which stays where it is, " in first
    assert kept == "  2 receipts (1 to be printed, 0 found printed), 0 purged ones"
    assert last.endswith("journal.db is there again: start the bridge, then run `kkt-bridge verify`")
    world.heal("kkt-1")
    world.bridge.start()
    assert world.wait_reply(waiting)["status"] == "printed"
    assert len(world.documents_of(waiting)) == 1
    world.wait_status(waiting, "synced")


def test_damage_in_the_middle_of_a_run_is_refused_and_the_next_start_moves_the_journal(make_world):
    world, sold = make_world(), receipt()
    told = world.sell(sold)
    journal = world.directory / "journal.db"
    world.bridge.terminate()
    world.bridge.start()
    with journal.open("r+b") as file:
        file.seek(PAGE)
        file.write(b"\xa5" * (journal.stat().st_size - PAGE))
    world.publish_receipt()
    world.wait_state("health", lambda state: state["components"]["journal"]["status"] == "unhealthy")
    assert not list(world.directory.glob("journal.db.damaged-*"))
    world.bridge.kill()
    assert "it was moved to journal.db.damaged-" in refused_start(world)
    assert run("verify", "--rebuild", "--config", world.bridge.file).returncode == 0
    world.sees_everything = False
    world.bridge.start()
    since = len(world.observer.messages)
    world.publish_receipt(sold)
    reply = world.wait_reply(sold["receipt_id"], since=since)
    assert (reply["fiscal"], reply["duplicate"]) == (told["fiscal"], True)


def says(world, name, wanted):
    """What `state/{name}` says, once it is as wanted."""
    return world.wait_state(name, wanted)


def is_raised(code):
    return lambda state: code in [alert["code"] for alert in state["alerts"]]


def test_a_journal_overwritten_under_a_running_bridge_still_shows_health_and_alerts(make_world):
    world = make_world()
    world.sell()
    world.bridge.terminate()  # so that everything stands in the file itself
    world.bridge.start()
    with (world.directory / "journal.db").open("r+b") as file:
        file.seek(0, 2)
        size = file.tell()
        file.seek(0)
        file.write(b"\xa5" * size)
    world.publish_receipt()
    health = says(world, "health", lambda state: state["components"]["journal"]["status"] == "unhealthy")
    assert health["status"] == "unhealthy"
    says(world, "buffer", lambda state: state["accepting"] is False)
    alert = next(a for a in says(world, "alerts", is_raised("storage"))["alerts"] if a["code"] == "storage")
    assert alert["severity"] == "critical"
    assert "restart the bridge" in alert["what_to_do"]
    done = run("status", "--config", world.bridge.file, "--timeout", "3")
    assert done.returncode == 1
    assert "! the journal takes nothing" in done.stdout
    world.bridge.kill()
    world.sees_everything = False


def test_a_table_that_is_gone_is_told_and_everything_else_still_shown(make_world):
    world = make_world()
    world.sell()
    with closing(sqlite3.connect(world.directory / "journal.db", timeout=10)) as connection:
        connection.execute("DROP TABLE receipts")
        connection.commit()
    refused = world.publish_receipt()
    health = says(world, "health", lambda state: state["components"]["journal"]["status"] == "unhealthy")
    assert "no such table" in health["components"]["journal"]["reason"]
    says(world, "alerts", is_raised("storage"))
    says(world, "buffer", lambda state: state["accepting"] is False)
    assert refused
    log = world.bridge.log.read_text(encoding="utf-8")
    assert "Traceback" not in log
    world.bridge.kill()
    world.sees_everything = False

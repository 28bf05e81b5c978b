"""A backup put back under a real bridge, and a journal that is gone with its lock: no sale is printed a second time."""

import json

import pytest
from cli.running_bridge import run
from support.receipts import receipt

SALES = 10


def sell(world, count=SALES):
    """Have so many receipts printed and delivered; return them, and what each was told of its document."""
    requests = [receipt() for _ in range(count)]
    ids = world.publish_receipts(requests)
    papers = {receipt_id: world.wait_reply(receipt_id)["fiscal"] for receipt_id in ids}
    world.wait_statuses(ids, "synced")
    return requests, papers


def repeat_everything(world, requests, papers):
    """Each gets its own document again, and there is no other."""
    documents = len(world.dump())
    since = len(world.observer.messages)
    for request in requests:
        world.publish_receipt(request)
    for request in requests:
        reply = world.wait_reply(request["receipt_id"], since=since)
        assert reply["status"] == "printed"
        assert reply["fiscal"] == papers[request["receipt_id"]]
    assert len(world.dump()) == documents, "something new was printed"
    world.wait_ofd(lambda books: books["total"] == len(requests), "every document at the OFD once")
    world.wait_state("buffer", lambda state: state["pending"] == 0)


def refused_start(world):
    """The one line that the bridge ends with."""
    before = len(world.bridge.log.read_text(encoding="utf-8").splitlines())
    world.bridge.launch()
    assert world.bridge.wait_end() == 1
    (line,) = world.bridge.log.read_text(encoding="utf-8").splitlines()[before:]
    return line


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_after_a_backup_was_restored_every_repeat_gets_its_own_document(make_world, end):
    world = make_world(settings={"buffer.capacity": 1000})
    before, papers = sell(world)
    world.fault("kkt-1", {"offline": True})
    waiting = [receipt() for _ in range(3)]
    world.publish_receipts(waiting)
    world.wait_statuses([request["receipt_id"] for request in waiting], "buffered")
    copy = world.directory / "copy.db"
    assert run("backup", copy, "--config", world.bridge.file).returncode == 0
    world.heal("kkt-1")
    papers |= {request["receipt_id"]: world.wait_reply(request["receipt_id"])["fiscal"] for request in waiting}
    later, more = sell(world)
    papers |= more
    getattr(world.bridge, end)()

    done = run("restore", copy, "--config", world.bridge.file, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["receipts"] == SALES + len(waiting)
    world.sees_everything = False  # the life of a receipt that the journal forgot begins anew
    world.bridge.start()
    repeat_everything(world, [*before, *waiting, *later], papers)
    world.bridge.terminate()
    verdict = run("verify", "--config", world.bridge.file)
    assert verdict.stdout.splitlines()[-1] == "the books agree", verdict.stdout
    world.bridge.start()


def test_a_copy_put_over_the_journal_by_hand_after_a_crash_is_refused_with_the_way_out(make_world):
    world = make_world()
    before, papers = sell(world, 3)
    copy = world.directory / "copy.db"
    assert run("backup", copy, "--config", world.bridge.file).returncode == 0
    later, more = sell(world, 3)
    world.bridge.kill()
    assert (world.directory / "journal.db-wal").stat().st_size, "the log of the crash"
    (world.directory / "journal.db").write_bytes(copy.read_bytes())
    assert "run `kkt-bridge restore COPY --config FILE`" in refused_start(world)
    assert run("restore", copy, "--config", world.bridge.file).returncode == 0
    world.sees_everything = False
    world.bridge.start()
    repeat_everything(world, [*before, *later], papers | more)


def test_a_journal_that_is_gone_is_refused_and_with_its_lock_gone_too_nothing_is_printed_again(make_world):
    """A new machine, or somebody who means it: what the register holds is read before anything is printed."""
    world = make_world()
    requests, papers = sell(world)
    world.bridge.terminate()
    for path in world.directory.glob("journal.db*"):
        if path.suffix != ".lock":
            path.unlink()
    line = refused_start(world)
    assert "there is no journal, but journal.db.lock says that a bridge has kept one here" in line
    assert "kkt-bridge restore COPY" in line
    (world.directory / "journal.db.lock").unlink()
    world.sees_everything = False
    world.bridge.start()
    repeat_everything(world, requests, papers)

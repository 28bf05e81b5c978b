"""A real bridge that wakes up with less than it knew: a backup, also from before an exchange, or no journal at all."""

import re

import pytest
from cli.running_bridge import run
from support.receipts import receipt


def put_the_backup_back(world, copy):
    done = run("restore", str(copy), "--config", world.bridge.file)
    assert done.returncode == 0, done.stderr


def move_to_a_new_machine(world, _copy):
    for path in world.directory.glob("journal.db*"):
        path.unlink()


@pytest.mark.parametrize("lose", [put_the_backup_back, move_to_a_new_machine])
def test_every_receipt_repeated_gets_the_document_that_it_has(make_world, lose):
    world = make_world()
    before, after = [receipt() for _ in range(3)], [receipt() for _ in range(10)]
    papers = {reply["receipt_id"]: reply["fiscal"] for reply in map(world.sell, before)}
    copy = world.directory / "copy.db"
    done = run("backup", str(copy), "--config", world.bridge.file)
    assert done.returncode == 0, done.stderr
    papers |= {reply["receipt_id"]: reply["fiscal"] for reply in map(world.sell, after)}
    documents = world.dump()
    world.bridge.terminate()

    lose(world, copy)
    world.sees_everything = False  # the life of a receipt that the journal forgot begins anew
    world.bridge.start()
    since = len(world.observer.messages)
    world.publish_receipts([*before, *after])
    for request in [*before, *after]:
        reply = world.wait_reply(request["receipt_id"], since=since)
        assert (reply["status"], reply["fiscal"]) == ("printed", papers[request["receipt_id"]])
    assert world.dump() == documents, "the same documents, none new"
    world.wait_ofd(lambda books: books["total"] == len(papers), "everything at the OFD")
    new = world.sell(receipt())
    assert new["fiscal"]["fd_number"] == documents[-1].fd_number + 1


def test_what_a_storage_that_is_gone_may_hold_is_not_printed_again_after_a_restore(make_world):
    """Two receipts wait in the backup; they are printed, and the storage is exchanged; then the backup comes back."""
    world = make_world()
    world.sell(receipt())
    world.bridge.terminate()
    world.fault("kkt-1", {"offline": True})
    world.bridge.start()
    world.wait_state("kkt/kkt-1", lambda state: state["problem"] == "offline")
    waiting = world.publish_receipts(receipt() for _ in range(2))
    world.wait_statuses(waiting, "buffered")
    copy = world.directory / "copy.db"
    done = run("backup", str(copy), "--config", world.bridge.file)
    assert done.returncode == 0, done.stderr
    world.heal("kkt-1")
    papers = {receipt_id: world.wait_reply(receipt_id)["fiscal"] for receipt_id in waiting}
    world.bridge.terminate()
    old_fn, new_fn = exchange_storage(world)
    put_the_backup_back(world, copy)
    world.sees_everything = False  # what the journal forgot is told once more
    world.bridge.start()
    state = world.wait_state("kkt/kkt-1", lambda state: len(state["doubts"]) == 2)
    assert {doubt["receipt_id"] for doubt in state["doubts"]} == set(waiting)
    assert {doubt["fn_number"] for doubt in state["doubts"]} == {old_fn}
    assert receipts_on(world) == []
    said = world.wait_event("alert", lambda alert: alert["code"] == "journal_behind")
    assert f"fiscal storage {old_fn} was taken out of kkt-1" in said["message"]

    for receipt_id in waiting:
        paper = papers[receipt_id]
        order = ["adopt", receipt_id, "--pos", "pos-1", "--reason", "its paper", f"--fn={old_fn}"]
        order += [f"--fd={paper['fd_number']}", f"--sign={paper['fiscal_sign']}", f"--at={paper['datetime']}"]
        order += [f"--shift={paper['shift_number']}", f"--number={paper['receipt_number']}"]
        done = run("settle", *order, "--config", world.bridge.file)
        assert done.returncode == 0, done.stderr
    assert world.sell(receipt())["fiscal"]["fn_number"] == new_fn
    assert len(receipts_on(world)) == 1


def receipts_on(world):
    return [document for document in world.dump() if document.body.requisite_1192]


def exchange_storage(world, kkt="kkt-1"):
    """A technician puts a new fiscal storage into the register; the numbers of the old one and of the new one."""
    file, new = world.registers[kkt], "9999000000000001"
    file.rename(file.with_suffix(".old"))
    registration = file.with_suffix(".old").read_bytes().splitlines(keepends=True)[0]
    old = re.search(rb'"fn_number":"(\d+)"', registration)[1].decode()
    file.write_bytes(registration.replace(old.encode(), new.encode()))
    return old, new

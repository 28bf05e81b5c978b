"""A real bridge that wakes up with less than it knew: a backup from before ten sales, or no journal at all."""

import pytest
from cli.shop import run
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

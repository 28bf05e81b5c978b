import json
import re
import uuid

import pytest
from cli.running_bridge import BRIDGE
from support.receipts import encoded, receipt


def sold(shop, **changes):
    """The id of a receipt that is printed."""
    request = receipt(**changes)
    assert shop.run("send", "-", stdin=encoded(request)).returncode == 0
    return request["receipt_id"]


def dead_letter(shop):
    """The id of a receipt whose document the OFD refuses."""
    request, before = receipt(), shop.dead_letters()
    shop.break_ofd({"refuse_keys": [f"pos-1:{request['receipt_id']}"]})
    assert shop.run("send", "-", stdin=encoded(request)).returncode == 0
    shop.until(lambda state: state["buffer"]["dlq_size"] > before, "a dead letter")
    return request["receipt_id"]


def test_sync_tells_what_the_round_did(own_shop):
    own_shop.break_ofd({"outage": True})
    sold(own_shop)

    outcome = own_shop.run("sync", "--force", "--json")
    failed = json.loads(outcome.stdout)
    own_shop.break_ofd({})
    done = own_shop.run("sync", "--force")

    assert (failed["sent"], failed["failed"]) == (0, 1)
    assert outcome.returncode == 1
    assert done.returncode == 0
    assert re.fullmatch(r"sent 1, failed 0, not tried 0, in \d+\.\d s\n", done.stdout)


def test_a_second_sync_is_refused(own_shop):
    own_shop.break_ofd({"outage": True})
    for _ in range(6):
        sold(own_shop)
    own_shop.break_ofd({"drip": "head", "drip_s": 1})  # each document keeps the pass until its deadline
    with own_shop.client("command/sync/result") as line:
        order = {"command_id": str(uuid.uuid4()), "issued_by": "test", "args": {"force": True}}
        line.publish(f"kkt/v1/{BRIDGE}/command/sync", json.dumps(order).encode())
        own_shop.until(lambda state: state["sync"]["in_progress"], "a sync under way")

        done = own_shop.run("sync", "--json")
        own_shop.break_ofd({})

    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "sync_in_progress"
    assert done.stderr.startswith("kkt-bridge: sync_in_progress: ")


def test_dead_letters_are_listed_and_sent_again(own_shop):
    name = dead_letter(own_shop)

    listed = own_shop.run("dlq", "list")
    found = own_shop.json("dlq", "list")
    own_shop.break_ofd({})
    requeued = own_shop.run("dlq", "requeue", name)

    first, last = listed.stdout.splitlines()
    assert first.startswith(f"{name} of pos-1: ")
    assert "422" in first
    assert last == "dead letters: 1, shown: 1"
    assert [name] == [letter["receipt_id"] for letter in found["letters"]]
    assert (requeued.returncode, requeued.stdout) == (0, "requeued: 1\n")
    own_shop.until(lambda state: state["buffer"]["by_status"]["synced"] == 1, "the letter at the OFD")


def test_all_dead_letters_are_sent_again(own_shop):
    dead_letter(own_shop)
    own_shop.break_ofd({})

    assert own_shop.json("dlq", "requeue", "--all") == {"requeued": 1}


def test_a_dead_letter_is_discarded_for_a_reason(own_shop):
    name = dead_letter(own_shop)

    done = own_shop.run("dlq", "discard", name, "--reason", "внесено вручную", "--pos", "pos-1")

    assert (done.returncode, done.stdout) == (0, "discarded: 1\n")
    assert own_shop.json("dlq", "list")["letters"] == []


def test_more_letters_than_a_page_holds_are_gathered(own_shop):
    names = [dead_letter(own_shop) for _ in range(3)]

    found = own_shop.json("dlq", "list", "--limit", "2")

    assert names[:2] == [letter["receipt_id"] for letter in found["letters"]]
    assert found["total"] == 3


@pytest.mark.parametrize("work", [["requeue"], ["discard", "--reason", "x"]])
def test_what_is_no_dead_letter_is_one_line(shop, work):
    done = shop.run("dlq", *work, str(uuid.uuid4()))

    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("kkt-bridge: not_found: ")


def test_a_shift_is_opened_reported_and_closed(own_shop):
    opened = own_shop.run("shift", "open")
    reported = own_shop.run("shift", "x-report", "--kkt", "kkt-1")
    refused = own_shop.run("shift", "open", "--json")
    closed = own_shop.json("shift", "close")

    assert (opened.returncode, opened.stdout) == (0, "kkt-1: shift 1 is open, FD 2\n")
    assert (reported.returncode, reported.stdout) == (0, "kkt-1: the X report is printed\n")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "failed"
    assert closed == {"kkt": "kkt-1", "number": 1, "open": False, "fd_number": 3}


def test_an_unknown_register_is_one_line(shop):
    done = shop.run("shift", "close", "--kkt", "kkt-9")

    assert done.returncode == 1
    assert done.stderr == "kkt-bridge: unknown_kkt: no register kkt-9 here; there is kkt-1\n"


def test_a_receipt_has_a_history(shop):
    name = sold(shop, pos_id="pos-2")
    shop.until(lambda state: state["buffer"]["pending"] == 0, "everything at the OFD")

    done = shop.run("receipt", name)
    answer = shop.json("receipt", name, "--pos", "pos-2")

    head, *steps = done.stdout.splitlines()
    assert head.startswith(f"printed {name} of pos-2: FD ")
    words = [re.split(r" {2,}", step)[2].split(",")[0] for step in steps[:4]]
    assert words == ["buffered", "printing", "printed", "synced"]
    assert "the OFD's own time of it: " in steps[4]
    assert (answer["status"], answer["receipt"]["receipt_id"]) == ("synced", name)


def test_an_unknown_receipt_is_one_line(shop):
    done = shop.run("receipt", uuid.uuid4())

    assert done.returncode == 1
    assert done.stderr.startswith("kkt-bridge: not_found: ")


def test_taking_receipts_is_paused_and_resumed(own_shop):
    paused = own_shop.run("pause")
    refused = own_shop.run("send", "-", stdin=encoded(receipt()))
    resumed = own_shop.run("resume")
    taken = own_shop.run("send", "-", stdin=encoded(receipt()))

    assert paused.stdout == "paused: new receipts are refused\n"
    assert refused.returncode == 3
    assert ": paused: " in refused.stdout
    assert resumed.stdout == "receipts are taken\n"
    assert taken.returncode == 0
    assert own_shop.json("pause") == {"paused": True}


def test_the_records_name_who_asked(shop):
    with shop.client("event/command") as events:
        shop.run("resume", "--as", "Мария@касса-3")
        shop.run("resume")
        said = [json.loads(payload)["issued_by"] for payload in events.payloads(2)]

    assert said[0] == "Мария@касса-3"
    assert re.fullmatch(r"[^@]+@[^@]+", said[1])


def test_nothing_is_sent_to_a_bridge_that_is_away(own_shop):
    own_shop.kill_bridge()
    with own_shop.client("command/#") as listener:
        done = own_shop.run("shift", "open")
        listener.publish(f"kkt/v1/{BRIDGE}/command/last", b"end")

        assert listener.payloads(1) == [b"end"]
    assert done.returncode == 1
    assert f"bridge {BRIDGE} is offline since about " in done.stderr

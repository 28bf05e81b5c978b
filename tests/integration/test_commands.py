"""Operators' commands: each of the contract, answered once, and kept."""

import json
import uuid

import pytest
from support.receipts import encoded, receipt
from support.validator import SCHEMAS

STATES = {"online", "health", "alerts", "buffer", "breaker", "sync", "kkt"}


@pytest.fixture(scope="module")
def shop(calm_shop):
    return calm_shop()


def test_status_has_every_state_message(shop):
    status = shop.done("status")
    assert set(status) == STATES
    for name in STATES - {"kkt"}:
        shop.contract.check(f"{shop.branch}/state/{name}", json.dumps(status[name]).encode())
    shop.contract.check(f"{shop.branch}/state/kkt/kkt-1", json.dumps(status["kkt"]["kkt-1"]).encode())


def test_the_whole_history_of_a_receipt(shop):
    request = receipt()
    sold = shop.sell(request)
    shop.wait_status(request["receipt_id"], "synced")
    told = shop.done("receipt", receipt_id=request["receipt_id"])
    assert told["receipt"]["items"][0]["name"] == request["items"][0]["name"]
    assert told["reply"]["fiscal"] == sold["fiscal"]
    assert [(step["from"], step["to"]) for step in told["history"]] == [
        (None, "buffered"),
        ("buffered", "printing"),
        ("printing", "printed"),
        ("printed", "synced"),
    ]
    assert shop.failed("receipt", receipt_id=str(uuid.uuid4()))["code"] == "not_found"


@pytest.mark.parametrize(
    ("name", "args", "path"),
    [
        ("sync", {"force": "yes"}, "args.force"),
        ("sync", {"forced": True}, "args.forced"),
        ("receipt", {}, "args.receipt_id"),
        ("receipt", {"receipt_id": "1"}, "args.receipt_id"),
        ("buffer-list", {"limit": 0}, "args.limit"),
        ("buffer-list", {"limit": 201}, "args.limit"),
        ("dlq-list", {"after": -1}, "args.after"),
        ("dlq-discard", {"receipt_id": str(uuid.uuid4()), "reason": " "}, "args.reason"),
        ("reprint", {"fd_number": 0}, "args.fd_number"),
        ("pause", {"why": "x"}, "args.why"),
    ],
)
def test_wrong_arguments_are_named(shop, name, args, path):
    error = shop.failed(name, **args)
    assert error["code"] == "invalid_command"
    assert [field["path"] for field in error["fields"]] == [path]


def test_an_unknown_command_is_told_what_there_is(shop):
    error = shop.failed("self-destruct")
    assert error["code"] == "unknown_command"
    assert "dlq-requeue" in error["message"]


def test_every_command_of_the_schemas_is_known(shop):
    names = {file.name.split(".")[0].removeprefix("command-") for file in SCHEMAS.glob("command-*.json")} - {"result"}
    assert "sync" in names
    for name in names:
        message = shop.command(name, **{"surely-no-argument": 1})
        assert message["error"]["code"] == "invalid_command", name


def test_requeue_wants_one_letter_or_all(shop):
    assert shop.failed("dlq-requeue")["code"] == "invalid_command"
    assert shop.failed("dlq-requeue", all=True, receipt_id=str(uuid.uuid4()))["code"] == "invalid_command"
    assert shop.failed("dlq-requeue", receipt_id=str(uuid.uuid4()))["code"] == "not_found"
    assert shop.done("dlq-requeue", all=True) == {"requeued": 0}


def test_shifts_open_and_close_by_command(shop):
    shop.sell()
    closed = shop.done("shift-close")
    assert (closed["kkt"], closed["open"]) == ("kkt-1", False)
    assert shop.failed("shift-close")["code"] == "failed"
    opened = shop.done("shift-open", kkt="kkt-1")
    assert (opened["number"], opened["open"]) == (closed["number"] + 1, True)
    assert opened["fd_number"] == closed["fd_number"] + 1
    assert shop.failed("shift-open")["code"] == "failed"
    shop.done("x-report")
    assert [document.body.type for document in shop.dump()][-2:] == ["shift_close", "shift_open"]
    assert shop.failed("shift-open", kkt="kkt-9")["code"] == "unknown_kkt"


def test_a_reprint_makes_no_document(shop):
    fiscal = shop.sell()["fiscal"]
    before = shop.dump()
    shop.done("reprint")
    shop.done("reprint", fd_number=fiscal["fd_number"])
    assert shop.failed("reprint", fd_number=fiscal["fd_number"] + 1)["code"] == "failed"
    assert shop.dump() == before


def test_the_same_command_again_gets_the_same_answer_and_is_not_carried_out_again(shop):
    shop.sell()
    content = encoded({"command_id": str(uuid.uuid4()), "issued_by": "tests", "args": {}})
    command_id = json.loads(content)["command_id"]
    results = []
    for _ in range(2):
        since = len(shop.observer.messages)
        shop.pos.publish(f"{shop.branch}/command/shift-close", content)
        results.append(shop.wait_result("shift-close", command_id, since=since))
    assert results[0] == results[1]
    assert results[0]["ok"]
    assert [event["command_id"] for event in shop.events("command")].count(command_id) == 1


def test_every_command_leaves_an_event(shop):
    shop.done("status")
    shop.failed("receipt", receipt_id=str(uuid.uuid4()))
    shop.wait_event("command", lambda event: event["error"] == "not_found")
    assert {event["issued_by"] for event in shop.events("command")} == {"tests"}
    assert any(event["name"] == "status" and event["ok"] for event in shop.events("command"))


def test_a_page_of_the_buffer_goes_on_where_the_last_ended(shop):
    shop.wait_state("buffer", lambda state: state["pending"] == 0)
    shop.ofd_faults(outage=True)
    ids = shop.publish_receipts(receipt() for _ in range(7))
    shop.wait_statuses(ids, "printed")
    first = shop.done("buffer-list", limit=4)
    second = shop.done("buffer-list", limit=4, after=first["next"])
    assert [entry["receipt_id"] for entry in first["receipts"] + second["receipts"]] == ids
    assert (first["total"], second["total"], second["next"]) == (7, 7, None)
    shop.ofd_faults()
    shop.wait_statuses(ids, "synced")


def test_several_letters_are_listed_requeued_and_sent(shop):
    requests = [receipt() for _ in range(5)]
    shop.ofd_faults(refuse_keys=[f"pos-1:{request['receipt_id']}" for request in requests])
    ids = shop.publish_receipts(requests)
    shop.wait_statuses(ids, "dead")
    first = shop.done("dlq-list", limit=3)
    second = shop.done("dlq-list", limit=3, after=first["next"])
    assert [letter["receipt_id"] for letter in first["letters"] + second["letters"]] == ids
    assert first["total"] == 5
    assert shop.wait_state("buffer", lambda state: state["dlq_size"] == 5)["pending"] == 0
    shop.ofd_faults()
    assert shop.done("dlq-requeue", all=True) == {"requeued": 5}
    shop.wait_statuses(ids, "synced")


def test_shift_work_waits_for_no_ofd_and_names_a_register_where_there_are_several(make_world):
    world = make_world(registers=["kkt-1", "kkt-2"])
    assert world.failed("shift-open")["code"] == "invalid_command"
    assert world.done("shift-open", kkt="kkt-2")["kkt"] == "kkt-2"
    world.fault("kkt-1", {"offline": True})
    assert world.failed("x-report", kkt="kkt-1")["code"] == "failed"

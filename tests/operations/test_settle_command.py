"""`settle`, from the message to its result: what a person says became of a receipt in doubt."""

import uuid

import pytest
from support.receipts import receipt, small_receipt

from kkt_bridge.registers.base import UnreadableDocument


def error_of(result):
    assert not result["ok"]
    return result["error"]["code"]


def printed(ops):
    request = receipt()
    ops.shop.sell(request)
    ops.shop.print_all()
    return (request,)


def left_in_doubt(ops, kkt="kkt-1", pos="pos-1", request=None):
    """A receipt whose document the register made and does not show."""
    shop, request = ops.shop, request or small_receipt(kkt=kkt, pos_id=pos)
    shop.sell(request, pos=pos)
    shop.break_register(kkt, lose_answer_next=1)
    shop.print_all(kkt)
    shop.registers[kkt].read_document = lambda _fd_number: None
    shop.print_patiently(2)
    assert shop.lanes[kkt].view.problem == "unsettled_doubt"
    return request


def again(ops, request):
    """The args of who has it printed again and knows of the doubt that there is now, if there is one."""
    doubts = [doubt for lane in ops.shop.lanes.values() for doubt in lane.view.doubts or ()]
    numbers = [doubt.number for doubt in doubts if doubt.task.key.receipt_id == request["receipt_id"]]
    return {"receipt_id": request["receipt_id"], "print_again": True, "doubt": numbers[0] if numbers else 1}


PAPER = {
    "fn_number": "9999078900000009",
    "fd_number": 412,
    "fiscal_sign": "2819546253",
    "datetime": "2026-11-22T14:03:00+03:00",
    "shift_number": 12,
    "receipt_number": 34,
}


def test_settle_prints_again(ops):
    request = left_in_doubt(ops)
    result = ops.order("settle", **again(ops, request), reason="not on the roll")
    assert result["result"] == {
        "receipt_id": request["receipt_id"],
        "pos_id": "pos-1",
        "kkt": "kkt-1",
        "outcome": "queued",
        "fiscal": None,
    }
    event = ops.shop.events("command")[-1]
    assert (event["name"], event["ok"], event["issued_by"], event["reason"]) == (
        "settle",
        True,
        "ops",
        "not on the roll",
    )
    assert ops.shop.status(request) == "printed"


def test_settle_adopts_a_document_from_its_paper(ops):
    request = left_in_doubt(ops)
    result = ops.order("settle", receipt_id=request["receipt_id"], adopt=PAPER, reason="the buyer's copy")["result"]
    assert (result["outcome"], result["fiscal"]["fd_number"], result["fiscal"]["fn_number"]) == (
        "adopted",
        412,
        "9999078900000009",
    )
    told = ops.order("receipt", receipt_id=request["receipt_id"])["result"]
    assert told["status"] == "printed"
    assert told["history"][-1]["error"] == "settled by hand: the buyer's copy"
    assert told["reply"]["fiscal"] == result["fiscal"]


def test_settle_is_refused_with_its_code_in_one_line(ops):
    request = left_in_doubt(ops)
    result = ops.order("settle", receipt_id=request["receipt_id"], adopt={"fd_number": 3}, reason="x")
    assert error_of(result) == "no_document"
    assert "\n" not in result["error"]["message"]
    event = ops.shop.events("command")[-1]
    assert (event["ok"], event["error"], event["reason"]) == (False, "no_document", "x")


@pytest.mark.parametrize("status", ["printed", "buffered"])
def test_settle_says_what_the_status_is_of_a_receipt_that_is_not_in_doubt(ops, status):
    if status == "printed":
        (request,) = printed(ops)
    else:
        left_in_doubt(ops)
        request = receipt()
        ops.shop.sell(request)
    result = ops.order("settle", **again(ops, request), reason="x")
    assert error_of(result) == "not_in_doubt"
    assert f"is {status}" in result["error"]["message"]


def test_settle_wants_a_receipt_that_is_known_and_whose(open_ops):
    ops = open_ops(registers=("kkt-1", "kkt-2"))
    args = {"print_again": True, "doubt": 1, "reason": "x"}
    assert error_of(ops.order("settle", receipt_id=str(uuid.uuid4()), **args)) == "not_found"
    request = left_in_doubt(ops)
    left_in_doubt(ops, "kkt-2", "pos-2", {**request, "pos_id": "pos-2", "kkt": "kkt-2"})
    assert error_of(ops.order("settle", receipt_id=request["receipt_id"], **args)) == "ambiguous"
    (doubt,) = ops.shop.lanes["kkt-2"].view.doubts
    args["doubt"] = doubt.number
    assert ops.order("settle", receipt_id=request["receipt_id"], pos_id="pos-2", **args)["ok"]
    assert ops.shop.lanes["kkt-1"].view.problem == "unsettled_doubt", "the other is not touched"


def test_settle_on_a_register_that_is_no_longer_configured_says_so(open_ops):
    ops = open_ops(registers=("kkt-1", "kkt-2"))
    request = left_in_doubt(ops, "kkt-2")
    ops.shop.settings = ops.shop.settings.model_copy(update={"kkt": ops.shop.settings.kkt[:1]})
    ops.restart()
    result = ops.order("settle", **again(ops, request), reason="x")
    assert error_of(result) == "unknown_kkt"


def test_settle_while_the_register_is_away_fails(ops):
    request = left_in_doubt(ops)
    ops.shop.break_register(offline=True)
    result = ops.order("settle", **again(ops, request), reason="x")
    assert error_of(result) == "failed"
    assert "no answer" in result["error"]["message"]
    assert ops.shop.status(request) == "printing"


def test_a_register_that_is_away_is_not_asked_about_what_is_not_in_doubt(ops):
    (request,) = printed(ops)
    ops.shop.break_register(offline=True)
    result = ops.order("settle", **again(ops, request), reason="x")
    assert error_of(result) == "not_in_doubt"


def test_settle_wakes_the_lane(ops):
    request = left_in_doubt(ops)
    args = again(ops, request) | {"reason": "x"}
    ops.shop.command("settle", str(uuid.uuid4()), **args)
    ops.command_worker.step()
    assert ops.woken == ["kkt-1"]


def test_settle_taken_before_a_kill_is_carried_out_after_it(ops):
    request = left_in_doubt(ops)
    command_id = str(uuid.uuid4())
    args = {"receipt_id": request["receipt_id"], "adopt": PAPER, "reason": "x"}
    ops.shop.command("settle", command_id, **args)
    ops.restart()
    ops.shop.registers["kkt-1"].read_document = lambda _fd_number: None
    ops.work()
    assert ops.results("settle", command_id)[0]["ok"]
    assert ops.shop.status(request) == "printed"


def a_document_in_the_way(ops, fd_number=3):
    """Receipts are printed, the journal is lost, and one of their documents cannot be read."""
    printed(ops)
    ops.shop.kill()
    for path in ops.shop.folder.glob("journal.db*"):
        path.unlink()
    ops.restart()
    register = ops.shop.registers["kkt-1"]
    reading = register.read_document
    register.read_document = lambda fd: UnreadableDocument(fd, "worn") if fd == fd_number else reading(fd)
    ops.shop.print_patiently(2)
    assert ops.shop.lane.view.problem == "unsettled_doubt"
    return {"fn_number": ops.shop.lane.view.status.fn_number, "fd_number": fd_number}


def test_settle_passes_an_unreadable_document_that_is_none_of_ours(ops):
    document = a_document_in_the_way(ops)
    result = ops.order("settle", pass_document=document, reason="the old program's")
    assert result["result"] == {"kkt": "kkt-1", "outcome": "passed", **document}
    event = ops.shop.events("command")[-1]
    assert (event["name"], event["ok"], event["reason"]) == ("settle", True, "the old program's")
    assert ops.shop.lane.view.problem is None
    again_ = ops.order("settle", pass_document=document, reason="twice")
    assert error_of(again_) == "not_in_the_way"


def test_settle_passes_nothing_on_a_storage_that_is_not_here(ops):
    document = a_document_in_the_way(ops) | {"fn_number": "9999000000000042"}
    result = ops.order("settle", pass_document=document, reason="x")
    assert error_of(result) == "not_in_the_way"
    assert ops.shop.lane.view.status.fn_number in result["error"]["message"]


@pytest.mark.parametrize(
    ("args", "path"),
    [
        ({"reason": "x", "adopt": {"fd_number": 3}}, "args.receipt_id"),
        ({"reason": "x", "pass_document": {"fd_number": 3}}, "args.pass_document.fn_number"),
        (
            {"reason": "x", "pass_document": {"fn_number": "9" * 16, "fd_number": 3}, "receipt_id": str(uuid.uuid4())},
            "args.receipt_id",
        ),
    ],
)
def test_settle_names_whose_document_it_is_or_says_that_it_is_nobodys(ops, args, path):
    result = ops.order("settle", **args)
    assert error_of(result) == "invalid_command"
    assert path in [field["path"] for field in result["error"]["fields"]]


@pytest.mark.parametrize(
    ("args", "path"),
    [
        ({}, "args.reason"),
        ({"reason": "x"}, "args.adopt"),
        ({"reason": "x", "print_again": False}, "args.adopt"),
        ({"reason": "x", "print_again": True, "adopt": {"fd_number": 3}}, "args.adopt"),
        ({"reason": " ", "print_again": True, "doubt": 1}, "args.reason"),
        ({"reason": "x", "print_again": True}, "args.doubt"),
        ({"reason": "x", "print_again": True, "doubt": 0}, "args.doubt"),
        ({"reason": "x", "adopt": {}}, "args.adopt.fd_number"),
        ({"reason": "x", "adopt": {"fd_number": 0}}, "args.adopt.fd_number"),
        ({"reason": "x", "adopt": {**PAPER, "fn_number": "12"}}, "args.adopt.fn_number"),
        ({"reason": "x", "adopt": {**PAPER, "datetime": "2026-11-22T14:03:00"}}, "args.adopt.datetime"),
        ({"reason": "x", "adopt": {**PAPER, "datetime": "0001-01-01T00:00:00+03:00"}}, "args.adopt.datetime"),
        ({"reason": "x", "adopt": {"fd_number": 3, "fn_number": "9999078900000009"}}, "args.adopt.fiscal_sign"),
        ({"reason": "x", "adopt": {**PAPER, "total": "1.00"}}, "args.adopt.total"),
    ],
)
def test_settle_names_wrong_args(ops, args, path):
    result = ops.order("settle", receipt_id=str(uuid.uuid4()), **args)
    assert error_of(result) == "invalid_command"
    assert path in [field["path"] for field in result["error"]["fields"]]
    assert ops.shop.events("command")[0]["reason"] is None

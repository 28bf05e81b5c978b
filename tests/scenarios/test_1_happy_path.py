"""Scenario 1: a receipt is printed at once and reaches the OFD, whose time completes its hybrid clock."""

from support.receipts import receipt

from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192


def test_a_receipt_is_printed_then_synced_and_gets_the_time_of_the_ofd(make_world, any_broker):
    world = make_world(broker=any_broker)
    request = receipt()
    reply = world.sell(request)
    world.wait_status(request["receipt_id"], "synced")

    assert (reply["pos_id"], reply["duplicate"], reply["error"]) == ("pos-1", False, None)
    fiscal = reply["fiscal"]
    assert (fiscal["kkt"], fiscal["type"], fiscal["total"], fiscal["change"]) == ("kkt-1", "sale", "200.50", "10.00")
    assert reply["hlc"]["wall_ms"] > 0
    assert reply["hlc"]["server_time"] is None
    (document,) = world.receipts_on()
    assert (document.fd_number, document.fiscal_sign) == (fiscal["fd_number"], fiscal["fiscal_sign"])
    assert document.body.requisite_1192 == requisite_1192(ReceiptKey("pos-1", request["receipt_id"]))

    (entry,) = world.ofd_books(full=True)["documents"]
    assert (entry["key"], entry["times"]) == (f"pos-1:{request['receipt_id']}", 1)
    assert entry["body"]["fiscal"] == fiscal
    assert entry["body"]["hlc"] == reply["hlc"]

    told = world.done("receipt", receipt_id=request["receipt_id"])
    assert told["status"] == "synced"
    assert told["server_time"] > 1_600_000_000
    assert told["reply"]["hlc"] == reply["hlc"] | {"server_time": told["server_time"]}
    assert [step["to"] for step in told["history"]] == ["buffered", "printing", "printed", "synced"]
    assert world.way(request["receipt_id"]) == ["buffered", "printing", "printed", "synced"]
    assert world.query(request["receipt_id"])["hlc"]["server_time"] == told["server_time"]
    buffer = world.wait_state("buffer", lambda state: state["by_status"]["synced"] == 1)
    assert (buffer["pending"], buffer["accepting"], buffer["dlq_size"]) == (0, True, 0)

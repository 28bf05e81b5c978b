"""The operators' commands, from the message to its result: each carried out once, answered, audited."""

import uuid

import pytest
from support.receipts import receipt, small_receipt
from support.stages import TOPICS, break_disk, mend_disk

from kkt_bridge.journal.document_queue import dead_letter, ready_documents, record_sent
from kkt_bridge.journal.retention import PurgeLimits, purge_receipts
from kkt_bridge.operations.commands import REQUEUE_BATCH
from kkt_bridge.registers.virtual.storage_file import read_documents
from kkt_bridge.simulators.ofd import OfdSimulator
from kkt_bridge.wire.commands import COMMANDS

EVERYTHING = PurgeLimits(*[2**62] * 4)


def printed(ops, count=1, **changes):
    requests = [receipt(**changes) for _ in range(count)]
    for request in requests:
        ops.shop.sell(request, pos=request["pos_id"])
    ops.shop.print_all()
    return requests


def bury_all(ops, kkt="kkt-1"):
    for due in ops.shop.journal.read(lambda c: ready_documents(c, kkt, 0, 1000)):
        ops.shop.journal.write(lambda tx, due=due: dead_letter(tx, due, reason="max_attempts", error="500"))


def error_of(result):
    assert not result["ok"]
    assert result["result"] is None
    return result["error"]["code"]


# -- the command worker --------------------------------------------------------------------------------------------


def test_there_is_a_handler_for_every_command(ops):
    assert set(ops.table) == set(COMMANDS)


def test_a_command_is_answered_on_its_topic_and_audited(ops):
    command_id = str(uuid.uuid4())
    result = ops.order("pause", command_id)
    assert result == {
        "command_id": command_id,
        "ok": True,
        "result": {"paused": True},
        "error": None,
        "at": "2026-11-22T12:03:00.000+03:00",
    }
    assert ops.shop.events("command") == [
        {
            "command_id": command_id,
            "name": "pause",
            "issued_by": "ops",
            "ok": True,
            "error": None,
            "reason": None,
            "at": "2026-11-22T12:03:00.000+03:00",
        }
    ]


def test_a_repeat_gets_the_same_result_and_does_nothing(ops):
    command_id = str(uuid.uuid4())
    ops.order("shift-open", command_id)
    ops.order("shift-open", command_id)
    first, again = ops.results("shift-open", command_id)
    assert first == again
    assert first["ok"]
    assert len(ops.shop.events("command")) == 1


def test_a_command_taken_before_a_kill_is_carried_out_after_it(ops):
    command_id = str(uuid.uuid4())
    ops.shop.command("pause", command_id)
    ops.restart()
    assert not ops.shop.admission.paused
    ops.work()
    assert ops.shop.admission.paused
    assert ops.results("pause", command_id)[0]["ok"]


def test_a_result_survives_a_kill_and_is_not_made_twice(ops):
    command_id = str(uuid.uuid4())
    ops.order("shift-open", command_id)
    ops.restart()
    ops.work()
    assert len(ops.results("shift-open", command_id)) == 1


def test_commands_are_carried_out_in_their_order(ops):
    for name in ("pause", "resume", "pause", "resume"):
        ops.shop.command(name, str(uuid.uuid4()))
    ops.work()
    assert [event["name"] for event in ops.shop.events("command")] == ["pause", "resume", "pause", "resume"]
    assert not ops.shop.admission.paused


def test_more_commands_than_a_batch_are_all_carried_out(ops):
    ids = [str(uuid.uuid4()) for _ in range(50)]
    for command_id in ids:
        ops.shop.command("status", command_id)
    while ops.command_worker.step() == 0.0:
        pass
    assert [event["command_id"] for event in ops.shop.events("command")] == ids


@pytest.mark.parametrize(
    ("name", "args", "path"),
    [
        ("sync", {"force": "yes"}, "args.force"),
        ("sync", {"forced": True}, "args.forced"),
        ("status", {"x": 1}, "args.x"),
        ("receipt", {}, "args.receipt_id"),
        ("receipt", {"receipt_id": "x"}, "args.receipt_id"),
        ("buffer-list", {"limit": 0}, "args.limit"),
        ("buffer-list", {"limit": 201}, "args.limit"),
        ("buffer-list", {"after": -1}, "args.after"),
        ("dlq-list", {"after": 10**30}, "args.after"),
        ("dlq-discard", {"receipt_id": str(uuid.uuid4())}, "args.reason"),
        ("dlq-discard", {"receipt_id": str(uuid.uuid4()), "reason": " "}, "args.reason"),
        ("reprint", {"fd_number": 0}, "args.fd_number"),
        ("shift-open", {"kkt": "a/b"}, "args.kkt"),
    ],
)
def test_wrong_args_are_named(ops, name, args, path):
    result = ops.order(name, **args)
    assert error_of(result) == "invalid_command"
    assert result["error"]["fields"][0]["path"] == path
    assert ops.shop.events("command")[0]["error"] == "invalid_command"


def test_a_bug_in_a_handler_is_answered_and_the_next_command_carried_out(ops, caplog):
    ops.command_worker._handlers = {**ops.table, "pause": lambda *_: 1 // 0}
    assert error_of(ops.order("pause")) == "internal_error"
    assert ops.order("resume")["ok"]
    assert "ZeroDivisionError" in caplog.text


def test_an_answer_waits_for_the_disk_and_the_work_is_not_done_again(ops):
    command_id = str(uuid.uuid4())
    ops.shop.command("shift-open", command_id)
    ops.command_worker.step()
    ops.shop.print_all()
    break_disk(ops.shop.journal)
    for _ in range(3):
        assert ops.command_worker.step() == 1.0
    mend_disk(ops.shop.journal)
    ops.work()
    assert [result["ok"] for result in ops.results("shift-open", command_id)] == [True]


def test_results_go_to_a_response_topic_inside_of_the_branch(ops):
    topic = f"{TOPICS.branch}/command/status/mine"
    message = {"command_id": str(uuid.uuid4()), "issued_by": "ops"}
    ops.shop.arrive(TOPICS.command("status"), message, response_topic=topic, correlation=b"9")
    ops.shop.intake.step()
    ops.work()
    (sent,) = [message for message in ops.shop.outbox() if message.topic == topic]
    assert sent.correlation == b"9"


# -- the bridge ------------------------------------------------------------------------------------------


def test_status_is_everything(ops):
    result = ops.order("status")
    assert set(result["result"]) == {"online", "alerts", "buffer", "breaker", "sync", "health", "kkt"}


def test_pause_and_resume(ops):
    ops.order("pause")
    ops.shop.sell(receipt())
    assert ops.shop.replies()[-1]["error"]["code"] == "paused"
    ops.order("resume")
    ops.shop.sell(receipt())
    assert ops.shop.journal.pending() == 1


def test_sync_tells_what_it_did(open_ops):
    with OfdSimulator() as ofd:
        ops = open_ops(ofd={"url": ofd.url, "timeout_s": 2})
        printed(ops, 3)
        result = ops.order("sync")
        assert {**result["result"], "duration_s": 0} == {"sent": 3, "failed": 0, "skipped": 0, "duration_s": 0}


def test_a_second_sync_is_refused(ops):
    printed(ops)
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    ops.shop.command("sync", first)
    ops.shop.command("sync", second, force=True)
    ops.work()
    assert ops.results("sync", second)[0]["error"]["code"] == "sync_in_progress"
    assert ops.results("sync", first)[0]["ok"]


# -- receipts --------------------------------------------------------------------------------------------


def test_a_receipt_is_told_with_its_whole_history(ops):
    (request,) = printed(ops)
    told = ops.order("receipt", receipt_id=request["receipt_id"])["result"]
    assert told["status"] == "printed"
    assert told["receipt"]["receipt_id"] == request["receipt_id"]
    assert told["reply"] == {**ops.shop.replies()[0], "duplicate": False}
    assert [(step["from"], step["to"]) for step in told["history"]] == [
        (None, "buffered"),
        ("buffered", "printing"),
        ("printing", "printed"),
    ]
    assert told["history"][-1]["fd_number"] == 3


def test_a_purged_receipt_is_told_from_what_was_left(ops):
    (request,) = printed(ops)
    (due,) = ops.shop.journal.read(lambda c: ready_documents(c, "kkt-1", 0, 10))
    ops.shop.journal.write(lambda tx: record_sent(tx, due, 77))
    ops.shop.journal.write(lambda tx: purge_receipts(tx, EVERYTHING, [due.id]))
    told = ops.order("receipt", receipt_id=request["receipt_id"])["result"]
    assert (told["purged"], told["receipt"], told["history"], told["server_time"]) == (True, None, [], 77)
    assert told["reply"]["fiscal"]["fd_number"] == 3


def test_a_receipt_nobody_knows(ops):
    assert error_of(ops.order("receipt", receipt_id=str(uuid.uuid4()))) == "not_found"


def test_a_receipt_that_was_refused_is_told_with_the_last_refusal(ops):
    ops.order("pause")
    request = receipt()
    ops.shop.sell(request)
    ops.shop.clock.advance(75)
    error = ops.order("receipt", receipt_id=request["receipt_id"])["error"]
    assert error["code"] == "not_found"
    assert "it was refused 0:01:15 ago of pos-1: paused: " in error["message"]
    elsewhere = ops.order("receipt", receipt_id=request["receipt_id"], pos_id="pos-2")["error"]
    assert "the log of the bridge says when and why" in elsewhere["message"]


def test_a_receipt_id_of_two_pos_wants_to_be_told_which(ops):
    (request,) = printed(ops)
    printed(ops, receipt_id=request["receipt_id"], pos_id="pos-2")
    result = ops.order("receipt", receipt_id=request["receipt_id"])
    assert error_of(result) == "ambiguous"
    assert "pos-1, pos-2" in result["error"]["message"]
    assert ops.order("receipt", receipt_id=request["receipt_id"], pos_id="pos-2")["ok"]


def test_pending_receipts_come_in_pages_over_states_and_registers(open_ops):
    ops = open_ops(registers=("kkt-1", "kkt-2"))
    requests = [
        *printed(ops, 3, kkt="kkt-1"),
        *printed(ops, 3, kkt="kkt-2"),
    ]
    ops.shop.occupy()
    for kkt in ("kkt-2", "kkt-1"):
        request = receipt(kkt=kkt)
        ops.shop.sell(request)
        requests.append(request)
    listed, after = [], 0
    for _ in range(10):
        page = ops.order_without_work("buffer-list", limit=3, after=after)
        listed += page["receipts"]
        assert page["total"] == 8
        after = page["next"]
        if after is None:
            break
    assert [entry["receipt_id"] for entry in listed] == [request["receipt_id"] for request in requests]
    assert [entry["status"] for entry in listed] == ["printed"] * 6 + ["buffered"] * 2


# -- dead letters ----------------------------------------------------------------------------------------


def test_dead_letters_are_listed_requeued_and_discarded(ops):
    first, second = printed(ops, 2)
    bury_all(ops)
    listed = ops.order("dlq-list")["result"]
    assert listed["total"] == 2
    assert [letter["receipt_id"] for letter in listed["letters"]] == [first["receipt_id"], second["receipt_id"]]
    letter = listed["letters"][0]
    assert (letter["pos_id"], letter["kkt"], letter["stage"]) == ("pos-1", "kkt-1", "ofd")
    assert (letter["reason"], letter["last_error"]) == ("max_attempts", "500")
    assert ops.order("dlq-discard", receipt_id=first["receipt_id"], reason="sold by mistake")["ok"]
    assert ops.order("dlq-requeue", receipt_id=second["receipt_id"])["result"] == {"requeued": 1}
    assert ops.order("dlq-list")["result"]["total"] == 0
    assert (ops.shop.status(first), ops.shop.status(second)) == ("dead", "printed")
    history = ops.order("receipt", receipt_id=first["receipt_id"])["result"]["history"]
    assert history[-1]["error"] == "discarded: sold by mistake"


def test_a_letter_that_is_none_is_not_found(ops):
    (request,) = printed(ops)
    for name, args in (("dlq-requeue", {}), ("dlq-discard", {"reason": "x"})):
        assert error_of(ops.order(name, receipt_id=request["receipt_id"], **args)) == "not_found"


def test_a_letter_of_two_pos_wants_to_be_told_which(ops):
    (request,) = printed(ops)
    printed(ops, receipt_id=request["receipt_id"], pos_id="pos-2")
    bury_all(ops)
    assert error_of(ops.order("dlq-requeue", receipt_id=request["receipt_id"])) == "ambiguous"
    assert ops.order("dlq-requeue", receipt_id=request["receipt_id"], pos_id="pos-2")["ok"]
    assert ops.order("dlq-list")["result"]["total"] == 1


@pytest.mark.parametrize("args", [{}, {"all": True, "receipt_id": str(uuid.uuid4())}])
def test_requeue_wants_one_or_all(ops, args):
    assert error_of(ops.order("dlq-requeue", **args)) == "invalid_command"


def test_all_letters_are_requeued_however_many(open_ops):
    ops = open_ops(registers=("kkt-1", "kkt-2"), buffer={"capacity": 1000})
    count = REQUEUE_BATCH // 2 + 5
    printed(ops, count, kkt="kkt-1")
    printed(ops, count, kkt="kkt-2")
    bury_all(ops, "kkt-1")
    bury_all(ops, "kkt-2")
    assert ops.order("dlq-requeue", all=True)["result"] == {"requeued": 2 * count}
    assert ops.order("dlq-list")["result"]["total"] == 0


def test_requeueing_all_ends_even_if_the_ofd_refuses_them_again_at_once(open_ops):
    ops = open_ops(buffer={"capacity": 1000})
    printed(ops, 20)
    bury_all(ops)
    journal = ops.shop.journal
    write, refusing, writes = journal.write, [], []

    def write_and_refuse(operation):
        result = write(operation)
        writes.append(1)
        assert len(writes) < 100, "it does not end"
        if not refusing:
            refusing.append(1)
            bury_all(ops)
            refusing.clear()
        return result

    journal.write = write_and_refuse
    requeue_all = COMMANDS["dlq-requeue"](all=True)
    assert ops.table["dlq-requeue"](requeue_all, None) == {"requeued": 20}
    assert journal.counts()["kkt-1", "dlq"] == 20


# -- registers -------------------------------------------------------------------------------------------


def test_shifts_are_opened_and_closed(ops):
    assert ops.order("shift-open")["result"] == {"kkt": "kkt-1", "number": 1, "open": True, "fd_number": 2}
    assert ops.order("shift-close")["result"] == {"kkt": "kkt-1", "number": 1, "open": False, "fd_number": 3}
    assert [event["open"] for event in ops.shop.events("shift")] == [True, False]


def types_of_documents(ops):
    return [document.body.type for document in read_documents(ops.shop.folder / "kkt-1.fn")]


class Killed(BaseException):
    """The end of the process: no handler in the program may catch it."""


@pytest.mark.parametrize("moment", ["before its document is noted", "before the answer is kept"])
@pytest.mark.parametrize("name", ["shift-open", "shift-close"])
def test_a_shift_order_repeated_after_a_kill_tells_what_it_did_and_leaves_the_next_shift_alone(
    ops, monkeypatch, name, moment
):
    def end_of_process(_report):
        raise Killed

    if name == "shift-close":
        ops.order("shift-open")
    command_id = str(uuid.uuid4())
    ops.shop.command(name, command_id)
    ops.command_worker.step()
    if moment == "before its document is noted":
        monkeypatch.setattr(ops.shop.lane, "_note_shift", end_of_process)
        with pytest.raises(Killed):
            ops.shop.print_all()
    else:
        ops.shop.print_all()
    ops.restart()
    assert ops.results(name, command_id) == []
    if name == "shift-close":
        ops.shop.sell(small_receipt())  # opens the next shift
    else:
        ops.shop.registers["kkt-1"].close_shift(None)  # somebody's hand
    ops.shop.print_all()
    before = types_of_documents(ops)
    ops.work()
    fd_number = before.index(name.replace("-", "_")) + 1
    result = {"kkt": "kkt-1", "number": 1, "open": name == "shift-open", "fd_number": fd_number}
    assert [each["result"] for each in ops.results(name, command_id)] == [result]
    assert types_of_documents(ops) == before
    told = [(event["number"], event["open"]) for event in ops.shop.events("shift")]
    assert told == [(1, True), (1, False), *([(2, True)] if name == "shift-close" else [])]


def test_a_shift_order_begun_before_a_restart_goes_on_where_nothing_has_changed(ops, monkeypatch):
    ops.order("shift-open")
    command_id = str(uuid.uuid4())
    ops.shop.command("shift-close", command_id)
    ops.command_worker.step()

    def end_of_process(_cashier):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ops.shop.registers["kkt-1"], "close_shift", end_of_process)
        with pytest.raises(Killed):
            ops.shop.print_all()
    ops.restart()
    ops.work()
    assert [each["result"]["fd_number"] for each in ops.results("shift-close", command_id)] == [3]


def test_a_shift_order_whose_storage_was_swapped_since_is_to_be_given_again(ops, monkeypatch):
    ops.order("shift-open")
    command_id = str(uuid.uuid4())
    ops.shop.command("shift-close", command_id)
    ops.command_worker.step()
    ops.shop.print_all()
    ops.shop.kill()
    (ops.shop.folder / "kkt-1.fn").unlink()
    ops.shop._start()
    ops._open()
    ops.work()
    (result,) = ops.results("shift-close", command_id)
    assert error_of(result) == "failed"


def test_a_register_that_refuses_says_why(ops):
    ops.order("shift-open")
    result = ops.order("shift-open")
    assert error_of(result) == "failed"
    assert "close the shift first" in result["error"]["message"]


def test_a_register_that_is_away_is_answered_at_once(ops):
    ops.shop.break_register(offline=True)
    result = ops.order("x-report")
    assert error_of(result) == "failed"
    assert "no answer" in result["error"]["message"]


def test_reports_and_copies_make_no_document(ops):
    printed(ops)
    before = len(list(read_documents(ops.shop.folder / "kkt-1.fn")))
    assert ops.order("x-report")["result"] == {"kkt": "kkt-1"}
    assert ops.order("reprint")["result"] == {"kkt": "kkt-1"}
    assert ops.order("reprint", fd_number=3)["ok"]
    assert error_of(ops.order("reprint", fd_number=99)) == "failed"
    assert len(list(read_documents(ops.shop.folder / "kkt-1.fn"))) == before


def test_with_two_registers_one_must_be_named(open_ops):
    ops = open_ops(registers=("kkt-1", "kkt-2"))
    result = ops.order("shift-open")
    assert error_of(result) == "invalid_command"
    assert "kkt-1, kkt-2" in result["error"]["message"]
    assert ops.order("shift-open", kkt="kkt-2")["result"]["kkt"] == "kkt-2"
    result = ops.order("shift-open", kkt="kkt-9")
    assert error_of(result) == "unknown_kkt"

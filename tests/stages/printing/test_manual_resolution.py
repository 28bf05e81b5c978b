"""Stage 0, by hand: a person says what became of a receipt of which the register cannot tell."""

import json
from concurrent.futures import Future
from datetime import datetime, timedelta

import pytest
from support.receipts import encoded, item, receipt, small_receipt
from support.registers import print_on
from support.stages import (
    RETRY_S,
    TOPICS,
    ZONE,
    InProcessBridge,
    a_print_job,
    break_disk,
    check_counts,
    key_of,
    meddle,
    mend_disk,
    run,
)

from kkt_bridge.errors import RegisterAway, StorageUnavailable
from kkt_bridge.journal.document_queue import ready_documents
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.registers.base import PrintJob
from kkt_bridge.registers.virtual.fiscal_document import RECEIPT, Body, fiscal_sign, registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.stages.printing.lane import LEASE_MAX
from kkt_bridge.stages.printing.manual_resolution import (
    AdoptFromPaper,
    AdoptFromStorage,
    ManualResolution,
    PrintAgain,
    SettleRefused,
)

NEW_FN = "9999000000000042"
REMARK = "settled by hand: seen on the roll"


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path)
    yield opened
    mend_disk(opened.journal)
    check_counts(opened.journal, tmp_path)
    opened.kill()


def swap_storage(shop, kkt="kkt-1", fn_number=NEW_FN):
    """While the process is away, somebody puts a new fiscal storage into the register."""
    shop.kill()
    shop.heal_register(kkt)
    file = shop.folder / f"{kkt}.fn"
    file.rename(file.with_suffix(".old"))
    storage = FiscalStorage(file)
    storage.open(registration_of(kkt, fn_number, shop=TOPICS.bridge), shop.lanes[kkt].view.status.clock)
    storage.close()
    shop._start()


def leave_unsettled(shop, *requests, **faults):
    """Receipts in doubt on a storage that is no longer there; the lane stands still."""
    for request in requests:
        shop.sell(request)
    shop.break_register(**(faults or {"lose_answer_next": 1}))
    shop.print_all()
    if requests[1:]:
        meddle(
            shop.folder,
            "UPDATE receipts SET status = 'printing', fn_before = (SELECT max(fn_before) FROM receipts), "
            "fd_before = (SELECT max(fd_before) FROM receipts) WHERE status = 'buffered'",
            "DELETE FROM figures WHERE kkt != ''",
            "INSERT INTO figures (kkt, name, value) SELECT kkt, status, count(*) FROM receipts GROUP BY kkt, status",
        )
    swap_storage(shop)
    shop.print_all()
    assert shop.lane.view.problem == "unsettled_doubt"


def settle(shop, request, decision, reason="seen on the roll"):
    """Give the order and let the lane step once, without a second's patience."""
    future = shop.lane.settle(ManualResolution(key_of(request), decision, reason))
    run(shop.lane.step)
    assert isinstance(future, Future)
    return future.result(timeout=0)


def again(shop, request):
    """Print it again: what a person decides who knows of the doubt that there is now, if there is one."""
    numbers = [
        doubt.number for doubt in shop.lane.view.doubts or () if doubt.task.key.receipt_id == request["receipt_id"]
    ]
    return PrintAgain(numbers[0] if numbers else 1)


def refusal(shop, request, decision):
    with pytest.raises(SettleRefused) as caught:
        settle(shop, request, decision)
    assert "\n" not in str(caught.value)
    return caught.value.code


def stranger_prints(shop, request, requisite=""):
    """Another program makes a document on the storage that is in the register now; its number."""
    register = shop.registers["kkt-1"]
    if register.status().mode == "shift_closed":
        register.open_shift(None)
    job = a_print_job(request)
    return print_on(register, PrintJob(job.receipt, requisite, "osn")).mark.fd_number


def on_new_storage(shop, fd_number):
    """A document of the storage that is in the register now, as its paper shows it."""
    (document,) = (each for each in shop.documents() if each.fd_number == fd_number)
    return AdoptFromPaper(
        NEW_FN, fd_number, document.fiscal_sign, document.at, document.shift_number, document.receipt_number
    )


def paper(**changes):
    values = {
        "fn_number": "9999078900000009",
        "fd_number": 412,
        "fiscal_sign": "0219546253",
        "at": datetime.fromisoformat("2026-11-22T11:03:00+00:00"),
        "shift_number": 12,
        "receipt_number": 34,
    }
    return AdoptFromPaper(**(values | changes))


# -- decisions ---------------------------------------------------------------------------------------------


def test_printed_again_where_a_person_says_that_there_is_none(shop):
    request, behind = receipt(), receipt()
    leave_unsettled(shop, request, power_cut={"at": "line"})
    shop.sell(behind)
    settled = settle(shop, request, again(shop, request))
    assert settled.printed is None
    assert [shop.status(one) for one in (request, behind)] == ["printed", "printed"], "the lane goes on at once"
    assert [reply["receipt_id"] for reply in shop.replies() if reply["final"]] == [
        request["receipt_id"],
        behind["receipt_id"],
    ]
    assert remarks(shop, request) == [("printing", "buffered", REMARK)]
    assert (shop.lane.view.problem, shop.lane.view.doubts) == (None, ())


def remarks(shop, request):
    return shop.rows(
        "SELECT from_status, to_status, error FROM steps WHERE receipt_id = ? AND error IS NOT NULL",
        request["receipt_id"],
    )


def test_a_document_on_the_storage_in_the_register_is_read_back(shop):
    request, behind = small_receipt(), receipt()
    leave_unsettled(shop, request)
    shop.sell(behind)
    fd_number = stranger_prints(shop, request)
    settled = settle(shop, request, on_new_storage(shop, fd_number))
    document = shop.documents()[0]
    assert settled.printed.mark.fiscal_sign == document.fiscal_sign
    (reply, _) = [reply for reply in shop.replies() if reply["final"]]
    assert (reply["receipt_id"], reply["status"]) == (request["receipt_id"], "printed")
    assert (reply["fiscal"]["fn_number"], reply["fiscal"]["fd_number"]) == (NEW_FN, fd_number)
    assert remarks(shop, request) == [("printing", "printed", REMARK)]
    assert shop.status(behind) == "printed"
    assert len(shop.documents()) == 2


def test_a_document_without_a_requisite_may_be_adopted(shop):
    request = small_receipt()
    leave_unsettled(shop, request)
    settle(shop, request, on_new_storage(shop, stranger_prints(shop, request)))
    assert shop.status(request) == "printed"


def test_a_document_on_a_storage_that_is_gone_is_taken_from_its_paper(shop):
    request = small_receipt(payments=[{"type": "cash", "amount": "15.00"}])
    leave_unsettled(shop, request)
    settle(shop, request, paper())
    (reply,) = [reply for reply in shop.replies() if reply["final"]]
    registration = registration_of("kkt-1", shop=TOPICS.bridge)
    assert reply["fiscal"] == {
        "kkt": "kkt-1",
        "kkt_serial": registration.kkt_serial,
        "registration_number": registration.registration_number,
        "fn_number": "9999078900000009",
        "fd_number": 412,
        "fiscal_sign": "0219546253",
        "datetime": "2026-11-22T14:03:00+03:00",
        "shift_number": 12,
        "receipt_number": 34,
        "type": "sale",
        "total": "10.00",
        "change": "5.00",
        "qr": "t=20261122T1403&s=10.00&fn=9999078900000009&i=412&fp=0219546253&n=1",
    }
    (due,) = shop.journal.read(lambda connection: ready_documents(connection, "kkt-1", 0, 10))
    body = json.loads(due.body)
    assert body["fiscal"] == reply["fiscal"]
    assert body["ffd"]["receipt"]["fiscalDocumentNumber"] == 412


def test_a_correction_from_paper_has_the_operation_that_it_corrects(shop):
    correction = {"operation": "refund", "kind": "voluntary", "date": "2026-11-20"}
    request = small_receipt(type="correction", correction=correction)
    leave_unsettled(shop, request)
    settle(shop, request, paper())
    (reply,) = [reply for reply in shop.replies() if reply["final"]]
    assert (reply["fiscal"]["type"], reply["fiscal"]["qr"][-3:]) == ("correction", "n=2")


def test_a_paper_of_the_storage_in_the_register_is_compared_with_it(shop):
    request = a_receipt_whose_sign_begins_with_zero(shop)
    leave_unsettled(shop, request)
    fd_number = stranger_prints(shop, request)
    sign = shop.documents()[0].fiscal_sign
    assert sign.startswith("0")
    assert refusal(shop, request, paper(fn_number=NEW_FN, fd_number=fd_number, fiscal_sign="1")) == "document_mismatch"
    settle(shop, request, paper(fn_number=NEW_FN, fd_number=fd_number, fiscal_sign=sign.lstrip("0")))
    assert shop.replies()[-1]["fiscal"]["fiscal_sign"] == sign


def a_receipt_whose_sign_begins_with_zero(shop):
    """As the third document of the new storage, this minute. Paper shows such a sign with its zeros, or without."""
    at = datetime.fromtimestamp(shop.clock.now_ms() / 1000, ZONE).replace(second=0, microsecond=0)
    for rubles in range(1, 1000):
        body = Body(RECEIPT, "sale", "sale", rubles * 100)
        if fiscal_sign(NEW_FN, 3, body, at).startswith("0"):
            price = f"{rubles}.00"
            return small_receipt({"price": price, "total": price}, payments=[{"type": "card", "amount": price}])
    raise AssertionError("no sign begins with zero")


# -- refusals ----------------------------------------------------------------------------------------------


def test_a_number_that_the_storage_does_not_have_is_refused(shop):
    request = receipt()
    leave_unsettled(shop, request)
    assert refusal(shop, request, paper(fn_number=NEW_FN, fd_number=99)) == "no_document"
    assert shop.status(request) == "printing"


@pytest.mark.parametrize(
    "other",
    [
        {"items": [item(price="10.01", total="10.01")], "payments": [{"type": "cash", "amount": "10.01"}]},
        {"type": "refund"},
        {"type": "correction", "correction": {"operation": "sale", "kind": "voluntary", "date": "2026-11-20"}},
    ],
    ids=["total", "operation", "form"],
)
def test_a_document_of_another_kind_is_refused(shop, other):
    request = small_receipt()
    leave_unsettled(shop, request)
    fd_number = stranger_prints(shop, small_receipt(**other))
    assert refusal(shop, request, on_new_storage(shop, fd_number)) == "document_mismatch"
    assert refusal(shop, request, paper(fn_number=NEW_FN, fd_number=1)) == "document_mismatch", "a registration"


def test_a_number_alone_names_no_document_once_the_storage_was_exchanged(shop):
    request = small_receipt()
    leave_unsettled(shop, request)
    fd_number = stranger_prints(shop, request)
    assert refusal(shop, request, AdoptFromStorage(fd_number)) == "document_mismatch"
    assert shop.status(request) == "printing"


def test_a_document_with_the_mark_of_another_program_is_refused(shop):
    request = small_receipt()
    leave_unsettled(shop, request)
    fd_number = stranger_prints(shop, request, requisite="another-program")
    assert refusal(shop, request, on_new_storage(shop, fd_number)) == "document_taken"


def test_a_document_that_waits_for_its_own_receipt_is_refused(shop):
    request = small_receipt()
    leave_unsettled(shop, request)
    fd_number = stranger_prints(shop, request, requisite="A" * 16)
    shop.print_patiently(2)
    assert refusal(shop, request, on_new_storage(shop, fd_number)) == "document_taken"


def test_a_document_older_than_the_beginning_of_printing_is_refused(shop):
    """By the register's own clock: the last receipt before it is of a later time."""
    before, request = small_receipt(), small_receipt()
    shop.sell(before)
    shop.print_all()
    leave_unsettled(shop, request)
    early = datetime.fromisoformat(shop.replies()[0]["fiscal"]["datetime"]) - timedelta(minutes=1)
    assert refusal(shop, request, paper(at=early)) == "document_mismatch"


def test_a_document_of_another_receipt_is_refused(shop):
    first, doubtful = small_receipt(), small_receipt()
    shop.sell(first)
    shop.print_all()
    mark = shop.replies()[0]["fiscal"]
    leave_unsettled(shop, doubtful)
    known = paper(fn_number=mark["fn_number"], fd_number=mark["fd_number"])
    assert refusal(shop, doubtful, known) == "document_taken"
    assert shop.status(doubtful) == "printing"


def test_a_document_of_another_receipt_on_the_register_is_refused(shop):
    first, doubtful = small_receipt(), small_receipt()
    shop.sell(first)
    shop.print_all()
    shop.sell(doubtful)
    shop.break_register(lose_answer_next=1)
    shop.print_all()
    register = shop.registers["kkt-1"]
    finding = register.read_document
    register.read_document = lambda fd: None if fd == 4 else finding(fd)
    shop.print_patiently(2)
    assert shop.lane.view.problem == "unsettled_doubt"
    assert refusal(shop, doubtful, AdoptFromStorage(3)) == "document_taken"
    assert refusal(shop, doubtful, AdoptFromStorage(4)) == "no_document"
    register.read_document = finding


def test_a_document_from_before_printing_began_is_refused(shop):
    theirs, doubtful = small_receipt(), small_receipt()
    shop.print_all()
    number = stranger_prints(shop, theirs)
    shop.clock.advance(shop.settings.telemetry.interval_s)
    shop.print_all()
    shop.sell(doubtful)
    shop.break_register(lose_answer_next=1)
    shop.print_all()
    register = shop.registers["kkt-1"]
    finding = register.read_document
    register.read_document = lambda fd: finding(fd) if fd == number else None
    shop.print_patiently(2)
    assert refusal(shop, doubtful, AdoptFromStorage(number)) == "document_mismatch"
    old_fn = shop.lane.view.status.fn_number
    register.read_document = finding
    swap_storage(shop)
    shop.print_all()
    assert refusal(shop, doubtful, paper(fn_number=old_fn, fd_number=number)) == "document_mismatch"


@pytest.mark.parametrize("state", ["printing", "buffered"])
def test_a_document_marked_with_another_known_receipt_is_refused(shop, state):
    doubtful, other = small_receipt(), small_receipt()
    leave_unsettled(shop, *([doubtful, other] if state == "printing" else [doubtful]))
    if state == "buffered":
        shop.sell(other)
    assert shop.status(other) == state
    fd_number = stranger_prints(shop, doubtful, requisite_1192(key_of(other)))
    assert refusal(shop, doubtful, on_new_storage(shop, fd_number)) == "document_taken"
    assert shop.status(other) == "printed"


def test_only_a_receipt_in_doubt_is_settled(shop):
    done, doubtful, behind = receipt(), receipt(), receipt()
    shop.sell(done)
    shop.print_all()
    leave_unsettled(shop, doubtful)
    shop.sell(behind)
    for request, status in ((done, "printed"), (behind, "buffered"), (receipt(), "unknown")):
        with pytest.raises(SettleRefused, match=f"is {status}") as caught:
            settle(shop, request, again(shop, request))
        assert caught.value.code == "not_in_doubt"


def test_what_the_register_can_prove_goes_before_what_a_person_says(shop):
    """A person says `print again` of a receipt whose storage is back, and tells that it was printed."""
    request = receipt()
    leave_unsettled(shop, request)
    shop.kill()
    file = shop.folder / "kkt-1.fn"
    file.with_suffix(".old").rename(file)
    shop._start()
    assert refusal(shop, request, again(shop, request)) == "not_in_doubt"
    assert shop.status(request) == "printed"
    assert len(shop.documents()) == 1


def test_a_receipt_is_settled_once(shop):
    first, second = small_receipt(), small_receipt()
    leave_unsettled(shop, first, second)
    orders = [
        shop.lane.settle(ManualResolution(key_of(first), decision, "r")) for decision in (paper(), again(shop, first))
    ]
    shop.lane.step()
    assert orders[0].result(0).printed is not None
    with pytest.raises(SettleRefused, match="is printed"):
        orders[1].result(0)
    assert shop.lane.view.problem == "unsettled_doubt"
    assert [doubt.task.key.receipt_id for doubt in shop.lane.view.doubts] == [second["receipt_id"]]


# -- when ---------------------------------------------------------------------------------------------------


def test_an_order_to_a_register_that_is_away_fails_in_one_line(shop):
    request = receipt()
    leave_unsettled(shop, request)
    shop.break_register(offline=True)
    with pytest.raises(RegisterAway, match="is it switched on"):
        settle(shop, request, again(shop, request))
    assert shop.status(request) == "printing"
    shop.heal_register()
    shop.clock.advance(RETRY_S)
    settle(shop, request, again(shop, request))
    assert shop.status(request) == "printed"


def test_an_order_on_a_full_disk_fails_and_changes_nothing(shop):
    request = receipt()
    leave_unsettled(shop, request)
    break_disk(shop.journal)
    with pytest.raises(StorageUnavailable):
        settle(shop, request, paper())
    mend_disk(shop.journal)
    shop.print_patiently(2)
    assert shop.status(request) == "printing"
    assert [reply for reply in shop.replies() if reply["final"]] == []
    settle(shop, request, paper())
    assert shop.status(request) == "printed"


def test_a_drivers_bug_is_the_answer_of_one_order_and_the_lane_goes_on(shop, monkeypatch):
    request = receipt()
    leave_unsettled(shop, request)
    monkeypatch.setattr(shop.lane._manual, "_resolve", lambda *_: 1 // 0)
    future = shop.lane.settle(ManualResolution(key_of(request), again(shop, request), "r"))
    shop.lane.step()
    assert shop.lane.view.problem == "internal_error"
    assert isinstance(future.exception(0), ZeroDivisionError)
    monkeypatch.undo()
    settle(shop, request, again(shop, request))
    assert shop.status(request) == "printed"


def test_an_order_waits_for_what_is_leased_and_not_for_the_queue(shop):
    shop.print_all()
    for _ in range(3 * LEASE_MAX):
        shop.sell(receipt())
    shop.lane.step()
    future = shop.lane.settle(ManualResolution(key_of(receipt()), PrintAgain(1), "r"))
    for _ in range(2):
        shop.lane.step()
    assert future.done()
    assert shop.journal.counts()["kkt-1", "printed"] < 3 * LEASE_MAX


def test_what_was_judged_free_is_judged_again_when_it_is_recorded(shop, monkeypatch):
    """Two lanes may be told of one document at once."""
    first, doubtful = small_receipt(), small_receipt()
    shop.sell(first)
    shop.print_all()
    mark = shop.replies()[0]["fiscal"]
    leave_unsettled(shop, doubtful)
    monkeypatch.setattr(shop.lane._manual, "_require_free", lambda *_: None)
    known = paper(fn_number=mark["fn_number"], fd_number=mark["fd_number"])
    assert refusal(shop, doubtful, known) == "document_taken"
    assert shop.status(doubtful) == "printing"


def test_an_order_that_nobody_waits_for_any_more_is_not_carried_out(shop):
    request = receipt()
    leave_unsettled(shop, request)
    assert shop.lane.settle(ManualResolution(key_of(request), again(shop, request), "r")).cancel()
    shop.print_all()
    assert shop.status(request) == "printing"


def test_a_lane_that_stands_still_does_not_spin_over_a_refused_order(shop):
    request = receipt()
    leave_unsettled(shop, request)
    assert refusal(shop, request, paper(fn_number=NEW_FN, fd_number=99)) == "no_document"
    assert shop.lane.step() == pytest.approx(RETRY_S)


def test_a_request_that_can_no_longer_be_read_is_compared_with_nothing(shop):
    request = receipt()
    leave_unsettled(shop, request)
    shop.kill()
    meddle(shop.folder, "UPDATE requests SET body = '{}'")
    shop._start()
    shop.print_all()
    assert shop.lane.view.doubts[0].total == 20050
    assert refusal(shop, request, paper()) == "document_mismatch"
    settle(shop, request, again(shop, request))
    assert shop.status(request) == "rejected"


def test_the_doubt_shows_what_a_person_needs(shop):
    request = receipt()
    assert encoded(request)
    shop.print_all()
    began = shop.clock.now_ms()
    leave_unsettled(shop, request)
    shop.clock.advance(3600)
    shop.restart()
    shop.print_all()
    (doubt,) = shop.lane.view.doubts
    assert (doubt.task.fn_before, doubt.task.fd_before) == (registration_of("kkt-1", shop=TOPICS.bridge).fn_number, 2)
    assert (doubt.total, doubt.since_ms) == (20050, began)
    assert "only the old storage can tell" in doubt.reason


def test_an_order_that_comes_late_does_not_print_what_was_printed_meanwhile(shop):
    """It waited at the broker; the receipt was begun again, printed, and is in doubt again."""
    request = receipt()
    leave_unsettled(shop, request)
    late = again(shop, request)
    shop.break_register(lose_answer_next=1)
    settle(shop, request, again(shop, request))
    swap_storage(shop, fn_number="9999000000000043")
    shop.print_all()
    assert refusal(shop, request, late) == "another_doubt"
    assert shop.status(request) == "printing"
    settle(shop, request, again(shop, request))
    assert shop.status(request) == "printed"

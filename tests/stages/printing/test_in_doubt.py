"""Stage 0: whatever breaks, and whenever, a receipt has one fiscal document or none, and its POS hears which.

The process is ended before every call that changes the register and before every commit, one after the other (to
end it after one is to end it before the next), under every fault of the register; then the next process is left to
settle what it finds.
"""

from dataclasses import replace
from datetime import datetime
from functools import partial

import pytest
from support.receipts import item, receipt, small_receipt
from support.registers import print_on
from support.stages import InProcessBridge, a_print_job, break_disk, check_counts, key_of, meddle, mend_disk

from kkt_bridge.errors import RegisterNotReady
from kkt_bridge.journal.journal import Journal
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.registers.base import UnreadableDocument
from kkt_bridge.registers.virtual.fiscal_document import registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.registers.virtual.storage_file import read_documents

CUT_STEPS = ("open", "requisites", "line", "subtotal", "before_close", "after_close", "print")
CHANGES = frozenset({"print_receipt", "open_shift", "close_shift", "cancel_document", "read_document"})
POINTS_MAX = 200


class Killed(BaseException):
    """The end of the process: no handler in the program may catch it."""


class Fate:
    """Ends the process at the n-th effect, counted from 0; never, if there are not so many."""

    def __init__(self, at):
        self.at = at
        self.passed = 0
        self.struck = None

    def pass_by(self, what):
        if self.struck is None:
            if self.passed == self.at:
                self.struck = what
                raise Killed(what)
            self.passed += 1


class DoomedRegister:
    """A register whose user may end before any call that matters."""

    def __init__(self, fate, register):
        self._fate = fate
        self._register = register

    def __getattr__(self, name):
        method = getattr(self._register, name)
        return partial(self._call, name, method) if name in CHANGES else method

    def _call(self, name, method, *arguments):
        self._fate.pass_by(name)
        return method(*arguments)


def doomed_journal(fate):
    class DoomedJournal(Journal):
        def _commit(self, entries):
            fate.pass_by("commit")
            super()._commit(entries)

    return DoomedJournal


def doomed_shop(folder, fate, **settings):
    return InProcessBridge(
        folder, journal_kind=doomed_journal(fate), wrap_register=partial(DoomedRegister, fate), **settings
    )


def survive(shop, story):
    """Run the story to its end, with as many processes as it takes."""
    for _ in range(4):
        try:
            story()
        except Killed:
            shop.kill()
            shop._start()
        else:
            return
    raise AssertionError("killed too often")


def check_once_each(shop, requests, *, rejected=()):
    """One document for each receipt that was printed, none for a rejected one, and every POS knows."""
    ids = {request["receipt_id"] for request in requests}
    wanted = sorted(requisite_1192(ReceiptKey("pos-1", receipt_id)) for receipt_id in ids - set(rejected))
    made = {document.body.requisite_1192: document.fd_number for document in shop.documents()}
    ours = [document.body.requisite_1192 for document in shop.documents() if document.body.requisite_1192 in wanted]
    assert sorted(ours) == wanted, "each exactly once"
    for receipt_id in ids:
        final = [reply for reply in shop.replies() if reply["receipt_id"] == receipt_id and reply["final"]]
        assert final, "every POS gets its word"
        if receipt_id in rejected:
            assert {reply["status"] for reply in final} == {"rejected"}
        else:
            numbers = {reply["fiscal"]["fd_number"] for reply in final}
            assert numbers == {made[requisite_1192(ReceiptKey("pos-1", receipt_id))]}
    numbers = [document.fd_number for document in read_documents(shop.folder / "kkt-1.fn")]
    assert numbers == list(range(1, len(numbers) + 1)), "no gaps"
    check_counts(shop.journal, shop.folder)


def day_of_sales(shop, requests, faults):
    """Two receipts, the first under the fault; a POS that did not hear sends its own again."""

    def story():
        for number, request in enumerate(requests):
            if number == 0 and faults and not (shop.folder / "broken").exists():
                (shop.folder / "broken").touch()
                shop.break_register(**faults)
            shop.sell(request)
            shop.print_patiently(3)
        shop.print_patiently(3)

    return story


FAULTS = {
    "none": {},
    "answer lost": {"lose_answer_next": 1},
    "two answers lost": {"lose_answer_next": 2},
    "busy": {"busy_next": 2},
    "refused": {"refuse_names": ["дефект"]},
    **{
        f"power cut at {step}": {"power_cut": {"at": step}} for step in ("line", "before_close", "after_close", "print")
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_kill_at_any_point_prints_nothing_twice_and_loses_nothing(tmp_path, fault):
    for point in range(POINTS_MAX):
        fate = Fate(point)
        folder = tmp_path / str(point)
        shop = doomed_shop(folder, fate)
        requests = [small_receipt({"name": "дефект"}), receipt()]
        survive(shop, day_of_sales(shop, requests, FAULTS[fault]))
        check_once_each(shop, requests, rejected=[requests[0]["receipt_id"]] if fault == "refused" else [])
        shop.kill()
        if fate.struck is None:
            break
    else:
        raise AssertionError("the story has more points than were tried")
    assert point >= 8


def test_a_second_kill_while_settling_changes_nothing(tmp_path):
    """The answer is lost, the process dies, and its successor dies at every point of settling that."""
    for first in range(2, 8):
        for second in range(5):
            plan = [Fate(first), Fate(second)]
            folder = tmp_path / f"{first}-{second}"
            shop = doomed_shop(folder, plan[0])
            requests = [receipt() for _ in range(2)]
            story = day_of_sales(shop, requests, {"lose_answer_next": 1})
            with pytest.raises(Killed):
                story()
            shop.kill()
            shop._journal_kind = doomed_journal(plan[1])
            shop._wrap_register = partial(DoomedRegister, plan[1])
            shop._start()
            survive(shop, story)
            check_once_each(shop, requests)
            shop.kill()


# -- what the settler finds -------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path)
    yield opened
    mend_disk(opened.journal)
    check_counts(opened.journal, tmp_path)
    opened.kill()


def leave_in_doubt(shop, request, **faults):
    """Print until the answer is lost; the lane then stands still."""
    shop.sell(request)
    shop.break_register(**(faults or {"lose_answer_next": 1}))
    shop.print_all()
    assert shop.status(request) == "printing"


def test_a_document_whose_answer_was_lost_is_adopted(shop, caplog):
    caplog.set_level("INFO")
    request = receipt()
    leave_in_doubt(shop, request)
    assert shop.lane.view.problem == "offline"
    shop.print_patiently(2)
    (reply,) = shop.replies()
    (document,) = shop.documents()
    assert (reply["status"], reply["fiscal"]["fd_number"]) == ("printed", document.fd_number)
    assert "found as FD 3 on FN" in caplog.text
    moves = [step[1:] for step in shop.steps()]
    assert moves == [(None, "buffered"), ("buffered", "printing"), ("printing", "printed")]


@pytest.mark.parametrize("step", CUT_STEPS[:5])
def test_a_document_that_never_came_into_being_is_printed_again(shop, step):
    request = receipt()
    leave_in_doubt(shop, request, power_cut={"at": step})
    shop.print_patiently(2)
    assert len(shop.documents()) == 1
    assert ("printing", "buffered") in [step[1:] for step in shop.steps()]
    assert shop.status(request) == "printed"


def test_adopted_or_reprinted_it_keeps_its_place(shop):
    first, second = receipt(), receipt()
    leave_in_doubt(shop, first, power_cut={"at": "line"})
    shop.sell(second)
    shop.print_patiently(3)
    assert [reply["receipt_id"] for reply in shop.replies()] == [first["receipt_id"], second["receipt_id"]]


def test_another_programs_documents_in_between_are_not_taken_for_ours(shop):
    """Same total, same operation, same minute: only the digest in tag 1192 tells them apart."""
    request = small_receipt()
    shop.sell(request)
    shop.break_register(power_cut={"at": "before_close"})
    shop.print_all()
    register = shop.registers["kkt-1"]
    for _ in range(3):
        print_on(register, a_print_job(small_receipt()))
    shop.print_patiently(2)
    digest = requisite_1192(key_of(request))
    ours = [document for document in shop.documents() if document.body.requisite_1192 == digest]
    assert len(ours) == 1
    assert len(shop.documents()) == 4
    assert shop.replies()[0]["fiscal"]["fd_number"] == ours[0].fd_number


def test_ours_is_found_behind_another_programs_documents(shop):
    register = shop.registers["kkt-1"]
    before = receipt()
    shop.sell(before)
    shop.print_all()
    request = small_receipt()
    shop.sell(request)
    shop.break_register(lose_answer_next=1)
    shop.print_all()
    shop.heal_register()
    print_on(register, a_print_job(small_receipt()))
    register.close_shift(None)
    shop.restart()
    shop.print_patiently(2)
    assert len(shop.documents()) == 3
    assert [reply["status"] for reply in shop.replies()] == ["printed", "printed"]
    assert shop.replies()[1]["fiscal"]["fd_number"] == shop.documents()[1].fd_number


def test_a_correction_in_doubt_is_found_as_a_correction(shop):
    correction = {"operation": "sale", "kind": "voluntary", "date": "2026-11-20"}
    request = small_receipt(type="correction", correction=correction)
    leave_in_doubt(shop, request)
    shop.print_patiently(2)
    assert shop.status(request) == "printed"
    assert len(shop.documents()) == 1


@pytest.mark.parametrize("operation", ["refund", "purchase", "purchase_refund"])
def test_every_operation_in_doubt_is_found(shop, operation):
    request = small_receipt(type=operation)
    leave_in_doubt(shop, request)
    shop.print_patiently(2)
    assert shop.status(request) == "printed"
    assert len(shop.documents()) == 1


def test_an_answer_read_back_is_the_one_that_was_lost(tmp_path):
    """Number, sign, time, change and warnings: a POS cannot tell that there ever was a doubt."""
    request = receipt(items=[item(name="Линза €")], payments=[{"type": "cash", "amount": "15.00"}])
    replies = []
    for number, faults in enumerate(({}, {"lose_answer_next": 1})):
        shop = InProcessBridge(tmp_path / str(number))
        shop.sell(request)
        shop.break_register(**faults)
        shop.print_patiently(3)
        (reply,) = shop.replies()
        replies.append({**reply, "printed_at": None})
        shop.kill()
    assert replies[0] == replies[1]
    assert replies[0]["warnings"] == ["text_replaced"]
    assert replies[0]["fiscal"]["change"] == "5.00"


def test_another_fiscal_storage_settles_nothing_and_stops_that_lane_alone(tmp_path, caplog):
    caplog.set_level("INFO")
    shop = InProcessBridge(tmp_path, registers=("kkt-1", "kkt-2"), pos={"pos-1": "kkt-1", "pos-2": "kkt-2"})
    doubtful, behind, other = receipt(), receipt(), receipt(pos_id="pos-2")
    leave_in_doubt(shop, doubtful)
    shop.kill()
    old = (tmp_path / "kkt-1.fn").rename(tmp_path / "old.fn")
    shop._start()
    replace_storage(tmp_path)
    shop.sell(behind)
    shop.sell(other, pos="pos-2")
    shop.print_patiently(5)
    assert (shop.status(doubtful), shop.status(behind), shop.status(other)) == ("printing", "buffered", "printed")
    assert shop.lanes["kkt-1"].view.problem == "unsettled_doubt"
    assert doubtful["receipt_id"] in shop.lanes["kkt-1"].view.detail
    assert "only the old storage can tell" in shop.lanes["kkt-1"].view.detail
    assert caplog.text.count("stands still (unsettled_doubt)") == 1
    assert "register kkt-1 is ready" not in caplog.text.split("unsettled_doubt")[1]
    shop.kill()
    (tmp_path / "kkt-1.fn").unlink()
    old.rename(tmp_path / "kkt-1.fn")
    shop._start()
    shop.print_patiently(3)
    assert (shop.status(doubtful), shop.status(behind)) == ("printed", "printed")
    assert len(shop.documents()) == 2
    shop.kill()


def replace_storage(folder):
    """Put another fiscal storage, with another number, into the register."""
    storage = FiscalStorage(folder / "kkt-1.fn")
    storage.open(registration_of("kkt-1", "9999000000000042"), datetime.fromisoformat("2026-11-22T12:00:00+03:00"))
    storage.close()


def test_what_can_be_settled_is_settled_around_what_cannot(shop):
    """The middle one of three in doubt is of another storage: the others are adopted, or printed again."""
    before, first, middle, last = (receipt() for _ in range(4))
    shop.sell(before)
    shop.print_all()
    for request in (first, middle, last):
        shop.sell(request)
    shop.break_register(power_cut={"at": "print"})
    shop.print_all()
    assert [shop.status(request) for request in (first, middle, last)] == ["printing", "buffered", "buffered"]
    alter_doubts(shop, [first, middle, last], middle)
    shop.restart()
    shop.print_patiently(3)
    assert [shop.status(request) for request in (first, middle, last)] == ["printed", "printing", "buffered"]
    (doubt,) = shop.lane.view.doubts
    assert doubt.task.key.receipt_id == middle["receipt_id"]
    assert shop.lane.view.problem == "unsettled_doubt"
    assert len(shop.documents()) == 2
    meddle(shop.folder, "UPDATE receipts SET fn_before = (SELECT max(fn_number) FROM documents) WHERE fn_before != ''")
    shop.print_patiently(3)
    assert shop.lane.view.doubts == ()
    check_once_each(shop, [before, first, middle, last])


def alter_doubts(shop, requests, foreign):
    """As if all of these had been leased together, one of them on another storage."""
    first = requests[0]["receipt_id"]
    shop.kill()
    for request in requests:
        fn = "'9999000000000042'" if request is foreign else "fn_before"
        meddle(
            shop.folder,
            f"UPDATE receipts SET status = 'printing', fn_before = (SELECT {fn} FROM receipts WHERE receipt_id = "
            f"'{first}'), fd_before = (SELECT fd_before FROM receipts WHERE receipt_id = '{first}') "
            f"WHERE receipt_id = '{request['receipt_id']}'",
        )
    count_anew(shop.folder)
    shop._start()


def count_anew(folder):
    meddle(
        folder,
        "DELETE FROM figures WHERE kkt != ''",
        "INSERT INTO figures (kkt, name, value) SELECT kkt, status, count(*) FROM receipts GROUP BY kkt, status",
    )


def test_of_several_in_doubt_the_missing_one_is_printed_again(shop):
    """Three leased together, the second refused and not recorded: the first and the third exist."""
    shop.break_register(refuse_names=["дефект"])
    opener, first, refused, last = receipt(), receipt(), small_receipt({"name": "дефект"}), receipt()
    for request in (opener, first, refused, last):
        shop.sell(request)
    shop.lane.step()
    assert shop.journal.counts()["kkt-1", "printing"] == 3
    break_disk(shop.journal)
    shop.lane.step()
    assert len(shop.documents()) == 2, "a refusal is a doubt: nothing is begun behind it"
    mend_disk(shop.journal)
    shop.restart()
    shop.print_patiently(3)
    check_once_each(shop, [opener, first, refused, last], rejected=[refused["receipt_id"]])
    order = [step[0] for step in shop.steps() if step[2] in {"printed", "rejected"}]
    assert order == [request["receipt_id"] for request in (opener, first, refused, last)]


def test_a_stranger_with_the_same_total_and_no_requisite_is_not_ours(shop):
    request = small_receipt()
    leave_in_doubt(shop, request, power_cut={"at": "before_close"})
    register = shop.registers["kkt-1"]
    shop.heal_register()
    print_on(register, replace(a_print_job(small_receipt()), requisite=""))
    print_on(register, a_print_job(small_receipt()))
    shop.restart()
    shop.print_patiently(2)
    assert not shop.documents()[0].body.requisite_1192
    assert len(shop.documents()) == 3
    digest = requisite_1192(key_of(request))
    (ours,) = [document for document in shop.documents() if document.body.requisite_1192 == digest]
    assert shop.replies()[-1]["fiscal"]["fd_number"] == ours.fd_number


def test_a_document_that_the_storage_does_not_show_is_no_proof_of_absence(shop):
    request = receipt()
    leave_in_doubt(shop, request)
    register = shop.registers["kkt-1"]
    finding = register.read_document
    register.read_document = lambda fd_number: None
    shop.print_patiently(3)
    assert shop.status(request) == "printing", "printed again, it would be there twice"
    assert "FD 3, which cannot be read (the storage does not show it)" in shop.lane.view.detail
    register.read_document = finding
    shop.print_patiently(2)
    check_once_each(shop, [request])


def test_a_document_that_cannot_be_read_leaves_the_doubt_to_a_person(shop):
    request = receipt()
    leave_in_doubt(shop, request)
    register = shop.registers["kkt-1"]

    def read_document(fd_number):
        return UnreadableDocument(fd_number, "kkt-1: 03h FN: internal failure")

    reading, register.read_document = register.read_document, read_document
    shop.print_patiently(3)
    assert (shop.status(request), shop.lane.view.problem) == ("printing", "unsettled_doubt")
    assert "internal failure" in shop.lane.view.detail
    register.read_document = reading
    shop.print_patiently(2)
    check_once_each(shop, [request])


def test_a_register_that_is_busy_while_it_is_read_leaves_nothing_to_a_person(shop):
    request = receipt()
    leave_in_doubt(shop, request)
    register = shop.registers["kkt-1"]
    finding = register.read_document

    def read_document(_fd_number):
        raise RegisterNotReady("busy", "kkt-1: 50h still printing the previous command")

    register.read_document = read_document
    shop.print_patiently(3)
    assert (shop.lane.view.problem, shop.lane.view.doubts) == ("busy", ())
    register.read_document = finding
    shop.print_patiently(2)
    check_once_each(shop, [request])


def test_ours_behind_one_that_cannot_be_read_is_adopted_all_the_same(shop):
    request = small_receipt()
    leave_in_doubt(shop, request, power_cut={"at": "before_close"})
    register = shop.registers["kkt-1"]
    stranger = print_on(register, a_print_job(small_receipt()))
    ours = print_on(register, a_print_job(request))
    finding = register.read_document
    register.read_document = lambda fd: None if fd == stranger.mark.fd_number else finding(fd)
    shop.print_patiently(2)
    assert shop.replies()[0]["fiscal"]["fd_number"] == ours.mark.fd_number


@pytest.mark.parametrize("faults", [{"busy_next": 4}, {"paper_out": True}, {"fn_exhausted": True}])
def test_a_register_in_trouble_of_its_own_still_tells(shop, faults):
    """Busy: asked again. Out of paper, or full to the last document: what it holds can be read all the same."""
    request, behind = receipt(), receipt()
    leave_in_doubt(shop, request)
    shop.sell(behind)
    shop.break_register(**faults)
    shop.print_patiently(8)
    assert shop.status(request) == "printed"
    shop.heal_register()
    shop.print_patiently(3)
    check_once_each(shop, [request, behind])


def test_the_last_document_of_a_storage_is_adopted(shop):
    request, behind = receipt(), receipt()
    leave_in_doubt(shop, request)
    shop.break_register(fn_exhausted=True)
    shop.restart()
    shop.sell(behind)
    shop.print_patiently(3)
    assert (shop.status(request), shop.lane.view.problem) == ("printed", "fn_exhausted")


@pytest.mark.parametrize("step", ["line", "after_close"])
def test_a_document_left_open_is_cancelled_before_anything_is_read(shop, step):
    request = receipt()
    leave_in_doubt(shop, request, power_cut={"at": step})
    shop.heal_register()
    register = shop.registers["kkt-1"]
    register._model.open_document("sale")
    finding, modes = register.read_document, []
    register.read_document = lambda fd_number: modes.append(register.status().mode) or finding(fd_number)
    shop.print_patiently(3)
    assert set(modes) <= {"shift_open"}
    assert modes or step == "line"
    check_once_each(shop, [request])


def test_a_receipt_in_doubt_that_grew_too_old_is_settled_not_rejected(tmp_path):
    for step, status in (("after_close", "printed"), ("line", "rejected")):
        shop = InProcessBridge(tmp_path / step, print={"max_age_s": 60})
        request = receipt()
        leave_in_doubt(shop, request, power_cut={"at": step})
        shop.heal_register()
        shop.clock.advance(3600)
        shop.print_patiently(3)
        assert shop.status(request) == status
        assert len(shop.documents()) == (status == "printed")
        shop.kill()


def test_a_body_of_another_release_in_doubt_does_not_stop_the_lane(shop):
    """Not printed: rejected, as any that cannot be read. Printed: a person must look, the bridge cannot answer."""
    absent, there = receipt(), receipt()
    leave_in_doubt(shop, absent, power_cut={"at": "line"})
    shop.heal_register()
    shop.kill()
    meddle(shop.folder, "UPDATE requests SET body = '{}'")
    shop._start()
    shop.print_patiently(2)
    assert shop.status(absent) == "rejected"
    leave_in_doubt(shop, there)
    shop.kill()
    meddle(shop.folder, "UPDATE requests SET body = '{}'")
    shop._start()
    shop.print_patiently(2)
    assert shop.status(there) == "printing"
    assert "can no longer be read" in shop.lane.view.detail


def test_a_doubt_is_logged_once_however_often_it_is_looked_at(shop, caplog):
    request = receipt()
    leave_in_doubt(shop, request)
    register = shop.registers["kkt-1"]
    register.read_document = lambda fd_number: None
    shop.print_patiently(20)
    assert caplog.text.count("in doubt whether it was printed") == 1
    assert caplog.text.count("unsettled_doubt") == 1


# -- bugs and full disks on top of it -----------------------------------------------------------------------


def test_a_drivers_bug_after_the_document_was_made_is_a_doubt_not_a_repeat(shop, monkeypatch):
    (request, behind) = receipt(), receipt()
    shop.sell(request)
    shop.sell(behind)
    register = shop.registers["kkt-1"]
    printing = register.print_receipt
    bugs = []

    def print_receipt(*what):
        result = printing(*what)
        if not bugs:
            bugs.append(1)
            raise AttributeError("a bug of the driver's")
        return result

    monkeypatch.setattr(register, "print_receipt", print_receipt)
    shop.print_all()
    assert (shop.lane.view.problem, shop.status(request)) == ("internal_error", "printing")
    shop.print_patiently(3)
    check_once_each(shop, [request, behind])


def test_a_drivers_bug_followed_by_a_clean_stop_is_still_a_doubt(shop, monkeypatch):
    request = receipt()
    shop.sell(request)
    register = shop.registers["kkt-1"]
    printing = register.print_receipt

    def print_receipt(*what):
        printing(*what)
        raise AttributeError("a bug of the driver's")

    monkeypatch.setattr(register, "print_receipt", print_receipt)
    shop.print_all()
    assert (shop.lane.view.problem, shop.status(request)) == ("internal_error", "printing")
    shop.lane.close()
    shop.restart()
    shop.print_patiently(2)
    check_once_each(shop, [request])


def test_an_outcome_is_kept_until_the_disk_takes_it(shop):
    request, behind = receipt(), receipt()
    shop.sell(request)
    shop.sell(behind)
    register = shop.registers["kkt-1"]
    shop.break_register(print_time_s=1.0)
    register._wait = lambda _seconds: break_disk(shop.journal)
    shop.print_patiently(3)
    assert len(shop.documents()) == 1, "nothing is begun before the last outcome is safe"
    assert shop.lane.view.problem == "journal"
    mend_disk(shop.journal)
    register._wait = lambda _seconds: None
    shop.print_patiently(3)
    check_once_each(shop, [request, behind])


def test_an_outcome_that_was_kept_in_memory_only_is_found_after_a_kill(shop):
    request = receipt()
    shop.sell(request)
    register = shop.registers["kkt-1"]
    shop.break_register(print_time_s=1.0)
    register._wait = lambda _seconds: break_disk(shop.journal)
    shop.print_patiently(2)
    mend_disk(shop.journal)
    shop.restart()
    shop.print_patiently(2)
    check_once_each(shop, [request])


def test_a_doubt_on_a_full_disk_is_not_forgotten(shop):
    """One receipt of the turn was refused and is not yet recorded when the next one's answer is lost."""
    shop.break_register(refuse_names=["дефект"])
    opener, refused, doubtful, behind = receipt(), small_receipt({"name": "дефект"}), receipt(), receipt()
    for request in (opener, refused, doubtful, behind):
        shop.sell(request)
    shop.lane.step()
    assert shop.journal.counts()["kkt-1", "printing"] == 3
    shop.break_register(refuse_names=["дефект"], lose_answer_next=1)
    break_disk(shop.journal)
    shop.print_patiently(2)
    mend_disk(shop.journal)
    shop.heal_register()
    steps_before = len(shop.steps())
    shop.print_patiently(4)
    check_once_each(shop, [opener, refused, doubtful, behind], rejected=[refused["receipt_id"]])
    later = [step[0] for step in shop.steps()[steps_before:] if step[2] == "printed"]
    assert later == [doubtful["receipt_id"], behind["receipt_id"]], "the doubt is settled before the next is begun"


def test_settling_on_a_full_disk_is_tried_again(shop):
    request = receipt()
    leave_in_doubt(shop, request)
    break_disk(shop.journal)
    shop.print_patiently(3)
    assert shop.lane.view.problem == "journal"
    mend_disk(shop.journal)
    shop.print_patiently(2)
    check_once_each(shop, [request])


def test_a_register_that_goes_away_while_settling_is_asked_again(shop):
    request = receipt()
    leave_in_doubt(shop, request)
    shop.break_register(offline=True)
    shop.print_patiently(3)
    assert shop.status(request) == "printing"
    shop.heal_register()
    shop.print_patiently(2)
    check_once_each(shop, [request])


def test_nothing_is_printed_before_the_doubt_is_settled(shop):
    doubtful, behind = receipt(), receipt()
    leave_in_doubt(shop, doubtful)
    shop.sell(behind)
    shop.break_register(offline=True)
    shop.print_patiently(2)
    assert shop.status(behind) == "buffered"


def test_a_receipt_in_doubt_is_not_answered_before_it_is_settled(shop):
    request = receipt()
    leave_in_doubt(shop, request)
    shop.sell(request)
    shop.query(request["receipt_id"])
    assert [reply["status"] for reply in shop.replies()] == ["buffered", "buffered"]


def test_a_document_already_recorded_is_not_adopted_twice(shop):
    """Two receipts of one POS that differ in nothing but their ids; only one of them is in doubt."""
    first, second = small_receipt(), small_receipt()
    shop.sell(first)
    shop.print_all()
    (first_fd,) = (document.fd_number for document in shop.documents())
    leave_in_doubt(shop, second, power_cut={"at": "before_close"})
    meddle(shop.folder, "UPDATE receipts SET fd_before = 1 WHERE status = 'printing'")
    shop.restart()
    looked_at = []
    register = shop.registers["kkt-1"]
    reading = register.read_document
    register.read_document = lambda fd_number: looked_at.append(fd_number) or reading(fd_number)
    shop.print_patiently(2)
    check_once_each(shop, [first, second])
    assert first_fd not in looked_at, "to read a requisite takes a real register long: not where the answer is known"


def test_a_storage_that_lost_documents_is_not_trusted(shop):
    """A register that was reset: the numbers of its storage begin again, and what it lacks proves nothing."""
    request, doubtful = receipt(), receipt()
    shop.sell(request)
    shop.print_all()
    leave_in_doubt(shop, doubtful)
    shop.kill()
    (shop.folder / "kkt-1.fn").unlink()
    shop.heal_register()
    shop._start()
    shop.print_patiently(3)
    assert shop.status(doubtful) == "printing"
    assert shop.lane.view.problem == "unsettled_doubt"
    assert shop.documents() == []


def test_a_register_that_was_reset_prints_nothing_under_numbers_that_are_taken(shop):
    """Its documents could not be recorded, and each look for them would end in another one."""
    before, after = receipt(), receipt()
    shop.sell(before)
    shop.print_all()
    shop.kill()
    storage = shop.folder / "kkt-1.fn"
    storage.rename(shop.folder / "put-away.fn")
    shop._start()
    shop.sell(after)
    shop.print_patiently(3)
    assert shop.lane.view.problem == "fn_lost_documents"
    assert "has made FD 3" in shop.lane.view.detail
    assert (shop.status(after), shop.documents()) == ("buffered", [])
    shop.kill()
    (shop.folder / "put-away.fn").rename(storage)
    shop._start()
    shop.print_patiently(2)
    check_once_each(shop, [before, after])

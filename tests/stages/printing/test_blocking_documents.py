"""What a storage holds and the bridge cannot place: shown, kept over restarts, and passed by a person alone."""

from dataclasses import replace

import pytest
from support.receipts import receipt, small_receipt
from support.registers import print_on
from support.stages import InProcessBridge, a_print_job, check_counts, key_of, meddle, run

from kkt_bridge.errors import JournalError
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.registers.base import UnreadableDocument
from kkt_bridge.stages.printing import storage_reader
from kkt_bridge.stages.printing.manual_resolution import (
    AdoptFromPaper,
    ManualResolution,
    PassUnreadable,
    PrintAgain,
    SettleRefused,
)
from kkt_bridge.stages.printing.storage_reader import FINDINGS_SHOWN_S


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path)
    yield opened
    check_counts(opened.journal, tmp_path)
    opened.kill()


@pytest.fixture
def two(tmp_path):
    """A shop of two registers, one of which is known from the start."""
    opened = InProcessBridge(tmp_path, registers=("kkt-1", "kkt-2"), pos={"pos-1": "kkt-1", "pos-2": "kkt-2"})
    yield opened
    check_counts(opened.journal, tmp_path)
    opened.kill()


def sell_and_print(shop, *requests):
    for request in requests:
        shop.sell(request)
        shop.print_all()


def wear_out(shop, *fd_numbers):
    """These documents of kkt-1 cannot be read any more."""
    register = shop.registers["kkt-1"]
    reading = type(register).read_document.__get__(register)
    register.read_document = lambda fd: (
        UnreadableDocument(fd, "03h FN: internal failure") if fd in fd_numbers else reading(fd)
    )


def start_without_journal(shop, *worn):
    """A new machine, and the old register."""
    shop.kill()
    for path in shop.folder.glob("journal.db*"):
        path.unlink()
    shop._start()
    wear_out(shop, *worn)
    shop.print_patiently(3)


def restart(shop, *worn):
    shop.restart()
    wear_out(shop, *worn)
    shop.print_patiently(3)


def order(shop, decision):
    future = shop.lane.settle(decision)
    run(shop.lane.step)
    return future.result(timeout=0)


def refusal(shop, decision):
    with pytest.raises(SettleRefused) as caught:
        order(shop, decision)
    assert "\n" not in str(caught.value)
    return caught.value.code


def fn_number(shop):
    return shop.lane.view.status.fn_number


def passing(shop, fd_number):
    return PassUnreadable(fn_number(shop), fd_number, "a receipt of the old program")


def marks(shop):
    return [document.body.requisite_1192 for document in shop.documents()]


def marks_of(requests):
    return [requisite_1192(key_of(request)) for request in requests]


def paper_of(shop, fd_number):
    (document,) = (each for each in shop.documents() if each.fd_number == fd_number)
    where = (fn_number(shop), fd_number, document.fiscal_sign)
    return AdoptFromPaper(*where, document.at, document.shift_number, document.receipt_number)


# -- passed by hand ----------------------------------------------------------------------------------------


def test_a_document_that_cannot_be_read_and_that_no_doubt_is_about_is_passed_by_hand_for_ever(shop):
    new = receipt()
    sell_and_print(shop, receipt(), receipt())
    start_without_journal(shop, 3)
    shop.sell(new)
    shop.print_patiently(2)
    assert (shop.lane.view.problem, shop.lane.view.doubts) == ("unsettled_doubt", ())
    assert f"`kkt-bridge settle pass --fn {fn_number(shop)} --fd 3 --reason" in shop.lane.view.detail
    assert order(shop, passing(shop, 3)) is None
    assert (shop.lane.view.problem, shop.status(new)) == (None, "printed")
    restart(shop, 3)
    assert shop.lane.view.problem is None


def test_what_was_passed_stays_so_while_another_is_in_the_way(shop):
    sell_and_print(shop, *(receipt() for _ in range(4)))
    start_without_journal(shop, 3, 5)
    order(shop, passing(shop, 5))
    restart(shop, 3, 5)
    assert [blocker.fd_number for blocker in shop.lane._reader.blockers] == [3]
    order(shop, passing(shop, 3))
    assert shop.lane.view.problem is None


@pytest.mark.parametrize("changes", [{"fd_number": 4}, {"fn_number": "9999000000000042"}])
def test_only_what_is_in_the_way_is_passed(shop, changes):
    """An order may come late: by then another storage may be in the register."""
    sell_and_print(shop, receipt(), receipt())
    start_without_journal(shop, 3)
    assert refusal(shop, replace(passing(shop, 3), **changes)) == "not_in_the_way"
    assert shop.lane.view.problem == "unsettled_doubt"
    order(shop, passing(shop, 3))
    assert refusal(shop, passing(shop, 3)) == "not_in_the_way", "once is enough"


def test_a_document_that_a_doubt_may_be_about_is_not_passed_before_the_doubt_is_settled(shop):
    sell_and_print(shop, receipt())
    request = receipt()
    shop.break_register(lose_answer_next=1)
    wear_out(shop, 4)
    shop.sell(request)
    shop.print_patiently(3)
    assert shop.lane.view.problem == "unsettled_doubt"
    assert refusal(shop, passing(shop, 4)) == "still_in_doubt"
    assert shop.status(request) == "printing"


def test_a_receipt_that_waits_gets_its_unreadable_document_from_its_paper(shop):
    """Its POS sent it again to a bridge that had lost its memory."""
    first, repeated = receipt(), receipt()
    sell_and_print(shop, first, repeated)
    paper = paper_of(shop, 4)
    start_without_journal(shop, 4)
    shop.sell(repeated)
    shop.print_patiently(2)
    assert shop.status(repeated) == "buffered"
    settled = order(shop, ManualResolution(key_of(repeated), paper, "seen on the roll"))
    assert settled.printed.mark.fd_number == 4
    shop.print_patiently(2)
    assert (shop.lane.view.problem, shop.status(repeated)) == (None, "printed")
    assert marks(shop) == marks_of([first, repeated])
    assert (shop.replies()[-1]["status"], shop.replies()[-1]["fiscal"]["fd_number"]) == ("printed", 4)
    restart(shop, 4)
    assert shop.lane.view.problem is None


def test_a_receipt_that_waits_is_not_adopted_where_its_paper_is_in_nobodys_way(shop):
    sell_and_print(shop, receipt(), receipt())
    paper = paper_of(shop, 4)
    start_without_journal(shop, 3)
    waiting = receipt()
    shop.sell(waiting)
    for decision in (paper, replace(paper, fn_number="9999000000000042"), PrintAgain(1)):
        assert refusal(shop, ManualResolution(key_of(waiting), decision, "x")) == "not_in_doubt"


def test_adopting_one_document_passes_no_other(shop):
    requests = [receipt() for _ in range(3)]
    sell_and_print(shop, *requests)
    paper = paper_of(shop, 5)
    start_without_journal(shop, 4, 5)
    shop.sell(requests[2])
    order(shop, ManualResolution(key_of(requests[2]), paper, "seen on the roll"))
    shop.print_patiently(2)
    assert [blocker.fd_number for blocker in shop.lane._reader.blockers] == [4]


# -- what a restart must not change --------------------------------------------------------------------------


def test_shifts_behind_a_document_that_is_in_the_way_are_told_of_once(shop):
    sell_and_print(shop, receipt())
    told = len(shop.events("shift"))
    register = shop.registers["kkt-1"]
    print_on(register, replace(a_print_job(), requisite=""))
    register.close_shift(None)
    register.open_shift(None)
    for _ in range(3):
        restart(shop, 4)
        assert shop.lane.view.problem == "unsettled_doubt"
    restart(shop)
    assert shop.lane.view.problem is None
    events = shop.events("shift")[told:]
    assert [(event["number"], event["open"]) for event in events] == [(1, False), (2, True)]


def test_a_document_that_the_journal_gives_to_another_receipt_is_a_doubt_over_restarts(shop):
    """It cannot be recorded; that is no proof that nothing was printed."""
    first, second = receipt(), receipt()
    sell_and_print(shop, first)
    shop.kill()
    # The row of the first says what the second will be: a damaged page, say.
    meddle(shop.folder, "UPDATE documents SET fd_number = 4")
    shop._start()
    sell_and_print(shop, second)
    shop.print_patiently(3)
    for _ in range(3):
        assert (shop.lane.view.problem, shop.status(second)) == ("unsettled_doubt", "printing")
        assert marks(shop) == marks_of([first, second]), "nothing is printed again"
        restart(shop)
    (doubt,) = shop.lane.view.doubts
    assert "which is another receipt's by the journal" in doubt.reason


def test_one_document_that_the_journal_refuses_keeps_the_others_from_nothing(shop, monkeypatch):
    requests = [small_receipt() for _ in range(3)]
    shop.break_register(offline=True)
    for request in requests:
        shop.sell(request)
    shop.print_all()
    shop.heal_register()
    register = shop.registers["kkt-1"]
    register.open_shift(None)
    for request in requests:
        print_on(register, a_print_job(request))
    recording = storage_reader.record_outcomes

    def record(tx, outcomes, *how):
        if any(outcome.task.key.receipt_id == requests[1]["receipt_id"] for outcome in outcomes):
            raise JournalError("the journal refused: CHECK constraint failed")
        return recording(tx, outcomes, *how)

    monkeypatch.setattr(storage_reader, "record_outcomes", record)
    for _ in range(2):
        restart(shop)
        assert [shop.status(request) for request in requests] == ["printed", "printing", "printed"]
        assert shop.lane.view.problem == "unsettled_doubt"
        assert "CHECK constraint failed" in shop.lane.view.detail
    monkeypatch.undo()
    restart(shop)
    assert shop.status(requests[1]) == "printed"
    assert marks(shop) == marks_of(requests)


# -- which register made it -----------------------------------------------------------------------------------


def test_a_document_found_on_another_register_stands_under_that_register_with_its_receipt(two):
    """It waits for kkt-2 by a new mapping; kkt-1 printed it, and this memory does not know."""
    request = receipt()
    two.print_all()
    print_on_first(two, request)
    two.kill()
    two.settings = two.settings.model_copy(update={"pos": {"pos-1": "kkt-2", "pos-2": "kkt-2"}})
    two._start()
    two.sell(request)
    two.print_patiently(3)
    assert two.status(request) == "printed"
    assert two.rows("SELECT kkt FROM documents") == [("kkt-1",)]
    assert two.rows("SELECT kkt FROM receipts") == [("kkt-1",)]
    assert two.journal.counts()["kkt-1", "printed"] == 1
    assert not two.journal.counts().get(("kkt-2", "printed"))
    assert two.replies()[-1]["fiscal"]["kkt"] == "kkt-1"
    assert two.rows("SELECT count(*) FROM bodies") == [(0,)], "of another register's requisites this lane knows nothing"
    two.sync.run()
    ((body,),) = two.rows("SELECT body FROM bodies")
    assert b'"kkt":"kkt-1"' in body


def print_on_first(shop, request):
    register = shop.registers["kkt-1"]
    if register.status().mode == "shift_closed":
        register.open_shift(None)
    print_on(register, a_print_job(request))


# -- a history that was not read to its end -------------------------------------------------------------------


def strangers(shop, count):
    for _ in range(count):
        print_on(shop.registers["kkt-1"], replace(a_print_job(), requisite=""))


def test_a_row_of_strangers_that_may_hide_receipts_of_ours_is_told_of_for_a_day(shop, monkeypatch, caplog):
    monkeypatch.setattr(storage_reader, "FOREIGN_IN_A_ROW_MAX", 4)
    sell_and_print(shop, receipt())
    strangers(shop, 5)
    start_without_journal(shop)
    unread = shop.lane.view.unread
    assert (unread.fn_number, unread.fd_number) == (fn_number(shop), 5)
    assert f"history of FN {fn_number(shop)} was not read before FD 5" in caplog.text
    assert shop.lane.view.problem is None, "sales go on"
    shop.clock.advance(FINDINGS_SHOWN_S)
    shop.print_patiently(2)
    assert shop.lane.view.unread is None


def test_a_history_that_was_read_to_its_end_or_to_what_is_too_old_is_told_of_nowhere(shop, monkeypatch):
    monkeypatch.setattr(storage_reader, "FOREIGN_IN_A_ROW_MAX", 4)
    sell_and_print(shop, receipt())
    strangers(shop, 3)
    start_without_journal(shop)
    assert shop.lane.view.unread is None, "read to FD 1"
    strangers(shop, 5)
    shop.clock.advance(31 * 86_400)
    shop.print_patiently(3)
    sell_and_print(shop, receipt())
    start_without_journal(shop)
    assert shop.lane.view.unread is None, "what is before is too old to come again"

"""Whatever memory the bridge wakes up with: what the storage holds beyond it is read before anything is printed."""

import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
from support.receipts import receipt, small_receipt
from support.registers import print_on
from support.stages import InProcessBridge, a_print_job, break_disk, check_counts, key_of, meddle, mend_disk, run

from kkt_bridge.errors import RegisterAway
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.registers.base import UnreadableDocument
from kkt_bridge.stages.printing import storage_reader
from kkt_bridge.stages.printing.lane import State
from kkt_bridge.stages.printing.manual_resolution import AdoptFromPaper, ManualResolution, PrintAgain
from kkt_bridge.stages.printing.storage_reader import FINDINGS_SHOWN_S


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path)
    yield opened
    check_counts(opened.journal, tmp_path)
    opened.kill()


def back_up(shop):
    """Copy the journal as it is, between two processes; the copy's place."""
    shop.kill()
    copy = shop.folder / "copy.db"
    for suffix in ("", "-wal"):
        source = shop.folder / f"journal.db{suffix}"
        if source.exists():
            shutil.copy(source, copy.with_name(copy.name + suffix))
    shop._start()
    return copy


def put_back(shop, copy):
    """Start with that memory again."""
    shop.kill()
    for path in shop.folder.glob("journal.db*"):
        path.unlink()
    for suffix in ("", "-wal"):
        source = copy.with_name(copy.name + suffix)
        if source.exists():
            shutil.copy(source, shop.folder / f"journal.db{suffix}")
    shop._start()


def lose_journal(shop):
    """A new machine, and the old register."""
    shop.kill()
    for path in shop.folder.glob("journal.db*"):
        path.unlink()
    shop._start()


def sell_and_print(shop, *requests):
    for request in requests:
        shop.sell(request)
        shop.print_all()


def marks(shop):
    """The receipts' marks on the storage, in order."""
    return [document.body.requisite_1192 for document in shop.documents()]


def marks_of(requests):
    return [requisite_1192(key_of(request)) for request in requests]


def numbers_told(shop):
    """The FD number that each POS was told last, by receipt."""
    return {
        reply["receipt_id"]: reply["fiscal"]["fd_number"] for reply in shop.replies() if reply["status"] == "printed"
    }


def test_receipts_that_a_backup_has_waiting_are_adopted_not_printed_again(shop):
    requests = [receipt() for _ in range(3)]
    shop.break_register(offline=True)
    for request in requests:
        shop.sell(request)
    shop.print_all()
    copy = back_up(shop)
    shop.heal_register()
    shop.print_patiently(3)
    assert marks(shop) == marks_of(requests)
    put_back(shop, copy)
    shop.print_patiently(3)
    assert marks(shop) == marks_of(requests), "nothing is printed again"
    assert [shop.status(request) for request in requests] == ["printed"] * 3
    assert numbers_told(shop) == {request["receipt_id"]: fd for fd, request in enumerate(requests, start=3)}
    assert shop.lane.view.journal_behind == 3
    assert "FD 3 on FN" in shop.lane.view.journal_behind_detail
    assert shop.lane.view.problem is None


def test_sales_after_a_backup_are_answered_from_the_storage_when_they_are_repeated(shop):
    before, after = [receipt() for _ in range(2)], [receipt() for _ in range(10)]
    sell_and_print(shop, *before)
    copy = back_up(shop)
    sell_and_print(shop, *after)
    told = numbers_told(shop)
    put_back(shop, copy)
    shop.print_all()
    assert shop.lane.view.journal_behind == 10
    sell_and_print(shop, *before, *after, *after)
    assert marks(shop) == marks_of([*before, *after])
    assert {receipt_id: numbers_told(shop)[receipt_id] for receipt_id in told} == told
    new = receipt()
    sell_and_print(shop, new)
    assert marks(shop) == marks_of([*before, *after, new])


@pytest.mark.parametrize("repeated_first", [False, True])
def test_a_new_machine_with_the_old_register_prints_nothing_again(shop, repeated_first):
    requests = [receipt() for _ in range(5)]
    sell_and_print(shop, *requests)
    lose_journal(shop)
    if not repeated_first:
        shop.print_all()
    sell_and_print(shop, *requests)
    assert marks(shop) == marks_of(requests)
    assert numbers_told(shop) == {request["receipt_id"]: fd for fd, request in enumerate(requests, start=3)}
    assert shop.lane.view.journal_behind == 5


def test_what_is_behind_the_mark_survives_a_second_start(shop):
    requests = [receipt() for _ in range(2)]
    sell_and_print(shop, *requests)
    lose_journal(shop)
    shop.print_all()
    shop.restart()
    shop.print_all()
    assert shop.lane.view.journal_behind == 0, "it is known now"
    sell_and_print(shop, *requests)
    assert marks(shop) == marks_of(requests)


def test_it_is_told_for_a_day_of_running_that_the_journal_was_behind(shop):
    sell_and_print(shop, receipt(), receipt())
    lose_journal(shop)
    shop.print_all()
    shop.clock.advance(FINDINGS_SHOWN_S - 3600)
    shop.print_all()
    assert shop.lane.view.journal_behind == 2
    shop.clock.advance(3600)
    shop.print_all()
    assert (shop.lane.view.journal_behind, shop.lane.view.journal_behind_detail) == (0, None)


def test_documents_of_other_programs_are_left_in_peace(shop):
    sell_and_print(shop, receipt())
    register = shop.registers["kkt-1"]
    for requisite in ("", "another-program"):
        print_on(register, replace(a_print_job(), requisite=requisite))
    shop.restart()
    shop.print_all()
    assert (shop.lane.view.journal_behind, shop.rows("SELECT * FROM recovered")) == (0, [])
    sell_and_print(shop, receipt())
    assert len(shop.documents()) == 4


def test_a_long_tail_is_read_in_steps_and_shown(shop, monkeypatch):
    monkeypatch.setattr(storage_reader, "BATCH_MAX", 3)
    requests = [receipt() for _ in range(7)]
    copy = back_up(shop)
    sell_and_print(shop, *requests)
    shop.lane.close()
    put_back(shop, copy)
    seen = []
    while shop.lane.state is not State.IDLE:
        shop.lane.step()
        seen.append(shop.lane.view.problem)
    assert seen.count("reading_storage") >= 2
    assert shop.lane.view.problem is None
    sell_and_print(shop, *requests)
    assert marks(shop) == marks_of(requests)


def test_a_storage_never_seen_is_read_back_past_a_few_strangers_but_not_for_ever(shop, monkeypatch):
    monkeypatch.setattr(storage_reader, "FOREIGN_IN_A_ROW_MAX", 4)
    far, near = receipt(), receipt()
    sell_and_print(shop, far)
    register = shop.registers["kkt-1"]
    for _ in range(5):
        print_on(register, replace(a_print_job(), requisite=""))
    shop.print_all()
    sell_and_print(shop, near)
    for _ in range(3):
        print_on(register, replace(a_print_job(), requisite=""))
    lose_journal(shop)
    looked_at = looks(shop)
    shop.print_all()
    assert shop.rows("SELECT requisite FROM recovered") == [(marks_of([near])[0],)]
    assert min(looked_at) > 3


def test_a_register_that_fails_while_it_is_read_back_is_read_again(shop):
    requests = [receipt() for _ in range(3)]
    sell_and_print(shop, *requests)
    lose_journal(shop)
    register = shop.registers["kkt-1"]
    reading, failures = register.read_document, [3]

    def read_document(fd_number):
        if fd_number in failures:
            failures.remove(fd_number)
            raise RegisterAway("the answer was lost")
        return reading(fd_number)

    register.read_document = read_document
    shop.print_patiently(3)
    assert shop.lane.view.journal_behind == 3
    sell_and_print(shop, *requests)
    assert marks(shop) == marks_of(requests)


def looks(shop):
    """The numbers of the documents that are read from now on."""
    register, looked_at = shop.registers["kkt-1"], []
    reading = register.read_document
    register.read_document = lambda fd_number: looked_at.append(fd_number) or reading(fd_number)
    return looked_at


def test_a_storage_never_seen_is_read_back_as_far_as_a_receipt_can_come_again(shop, monkeypatch):
    monkeypatch.setattr(storage_reader, "FOREIGN_IN_A_ROW_MAX", 1)
    old, late = receipt(), receipt()
    sell_and_print(shop, old)
    shop.clock.advance(timedelta(days=31).total_seconds())
    shop.print_patiently(2)
    sell_and_print(shop, late)
    lose_journal(shop)
    shop.print_all()
    assert shop.rows("SELECT requisite FROM recovered") == [(marks_of([late])[0],)]


def test_a_date_that_is_weeks_ahead_hides_nothing_before_it(shop):
    first, odd = receipt(), receipt()
    sell_and_print(shop, first)
    shop.break_register("kkt-1", clock_offset_s=40 * 86_400)
    shop.print_patiently(2)
    sell_and_print(shop, odd)
    lose_journal(shop)
    shop.print_patiently(2)
    sell_and_print(shop, first, odd)
    assert marks(shop) == marks_of([first, odd])


def test_no_lane_prints_before_the_others_have_looked_into_their_storages(tmp_path):
    """A new machine, and a POS mapped anew: its receipt is on the storage of the register that it had before."""
    registers, request = ("kkt-1", "kkt-2"), receipt()
    before = InProcessBridge(tmp_path, registers=registers, pos={"pos-1": "kkt-1"})
    before.sell(request)
    before.print_all()
    before.kill()
    for path in tmp_path.glob("journal.db*"):
        path.unlink()
    shop = InProcessBridge(tmp_path, registers=registers, pos={"pos-1": "kkt-2"}, lanes_wait=True)
    shop.sell(request)
    for _ in range(5):
        shop.lanes["kkt-2"].step()
        shop.clock.advance(1)
    assert shop.status(request) == "buffered"
    shop.print_patiently(3)
    assert shop.status(request) == "printed"
    assert [shop.documents(kkt) != [] for kkt in registers] == [True, False]
    other = receipt()
    shop.sell(other)
    shop.print_patiently(2)
    assert shop.status(other) == "printed"
    shop.kill()


def test_a_mark_known_twice_and_another_sale_is_never_printed_over(shop):
    """The backup has the receipt waiting; the storage holds its mark on a document of another total."""
    request = small_receipt()
    shop.print_all()
    shop.break_register(offline=True)
    shop.sell(request)
    copy = back_up(shop)
    shop.heal_register()
    shop.print_patiently(2)
    assert len(shop.documents()) == 1
    shop.kill()
    put_back(shop, copy)
    meddle(shop.folder, "UPDATE requests SET body = replace(body, '\"10.00\"', '\"11.00\"')")
    shop.restart()
    shop.print_patiently(3)
    assert shop.lane.view.problem == "unsettled_doubt"
    assert "which is another sale" in shop.lane.view.detail
    assert (len(shop.documents()), shop.status(request)) == (1, "printing")


def printed_again_beside_another_sale(shop, request):
    """Another program's sale carries the receipt's mark; a person passes that paper, and the receipt is printed."""
    sell_and_print(shop, receipt())
    shop.break_register(offline=True)
    shop.sell(request)
    shop.print_all()
    shop.heal_register()
    (requisite,) = marks_of([request])
    other = small_receipt({"price": "11.00", "total": "11.00"}, payments=[{"type": "cash", "amount": "11.00"}])
    print_on(shop.registers["kkt-1"], replace(a_print_job(other), requisite=requisite))
    shop.print_patiently(2)
    (doubt,) = shop.lane.view.doubts
    decide(shop, request, PrintAgain(doubt.number))
    shop.print_patiently(3)
    assert marks(shop)[1:] == [requisite, requisite]
    return numbers_told(shop)[request["receipt_id"]]


@pytest.mark.parametrize("batch", [1, 200])
@pytest.mark.parametrize("memory", ["none", "old"])
def test_a_receipt_printed_again_beside_another_sale_is_known_by_its_own_paper(shop, monkeypatch, memory, batch):
    monkeypatch.setattr(storage_reader, "BATCH_MAX", batch)
    request = small_receipt()
    shop.print_all()
    copy = back_up(shop)
    number = printed_again_beside_another_sale(shop, request)
    if memory == "none":
        lose_journal(shop)
    else:
        put_back(shop, copy)
    shop.print_patiently(2)
    before = len(shop.documents())
    shop.sell(request)
    shop.print_all()
    reply = shop.replies()[-1]
    assert (reply["status"], reply["fiscal"]["fd_number"]) == ("printed", number)
    assert len(shop.documents()) == before
    assert shop.rows("SELECT fd_number, delivery FROM documents") == [(number, "ready")]


def test_a_tail_that_cannot_be_read_keeps_the_lane_from_printing(shop):
    known, lost, new = receipt(), receipt(), receipt()
    sell_and_print(shop, known)
    copy = back_up(shop)
    sell_and_print(shop, lost)
    put_back(shop, copy)
    register = shop.registers["kkt-1"]
    reading = register.read_document
    register.read_document = lambda fd: UnreadableDocument(fd, "03h FN: internal failure") if fd == 4 else reading(fd)
    sell_and_print(shop, new)
    assert (shop.lane.view.problem, len(shop.documents())) == ("unsettled_doubt", 2)
    assert "FD 4, which cannot be read" in shop.lane.view.detail
    shop.restart()
    register = shop.registers["kkt-1"]
    register.read_document = lambda fd: UnreadableDocument(fd, "03h FN: internal failure") if fd == 4 else reading(fd)
    shop.print_all()
    assert shop.lane.view.problem == "unsettled_doubt", "nor is it passed by a restart"
    del register.read_document
    shop.print_patiently(3)
    sell_and_print(shop, lost)
    assert marks(shop) == marks_of([known, lost, new])


def test_a_storage_that_lost_documents_is_known_after_its_receipts_are_purged(shop):
    before, after = receipt(), receipt()
    sell_and_print(shop, before)
    shop.kill()
    meddle(
        shop.folder,
        "DELETE FROM documents",
        "DELETE FROM receipts",
        "DELETE FROM requests",
        "DELETE FROM figures WHERE kkt != ''",
    )
    (shop.folder / "kkt-1.fn").unlink()
    shop._start()
    sell_and_print(shop, after)
    assert shop.lane.view.problem == "fn_lost_documents"
    assert shop.documents() == []


def test_a_shift_that_was_opened_and_not_told_of_is_told_of_once(shop):
    """The process ends between the command to the register and the commit: the storage tells of it."""
    sell_and_print(shop, receipt())
    shop.lane.request(lambda register: register.close_shift(None))
    shop.print_all()
    told = len(shop.events("shift"))
    shop.registers["kkt-1"].open_shift(None)
    shop.restart()
    shop.print_patiently(3)
    shop.restart()
    shop.print_patiently(3)
    events = shop.events("shift")[told:]
    assert [(event["number"], event["open"]) for event in events] == [(2, True)]


def test_a_receipt_of_another_register_is_known_by_its_document_wherever_it_is(tmp_path):
    """The backup has it waiting for kkt-2 by another mapping; kkt-1 printed it."""
    shop = InProcessBridge(tmp_path, registers=("kkt-1", "kkt-2"), pos={"pos-1": "kkt-1"})
    request = receipt()
    shop.print_all()
    shop.break_register("kkt-1", offline=True)
    shop.sell(request)
    copy = back_up(shop)
    shop.heal_register("kkt-1")
    shop.print_patiently(2)
    put_back(shop, copy)
    meddle(shop.folder, "UPDATE receipts SET kkt = 'kkt-2', status = 'buffered', fn_before = NULL, fd_before = NULL")
    meddle(
        shop.folder,
        "DELETE FROM figures WHERE kkt != ''",
        "INSERT INTO figures (kkt, name, value) SELECT kkt, status, count(*) FROM receipts GROUP BY kkt, status",
    )
    shop.restart()
    shop.print_all("kkt-1")
    shop.print_all("kkt-2")
    assert len(shop.documents("kkt-1")) == 1
    assert shop.documents("kkt-2") == [] if (tmp_path / "kkt-2.fn").exists() else True
    assert shop.status(request) == "printed"
    shop.kill()


def test_a_document_in_another_forms_clothes_is_read_all_the_same(shop):
    """A receipt for services on its own form (FFD 4) with our mark: not ours to print over."""
    request = small_receipt({"name": "Услуга"})
    shop.sell(request)
    shop.break_register(lose_answer_next=1)
    shop.print_all()
    register = shop.registers["kkt-1"]
    reading = register.read_document

    def as_bso(fd_number):
        document = reading(fd_number)
        return replace(document, form=4) if document is not None and document.form == 3 else document

    register.read_document = as_bso
    shop.heal_register()
    shop.print_patiently(3)
    assert (shop.lane.view.problem, len(shop.documents())) == ("unsettled_doubt", 1)
    register.read_document = reading
    shop.print_patiently(2)
    assert shop.status(request) == "printed"


def unreadable(shop, fd_number):
    register = shop.registers["kkt-1"]
    reading = type(register).read_document.__get__(register)
    register.read_document = lambda fd: (
        UnreadableDocument(fd, "03h FN: internal failure") if fd == fd_number else reading(fd)
    )


def test_what_is_in_the_way_stays_so_where_the_journal_does_not_take_another_look(shop):
    request = receipt()
    sell_and_print(shop, receipt())
    shop.break_register(lose_answer_next=1)
    unreadable(shop, 4)
    shop.sell(request)
    shop.print_patiently(3)
    assert shop.lane.view.problem == "unsettled_doubt"
    break_disk(shop.journal)
    shop.print_patiently(2)
    assert shop.lane.view.problem == "journal"
    mend_disk(shop.journal)
    shop.print_patiently(3)
    assert shop.lane.view.problem == "unsettled_doubt"
    assert len(shop.documents()) == 2, "nothing is printed again"


def two_in_doubt_and_the_document_of_the_second_unreadable(shop):
    """Both were leased, the second was printed as FD 4, and the process died."""
    sell_and_print(shop, receipt())
    absent, printed = receipt(), receipt()
    shop.break_register(offline=True)
    shop.restart()
    for request in (absent, printed):
        shop.sell(request)
    shop.heal_register()
    print_on(shop.registers["kkt-1"], a_print_job(printed))
    shop.kill()
    meddle(
        shop.folder,
        "UPDATE receipts SET status = 'printing', fn_before = (SELECT fn_number FROM documents), fd_before = 3 "
        "WHERE status = 'buffered'",
        "DELETE FROM figures WHERE kkt != ''",
        "INSERT INTO figures (kkt, name, value) SELECT kkt, status, count(*) FROM receipts GROUP BY kkt, status",
    )
    shop._start()
    unreadable(shop, 4)
    shop.print_patiently(2)
    assert {doubt.task.key.receipt_id for doubt in shop.lane.view.doubts} == {
        absent["receipt_id"],
        printed["receipt_id"],
    }
    return absent, printed


def decide(shop, request, decision):
    future = shop.lane.settle(ManualResolution(key_of(request), decision, "by its paper"))
    run(shop.lane.step)
    future.result(timeout=0)


def paper_of_fd_4(shop):
    (document,) = (each for each in shop.documents() if each.fd_number == 4)
    fn_number = shop.lane.view.status.fn_number
    return AdoptFromPaper(
        fn_number, 4, document.fiscal_sign, document.at, document.shift_number, document.receipt_number
    )


def test_a_word_on_one_receipt_is_none_on_another_whose_the_unreadable_document_may_be(shop):
    absent, printed = two_in_doubt_and_the_document_of_the_second_unreadable(shop)
    number = next(doubt.number for doubt in shop.lane.view.doubts if doubt.task.key.receipt_id == absent["receipt_id"])
    decide(shop, absent, PrintAgain(number))
    shop.print_patiently(3)
    assert shop.lane.view.problem == "unsettled_doubt"
    assert shop.status(printed) == "printing"
    decide(shop, printed, paper_of_fd_4(shop))
    shop.print_patiently(3)
    assert shop.lane.view.problem is None
    assert sorted(marks(shop)[1:]) == sorted(marks_of([printed, absent])), "each once"
    shop.restart()
    shop.print_patiently(2)
    assert shop.lane.view.problem is None, "what was adopted is in nobody's way"


def test_an_unreadable_document_is_adopted_from_its_paper_and_then_proves_the_other_absent(shop):
    absent, printed = two_in_doubt_and_the_document_of_the_second_unreadable(shop)
    decide(shop, printed, paper_of_fd_4(shop))
    shop.print_patiently(3)
    assert [shop.status(one) for one in (absent, printed)] == ["printed", "printed"]
    assert marks(shop)[1:] == marks_of([printed, absent])


def test_a_document_found_by_another_lane_settles_a_doubt_whose_storage_went_to_another_register(tmp_path):
    """The ports of two registers are swapped after a crash: each lane meets the other one's storage."""
    shop = InProcessBridge(tmp_path, registers=("kkt-1", "kkt-2"), pos={"pos-1": "kkt-1", "pos-2": "kkt-2"})
    sell_and_print(shop, receipt())
    shop.sell(receipt(pos_id="pos-2"), pos="pos-2")
    shop.print_all()
    request = receipt()
    shop.break_register("kkt-1", lose_answer_next=1)
    shop.sell(request)
    shop.lane.step()
    assert shop.status(request) == "printing"
    shop.heal_register("kkt-1")
    shop.kill()
    first, second, between = (tmp_path / name for name in ("kkt-1.fn", "kkt-2.fn", "between.fn"))
    first.rename(between)
    second.rename(first)
    between.rename(second)
    shop._start()
    shop.print_patiently(4)
    assert shop.status(request) == "printed"
    assert {name: lane.view.problem for name, lane in shop.lanes.items()} == {"kkt-1": None, "kkt-2": None}
    everywhere = [each.body.requisite_1192 for kkt in shop.registers for each in shop.documents(kkt)]
    assert everywhere.count(*marks_of([request])) == 1
    shop.kill()


def test_many_documents_that_cannot_be_read_are_looked_at_again_a_few_a_step_and_all_in_turn(shop):
    """A stop waits for a step to end."""
    requests = [receipt() for _ in range(12)]
    sell_and_print(shop, *requests)
    lose_journal(shop)
    register = shop.registers["kkt-1"]
    reading, is_worn, reads = register.read_document, True, []

    def read_slowly(fd_number):
        reads.append(fd_number)
        shop.clock.advance(0.3)
        return UnreadableDocument(fd_number, "worn") if is_worn else reading(fd_number)

    register.read_document = read_slowly
    while shop.lane.view.problem != "unsettled_doubt":
        shop.clock.advance(shop.lane.step())
    seen = set()
    for _ in range(12):
        reads.clear()
        began = shop.clock.monotonic()
        pause = shop.lane.step()
        assert shop.clock.monotonic() - began < 2 * storage_reader.STEP_S
        seen.update(reads)
        shop.clock.advance(pause)
    assert seen == set(range(1, shop.lane.view.status.last_fd_number + 1))
    assert shop.lane.view.problem == "unsettled_doubt", "those whose turn has not come stay in the way"
    is_worn = False
    shop.print_patiently(12)
    assert shop.lane.view.problem is None
    for request in requests:
        shop.sell(request)
    shop.print_patiently(3)
    assert marks(shop) == marks_of(requests)

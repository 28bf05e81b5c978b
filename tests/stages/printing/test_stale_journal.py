"""A memory that is older than an exchange of the storage, and a register that was away when a new memory began."""

from datetime import datetime

import pytest
from stages.printing.test_storage_ahead import back_up, lose_journal, marks_of, put_back
from support.receipts import receipt
from support.stages import TOPICS, ZONE, InProcessBridge, check_counts, key_of

from kkt_bridge.journal.settings import HeldStorage
from kkt_bridge.registers.virtual.fiscal_document import Registration, registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.registers.virtual.storage_file import read_documents
from kkt_bridge.stages.printing.manual_resolution import AdoptFromPaper, ManualResolution, PrintAgain
from kkt_bridge.stages.printing.stale_journal import AWAY_WAIT_S, StorageVerdict, judge_storage

NEW_FN = "9999000000000042"


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path)
    yield opened
    check_counts(opened.journal, tmp_path)
    opened.kill()


def exchange_storage(shop, kkt="kkt-1"):
    """A technician puts a new storage in while the bridge is down; the number of the old one, and its file."""
    shop.kill()
    file = shop.folder / f"{kkt}.fn"
    old = Registration.of(next(read_documents(file))).fn_number
    file.rename(file.with_suffix(".old"))
    storage = FiscalStorage(file)
    storage.open(
        registration_of(kkt, NEW_FN, shop=TOPICS.bridge), datetime.fromtimestamp(shop.clock.now_ms() / 1000, ZONE)
    )
    storage.close()
    shop._start()
    return old, file.with_suffix(".old")


def switch_off(shop):
    """The register is away from the next start on: what is sold waits."""
    shop.break_register(offline=True)
    shop.restart()


def sell_while_it_is_away(shop, *requests):
    """Have them wait, with a copy of the journal in which they do."""
    switch_off(shop)
    for request in requests:
        shop.sell(request)
    shop.print_patiently(2)
    copy = back_up(shop)
    shop.heal_register()
    shop.print_patiently(3)
    return copy


def marks_on(file):
    return [document.body.requisite_1192 for document in read_documents(file) if document.body.requisite_1192]


def settle(shop, request, decision):
    order = shop.lane.settle(ManualResolution(key_of(request), decision, "looked at the papers"))
    shop.print_patiently(2)
    return order.result(timeout=0)


@pytest.mark.parametrize(
    ("held", "restored_at_commit", "read", "verdict"),
    [
        (
            HeldStorage(5, "A"),
            0,
            (),
            StorageVerdict.CAUGHT_UP,
        ),  # the last memory: the storage was exchanged in good order
        (None, 0, (), StorageVerdict.CAUGHT_UP),
        (HeldStorage(5, "B"), 0, (), StorageVerdict.SAME),
        (HeldStorage(5, "B"), 9, (), StorageVerdict.CAUGHT_UP),  # put back, and the same storage is in the register
        (
            HeldStorage(12, "A"),
            9,
            (),
            StorageVerdict.CAUGHT_UP,
        ),  # exchanged after the register was read under this memory
        (HeldStorage(12, "B"), 9, (), StorageVerdict.SAME),
        (HeldStorage(5, "A"), 9, ("A", "B"), StorageVerdict.CAUGHT_UP),  # it is in another register, and was read there
        (HeldStorage(5, "A"), 9, ("B",), StorageVerdict.TAKEN_OUT),
        (None, 9, ("B",), StorageVerdict.TAKEN_OUT),
    ],
)
def test_what_the_storage_says_of_the_journal(held, restored_at_commit, read, verdict):
    assert judge_storage(held, restored_at_commit, "B", read) is verdict


def test_what_waits_in_a_backup_from_before_an_exchange_is_left_to_a_person(shop):
    first, waiting = receipt(), [receipt() for _ in range(2)]
    shop.sell(first)
    shop.print_all()
    copy = sell_while_it_is_away(shop, *waiting)
    old, file = exchange_storage(shop)
    assert marks_on(file) == marks_of([first, *waiting])
    put_back(shop, copy)
    shop.print_patiently(3)
    assert shop.documents() == [], "nothing is printed by itself"
    assert shop.lane.view.problem == "unsettled_doubt"
    assert [doubt.task.key.receipt_id for doubt in shop.lane.view.doubts] == [each["receipt_id"] for each in waiting]
    assert all(f"fiscal storage {old} is not in kkt-1 any more" in doubt.reason for doubt in shop.lane.view.doubts)
    assert old in shop.lane.view.storage_taken_out
    shop.restart()
    shop.print_patiently(2)
    assert len(shop.lane.view.doubts) == 2, "it is so after the next start"

    paper = next(each for each in read_documents(file) if each.body.requisite_1192 == marks_of(waiting)[0])
    adopted = AdoptFromPaper(
        old, paper.fd_number, str(paper.fiscal_sign), paper.at, paper.shift_number, paper.receipt_number or 1
    )
    settle(shop, waiting[0], adopted)
    settle(shop, waiting[1], PrintAgain(shop.lane.view.doubts[0].number))
    new = receipt()
    shop.sell(new)
    shop.print_patiently(2)
    assert shop.lane.view.problem is None
    assert [shop.status(request) for request in (*waiting, new)] == ["printed"] * 3
    assert marks_on(shop.folder / "kkt-1.fn") == marks_of([waiting[1], new])


def test_what_was_printed_on_the_new_storage_is_found_there(shop):
    first, waiting = receipt(), receipt()
    shop.sell(first)
    shop.print_all()
    switch_off(shop)
    shop.sell(waiting)
    copy = back_up(shop)
    exchange_storage(shop)
    shop.heal_register()
    shop.print_patiently(2)
    put_back(shop, copy)
    shop.print_patiently(2)
    assert shop.lane.view.problem is None
    assert marks_on(shop.folder / "kkt-1.fn") == marks_of([waiting])


def test_an_exchange_in_good_order_leaves_nothing_to_a_person(shop):
    first, waiting = receipt(), receipt()
    shop.sell(first)
    shop.print_all()
    switch_off(shop)
    shop.sell(waiting)
    exchange_storage(shop)
    shop.heal_register()
    shop.print_patiently(2)
    assert shop.lane.view.problem is None
    assert marks_on(shop.folder / "kkt-1.fn") == marks_of([waiting])


def test_once_its_storage_was_read_a_memory_that_was_put_back_is_the_last(shop):
    """The storage is the same at the start, and is exchanged later, with a receipt of the copy still waiting."""
    first, waiting = receipt(), receipt()
    shop.sell(first)
    shop.print_all()
    switch_off(shop)
    shop.sell(waiting)
    copy = back_up(shop)
    put_back(shop, copy)
    shop.break_register(paper_out=True)
    other = receipt()
    shop.print_patiently(2)
    shop.sell(other)
    assert shop.status(waiting) == "buffered"
    exchange_storage(shop)
    shop.heal_register()
    shop.print_patiently(3)
    assert shop.lane.view.problem is None
    assert marks_on(shop.folder / "kkt-1.fn") == marks_of([waiting, other])


def test_a_lost_journal_waits_for_a_register_that_is_away_and_was_never_read(tmp_path):
    """The register is switched on a little later than the bridge, and its POS is mapped to another one by now."""
    shop = InProcessBridge(tmp_path, registers=("kkt-1", "kkt-2"), pos={"pos-1": "kkt-1"}, lanes_wait=True)
    request = receipt()
    shop.sell(request)
    shop.print_patiently(2)
    assert len(shop.documents("kkt-1")) == 1
    shop.settings.pos["pos-1"] = "kkt-2"
    shop.break_register("kkt-1", offline=True)
    lose_journal(shop)
    shop.sell(request)
    shop.print_patiently(10)
    assert shop.status(request) == "buffered"
    assert shop.lanes["kkt-2"].view.detail == "waits for kkt-1"
    assert "has not been read since this journal began" in shop.lanes["kkt-1"].view.detail
    shop.heal_register("kkt-1")
    shop.print_patiently(3)
    assert shop.status(request) == "printed"
    assert shop.documents("kkt-2") == []
    shop.kill()


def test_the_others_sell_on_after_a_minute(tmp_path):
    shop = InProcessBridge(tmp_path, registers=("kkt-1", "kkt-2"), pos={"pos-1": "kkt-2"}, lanes_wait=True)
    shop.break_register("kkt-1", offline=True)
    request = receipt()
    shop.sell(request)
    shop.print_patiently(3)
    assert shop.status(request) == "buffered"
    shop.clock.advance(AWAY_WAIT_S)
    shop.print_patiently(3)
    assert shop.status(request) == "printed"
    shop.kill()


def test_a_register_that_this_memory_has_read_is_not_waited_for(tmp_path):
    shop = InProcessBridge(tmp_path, registers=("kkt-1", "kkt-2"), pos={"pos-1": "kkt-2"}, lanes_wait=True)
    shop.print_patiently(2)
    shop.break_register("kkt-1", offline=True)
    shop.restart()
    request = receipt()
    shop.sell(request)
    shop.print_patiently(3)
    assert shop.status(request) == "printed"
    assert "has not been read" not in shop.lanes["kkt-1"].view.detail
    shop.kill()

"""Receipts in the journal: taken once, moved only as the table of transitions allows, found again, refunded."""

from dataclasses import replace

import pytest
from support.clocks import ManualClock
from support.stages import a_mark, a_receipt, check_counts, new_journal, rows

from kkt_bridge.errors import IllegalTransition, JournalError
from kkt_bridge.journal.outbox import history_of
from kkt_bridge.journal.print_queue import (
    known_fd_numbers,
    lease,
    record_printed,
    record_rejected,
    release,
    reply_addresses,
    tasks_in_doubt,
)
from kkt_bridge.journal.receipts import (
    body_of,
    find_receipt,
    find_receipts,
    find_refunded_sale,
    find_refusal,
    insert_receipt,
    mark_notified,
    oldest_received_ms,
    pending_page,
    readdress,
    remember_refusal,
    unprinted_after,
)
from kkt_bridge.journal.transaction import ReceiptRow, Transaction
from kkt_bridge.receipts.lifecycle import TRANSITIONS, Status

FN = "9999078900000001"
EVERYTHING = ("receipts", "requests", "documents", "steps", "outbox", "refusals", "tombstones", "settings")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def journal(tmp_path, clock):
    opened = new_journal(tmp_path, clock)
    yield opened
    check_counts(opened, tmp_path)
    opened.close()


def take(journal, **changes):
    new = a_receipt(**changes)
    journal.write(lambda tx: insert_receipt(tx, new))
    return new


def lease_some(journal, limit=1, kkt="kkt-1", fd_before=1):
    return journal.write(lambda tx: lease(tx, kkt, FN, fd_before, limit))


def print_next(journal, fd_number, kkt="kkt-1"):
    (task,) = lease_some(journal, kkt=kkt, fd_before=fd_number - 1)
    journal.write(lambda tx: record_printed(tx, task, a_mark(fd_number, FN, kkt), (), body=b"{}"))
    return task


def found(journal, new):
    return journal.read(lambda connection: find_receipt(connection, new.key))


def story(journal, row_id):
    return [(step.from_status, step.to_status) for step in journal.read(lambda c: history_of(c, row_id))]


def contents(folder):
    return {table: rows(folder, f"SELECT * FROM {table}") for table in EVERYTHING}


def test_a_receipt_is_taken_whole(journal, clock):
    new = take(journal, correlation=b"\x00\xff", original_receipt_id=None)
    stored = found(journal, new)
    assert (stored.key, stored.kkt) == (new.key, "kkt-1")
    assert (stored.status, stored.digest, stored.total) == (Status.BUFFERED, b"content", 1000)
    assert (stored.reply_topic, stored.correlation) == (new.reply_topic, b"\x00\xff")
    assert (stored.received_ms, stored.printed_ms, stored.mark) == (clock.now_ms(), None, None)
    assert journal.read(lambda connection: body_of(connection, stored.id)) == "{}"
    assert story(journal, stored.id) == [(None, Status.BUFFERED)]
    assert journal.counts() == {("kkt-1", "buffered"): 1}


def test_the_same_key_is_taken_once(journal, tmp_path):
    new = take(journal)
    before = contents(tmp_path)
    with pytest.raises(JournalError, match="UNIQUE"):
        journal.write(lambda tx: insert_receipt(tx, new))
    assert contents(tmp_path) == before


def test_two_pos_may_use_one_id(journal):
    first = take(journal)
    second = take(journal, receipt_id=first.key.receipt_id, pos_id="pos-2")
    both = journal.read(lambda connection: find_receipts(connection, first.key.receipt_id))
    assert {stored.key.pos_id for stored in both} == {"pos-1", "pos-2"}
    assert found(journal, second).key.pos_id == "pos-2"


def test_an_unknown_receipt_is_not_found(journal):
    new = a_receipt()
    assert found(journal, new) is None
    assert journal.read(lambda connection: find_receipts(connection, new.key.receipt_id)) == []


def test_leases_go_in_the_order_of_arrival_and_by_register(journal, clock):
    mine = []
    for number in range(6):
        new = take(journal, kkt=f"kkt-{number % 2 + 1}")
        clock.jump(-10)
        if number % 2 == 0:
            mine.append(new.key.receipt_id)
    leased = [*lease_some(journal, limit=2), *lease_some(journal, limit=5)]
    assert [task.key.receipt_id for task in leased] == mine
    assert lease_some(journal) == []
    assert journal.counts()["kkt-2", "buffered"] == 3


def test_a_lease_notes_where_to_look_after_a_crash(journal):
    take(journal)
    lease_some(journal, fd_before=411)
    (doubtful,) = journal.read(lambda connection: tasks_in_doubt(connection, "kkt-1"))
    assert (doubtful.status, doubtful.fn_before, doubtful.fd_before) == (Status.PRINTING, FN, 411)
    assert journal.read(lambda connection: tasks_in_doubt(connection, "kkt-2")) == []


def test_a_printed_receipt_has_its_document(journal, clock):
    new = take(journal)
    task = print_next(journal, 412)
    stored = found(journal, new)
    assert (stored.status, stored.printed_ms, stored.warnings) == (Status.PRINTED, clock.now_ms(), "[]")
    assert '"fd_number":412' in stored.mark
    assert story(journal, task.id) == [
        (None, Status.BUFFERED),
        (Status.BUFFERED, Status.PRINTING),
        (Status.PRINTING, Status.PRINTED),
    ]


def test_one_document_belongs_to_one_receipt(journal, tmp_path):
    take(journal)
    take(journal)
    print_next(journal, 412)
    (task,) = lease_some(journal)
    before = contents(tmp_path)
    with pytest.raises(JournalError, match="UNIQUE"):
        journal.write(lambda tx: record_printed(tx, task, a_mark(412, FN), (), body=b"{}"))
    assert contents(tmp_path) == before


def test_a_released_receipt_waits_at_its_old_place(journal):
    first = take(journal)
    take(journal)
    (task,) = lease_some(journal)
    journal.write(lambda tx: release(tx, task))
    folder = journal._database.path.parent
    assert rows(folder, "SELECT fn_before, fd_before FROM receipts") == [(None, None)] * 2
    (again,) = lease_some(journal)
    assert again.key == first.key


def test_a_rejected_receipt_keeps_its_reason(journal):
    new = take(journal)
    (task,) = lease_some(journal)
    journal.write(lambda tx: record_rejected(tx, task, "kkt_rejected", "no such VAT"))
    stored = found(journal, new)
    assert (stored.status, stored.error_code, stored.error_message) == (Status.REJECTED, "kkt_rejected", "no such VAT")


def test_the_reply_goes_to_whoever_asked_last(journal):
    new = take(journal)
    (task,) = lease_some(journal)
    journal.write(lambda tx: readdress(tx, found(journal, new), "elsewhere", b"7"))
    assert journal.write(lambda tx: reply_addresses(tx, [task])) == {task.id: ("elsewhere", b"7")}


def test_documents_of_others_are_told_from_ours(journal):
    for fd_number in (5, 7, 9):
        take(journal)
        print_next(journal, fd_number)
    assert journal.read(lambda connection: known_fd_numbers(connection, FN, 5)) == {7, 9}
    assert journal.read(lambda connection: known_fd_numbers(connection, "9999000000000000", 0)) == set()


# -- illegal moves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("current", list(Status))
@pytest.mark.parametrize("target", list(Status))
def test_the_stored_row_guards_its_transitions(journal, tmp_path, current, target):
    """Moving from what the row is not, or to what may not follow, raises and changes nothing."""
    new = take(journal)
    row = ReceiptRow(found(journal, new).id, new.key, "kkt-1", current)
    legal = target in TRANSITIONS[current] and current is Status.BUFFERED
    before = contents(tmp_path), journal.counts()
    if legal:
        journal.write(lambda tx: tx.move(row, target))
        assert found(journal, new).status is target
        return
    with pytest.raises(IllegalTransition, match=r"may not go|is no longer"):
        journal.write(lambda tx: tx.move(row, target))
    assert (contents(tmp_path), journal.counts()) == before


def test_a_stale_task_moves_nothing(journal, tmp_path):
    new = take(journal)
    (task,) = lease_some(journal)
    journal.write(lambda tx: release(tx, task))
    before = contents(tmp_path), journal.counts()
    for late in (
        lambda tx: record_printed(tx, task, a_mark(412, FN), (), body=b"{}"),
        lambda tx: record_rejected(tx, task, "kkt_rejected", ""),
        lambda tx: release(tx, task),
    ):
        with pytest.raises(IllegalTransition, match=f"receipt pos-1:{new.key.receipt_id} is no longer printing"):
            journal.write(late)
    assert (contents(tmp_path), journal.counts()) == before


def test_a_row_that_is_gone_moves_nothing(journal):
    take(journal)
    (task,) = lease_some(journal)
    with pytest.raises(IllegalTransition, match="is no longer"):
        journal.write(lambda tx: release(tx, replace(task, id=task.id + 1)))


def test_half_an_operation_is_none(journal, tmp_path):
    def operation(tx: Transaction):
        insert_receipt(tx, a_receipt())
        insert_receipt(tx, a_receipt())
        (first,) = lease(tx, "kkt-1", FN, 1, 1)
        record_printed(tx, first, a_mark(2, FN), (), body=b"{}")
        tx.publish("topic", b"a reply")
        raise KeyError("at the very end")

    before = contents(tmp_path)
    with pytest.raises(KeyError):
        journal.write(operation)
    assert (contents(tmp_path), journal.counts()) == (before, {})


# -- refunds -----------------------------------------------------------------------------------------------


def original(journal, sale):
    return journal.read(lambda connection: find_refunded_sale(connection, sale.key))


def test_a_sale_knows_what_was_refunded_of_it(journal):
    sale = take(journal, total=5000)
    assert (original(journal, sale).total, original(journal, sale).refunded) == (5000, 0)
    take(journal, type="refund", original_receipt_id=sale.key.receipt_id, total=1200)
    take(journal, type="refund", original_receipt_id=sale.key.receipt_id, total=300, pos_id="pos-2")
    assert original(journal, sale).refunded == 1500


def test_a_rejected_refund_does_not_count(journal):
    sale = take(journal, kkt="kkt-2")
    take(journal, type="refund", original_receipt_id=sale.key.receipt_id)
    (task,) = lease_some(journal)
    journal.write(lambda tx: record_rejected(tx, task, "kkt_rejected", ""))
    assert original(journal, sale).refunded == 0


def test_only_a_sale_can_be_refunded(journal):
    assert original(journal, take(journal, type="purchase")) is None
    assert original(journal, a_receipt()) is None


# -- notices and pages ----------------------------------------------------------------------------------------


def test_a_notice_is_given_once_and_not_to_the_printed(journal):
    new = take(journal)
    row_id = found(journal, new).id
    assert journal.write(lambda tx: mark_notified(tx, row_id))
    assert not journal.write(lambda tx: mark_notified(tx, row_id))
    late = take(journal)
    print_next(journal, 2)
    print_next(journal, 3)
    assert not journal.write(lambda tx: mark_notified(tx, found(journal, late).id))


def test_what_waits_comes_in_order_and_in_pages(journal):
    ids = [take(journal).key.receipt_id for _ in range(5)]

    def page(after, limit):
        return journal.read(lambda c: unprinted_after(c, Status.BUFFERED, "kkt-1", after, limit))

    first = page(0, 2)
    assert [each.receipt.key.receipt_id for each in first] == ids[:2]
    assert [each.receipt.key.receipt_id for each in page(first[-1].receipt.id, 10)] == ids[2:]


def test_pending_receipts_are_listed_by_state_and_register(journal, clock):
    first = take(journal)
    clock.advance(1)
    take(journal)
    print_next(journal, 2)
    (printed,) = journal.read(lambda c: pending_page(c, Status.PRINTED, "kkt-1", 0, 10))
    assert (printed.key.receipt_id, printed.attempts, printed.last_error) == (first.key.receipt_id, 0, None)
    (buffered,) = journal.read(lambda c: pending_page(c, Status.BUFFERED, "kkt-1", 0, 10))
    assert buffered.received_ms == clock.now_ms()
    assert journal.read(lambda c: oldest_received_ms(c, Status.BUFFERED, "kkt-1")) == clock.now_ms()
    assert journal.read(lambda c: oldest_received_ms(c, Status.PRINTING, "kkt-1")) is None


def test_a_refusal_is_remembered_and_replaced(journal):
    assert journal.read(lambda c: find_refusal(c, b"digest")) is None
    journal.write(lambda tx: remember_refusal(tx, pos_id="pos-1", digest=b"digest", reply=b"first"))
    journal.write(lambda tx: remember_refusal(tx, pos_id="pos-1", digest=b"digest", reply=b"second"))
    assert journal.read(lambda c: find_refusal(c, b"digest")) == b"second"

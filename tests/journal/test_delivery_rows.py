"""Documents in the journal on their way to the OFD: order, waits, strikes, dead letters."""

import pytest
from support.clocks import ManualClock
from support.stages import a_mark, a_receipt, check_counts, kill, new_journal, rows

from kkt_bridge.errors import IllegalTransition
from kkt_bridge.journal.document_queue import (
    dead_letter as record_dead_letter,
)
from kkt_bridge.journal.document_queue import (
    dead_letters,
    dead_letters_of,
    discard,
    end_waiting,
    next_wait_ends_steady_ms,
    ready_documents,
    record_failure,
    record_sent,
    requeue,
)
from kkt_bridge.journal.outbox import history_of
from kkt_bridge.journal.print_queue import lease, record_printed
from kkt_bridge.journal.receipts import find_receipt, first_unsent_ms, insert_receipt
from kkt_bridge.receipts.lifecycle import Status


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def journal(tmp_path, clock):
    opened = new_journal(tmp_path, clock)
    yield opened
    check_counts(opened, tmp_path)
    opened.close()


def printed(journal, fd_number, kkt="kkt-1", **changes):
    """A receipt that was printed as this document; its row to be sent."""
    new = a_receipt(kkt=kkt, body=f'{{"fd":{fd_number}}}', **changes)
    journal.write(lambda tx: insert_receipt(tx, new))
    fn_number = f"99990789000000{kkt[-1]:0>2}"
    (task,) = journal.write(lambda tx: lease(tx, kkt, fn_number, fd_number - 1, 1))
    journal.write(lambda tx: record_printed(tx, task, a_mark(fd_number, fn_number, kkt), (), body=b"%d" % fd_number))
    return new


def ready(journal, kkt="kkt-1", after=0, limit=100):
    return journal.read(lambda connection: ready_documents(connection, kkt, after, limit))


def letters(journal, kkt="kkt-1", after=0, limit=100):
    return journal.read(lambda connection: dead_letters(connection, kkt, after, limit))


def dead_letter(journal, fd_number=2):
    printed(journal, fd_number)
    (due,) = ready(journal)
    journal.write(lambda tx: record_dead_letter(tx, due, reason="refused", error="422"))
    (letter,) = letters(journal)
    return letter


def test_documents_go_in_the_order_of_their_numbers(journal):
    for fd_number in range(2, 12):
        printed(journal, fd_number)
    assert [due.body for due in ready(journal)] == [b"%d" % number for number in range(2, 12)]


def test_each_register_has_its_own_order_and_pages(journal):
    for fd_number in range(2, 6):
        printed(journal, fd_number, "kkt-1")
        printed(journal, fd_number, "kkt-2")
    first = ready(journal, "kkt-2", limit=3)
    rest = ready(journal, "kkt-2", after=first[-1].document)
    assert [due.body for due in [*first, *rest]] == [b"%d" % number for number in range(2, 6)]
    assert {due.kkt for due in [*first, *rest]} == {"kkt-2"}


def test_a_sent_document_is_done_and_completes_the_clock(journal):
    new = printed(journal, 2)
    (due,) = ready(journal)
    journal.write(lambda tx: record_sent(tx, due, 1_795_345_381))
    stored = journal.read(lambda c: find_receipt(c, new.key))
    assert (stored.status, stored.server_time) == (Status.SYNCED, 1_795_345_381)
    assert ready(journal) == []


def test_a_document_is_sent_once(journal):
    printed(journal, 2)
    (due,) = ready(journal)
    journal.write(lambda tx: record_sent(tx, due, None))
    with pytest.raises(IllegalTransition):
        journal.write(lambda tx: record_sent(tx, due, None))
    with pytest.raises(IllegalTransition):
        journal.write(lambda tx: record_dead_letter(tx, due, reason="refused", error="late"))


def test_a_failure_without_a_wait_leaves_it_ready(journal):
    printed(journal, 2)
    (due,) = ready(journal)
    journal.write(lambda tx: record_failure(tx, due, "503", strike=False, wait_ms=0))
    (again,) = ready(journal)
    assert (again.attempts, again.strikes) == (1, 0)


def test_strikes_are_kept_beside_attempts(journal):
    printed(journal, 2)
    for strike in (True, False, True):
        (due,) = ready(journal)
        journal.write(lambda tx, due=due, strike=strike: record_failure(tx, due, "500", strike=strike, wait_ms=0))
    (due,) = ready(journal)
    assert (due.attempts, due.strikes) == (3, 2)


def test_a_waiting_document_lets_those_behind_it_pass(journal, clock):
    printed(journal, 2)
    printed(journal, 3)
    due, behind = ready(journal)
    journal.write(lambda tx: record_failure(tx, due, "500", strike=True, wait_ms=5000))
    assert [each.document for each in ready(journal)] == [behind.document]
    assert journal.read(next_wait_ends_steady_ms) == 5000
    clock.advance(4.999)
    assert journal.write(end_waiting) == 0
    clock.advance(0.001)
    assert journal.write(end_waiting) == 1
    assert [each.document for each in ready(journal)] == [due.document, behind.document], "at its old place"
    assert journal.read(next_wait_ends_steady_ms) is None


def test_a_wait_is_not_shortened_by_the_wall_clock_or_a_restart(tmp_path, journal, clock):
    printed(journal, 2)
    (due,) = ready(journal)
    journal.write(lambda tx: record_failure(tx, due, "500", strike=True, wait_ms=5000))
    clock.jump(100_000)
    assert journal.write(end_waiting) == 0
    kill(journal)
    clock.reboot()
    again = new_journal(tmp_path, clock)
    assert again.write(end_waiting) == 0
    clock.advance(5)
    assert again.write(end_waiting) == 1
    again.close()
    journal.open()


def test_a_forced_sync_ends_every_wait(journal):
    for fd_number in (2, 3):
        printed(journal, fd_number)
    for due in ready(journal):
        journal.write(lambda tx, due=due: record_failure(tx, due, "500", strike=True, wait_ms=300_000))
    assert journal.write(lambda tx: end_waiting(tx, everything=True)) == 2
    assert len(ready(journal)) == 2


def test_a_dead_letter_says_why_and_when(journal, clock):
    new = printed(journal, 2)
    (due,) = ready(journal)
    journal.write(lambda tx: record_failure(tx, due, "500", strike=True, wait_ms=0))
    (due,) = ready(journal)
    journal.write(lambda tx: record_dead_letter(tx, due, reason="max_attempts", error="500 again"))
    (letter,) = letters(journal)
    assert (letter.key.receipt_id, letter.reason, letter.last_error) == (
        new.key.receipt_id,
        "max_attempts",
        "500 again",
    )
    assert (letter.attempts, letter.strikes, letter.failed_ms) == (2, 2, clock.now_ms())
    assert ready(journal) == []
    assert journal.counts()["kkt-1", "dlq"] == 1


def test_dead_letters_come_in_pages_and_by_receipt(journal):
    for fd_number in range(2, 7):
        printed(journal, fd_number)
    for due in ready(journal):
        journal.write(lambda tx, due=due: record_dead_letter(tx, due, reason="refused", error="422"))
    first = letters(journal, limit=2)
    rest = letters(journal, after=first[-1].document)
    assert [letter.document for letter in [*first, *rest]] == sorted(letter.document for letter in letters(journal))
    (one,) = journal.read(lambda c: dead_letters_of(c, rest[0].key.receipt_id))
    assert one == rest[0]
    assert journal.read(lambda c: dead_letters_of(c, a_receipt().key.receipt_id)) == []


def test_dead_letters_of_two_pos_with_one_id_are_told_apart(journal):
    first = printed(journal, 2)
    printed(journal, 3, receipt_id=first.key.receipt_id, pos_id="pos-2")
    for due in ready(journal):
        journal.write(lambda tx, due=due: record_dead_letter(tx, due, reason="refused", error="422"))
    both = journal.read(lambda c: dead_letters_of(c, first.key.receipt_id))
    assert {letter.key.pos_id for letter in both} == {"pos-1", "pos-2"}


def test_a_requeued_letter_is_sent_again_in_its_order(journal):
    letter = dead_letter(journal)
    printed(journal, 3)
    journal.write(lambda tx: requeue(tx, letter))
    assert next(due.document for due in ready(journal)) == letter.document
    assert journal.counts()["kkt-1", "dlq"] == 0
    assert letters(journal) == []


def test_a_discarded_letter_stays_dead_and_is_told(journal):
    letter = dead_letter(journal)
    journal.write(lambda tx: discard(tx, letter, "bought by mistake"))
    assert letters(journal) == []
    assert journal.counts()["kkt-1", "dlq"] == 0
    last = journal.read(lambda c: history_of(c, letter.id))[-1]
    assert (last.from_status, last.to_status, last.error) == (Status.DEAD, Status.DEAD, "discarded: bought by mistake")


@pytest.mark.parametrize("first", [requeue, lambda tx, letter: discard(tx, letter, "a reason")])
@pytest.mark.parametrize("second", [requeue, lambda tx, letter: discard(tx, letter, "a reason")])
def test_a_letter_is_decided_on_once(journal, tmp_path, first, second):
    letter = dead_letter(journal)
    journal.write(lambda tx: first(tx, letter))
    before = rows(tmp_path, "SELECT * FROM documents"), journal.counts()
    with pytest.raises(IllegalTransition):
        journal.write(lambda tx: second(tx, letter))
    assert (rows(tmp_path, "SELECT * FROM documents"), journal.counts()) == before


def test_the_oldest_unsent_document_is_found(journal, clock):
    printed(journal, 2)
    oldest = clock.now_ms()
    clock.advance(60)
    printed(journal, 3)
    assert journal.read(lambda c: first_unsent_ms(c, "kkt-1")) == oldest
    (due, _) = ready(journal)
    journal.write(lambda tx: record_sent(tx, due, None))
    assert journal.read(lambda c: first_unsent_ms(c, "kkt-1")) == clock.now_ms()
    assert journal.read(lambda c: first_unsent_ms(c, "kkt-2")) is None

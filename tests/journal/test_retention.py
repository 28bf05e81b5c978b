"""Purging: what has ended long ago goes, its key and its verdict stay for ever."""

import pytest
from support.clocks import ManualClock
from support.stages import a_mark, a_receipt, check_counts, new_journal, rows

from kkt_bridge.journal.commands import find_command, finish_command, take_command
from kkt_bridge.journal.delivery import bury, dead_letters, discard, ready_documents, record_sent
from kkt_bridge.journal.printing import lease, record_printed, record_rejected
from kkt_bridge.journal.receipts import (
    find_original,
    find_receipt,
    find_refusal,
    insert_receipt,
    remember_refusal,
)
from kkt_bridge.journal.retention import PurgeLimits, purge_receipts, purge_traces
from kkt_bridge.journal.steps import drop_refusal_steps
from kkt_bridge.receipts.lifecycle import Status

FN = "9999078900000001"
NEVER_ENDED = ("buffered", "printing", "printed", "dead")
DAY_S = 86_400


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def journal(tmp_path, clock):
    opened = new_journal(tmp_path, clock)
    yield opened
    check_counts(opened, tmp_path)
    opened.close()


class Maker:
    """Brings receipts into any state."""

    def __init__(self, journal):
        self.journal = journal
        self.fd_number = 1

    def buffered(self, **changes):
        new = a_receipt(**changes)
        self.journal.write(lambda tx: insert_receipt(tx, new))
        return new

    def printing(self, **changes):
        new = self.buffered(**changes)
        (self.task,) = self.journal.write(lambda tx: lease(tx, "kkt-1", FN, self.fd_number, 1))
        assert self.task.receipt_id == new.receipt_id
        return new

    def rejected(self, **changes):
        new = self.printing(**changes)
        self.journal.write(lambda tx: record_rejected(tx, self.task, "kkt_rejected", "no"))
        return new

    def printed(self, **changes):
        new = self.printing(**changes)
        self.fd_number += 1
        self.journal.write(lambda tx: record_printed(tx, self.task, a_mark(self.fd_number, FN), ("not_on_paper",)))
        self.due = self.journal.read(lambda c: ready_documents(c, "kkt-1", 0, 1000))[-1]
        return new

    def synced(self, **changes):
        new = self.printed(**changes)
        self.journal.write(lambda tx: record_sent(tx, self.due, 1_795_345_381))
        return new

    def dead(self, **changes):
        new = self.printed(**changes)
        self.journal.write(lambda tx: bury(tx, self.due, reason="refused", error="422"))
        self.letter = self.journal.read(lambda c: dead_letters(c, "kkt-1", 0, 1000))[-1]
        return new

    def discarded(self, **changes):
        new = self.dead(**changes)
        self.journal.write(lambda tx: discard(tx, self.letter, "a reason"))
        return new


@pytest.fixture
def make(journal):
    return Maker(journal)


def limits(clock, synced_days=7.0, dead_days=90.0):
    return PurgeLimits(
        synced_before_ms=clock.now_ms() - int(synced_days * DAY_S * 1000),
        dead_before_ms=clock.now_ms() - int(dead_days * DAY_S * 1000),
        events_before_ms=0,
        steps_published=2**62,
    )


def purge(journal, clock, after=0, batch=100, **days):
    return journal.write(lambda tx: purge_receipts(tx, limits(clock, **days), after, batch))


def found(journal, new):
    return journal.read(lambda c: find_receipt(c, new.receipt_id, new.pos_id))


def is_purged(journal, new):
    return found(journal, new).id is None


@pytest.mark.parametrize(("state", "kept_days"), [("synced", 7), ("rejected", 7), ("discarded", 90)])
def test_what_has_ended_is_kept_for_its_time(journal, clock, make, state, kept_days):
    new = getattr(make, state)()
    clock.advance(kept_days * DAY_S)
    purge(journal, clock)
    assert not is_purged(journal, new)
    clock.advance(1)
    purge(journal, clock)
    assert is_purged(journal, new)


@pytest.mark.parametrize("state", NEVER_ENDED)
def test_what_has_not_ended_is_kept_for_ever(journal, clock, make, state):
    new = getattr(make, state)()
    clock.advance(10_000 * DAY_S)
    purge(journal, clock)
    assert not is_purged(journal, new)


def test_the_time_counts_from_the_end_not_from_the_beginning(journal, clock, make):
    """A receipt that reached the OFD after a month's outage is not purged the same minute."""
    new = make.printed()
    clock.advance(30 * DAY_S)
    journal.write(lambda tx: record_sent(tx, make.due, None))
    purge(journal, clock)
    assert not is_purged(journal, new)
    clock.advance(7 * DAY_S + 1)
    purge(journal, clock)
    assert is_purged(journal, new)


@pytest.mark.parametrize("state", ["synced", "rejected", "discarded"])
def test_a_tombstone_answers_as_the_receipt_did(journal, clock, make, tmp_path, state):
    new = getattr(make, state)(correlation=b"7")
    before = found(journal, new)
    clock.advance(100 * DAY_S)
    purge(journal, clock)
    after = found(journal, new)
    for name in ("receipt_id", "pos_id", "kkt", "status", "digest", "type", "total", "hlc", "server_time"):
        assert getattr(after, name) == getattr(before, name), name
    for name in ("received_ms", "printed_ms", "error_code", "error_message", "mark", "warnings"):
        assert getattr(after, name) == getattr(before, name), name
    for table in ("receipts", "requests", "documents", "steps"):
        assert rows(tmp_path, f"SELECT * FROM {table}") == []


def test_a_purged_receipt_leaves_the_counts(journal, clock, make):
    make.synced()
    make.printed()
    clock.advance(8 * DAY_S)
    purge(journal, clock)
    assert journal.counts() == {
        ("kkt-1", "buffered"): 0,
        ("kkt-1", "printing"): 0,
        ("kkt-1", "printed"): 1,
        ("kkt-1", "synced"): 0,
    }


def test_refunds_are_summed_over_what_was_purged(journal, clock, make):
    sale = make.synced(total=5000)
    make.synced(type="refund", original_receipt_id=sale.receipt_id, total=1200)
    make.rejected(type="refund", original_receipt_id=sale.receipt_id, total=700)
    clock.advance(8 * DAY_S)
    purge(journal, clock)
    make.synced(type="refund", original_receipt_id=sale.receipt_id, total=300)
    original = journal.read(lambda c: find_original(c, sale.receipt_id))
    assert (original.status, original.total, original.refunded) == (Status.SYNCED, 5000, 1500)


def test_a_purge_goes_on_where_it_stopped(journal, clock, make):
    receipts = [make.synced() if number % 3 else make.printed() for number in range(10)]
    clock.advance(8 * DAY_S)
    after, rounds = 0, 0
    while after is not None:
        after = purge(journal, clock, after=after, batch=3)
        rounds += 1
        assert rounds < 10
    assert [is_purged(journal, new) for new in receipts] == [bool(number % 3) for number in range(10)]


def test_a_purge_ends_at_what_is_young(journal, clock, make):
    make.synced()
    clock.advance(8 * DAY_S)
    young = [make.synced() for _ in range(5)]
    assert purge(journal, clock, batch=3) is None, "not one batch after another through a million young ones"
    assert not any(is_purged(journal, new) for new in young)


def test_a_wall_clock_that_is_wrong_loses_no_key(journal, clock, make):
    new = make.synced()
    clock.jump(20 * 365 * DAY_S)
    purge(journal, clock)
    assert is_purged(journal, new)
    clock.jump(-20 * 365 * DAY_S)
    assert found(journal, new).status is Status.SYNCED


def test_traces_go_by_age(journal, clock):
    def take(number):
        def operation(tx):
            take_command(
                tx,
                command_id=f"id-{number}",
                name="status",
                issued_by="ops",
                args="{}",
                reply_topic="topic",
                correlation=None,
            )
            remember_refusal(tx, b"digest-%d" % number, b"reply")

        journal.write(operation)
        return journal.read(lambda c: find_command(c, f"id-{number}"))

    taken = [take(number) for number in range(3)]
    journal.write(lambda tx: finish_command(tx, taken[0], "{}"))
    journal.write(lambda tx: finish_command(tx, taken[1], "{}"))
    clock.advance(100 * DAY_S)
    young = take(3)
    journal.write(lambda tx: finish_command(tx, young, "{}"))
    while journal.write(lambda tx: purge_traces(tx, limits(clock), 1)):
        pass
    left = [number for number in range(4) if journal.read(lambda c, n=number: find_command(c, f"id-{n}"))]
    assert left == [2, 3], "open ones stay however old they are"
    assert [number for number in range(4) if journal.read(lambda c, n=number: find_refusal(c, b"digest-%d" % n))] == [3]


def test_steps_of_refused_requests_go_when_they_are_published(journal, make, tmp_path):
    def refuse(tx):
        tx.step(receipt=None, receipt_id=None, pos_id="pos-1", kkt=None, current=None, target=Status.REJECTED)

    for _ in range(3):
        journal.write(refuse)
    make.synced()
    (last,) = rows(tmp_path, "SELECT max(id) FROM steps WHERE receipt IS NULL")[0]
    assert journal.write(lambda tx: drop_refusal_steps(tx, last - 1, 100)) == 2
    assert journal.write(lambda tx: drop_refusal_steps(tx, last, 100)) == 1
    assert rows(tmp_path, "SELECT count(*) FROM steps") == [(4,)]

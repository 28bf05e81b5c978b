"""Purging: what has ended long ago goes, its key and its verdict stay for ever."""

import pytest
from support.clocks import ManualClock
from support.stages import a_mark, a_receipt, check_counts, kill, new_journal, rows

from kkt_bridge.errors import IllegalTransition
from kkt_bridge.journal.commands import find_command, finish_command, take_command
from kkt_bridge.journal.document_queue import dead_letter, dead_letters, discard, ready_documents, record_sent, requeue
from kkt_bridge.journal.outbox import history_of
from kkt_bridge.journal.print_queue import lease, record_printed, record_rejected
from kkt_bridge.journal.receipts import (
    REFUSALS_BYTES_MAX,
    REFUSALS_OF_POS_MAX,
    find_receipt,
    find_refunded_sale,
    find_refusal,
    insert_receipt,
    remember_refusal,
    trim_refusals,
)
from kkt_bridge.journal.retention import (
    EXPIRING_RECORDS,
    PurgeLimits,
    aged_receipts,
    drop_expired,
    expired_keys,
    purge_receipts,
)
from kkt_bridge.receipts.lifecycle import Status

FN = "9999078900000001"
NEVER_ENDED = ("buffered", "printing", "printed")
DAY_S = 86_400
YEAR_S = 365 * DAY_S
TOLD = 2**62


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
        assert self.task.key.receipt_id == new.key.receipt_id
        return new

    def rejected(self, **changes):
        new = self.printing(**changes)
        self.journal.write(lambda tx: record_rejected(tx, self.task, "kkt_rejected", "no"))
        return new

    def printed(self, **changes):
        new = self.printing(**changes)
        self.fd_number += 1
        self.journal.write(
            lambda tx: record_printed(tx, self.task, a_mark(self.fd_number, FN), ("not_on_paper",), body=b"{}")
        )
        self.due = self.journal.read(lambda c: ready_documents(c, "kkt-1", 0, 1000))[-1]
        return new

    def synced(self, **changes):
        new = self.printed(**changes)
        self.journal.write(lambda tx: record_sent(tx, self.due, 1_795_345_381))
        return new

    def dead(self, **changes):
        new = self.printed(**changes)
        self.journal.write(lambda tx: dead_letter(tx, self.due, reason="refused", error="422"))
        self.letter = self.journal.read(lambda c: dead_letters(c, "kkt-1", 0, 1000))[-1]
        return new

    def discarded(self, **changes):
        new = self.dead(**changes)
        self.journal.write(lambda tx: discard(tx, self.letter, "a reason"))
        return new


@pytest.fixture
def make(journal):
    return Maker(journal)


def limits(journal, synced_days=7.0, dead_days=90.0, steps_published=TOLD):
    now = journal.steady_ms()
    return PurgeLimits(
        synced_before_ms=now - int(synced_days * DAY_S * 1000),
        dead_before_ms=now - int(dead_days * DAY_S * 1000),
        events_before_ms=now - int(synced_days * DAY_S * 1000),
        steps_published=steps_published,
    )


def purge(journal, after=0, rows_max=100, **how):
    """Look at some rows, purge what is old among them; where to go on from."""
    bounds = limits(journal, **how)
    page = journal.read(lambda c: aged_receipts(c, bounds, after, rows_max))
    journal.write(lambda tx: purge_receipts(tx, bounds, page.aged))
    return page.after


def found(journal, new):
    return journal.read(lambda c: find_receipt(c, new.key))


def is_purged(journal, new):
    return found(journal, new).id is None


@pytest.mark.parametrize(("state", "kept_days"), [("synced", 7), ("rejected", 7), ("discarded", 90)])
def test_what_has_ended_is_kept_for_its_time(journal, clock, make, state, kept_days):
    new = getattr(make, state)()
    clock.advance(kept_days * DAY_S)
    purge(journal)
    assert not is_purged(journal, new)
    clock.advance(1)
    purge(journal)
    assert is_purged(journal, new)


@pytest.mark.parametrize("state", NEVER_ENDED)
def test_what_has_not_ended_is_kept_for_ever(journal, clock, make, state):
    new = getattr(make, state)()
    clock.advance(10_000 * DAY_S)
    purge(journal)
    assert not is_purged(journal, new)


def test_the_time_counts_from_the_end_not_from_the_beginning(journal, clock, make):
    """A receipt that reached the OFD after a month's outage is not purged the same minute."""
    new = make.printed()
    clock.advance(30 * DAY_S)
    journal.write(lambda tx: record_sent(tx, make.due, None))
    purge(journal)
    assert not is_purged(journal, new)
    clock.advance(7 * DAY_S + 1)
    purge(journal)
    assert is_purged(journal, new)


@pytest.mark.parametrize("state", ["synced", "rejected", "discarded"])
def test_a_tombstone_answers_as_the_receipt_did(journal, clock, make, tmp_path, state):
    new = getattr(make, state)(correlation=b"7")
    before = found(journal, new)
    clock.advance(100 * DAY_S)
    purge(journal)
    after = found(journal, new)
    for name in ("key", "kkt", "status", "digest", "type", "total", "hlc", "server_time"):
        assert getattr(after, name) == getattr(before, name), name
    for name in ("received_ms", "printed_ms", "error_code", "error_message", "mark", "warnings"):
        assert getattr(after, name) == getattr(before, name), name
    for table in ("receipts", "requests", "documents", "steps"):
        assert rows(tmp_path, f"SELECT * FROM {table}") == []


def test_a_purged_receipt_leaves_the_counts(journal, clock, make):
    make.synced()
    make.printed()
    clock.advance(8 * DAY_S)
    purge(journal)
    assert journal.counts() == {
        ("kkt-1", "buffered"): 0,
        ("kkt-1", "printing"): 0,
        ("kkt-1", "printed"): 1,
        ("kkt-1", "synced"): 0,
    }


def test_refunds_are_summed_over_what_was_purged(journal, clock, make):
    sale = make.synced(total=5000)
    make.synced(type="refund", original_receipt_id=sale.key.receipt_id, total=1200)
    make.rejected(type="refund", original_receipt_id=sale.key.receipt_id, total=700)
    clock.advance(8 * DAY_S)
    purge(journal)
    make.synced(type="refund", original_receipt_id=sale.key.receipt_id, total=300)
    original = journal.read(lambda c: find_refunded_sale(c, sale.key))
    assert (original.status, original.total, original.refunded) == (Status.SYNCED, 5000, 1500)


def test_a_purge_goes_on_where_it_stopped(journal, clock, make):
    receipts = [make.synced() if number % 3 else make.printed() for number in range(10)]
    clock.advance(8 * DAY_S)
    after, rounds = 0, 0
    while after is not None:
        after = purge(journal, after=after, rows_max=3)
        rounds += 1
        assert rounds < 10
    assert [is_purged(journal, new) for new in receipts] == [bool(number % 3) for number in range(10)]


def test_a_purge_ends_at_what_is_young(journal, clock, make):
    make.synced()
    clock.advance(8 * DAY_S)
    young = [make.synced() for _ in range(5)]
    assert purge(journal, rows_max=3) is None, "not one batch after another through a million young ones"
    assert not any(is_purged(journal, new) for new in young)


@pytest.mark.parametrize("jump_s", [DAY_S, 10 * YEAR_S, -DAY_S, -10 * YEAR_S], ids=["+1d", "+10y", "-1d", "-10y"])
@pytest.mark.parametrize("state", ["synced", "rejected", "dead", "discarded"])
def test_a_wall_clock_that_jumps_ages_nothing(journal, clock, make, state, jump_s):
    new = getattr(make, state)()
    clock.jump(jump_s)
    purge(journal)
    assert not is_purged(journal, new)
    assert journal.counts().get(("kkt-1", "dlq"), 0) == (state == "dead")


def test_a_wall_clock_in_1970_keeps_nothing_for_ever(journal, clock, make):
    clock.wall_ms = 0
    new = make.synced()
    clock.advance(7 * DAY_S + 1)
    clock.wall_ms = 0
    purge(journal)
    assert is_purged(journal, new)


def test_time_that_the_bridge_did_not_live_does_not_count(tmp_path, journal, clock, make):
    new = make.synced()
    kill(journal)
    clock.advance(30 * DAY_S)
    clock.reboot()
    again = new_journal(tmp_path, clock)
    purge(again)
    assert not is_purged(again, new)
    clock.advance(7 * DAY_S + 1)
    purge(again)
    assert is_purged(again, new)
    again.close()
    journal.open()


# -- dead letters that nobody decides on --------------------------------------------------------------


def test_an_undecided_letter_is_given_up_after_its_time_and_not_before(journal, clock, make):
    new = make.dead()
    clock.advance(90 * DAY_S)
    purge(journal)
    assert journal.counts()["kkt-1", "dlq"] == 1
    clock.advance(1)
    purge(journal)
    assert journal.counts()["kkt-1", "dlq"] == 0
    last = journal.read(lambda c: history_of(c, make.letter.id))[-1]
    assert (last.receipt_id, last.from_status, last.to_status) == (new.key.receipt_id, Status.DEAD, Status.DEAD)
    assert last.error.startswith("expired: ")
    assert journal.read(lambda c: dead_letters(c, "kkt-1", 0, 10)) == []


def test_what_is_given_up_stays_until_the_world_was_told(journal, clock, make, tmp_path):
    new = make.dead()
    clock.advance(90 * DAY_S + 1)
    (before,) = rows(tmp_path, "SELECT max(id) FROM steps")[0]
    for _ in range(3):
        purge(journal, steps_published=before)
    assert not is_purged(journal, new), "its last step is not at the broker"
    (last,) = rows(tmp_path, "SELECT max(id) FROM steps")[0]
    purge(journal, steps_published=last)
    assert is_purged(journal, new)
    assert found(journal, new).status is Status.DEAD


def test_what_is_given_up_waits_for_no_broker_for_ever(journal, clock, make):
    new = make.dead()
    clock.advance(90 * DAY_S + 1)
    purge(journal, steps_published=0)
    clock.advance(7 * DAY_S + 1)
    purge(journal, steps_published=0)
    assert is_purged(journal, new)


def test_a_letter_given_up_can_no_longer_be_requeued(journal, clock, make):
    make.dead()
    clock.advance(90 * DAY_S + 1)
    purge(journal, steps_published=0)
    with pytest.raises(IllegalTransition, match="no longer a dead letter"):
        journal.write(lambda tx: requeue(tx, make.letter))


def test_a_decision_is_kept_as_long_as_the_letter_was(journal, clock, make):
    """The audit of a discard would else end with the letter's 90th day, were it a minute after the discard."""
    new = make.dead()
    clock.advance(89 * DAY_S)
    journal.write(lambda tx: discard(tx, make.letter, "a reason"))
    clock.advance(90 * DAY_S)
    purge(journal)
    assert not is_purged(journal, new)
    clock.advance(1)
    purge(journal)
    assert is_purged(journal, new)


@pytest.mark.parametrize("state", ["dead", "discarded"])
def test_letters_may_be_kept_for_a_shorter_time_than_receipts(journal, clock, make, state):
    letters = [getattr(make, state)() for _ in range(2)]
    clock.advance(2 * DAY_S)
    for _ in range(2):
        after = 0
        while after is not None:
            after = purge(journal, after=after, rows_max=1, dead_days=1)
    assert all(is_purged(journal, new) for new in letters)


def test_what_happens_between_the_look_and_the_purge_counts(journal, clock, make, tmp_path):
    make.dead()
    clock.advance(90 * DAY_S + 1)
    bounds = limits(journal)
    page = journal.read(lambda c: aged_receipts(c, bounds, 0, 10))
    assert page.aged == [make.letter.id]
    journal.write(lambda tx: requeue(tx, make.letter))
    assert journal.write(lambda tx: purge_receipts(tx, bounds, page.aged)) == 0
    (due,) = journal.read(lambda c: ready_documents(c, "kkt-1", 0, 10))
    journal.write(lambda tx: record_sent(tx, due, None))
    assert journal.write(lambda tx: purge_receipts(tx, bounds, page.aged)) == 0
    (stored,) = rows(tmp_path, "SELECT status, document IS NOT NULL FROM receipts")
    assert stored == ("synced", 1)


def test_two_purges_of_the_same_are_one(journal, clock, make):
    make.synced()
    clock.advance(8 * DAY_S)
    bounds = limits(journal)
    page = journal.read(lambda c: aged_receipts(c, bounds, 0, 10))
    for _ in range(2):
        journal.write(lambda tx: purge_receipts(tx, bounds, page.aged))
    assert journal.counts()["kkt-1", "synced"] == 0


# -- what belongs to no receipt -----------------------------------------------------------------------


def drop(journal, name, batch=100, **how):
    """Drop the old ones of a kind, a batch at a time; the size of each batch."""
    (trace,) = [trace for trace in EXPIRING_RECORDS if trace.name == name]
    sizes = []
    while found := journal.read(lambda c: expired_keys(c, trace, limits(journal, **how), batch)):
        sizes.append(len(found))
        journal.write(lambda tx: drop_expired(tx, trace, limits(journal, **how), batch))
        assert len(sizes) < 100
    return sizes


def order(journal, command_id, name="pause", *, finish=True):
    def take(tx):
        take_command(
            tx, command_id=command_id, name=name, issued_by="ops", args="{}", reply_topic="topic", correlation=None
        )

    journal.write(take)
    taken = journal.read(lambda c: find_command(c, command_id))
    if finish:
        journal.write(lambda tx: finish_command(tx, taken, "{}"))
    return taken


def is_known(journal, command_id):
    return journal.read(lambda c: find_command(c, command_id)) is not None


@pytest.mark.parametrize(
    ("name", "kind", "days"),
    [("dlq-discard", "commands", 90), ("settle", "commands", 90), ("status", "commands that only asked", 7)],
)
def test_commands_are_kept_from_when_they_were_finished(journal, clock, name, kind, days):
    taken = order(journal, "1", name, finish=False)
    clock.advance(100 * DAY_S)
    assert drop(journal, kind) == [], "an open one stays however old it is"
    journal.write(lambda tx: finish_command(tx, taken, "{}"))
    clock.jump(10 * YEAR_S)
    clock.advance(days * DAY_S)
    drop(journal, kind)
    assert is_known(journal, "1")
    clock.advance(1)
    assert drop(journal, kind) == [1]
    assert not is_known(journal, "1")


def test_answers_to_commands_that_only_ask_are_kept_for_a_minute_not_for_a_week(journal, clock):
    def ask(number, name):
        command_id = f"00000000-0000-4000-8000-{number:012d}"
        journal.write(lambda tx: take(tx, command_id, name))
        taken = journal.read(lambda c: find_command(c, command_id))
        journal.write(lambda tx: finish_command(tx, taken, "x" * 10_000))
        return command_id

    audited = ask(0, "pause")
    asked = []
    for number in range(1, 200):
        asked.append(ask(number, "status"))
        clock.advance(1)
    kept = [journal.read(lambda c, each=each: find_command(c, each)) is not None for each in asked]
    assert 55 <= sum(kept) <= 65
    assert all(kept[-55:]), "a redelivery still finds its answer"
    assert journal.read(lambda c: find_command(c, audited)) is not None


def take(tx, command_id, name):
    take_command(
        tx, command_id=command_id, name=name, issued_by="ops", args="{}", reply_topic="result", correlation=None
    )


def test_only_the_newest_refusals_of_a_pos_are_kept_and_those_of_others_stay(journal):
    def refuse(first, last, pos):
        for number in range(first, last):
            journal.write(
                lambda tx, number=number: remember_refusal(tx, pos_id=pos, digest=b"%d" % number, reply=b"reply")
            )

    refuse(0, 1, "pos-2")
    refuse(1, REFUSALS_OF_POS_MAX + 21, "pos-1")
    journal.write(trim_refusals)
    found = [journal.read(lambda c, n=n: find_refusal(c, b"%d" % n)) is not None for n in (0, 1, 20, 21, 1020)]
    assert found == [True, False, False, True, True]


def test_all_refusals_together_are_bounded_in_bytes(journal):
    reply = b"x" * (REFUSALS_BYTES_MAX // 10)
    for number in range(15):
        journal.write(
            lambda tx, number=number: remember_refusal(tx, pos_id=f"pos-{number}", digest=b"%d" % number, reply=reply)
        )
    journal.write(trim_refusals)
    kept = [journal.read(lambda c, n=n: find_refusal(c, b"%d" % n)) is not None for n in range(15)]
    assert kept == [False] * 5 + [True] * 10


def test_refusals_are_kept_for_their_time(journal, clock):
    journal.write(lambda tx: remember_refusal(tx, pos_id="pos-1", digest=b"1", reply=b"reply"))
    clock.jump(10 * YEAR_S)
    clock.advance(7 * DAY_S)
    journal.write(lambda tx: remember_refusal(tx, pos_id="pos-1", digest=b"2", reply=b"reply"))
    assert drop(journal, "refusals") == []
    clock.advance(1)
    assert drop(journal, "refusals") == [1]
    assert journal.read(lambda c: find_refusal(c, b"1")) is None
    assert journal.read(lambda c: find_refusal(c, b"2")) == b"reply"


def test_a_refusal_said_again_is_young_again(journal, clock):
    journal.write(lambda tx: remember_refusal(tx, pos_id="pos-1", digest=b"1", reply=b"reply"))
    clock.advance(7 * DAY_S + 1)
    journal.write(lambda tx: remember_refusal(tx, pos_id="pos-1", digest=b"1", reply=b"another"))
    assert drop(journal, "refusals") == []


def test_events_go_by_age_and_replies_never(journal, clock, tmp_path):
    journal.write(lambda tx: tx.publish("event", b"old", is_event=True))
    journal.write(lambda tx: tx.publish("reply", b"old"))
    clock.jump(10 * YEAR_S)
    clock.advance(7 * DAY_S)
    journal.write(lambda tx: tx.publish("event", b"new", is_event=True))
    assert drop(journal, "events") == []
    clock.advance(1)
    assert drop(journal, "events") == [1]
    assert rows(tmp_path, "SELECT topic, payload FROM outbox ORDER BY id") == [("reply", b"old"), ("event", b"new")]


def test_steps_of_refused_requests_go_when_they_are_published(journal, make, tmp_path):
    def refuse(tx):
        tx.step(None, ("pos-1", None), None, None, Status.REJECTED)

    for _ in range(3):
        journal.write(refuse)
    make.synced()
    (last,) = rows(tmp_path, "SELECT max(id) FROM steps WHERE receipt IS NULL")[0]
    assert drop(journal, "steps of refused requests", steps_published=last - 1) == [2]
    assert drop(journal, "steps of refused requests", steps_published=last) == [1]
    assert rows(tmp_path, "SELECT count(*) FROM steps") == [(4,)]


def test_traces_go_in_batches_oldest_first(journal, clock):
    for number in range(5):
        order(journal, f"{number}")
        clock.advance(1)
    clock.advance(90 * DAY_S - 1)
    assert drop(journal, "commands", batch=2) == [2, 2]
    assert [is_known(journal, f"{number}") for number in range(5)] == [False, False, False, False, True]

"""The bridge's own order and its own age: neither goes back, whatever the machine's clocks do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clocks import NOON_MS, ManualClock
from support.stages import a_receipt, each_step, kill, new_journal, rows

from kkt_bridge.clock import Hlc
from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.receipts import find_receipt, insert_receipt

HOUR_S = 3600
YEAR_S = 365 * 24 * HOUR_S


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def journal(tmp_path, clock):
    opened = new_journal(tmp_path, clock)
    yield opened
    opened.close()


def take(journal, **changes):
    """Take a receipt and return its place in the bridge's order."""
    new = a_receipt(**changes)
    journal.write(lambda tx: insert_receipt(tx, new))
    return journal.read(lambda connection: find_receipt(connection, new.key)).hlc


def test_the_order_follows_the_wall_clock_while_that_goes_forward(journal, clock):
    assert take(journal) == Hlc(NOON_MS, 0)
    clock.advance(1.5)
    assert take(journal) == Hlc(NOON_MS + 1500, 0)


def test_receipts_of_one_millisecond_are_counted(journal):
    assert [take(journal).counter for _ in range(3)] == [0, 1, 2]


def test_receipts_of_one_commit_are_counted(journal):
    received = [a_receipt() for _ in range(3)]
    journal.write(lambda tx: [insert_receipt(tx, new) for new in received])
    hlcs = [journal.read(lambda c, new=new: find_receipt(c, new.key)).hlc for new in received]
    assert hlcs == [Hlc(NOON_MS, counter) for counter in range(3)]


@pytest.mark.parametrize("jump_s", [-0.001, -1, -HOUR_S, -10 * YEAR_S, -56 * YEAR_S])
def test_the_order_goes_on_when_the_wall_clock_goes_back(journal, clock, jump_s):
    first = take(journal)
    clock.jump(jump_s)
    assert take(journal) == Hlc(first.wall_ms, 1)


def test_the_order_catches_up_with_a_clock_that_was_ahead(journal, clock):
    clock.jump(HOUR_S)
    ahead = take(journal)
    clock.jump(-HOUR_S)
    assert take(journal) == Hlc(ahead.wall_ms, 1)
    clock.advance(HOUR_S + 1)
    assert take(journal) == Hlc(NOON_MS + 1000 * (HOUR_S + 1), 0)


def test_the_order_survives_a_restart_with_a_dead_battery(tmp_path, journal, clock):
    before = take(journal)
    kill(journal)
    clock.jump(-20 * YEAR_S)
    clock.reboot()
    again = new_journal(tmp_path, clock)
    assert take(again) == Hlc(before.wall_ms, 1)
    again.close()
    journal.open()


def test_what_was_not_kept_takes_no_place_in_the_order(journal):
    def refused(tx):
        insert_receipt(tx, a_receipt())
        raise StorageUnavailable("no room")

    with pytest.raises(StorageUnavailable):
        journal.write(refused)
    assert take(journal) == Hlc(NOON_MS, 0)


def test_the_steady_clock_counts_what_the_bridge_lived(tmp_path, journal, clock):
    assert journal.steady_ms() == 0
    clock.advance(12.5)
    assert journal.steady_ms() == 12_500
    take(journal)
    kill(journal)
    clock.advance(HOUR_S)
    clock.reboot(7.0)
    again = new_journal(tmp_path, clock)
    assert again.steady_ms() == 12_500, "the time between is nobody's"
    clock.advance(0.5)
    assert again.steady_ms() == 13_000
    again.close()
    journal.open()


def test_the_steady_clock_does_not_care_for_the_wall(journal, clock):
    clock.advance(1)
    clock.jump(-YEAR_S)
    assert journal.steady_ms() == 1000
    clock.jump(2 * YEAR_S)
    assert journal.steady_ms() == 1000


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    beginnings=st.lists(st.floats(min_value=0.001, max_value=1e8), min_size=2, max_size=6),
    lived_ms=st.lists(st.integers(min_value=0, max_value=10**10), min_size=6, max_size=6),
)
def test_the_steady_clock_never_goes_back_over_restarts(tmp_path_factory, beginnings, lived_ms):
    folder, clock = tmp_path_factory.mktemp("journal"), ManualClock()
    seen = []
    for beginning, lived in zip(beginnings, lived_ms, strict=False):
        clock.reboot(beginning)
        journal = new_journal(folder, clock)
        seen.append(journal.steady_ms())
        clock.advance(lived / 1000)
        journal.write(lambda tx: seen.append(tx.instant.steady_ms))
        kill(journal)
    assert seen == sorted(seen)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(jumps=st.lists(st.floats(min_value=-1e9, max_value=1e9), min_size=1, max_size=10), restart=st.booleans())
def test_the_order_is_strict_under_any_jumps(tmp_path_factory, jumps, restart):
    folder, clock = tmp_path_factory.mktemp("journal"), ManualClock()
    journal = new_journal(folder, clock)
    hlcs = []
    for jump in jumps:
        clock.wall_ms = max(0, clock.wall_ms + round(jump * 1000))
        hlcs.append(take(journal))
        if restart:
            kill(journal)
            journal = new_journal(folder, clock)
    assert list(each_step(hlcs)) == hlcs
    kill(journal)


def test_every_commit_is_counted_and_ids_follow_it(tmp_path, journal):
    for _ in range(3):
        journal.write(lambda tx: [tx.publish("topic", b"") for _ in range(2)])
    kill(journal)
    again = new_journal(tmp_path, ManualClock())
    again.write(lambda tx: tx.publish("topic", b""))
    again.close()
    journal.open()
    ids = [message for (message,) in rows(tmp_path, "SELECT id FROM outbox ORDER BY rowid")]
    assert list(each_step(ids)) == ids
    assert len(ids) == 7

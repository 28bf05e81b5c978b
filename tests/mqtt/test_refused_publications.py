"""What the broker does not take is set aside, tried again, and does not stop the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkt_bridge.mqtt.refused_publications import (
    CUT_WAIT_MAX_S,
    CUTS_MAX,
    HOLDS_MAX,
    INITIAL_WAIT_S,
    REFUSED_WAIT_MAX_S,
    HoldKind,
    Holds,
    Suspects,
)

REFUSED, CUT = HoldKind.REFUSED, HoldKind.CUT


@pytest.fixture
def holds():
    return Holds()


def test_what_is_held_is_due_after_a_while_and_free_when_it_is_taken(holds):
    assert holds.hold("a", REFUSED, "a: no", 0.0)
    assert not holds.hold("a", REFUSED, "a: no", 1.0), "no news"
    assert ("a" in holds, holds.due(INITIAL_WAIT_S - 1)) == (True, [])
    assert holds.due(INITIAL_WAIT_S) == ["a"]
    holds.try_again("a")
    assert holds.due(1000.0) == [], "while it is being tried"
    holds.release("a")
    assert "a" not in holds
    assert not holds


@pytest.mark.parametrize(("kind", "longest"), [(REFUSED, REFUSED_WAIT_MAX_S), (CUT, CUT_WAIT_MAX_S)])
def test_each_failed_trial_makes_the_next_wait_longer_up_to_a_bound_and_never_ends_it(holds, kind, longest):
    holds.hold("a", kind, "why", 0.0)
    waits, now = [], 0.0
    for _ in range(40):
        due = holds.next_due()
        waits.append(due - now)
        now = due
        assert holds.due(now) == ["a"]
        holds.try_again("a")
        holds.hold("a", kind, "why", now)
    assert waits[:3] == [INITIAL_WAIT_S, 2 * INITIAL_WAIT_S, 4 * INITIAL_WAIT_S]
    assert waits[-1] == longest


def test_suspects_of_a_cut_are_tried_one_at_a_time(holds):
    for number in range(3):
        holds.hold(number, CUT, "cut", 0.0)
    holds.hold("refused", REFUSED, "no", 0.0)
    assert holds.due(100.0) == [0, "refused"]
    holds.try_again(0)
    assert holds.due(100.0) == ["refused"]
    holds.release(0)
    assert holds.due(100.0) == [1, "refused"]


def test_a_lost_connection_leaves_trials_for_the_next_one(holds):
    holds.hold("a", REFUSED, "no", 0.0)
    holds.try_again("a")
    holds.link_down()
    assert holds.due(100.0) == ["a"]


def test_what_is_held_is_counted_by_its_kind(holds):
    holds.hold("a", REFUSED, "a: no", 0.0)
    holds.hold(7, CUT, "b: cut", 0.0)
    assert (holds.refused.count, holds.refused.example) == (1, "a: no")
    assert (holds.parked.count, holds.parked.example) == (1, "b: cut")
    holds.release("a")
    assert (holds.refused.count, holds.refused.example) == (0, None)


def test_memory_is_bounded_and_it_is_known_when_that_was_too_little(holds):
    for number in range(HOLDS_MAX + 1):
        holds.hold(number, REFUSED, "no", 0.0)
    assert holds.overflowed
    assert holds.refused.count == HOLDS_MAX


def test_who_was_there_at_every_cut_is_the_suspect():
    suspects, parked = Suspects(), []
    for neighbours in (["a", "b"], ["b", "c"], ["d"]):
        assert parked == []
        suspects, parked = suspects.cut(["poison", *neighbours])
    assert parked == ["poison"]


@given(st.lists(st.sets(st.integers(0, 5)), max_size=30))
def test_only_who_was_there_at_so_many_cuts_in_a_row_is_parked(cuts):
    suspects, parked_at = Suspects(), dict.fromkeys(range(6), -1)
    for now, in_flight in enumerate(cuts):
        suspects, parked = suspects.cut(in_flight)
        for key in range(6):
            window = cuts[max(parked_at[key] + 1, now - CUTS_MAX + 1) : now + 1]
            expected = len(window) == CUTS_MAX and all(key in each for each in window)
            assert (key in parked) == expected
            if expected:
                parked_at[key] = now

"""Who sends more than a terminal ever has to say."""

import pytest
from support.clocks import ManualClock

from kkt_bridge.stages.intake.flood import FLOOD_PER_S, WINDOW_S, FloodWatch

FLOOD = int(FLOOD_PER_S * WINDOW_S)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def watch(clock):
    return FloodWatch(clock)


def refused(watch, senders):
    """Messages that are refused, while nothing else waits."""
    watch.note(senders, left_waiting=False)
    for sender in senders:
        watch.note_refusal(sender)


def test_a_flood_is_seen_when_its_window_is_over(watch, clock):
    began_ms = clock.now_ms()
    refused(watch, {"pos-1": FLOOD, "pos-2": 3})
    assert watch.flood is None
    clock.advance(WINDOW_S)
    assert (watch.flood.pos, watch.flood.rate_per_s, watch.flood.since_ms) == ("pos-1", FLOOD_PER_S, began_ms)


def test_a_busy_terminal_is_no_flood(watch, clock):
    refused(watch, {"pos-1": FLOOD - 1})
    clock.advance(WINDOW_S)
    assert watch.flood is None


def test_a_flood_that_goes_on_keeps_its_beginning(watch, clock):
    began_ms = clock.now_ms()
    for _ in range(3):
        refused(watch, {"pos-1": FLOOD})
        clock.advance(WINDOW_S)
    assert watch.flood.since_ms == began_ms


def test_a_flood_after_a_long_time_in_which_nobody_looked_is_not_diluted_by_it(watch, clock):
    clock.advance(100 * WINDOW_S)
    for _ in range(2):
        refused(watch, {"pos-1": FLOOD})
        clock.advance(WINDOW_S)
    assert watch.flood.rate_per_s == FLOOD_PER_S


def test_a_flood_that_ends_is_no_longer_shown_although_nothing_more_arrives(watch, clock):
    refused(watch, {"pos-1": FLOOD})
    clock.advance(WINDOW_S)
    assert watch.flood is not None
    clock.advance(WINDOW_S)
    assert watch.flood is None


def test_of_several_floods_the_worst_is_shown(watch, clock):
    refused(watch, {"pos-1": FLOOD, "pos-2": 2 * FLOOD})
    clock.advance(WINDOW_S)
    assert watch.flood.pos == "pos-2"


def test_much_of_which_nothing_is_refused_and_for_which_nobody_waits_is_no_flood(watch, clock):
    watch.note({"pos-1": FLOOD, "pos-2": 1}, left_waiting=False)
    watch.note({"pos-1": FLOOD}, left_waiting=True)
    watch.note_refusal("pos-2")
    clock.advance(WINDOW_S)
    assert watch.flood is None


def test_much_for_which_others_wait_is_a_flood_in_that_window_only(watch, clock):
    watch.note({"pos-1": FLOOD, "pos-2": 1}, left_waiting=True)
    clock.advance(WINDOW_S)
    assert watch.flood.pos == "pos-1"
    watch.note({"pos-1": FLOOD}, left_waiting=False)
    clock.advance(WINDOW_S)
    assert watch.flood is None

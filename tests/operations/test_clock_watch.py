"""Whether the system clock can be believed."""

import pytest
from support.clocks import NOON_MS, ManualClock
from support.stages import ZONE

from kkt_bridge.operations.clock_watch import (
    ADVICE,
    BEHIND_HELD_S,
    BELIEVED_MAX,
    STEADY_S,
    ClockVerdict,
    ClockWatch,
)

DAY_S = 86_400
YEARS_S = 10 * 365 * DAY_S


class Bench:
    """A watch that looks every half second, as the telemetry has it look."""

    def __init__(self, newest_ms=NOON_MS):
        self.clock = ManualClock()
        self.watch = ClockWatch(self.clock, ZONE)
        self.newest_ms = newest_ms
        self.drifts = {}
        self.verdict = self.look()

    def look(self):
        self.verdict = self.watch.check(self.newest_ms, self.drifts)
        return self.verdict

    def run(self, seconds):
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
            self.look()
        return self.verdict

    def jump(self, seconds):
        self.clock.jump(seconds)
        self.clock.advance(0.5)
        return self.look()

    def take_receipt(self):
        self.newest_ms = max(self.newest_ms, self.clock.now_ms())


@pytest.fixture
def bench():
    return Bench()


def test_a_clock_that_goes_right_is_believed(bench):
    assert bench.verdict == ClockVerdict()
    assert bench.run(100) == ClockVerdict()


@pytest.mark.parametrize("correction_s", [59, -59])
def test_a_correction_is_no_jump(bench, correction_s):
    bench.newest_ms = 0
    assert bench.jump(correction_s) == ClockVerdict()


def test_a_jump_on_is_told_and_believed_when_nothing_speaks_against_it(bench):
    verdict = bench.jump(DAY_S + 3)
    assert verdict == ClockVerdict(f"the system clock jumped by +1 day, 0:00:03: {ADVICE}")
    bench.take_receipt()
    assert bench.run(STEADY_S - 2).alert
    assert bench.run(3) == ClockVerdict()


def test_a_second_jump_begins_the_wait_anew(bench):
    bench.jump(DAY_S)
    bench.run(STEADY_S - 10)
    assert "+0:05:00" in bench.jump(300).alert
    assert bench.run(STEADY_S - 10).alert
    assert bench.run(12).alert is None


@pytest.mark.parametrize("jump_s", [-DAY_S, -YEARS_S, -61])
def test_a_jump_back_behind_the_newest_receipt_is_known_to_be_wrong(bench, jump_s):
    bench.clock.advance(0.5)
    bench.take_receipt()
    bench.clock.advance(0.5)
    bench.look()
    verdict = bench.jump(jump_s - 1)
    assert verdict.alert.startswith("the system clock jumped by -")
    assert verdict.wrong is not None
    assert bench.run(min(STEADY_S, -jump_s)).alert
    bench.clock.advance(-jump_s)
    bench.run(1)
    bench.run(STEADY_S)
    assert bench.verdict == ClockVerdict(), "the newest receipt's time has come again"


@pytest.mark.parametrize("jump_s", [DAY_S, YEARS_S])
def test_put_back_to_where_it_was_it_is_believed_at_once(bench, jump_s):
    """Receipts were given while it was ahead: their times say nothing against the right one."""
    bench.jump(jump_s)
    bench.take_receipt()
    bench.run(5)
    assert bench.jump(-jump_s) == ClockVerdict()
    assert bench.run(100) == ClockVerdict()


def test_put_back_after_the_wrong_time_was_believed_it_is_believed_too(bench):
    bench.jump(YEARS_S)
    bench.run(STEADY_S + 1)
    bench.take_receipt()
    assert bench.run(100) == ClockVerdict()
    assert bench.jump(-YEARS_S) == ClockVerdict()
    assert bench.run(100) == ClockVerdict()


def test_a_wrong_time_that_was_believed_once_is_told_of_again(bench):
    bench.jump(YEARS_S)
    bench.run(STEADY_S + 1)
    bench.jump(-YEARS_S)
    bench.run(10)
    assert bench.jump(YEARS_S).alert


def test_a_clock_that_never_rests_is_remembered_within_bounds(bench):
    for _ in range(3 * BELIEVED_MAX):
        bench.jump(DAY_S)
        bench.clock.advance(STEADY_S + 1)
        assert bench.look() == ClockVerdict()
    assert len(bench.watch._believed) == BELIEVED_MAX


def test_a_dead_battery_is_known(bench):
    bench.newest_ms = 0
    verdict = bench.jump(-NOON_MS / 1000)
    assert "1970-01-01" in verdict.wrong
    assert bench.run(2 * STEADY_S).wrong
    assert bench.jump(NOON_MS / 1000).alert is None


def test_a_start_with_a_dead_battery_is_known():
    bench = Bench()
    bench.clock = ManualClock(wall_ms=5_000)
    bench.watch = ClockWatch(bench.clock, ZONE)
    verdict = bench.look()
    assert verdict.alert == (
        f"the system clock is wrong: it shows 1970-01-01 03:00:05+03:00, a time that is long over: {ADVICE}"
    )
    assert bench.run(STEADY_S + 10).wrong
    verdict = bench.jump((NOON_MS - bench.clock.now_ms()) / 1000)
    assert verdict.wrong is None
    assert "jumped by +20779 days" in verdict.alert
    assert bench.run(STEADY_S + 1) == ClockVerdict()


def test_a_start_behind_the_newest_receipt_is_known():
    bench = Bench(newest_ms=NOON_MS + 90_000)
    assert bench.verdict.wrong == "it shows 2026-11-22 12:03:00+03:00, 0:01:30 before the newest receipt"
    assert bench.run(29).wrong
    assert bench.run(2) == ClockVerdict()


def test_a_register_that_did_not_jump_along_keeps_the_doubt_up(bench):
    bench.jump(DAY_S)
    bench.drifts = {"kkt-1": -float(DAY_S), "kkt-2": 1.0}
    assert bench.run(2 * STEADY_S).wrong is not None
    assert "the clock of kkt-1 differs from it by -1 day, 0:00:00" in bench.verdict.alert
    assert "kkt-2" not in bench.verdict.alert
    bench.drifts = {"kkt-1": 299.0}
    assert bench.run(1) == ClockVerdict()


def test_a_registers_wrong_clock_alone_is_no_reason(bench):
    bench.drifts = {"kkt-1": float(DAY_S)}
    assert bench.run(10) == ClockVerdict()


def test_one_receipt_from_the_future_is_not_held_against_the_right_time_where_the_registers_agree_with_it():
    bench = Bench(newest_ms=NOON_MS + YEARS_S * 1000)
    bench.drifts = {"kkt-1": 2.0, "kkt-2": -3.0}
    assert bench.verdict.wrong is not None, "either may be wrong"
    assert bench.run(STEADY_S - 1).wrong is not None
    assert bench.run(2) == ClockVerdict()
    assert bench.run(100) == ClockVerdict()


def test_a_register_that_disagrees_keeps_the_newest_receipt_right():
    bench = Bench(newest_ms=NOON_MS + YEARS_S * 1000)
    bench.drifts = {"kkt-1": 2.0, "kkt-2": float(YEARS_S)}
    assert bench.run(2 * STEADY_S).wrong is not None
    bench.drifts = {"kkt-1": 2.0}
    assert bench.run(STEADY_S - 1).wrong is not None, "they must agree for a while"
    assert bench.run(3) == ClockVerdict()


def test_where_no_register_has_a_clock_of_its_own_people_are_told_for_a_day():
    bench = Bench(newest_ms=NOON_MS + YEARS_S * 1000)
    bench.clock.advance(BEHIND_HELD_S - 10)
    assert bench.look().wrong is not None
    bench.clock.advance(20)
    assert bench.look() == ClockVerdict()
    assert bench.jump(-DAY_S).wrong is not None, "a new jump is a new question"

"""The circuit breaker: failures of the service open it, good probes close it, and no clock step freezes it."""

import pytest
from support.clocks import NOON_MS, ManualClock

from kkt_bridge.ofd.breaker import Breaker, BreakerChange
from kkt_bridge.settings import BreakerSettings

SETTINGS = BreakerSettings(fail_max=5, reset_timeout_s=60, success_threshold=2)
DAY_S = 86_400


class Bench:
    def __init__(self, settings=SETTINGS):
        self.clock = ManualClock()
        self.changes = []
        self.seen_at_change = []
        self.breaker = Breaker(settings, self.clock, self.note)

    def note(self, change):
        self.changes.append(change)
        self.seen_at_change.append((self.breaker.state, self.breaker.opened_ms))

    def fail(self, times=1, error="503"):
        for _ in range(times):
            self.breaker.fail(error)

    def open(self):
        self.fail(SETTINGS.fail_max)
        assert self.breaker.state == "open"

    def good_probe(self):
        self.breaker.begin_probe()
        self.breaker.succeed()


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def opened(bench):
    bench.open()
    return bench


def test_it_opens_after_so_many_failures_in_a_row(bench):
    bench.fail(4)
    assert (bench.breaker.state, bench.breaker.failures) == ("closed", 4)
    bench.fail()
    assert (bench.breaker.state, bench.breaker.failures) == ("open", 5)
    assert bench.breaker.opened_ms == NOON_MS
    assert bench.changes == [BreakerChange("closed", "open", 5, "503")]


def test_a_success_in_between_begins_the_count_anew(bench):
    for _ in range(3):
        bench.fail(4)
        bench.breaker.succeed()
    assert (bench.breaker.state, bench.breaker.failures) == ("closed", 0)


def test_the_last_failure_is_told_as_it_was(bench):
    bench.fail(4)
    bench.fail(error="no route")
    assert bench.breaker.last_error == "no route"


def test_it_tells_when_the_next_probe_may_be(opened):
    assert opened.breaker.seconds_to_probe() == 60
    opened.clock.advance(59.5)
    assert opened.breaker.seconds_to_probe() == pytest.approx(0.5)
    opened.clock.advance(0.5)
    assert opened.breaker.seconds_to_probe() == 0


def test_two_good_probes_close_it(opened):
    opened.clock.advance(60)
    opened.good_probe()
    assert (opened.breaker.state, opened.breaker.seconds_to_probe()) == ("half_open", 0)
    opened.good_probe()
    assert (opened.breaker.state, opened.breaker.failures, opened.breaker.opened_ms) == ("closed", 0, None)
    assert [(change.previous, change.current) for change in opened.changes[1:]] == [
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


@pytest.mark.parametrize("good_before", [0, 1])
def test_a_bad_probe_opens_it_for_the_whole_time_again(opened, good_before):
    opened.clock.advance(60)
    for _ in range(good_before):
        opened.good_probe()
    opened.clock.advance(1)
    opened.breaker.begin_probe()
    opened.fail()
    assert (opened.breaker.state, opened.breaker.seconds_to_probe()) == ("open", 60)
    assert opened.breaker.opened_ms == opened.clock.now_ms()


@pytest.mark.parametrize("jump_s", [-3650 * DAY_S, -DAY_S, -30, 30, DAY_S, 3650 * DAY_S])
def test_a_clock_step_neither_freezes_it_open_nor_opens_the_door_too_soon(opened, jump_s):
    opened.clock.advance(30)
    opened.clock.jump(jump_s)
    assert opened.breaker.seconds_to_probe() == 30
    opened.clock.advance(30)
    assert opened.breaker.seconds_to_probe() == 0


def test_whoever_hears_of_a_change_sees_the_new_state(opened):
    opened.clock.advance(60)
    opened.good_probe()
    opened.good_probe()
    assert opened.seen_at_change == [("open", NOON_MS), ("half_open", NOON_MS), ("closed", None)]


def test_a_failure_that_ends_when_it_is_open_already_changes_nothing(opened):
    opened.clock.advance(20)
    opened.fail()
    assert (opened.breaker.state, opened.breaker.seconds_to_probe()) == ("open", 40)


def test_a_success_while_it_is_open_is_a_good_probe(opened):
    opened.breaker.succeed()
    assert opened.breaker.state == "half_open"
    opened.breaker.succeed()
    assert opened.breaker.state == "closed"


def test_a_threshold_of_one_closes_at_once():
    bench = Bench(BreakerSettings(fail_max=1, reset_timeout_s=0.5, success_threshold=1))
    bench.fail()
    bench.clock.advance(0.5)
    bench.good_probe()
    assert bench.breaker.state == "closed"

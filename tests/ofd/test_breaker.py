"""The circuit breaker: failures of the service open it, good probes close it, and no clock step freezes it."""

import pytest
from support.clocks import NOON_MS, ManualClock

from kkt_bridge.errors import BreakerOpen, DocumentRefused, OfdUnavailable, OfdUnreachable
from kkt_bridge.ofd.breaker import Breaker, BreakerChange, DocumentAtFault
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

    def fail(self, times=1, error=None):
        for _ in range(times):
            with pytest.raises((OfdUnavailable, OfdUnreachable)):
                self.breaker.call(self.raising(error or OfdUnavailable("503")))

    def open(self):
        self.fail(SETTINGS.fail_max)
        assert self.breaker.state == "open"

    @staticmethod
    def raising(error):
        def call():
            raise error

        return call


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def opened(bench):
    bench.open()
    return bench


def ok():
    return 7


def test_it_lets_calls_through_and_gives_back_what_they_return(bench):
    assert bench.breaker.call(ok) == 7
    assert (bench.breaker.state, bench.breaker.failures, bench.breaker.opened_ms) == ("closed", 0, None)


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
        bench.breaker.call(ok)
    assert (bench.breaker.state, bench.breaker.failures) == ("closed", 0)


def test_the_last_failure_comes_as_it_was_not_as_the_breakers(bench):
    bench.fail(4)
    with pytest.raises(OfdUnreachable, match="no route"):
        bench.breaker.call(bench.raising(OfdUnreachable("no route")))
    assert bench.breaker.last_error == "no route"


@pytest.mark.parametrize("error", [DocumentRefused("422"), DocumentAtFault("500")])
def test_a_document_at_fault_is_no_failure_of_the_service(bench, error):
    for _ in range(20):
        with pytest.raises(type(error)):
            bench.breaker.call(bench.raising(error))
    assert (bench.breaker.state, bench.breaker.failures, bench.breaker.last_error) == ("closed", 0, None)


def test_an_open_breaker_lets_nothing_through(opened):
    with pytest.raises(BreakerOpen, match="the breaker is open: 503"):
        opened.breaker.call(lambda: pytest.fail("it was called"))
    assert opened.breaker.seconds_to_probe() == 60


def test_it_tells_when_the_next_probe_may_be(opened):
    opened.clock.advance(59.5)
    assert opened.breaker.seconds_to_probe() == pytest.approx(0.5)
    with pytest.raises(BreakerOpen):
        opened.breaker.call(ok)
    opened.clock.advance(0.5)
    assert opened.breaker.seconds_to_probe() == 0


def test_two_good_probes_close_it(opened):
    opened.clock.advance(60)
    opened.breaker.call(ok)
    assert (opened.breaker.state, opened.breaker.seconds_to_probe()) == ("half_open", 0)
    opened.breaker.call(ok)
    assert (opened.breaker.state, opened.breaker.failures, opened.breaker.opened_ms) == ("closed", 0, None)
    assert [(change.previous, change.current) for change in opened.changes[1:]] == [
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


@pytest.mark.parametrize("good_before", [0, 1])
def test_a_bad_probe_opens_it_for_the_whole_time_again(opened, good_before):
    opened.clock.advance(60)
    for _ in range(good_before):
        opened.breaker.call(ok)
    opened.clock.advance(1)
    opened.fail()
    assert (opened.breaker.state, opened.breaker.seconds_to_probe()) == ("open", 60)
    assert opened.breaker.opened_ms == opened.clock.now_ms()


def test_a_refused_document_is_a_good_probe(opened):
    """The OFD answered: it is alive."""
    opened.clock.advance(60)
    for _ in range(2):
        with pytest.raises(DocumentRefused):
            opened.breaker.call(opened.raising(DocumentRefused("422")))
    assert opened.breaker.state == "closed"


@pytest.mark.parametrize("jump_s", [-3650 * DAY_S, -DAY_S, -30, 30, DAY_S, 3650 * DAY_S])
def test_a_clock_step_neither_freezes_it_open_nor_opens_the_door_too_soon(opened, jump_s):
    opened.clock.advance(30)
    opened.clock.jump(jump_s)
    assert opened.breaker.seconds_to_probe() == 30
    with pytest.raises(BreakerOpen):
        opened.breaker.call(ok)
    opened.clock.advance(30)
    assert opened.breaker.call(ok) == 7


def test_whoever_hears_of_a_change_sees_the_new_state(opened):
    opened.clock.advance(60)
    opened.breaker.call(ok)
    opened.breaker.call(ok)
    assert opened.seen_at_change == [("open", NOON_MS), ("half_open", NOON_MS), ("closed", None)]


# -- by force ---------------------------------------------------------------------------------------------


def test_what_is_heard_of_a_call_let_through_counts_like_a_call(bench):
    assert bench.breaker.hear(ok) == 7
    for _ in range(5):
        with pytest.raises(OfdUnavailable):
            bench.breaker.hear(bench.raising(OfdUnavailable("503")))
    assert bench.breaker.state == "open"


def test_what_is_heard_when_it_is_open_already_changes_nothing(opened):
    opened.clock.advance(60)
    assert opened.breaker.hear(ok) == 7
    with pytest.raises(OfdUnavailable):
        opened.breaker.hear(opened.raising(OfdUnavailable("503")))
    assert (opened.breaker.state, opened.breaker.seconds_to_probe()) == ("open", 0)


def test_force_passes_an_open_breaker(opened):
    assert opened.breaker.pass_by_force(ok) == 7
    assert opened.breaker.state == "half_open", "a success is a good probe"
    assert opened.breaker.pass_by_force(ok) == 7
    assert opened.breaker.state == "closed"


def test_a_forced_failure_leaves_an_open_breaker_as_it_was(opened):
    opened.clock.advance(20)
    with pytest.raises(OfdUnavailable):
        opened.breaker.pass_by_force(opened.raising(OfdUnavailable("503")))
    assert (opened.breaker.state, opened.breaker.seconds_to_probe()) == ("open", 40)


def test_force_on_a_closed_breaker_is_a_call_like_any_other(bench):
    for _ in range(5):
        with pytest.raises(OfdUnavailable):
            bench.breaker.pass_by_force(bench.raising(OfdUnavailable("503")))
    assert bench.breaker.state == "open"


def test_a_threshold_of_one_closes_at_once():
    bench = Bench(BreakerSettings(fail_max=1, reset_timeout_s=0.5, success_threshold=1))
    bench.fail()
    bench.clock.advance(0.5)
    bench.breaker.call(ok)
    assert bench.breaker.state == "closed"


def test_a_bug_in_the_call_is_no_success(bench):
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            bench.breaker.call(lambda: 1 // 0)
    assert bench.breaker.state == "open"

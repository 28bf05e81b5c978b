"""Delivery leaves the processor to receipts while they need it, and takes it when they do not."""

import pytest
from support.clocks import ManualClock

from kkt_bridge.stages.delivery.cpu_share import REST_MAX_S, SHARE, WINDOW_S, Pace


class Bench:
    def __init__(self):
        self.clock = ManualClock()
        self.pace = Pace(self.clock)
        self.pace.note_step()
        self.stepped = 0

    def pass_by(self, seconds, *, others):
        """Time in which the other threads use so many cores; delivery rests and takes steps of 1 ms as it may."""
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            step = 0.001 if self.pace.rest_s() == 0 else 0
            self.clock.advance(0.001)
            self.clock.own_processor_s += step
            self.clock.all_processor_s += step + 0.001 * others
            if step:
                self.stepped += 1
                self.pace.note_step()


@pytest.fixture
def bench():
    return Bench()


def test_while_the_others_are_busy_it_takes_its_share_and_never_none(bench):
    bench.pass_by(2 * WINDOW_S, others=0.9)
    before = bench.stepped
    bench.pass_by(10, others=0.9)
    assert (bench.stepped - before) * 0.001 / 10 == pytest.approx(SHARE, rel=0.1)


@pytest.mark.parametrize("others", [0.0, 0.3])
def test_where_the_others_need_little_it_takes_all_that_it_needs(bench, others):
    bench.pass_by(2, others=others)
    assert bench.stepped == pytest.approx(2000, abs=2)


def test_it_goes_on_as_soon_as_the_others_rest(bench):
    bench.pass_by(2, others=0.9)
    bench.pass_by(2 * WINDOW_S, others=0)
    before = bench.stepped
    bench.pass_by(1, others=0)
    assert bench.stepped - before == pytest.approx(1000, abs=2)


def test_a_long_step_is_followed_by_a_bounded_rest(bench):
    bench.pass_by(2 * WINDOW_S, others=0.9)
    bench.clock.advance(10)
    bench.clock.own_processor_s += 5
    bench.clock.all_processor_s += 10
    bench.pace.note_step()
    assert bench.pace.rest_s() == REST_MAX_S

"""The hybrid logical clock: later is later, whatever the system clock does."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kkt_bridge.clock import Hlc

wall = st.integers(min_value=0, max_value=2**48)


def test_the_wall_part_follows_a_clock_that_goes_forward() -> None:
    assert Hlc(1000, 7).next(1001) == Hlc(1001, 0)


def test_the_counter_runs_while_the_clock_stands() -> None:
    assert Hlc(1000, 7).next(1000) == Hlc(1000, 8)


def test_the_counter_runs_while_the_clock_is_behind() -> None:
    assert Hlc(1000, 7).next(0) == Hlc(1000, 8)


def test_a_clock_that_comes_back_is_followed_again() -> None:
    assert Hlc(1000, 7).next(-5).next(1000).next(1001) == Hlc(1001, 0)


@given(wall, st.lists(wall, min_size=1, max_size=50))
def test_time_only_ever_grows_and_never_runs_ahead_of_every_clock(first: int, readings: list[int]) -> None:
    points = [Hlc(first, 0)]
    for reading in readings:
        points.append(points[-1].next(reading))
    assert all(earlier < later for earlier, later in pairwise(points))
    assert points[-1].wall_ms == max(first, *readings)

"""Rates from samples of a counter."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kkt_bridge.operations.components import SAMPLES_MAX, Trend


def fed(window_s, rate, seconds, step_s=0.5):
    trend, now = Trend(window_s), 0.0
    while now <= seconds:
        trend.note(rate * now, now)
        now += step_s
    return trend, rate * (now - step_s), now - step_s


def test_a_steady_growth_is_found():
    trend, value, now = fed(60, 3.0, 600)
    assert trend.per_second(value, now) == pytest.approx(3.0)


def test_without_samples_there_is_no_rate():
    trend = Trend(60)
    assert trend.per_second(5, 10.0) == 0.0
    trend.note(5, 10.0)
    assert trend.per_second(5, 10.0) == 0.0


def test_what_happened_before_the_window_is_forgotten():
    trend, value, now = fed(60, 100.0, 300)
    for _ in range(200):
        now += 0.5
        trend.note(value, now)
    assert trend.per_second(value, now) == pytest.approx(0.0, abs=3.0)
    now += 61
    assert trend.per_second(value, now) == 0.0


def test_a_falling_figure_has_a_negative_rate():
    trend = Trend(60)
    trend.note(100, 0.0)
    assert trend.per_second(40, 30.0) == -2.0


@settings(derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.001, 0.5, 7.0, 100.0]), st.floats(min_value=0, max_value=1e6)), max_size=200
    )
)
def test_samples_are_bounded_and_rates_are_numbers(samples):
    trend, now = Trend(60), 0.0
    for passed, value in samples:
        now += passed
        trend.note(value, now)
        assert len(trend._samples) <= SAMPLES_MAX + 1
        assert abs(trend.per_second(value, now)) <= 1e9

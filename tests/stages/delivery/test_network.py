"""What is believed of the way to the OFD changes slowly: three of a kind, and not too soon after the last change."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kkt_bridge.stages.delivery.uplink import EQUAL_OBSERVATIONS, Network

HOLD_S = 90.0


def see(network, seen, times=EQUAL_OBSERVATIONS, at=0.0):
    """Observe the same several times; the changes it made."""
    return [previous for previous in (network.observe(seen, at) for _ in range(times)) if previous is not None]


def test_a_network_begins_online():
    assert Network(HOLD_S).state == "online"


@pytest.mark.parametrize("seen", ["offline", "degraded"])
def test_two_failures_are_no_news_and_three_are(seen):
    network = Network(HOLD_S)
    assert see(network, seen, 2) == []
    assert network.state == "online"
    assert see(network, seen, 1) == ["online"]
    assert network.state == seen


def test_observations_must_be_equal_and_in_a_row():
    network = Network(HOLD_S)
    for seen in ("offline", "offline", "online", "offline", "offline", "degraded", "offline", "offline"):
        assert network.observe(seen, 0.0) is None
    assert network.observe("offline", 0.0) == "online"


def test_a_state_lasts_so_long_at_least():
    network = Network(HOLD_S)
    see(network, "offline", at=10.0)
    assert see(network, "online", 50, at=99.9) == []
    assert see(network, "online", 1, at=100.0) == ["offline"]


def test_the_hold_counts_from_the_change_not_from_the_last_observation():
    network = Network(HOLD_S)
    see(network, "offline", at=0.0)
    see(network, "offline", 100, at=80.0)
    assert see(network, "degraded", at=91.0) == ["offline"]


def test_without_a_hold_three_are_enough():
    network = Network(0.0)
    assert see(network, "offline") == ["online"]
    assert see(network, "online") == ["offline"]


@settings(derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(["online", "degraded", "offline"]), st.floats(min_value=0, max_value=60)), max_size=60
    )
)
def test_no_change_comes_without_three_of_a_kind_and_the_hold(observations):
    network, now = Network(HOLD_S), 0.0
    seen, changes = [], []
    for one, passed in observations:
        now += passed
        seen.append(one)
        before = network.state
        previous = network.observe(one, now)
        assert (previous is None) == (network.state == before)
        if previous is not None:
            assert previous == before
            assert seen[-EQUAL_OBSERVATIONS:] == [network.state] * EQUAL_OBSERVATIONS
            changes.append(now)
    assert all(later - earlier >= HOLD_S for earlier, later in pairwise(changes))

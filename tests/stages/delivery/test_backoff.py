"""How long a document waits: doubling, bounded, spread."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kkt_bridge.stages.delivery.backoff import JITTER, backoff_s


@pytest.mark.parametrize(
    ("strikes", "expected"), [(1, 5), (2, 10), (3, 20), (4, 40), (6, 160), (7, 300), (20, 300), (10**6, 300)]
)
def test_waits_double_up_to_their_maximum(strikes, expected):
    assert backoff_s(strikes, initial_s=5, max_s=300, chance=0) == expected


@settings(derandomize=True)
@given(
    strikes=st.integers(min_value=1, max_value=10**9),
    initial_s=st.floats(min_value=0.001, max_value=1e6),
    max_s=st.floats(min_value=0.001, max_value=1e6),
    chance=st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_jitter_takes_off_a_share_and_never_adds(strikes, initial_s, max_s, chance):
    whole = backoff_s(strikes, initial_s=initial_s, max_s=max_s, chance=0)
    spread = backoff_s(strikes, initial_s=initial_s, max_s=max_s, chance=chance)
    assert whole * (1 - JITTER) <= spread <= whole <= max_s

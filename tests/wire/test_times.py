"""Times as the contract writes them."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkt_bridge.wire.messages import rfc3339

YEAR_1_MS = -62_135_596_800_000
YEAR_9999_MS = 253_402_300_799_999


@pytest.mark.parametrize(
    ("ms", "zone", "text"),
    [
        (0, "UTC", "1970-01-01T00:00:00.000+00:00"),
        (1795345378911, "Europe/Moscow", "2026-11-22T14:02:58.911+03:00"),
        (1795345378000, "Asia/Kamchatka", "2026-11-22T23:02:58.000+12:00"),
        (-1, "UTC", "1969-12-31T23:59:59.999+00:00"),
    ],
)
def test_milliseconds_with_the_offset_of_the_shop(ms: int, zone: str, text: str) -> None:
    assert rfc3339(ms, ZoneInfo(zone)) == text


@given(st.integers(min_value=YEAR_1_MS, max_value=YEAR_9999_MS))
def test_the_text_says_the_very_millisecond(ms: int) -> None:
    since_1970 = datetime.fromisoformat(rfc3339(ms)) - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    assert divmod(since_1970, timedelta(milliseconds=1)) == (ms, timedelta())

"""Times as the contract writes them: RFC 3339, milliseconds, with an offset."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=256)  # what is committed together has the same time
def rfc3339(ms: int, zone: tzinfo = UTC) -> str:
    """A time given in milliseconds since 1970, in this zone."""
    # By timedelta, not fromtimestamp: that one rounds a float and fails outside the platform's range.
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone).isoformat(timespec="milliseconds")


def local_date(ms: int, zone: tzinfo) -> date:
    """The calendar date of a time given in milliseconds since 1970, in this zone."""
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone).date()

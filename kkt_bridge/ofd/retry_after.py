"""The `Retry-After` header, and HTTP dates. Pure, standard library only (see `kkt_bridge.ofd.child`)."""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

RETRY_AFTER_MAX_S: Final = 15 * 60.0
"""Seconds for which an OFD is left alone at its own wish, at most: a typo there must not stop a shop for a day."""

_DIGITS_MAX: Final = 40
"""Digits of a number of seconds that are looked at; the interpreter refuses to convert very long ones."""


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return the header in seconds; None without one. It may be a number or a date (RFC 9110 section 10.2.3).

    A date is judged by the clock that wrote it, the answer's `Date`: ours may be wrong by years.
    """
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        seconds = float(value[:_DIGITS_MAX])
    else:
        until_s, told_s = http_date_s(value), http_date_s(headers.get("date", ""))
        if until_s is None:
            return None
        seconds = until_s - (now_s if told_s is None else told_s)
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


def http_date_s(text: str) -> float | None:
    """Return an HTTP date (RFC 9110 section 5.6.7) in Unix seconds, None if it is none; it is always one of GMT."""
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None

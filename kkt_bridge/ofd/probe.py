"""A look at the OFD's clock from outside, for whoever examines an installation; no document is involved."""

from email.utils import parsedate_to_datetime

import httpx

from kkt_bridge.clock import Clock
from kkt_bridge.settings import OfdSettings


def clock_ahead_s(settings: OfdSettings, clock: Clock) -> float | None:
    """How many seconds the OFD's clock is ahead of ours, good to about a second; None where it does not tell.

    It is told by the `Date` of any answer (RFC 9110 section 6.6.1), of a refusal too.
    """
    try:
        with httpx.Client(timeout=settings.timeout_s, trust_env=False) as http:
            asked_ms = clock.now_ms()
            answer = http.head(settings.url.rstrip("/") + settings.health_path)
            middle_s = (asked_ms + clock.now_ms()) / 2000
        # The header has whole seconds, cut off: in the mean the clock was half a second further.
        return parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5 - middle_s
    except (httpx.HTTPError, httpx.InvalidURL, LookupError, ValueError, TypeError, OverflowError):
        return None

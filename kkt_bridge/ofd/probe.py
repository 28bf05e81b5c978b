"""A look at the OFD from outside, for whoever examines an installation; no document is involved."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from kkt_bridge.clock import Clock
from kkt_bridge.ofd.classify import line_failed
from kkt_bridge.ofd.exchange import OfdAnswer, OfdRequest
from kkt_bridge.ofd.http_client import OfdHttp
from kkt_bridge.ofd.process_exchange import options_of
from kkt_bridge.settings import OfdSettings

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one request to the OFD brought to light."""

    asked: str
    """The address that was asked, without credentials."""
    answer: OfdAnswer
    took_s: float
    clock_ahead_s: float | None
    """Seconds by which its clock is ahead of ours, good to about a second; None where it does not tell."""
    certificate_days: float | None
    """Days for which its certificate is valid yet; None without TLS."""


def check(settings: OfdSettings, clock: Clock) -> ProbeResult:
    """Ask the OFD's health check as the bridge would; where it has none, its address itself.

    Nothing is raised: what goes wrong is the answer.
    """
    return asyncio.run(_look(settings, clock))


async def _look(settings: OfdSettings, clock: Clock) -> ProbeResult:
    asked = settings.shown_url.rstrip("/") + (settings.health_path or "/")
    started, asked_ms = clock.monotonic(), clock.now_ms()
    try:
        http = OfdHttp(options_of(settings))
    except (OSError, ValueError) as error:
        return ProbeResult(asked, line_failed(str(error)), 0.0, None, None)
    try:
        answer = await http.exchange(OfdRequest("health"))
        took_s = clock.monotonic() - started
        middle_s = asked_ms / 1000 + took_s / 2
        return ProbeResult(asked, answer, took_s, _ahead_s(http.last_headers, middle_s), _days_left(http, middle_s))
    finally:
        http.close()


def _ahead_s(headers: Mapping[str, str], middle_s: float) -> float | None:
    """By the `Date` of any answer (RFC 9110 section 6.6.1), of a refusal too."""
    try:
        date = parsedate_to_datetime(headers["date"])
        # The header has whole seconds, cut off: in the mean the clock was half a second further.
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp() + 0.5 - middle_s
    except (LookupError, ValueError, TypeError, OverflowError):
        return None


def _days_left(http: OfdHttp, now_s: float) -> float | None:
    ends = (http.last_peer_certificate or {}).get("notAfter")
    return (ssl.cert_time_to_seconds(ends) - now_s) / DAY_S if isinstance(ends, str) else None

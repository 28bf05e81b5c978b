"""The OFD: does it answer, is it the OFD, does it know us, and does its clock agree with ours?"""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kkt_bridge.cli.checkup import CheckupFinding, fail, ok, warn
from kkt_bridge.clock import Clock
from kkt_bridge.ofd.classify import line_failed
from kkt_bridge.ofd.exchange import NO_HEALTH_CHECK, AnswerKind, OfdAnswer, OfdRequest
from kkt_bridge.ofd.http_client import OfdHttp
from kkt_bridge.ofd.process_exchange import options_of
from kkt_bridge.ofd.retry_after import http_date_s
from kkt_bridge.settings import OfdSettings

CLOCK_WARN_S: Final = 60.0
"""Further apart, one of the two clocks is wrong rather than late."""

CERTIFICATE_WARN_DAYS: Final = 14.0
"""So many days before the OFD's certificate ends, somebody should ask whether it will be renewed."""

DAY_S: Final = 86_400

_UNAUTHORIZED: Final = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The answer to one request to the OFD, and what it tells besides."""

    asked: str
    """The address that was asked, without credentials."""
    answer: OfdAnswer
    took_s: float = 0.0
    clock_ahead_s: float | None = None
    """Seconds by which its clock is ahead of ours, good to about a second; None where it does not tell."""
    certificate_days: float | None = None
    """Days for which its certificate is valid yet; None without TLS."""


def examine_ofd(settings: OfdSettings, clock: Clock) -> Iterator[CheckupFinding]:
    """Examine its health check, its time, and its certificate. No document is involved, and nothing is raised."""
    probe = asyncio.run(_probe(settings, clock))
    yield _examine_answer(settings, probe)
    if probe.answer.status is None:
        return
    yield _examine_clock(probe.clock_ahead_s)
    if probe.certificate_days is not None:
        yield _examine_certificate(probe.certificate_days)


async def _probe(settings: OfdSettings, clock: Clock) -> ProbeResult:
    """Ask the health check as the bridge would; where there is none, the OFD's address itself."""
    asked = settings.shown_url.rstrip("/") + (settings.health_path or "/")
    started, asked_ms = clock.monotonic(), clock.now_ms()
    try:
        http = OfdHttp(options_of(settings))
    except (OSError, ValueError) as error:
        return ProbeResult(asked, line_failed(str(error)))
    try:
        answer = await http.exchange(OfdRequest("health"))
    finally:
        http.close()
    took_s = clock.monotonic() - started
    middle_s = asked_ms / 1000 + took_s / 2
    # The `Date` of any answer, of a refusal too, has whole seconds, cut off: in the mean it was half a second later.
    date_s = http_date_s(http.last_headers.get("date", ""))
    ends = (http.last_peer_certificate or {}).get("notAfter")
    days = (ssl.cert_time_to_seconds(ends) - middle_s) / DAY_S if isinstance(ends, str) else None
    return ProbeResult(asked, answer, took_s, None if date_s is None else date_s + 0.5 - middle_s, days)


def _examine_answer(settings: OfdSettings, probe: ProbeResult) -> CheckupFinding:
    answer = probe.answer
    match answer.kind:
        case AnswerKind.ACCEPTED:
            return ok("OFD", f"{probe.asked} answers, in {probe.took_s * 1000:.0f} ms")
        case AnswerKind.BRIDGE_REFUSED:
            return _examine_refusal(settings, probe)
        case AnswerKind.NOT_THE_OFD if not settings.health_path:
            return warn("OFD", f"{probe.asked} is reached; it has no health check", _WATCH)
        case AnswerKind.NOT_THE_OFD:
            advice = "open the address in a browser on this machine: a network's login page may be in between"
            return fail("OFD", f"{probe.asked}: somebody else answers: {answer.text}", advice)
        case AnswerKind.SLOW_DOWN:
            return warn("OFD", f"{probe.asked} asks to be left alone for a while: {answer.text}", _WATCH)
        case _:
            advice = "check ofd.url, the network, and the OFD; receipts are printed meanwhile, and sent when it is back"
            return fail("OFD", f"{probe.asked} does not answer, or not well: {answer.text}", advice)


_WATCH: Final = "see with `kkt-bridge status` whether documents go out"


def _examine_refusal(settings: OfdSettings, probe: ProbeResult) -> CheckupFinding:
    answer = probe.answer
    if answer.status in NO_HEALTH_CHECK:
        return warn("OFD", f"{settings.shown_url} has no health check: {answer.text}", _WATCH)
    return fail("OFD", f"{probe.asked} refuses this bridge: {answer.text}", _advice_on(answer, settings))


def _advice_on(answer: OfdAnswer, settings: OfdSettings) -> str:
    if answer.status in _UNAUTHORIZED:
        shown = "the token in ofd.token_file" if settings.token_file else "the name and password in ofd.url"
        return f"renew {shown}, or ask the OFD what it wants to be shown"
    if answer.status == 407:
        return "check the name and password in ofd.proxy"
    return "check ofd.url: it has moved, or a network's login page is in between"


def _examine_clock(ahead_s: float | None) -> CheckupFinding:
    if ahead_s is None:
        return ok("OFD clock", "it does not tell its time")
    if abs(ahead_s) > CLOCK_WARN_S:
        advice = "see that NTP keeps this machine's clock"
        return warn("OFD clock", f"{ahead_s:+.0f} s from this machine's", advice)
    return ok("OFD clock", f"{ahead_s:+.1f} s from this machine's")


def _examine_certificate(days: float) -> CheckupFinding:
    text = f"valid for {days:.0f} days more"
    if days < CERTIFICATE_WARN_DAYS:
        return warn("OFD certificate", text, "ask the OFD when it will be renewed; with a private one, renew it")
    return ok("OFD certificate", text)

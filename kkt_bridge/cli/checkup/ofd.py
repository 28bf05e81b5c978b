"""The OFD: does it answer, is it the OFD, does it know us, and does its clock agree with ours?"""

from collections.abc import Iterator
from typing import Final

from kkt_bridge.cli.checkup.findings import CheckupFinding, fail, ok, warn
from kkt_bridge.clock import Clock
from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer
from kkt_bridge.ofd.probe import ProbeResult, check
from kkt_bridge.settings import OfdSettings

CLOCK_WARN_S: Final = 60.0
"""Further apart, one of the two clocks is wrong rather than late."""

CERTIFICATE_WARN_DAYS: Final = 14.0
"""So many days before the OFD's certificate ends, somebody should ask whether it will be renewed."""

_NO_HEALTH_CHECK: Final = frozenset({404, 405})
_UNAUTHORIZED: Final = frozenset({401, 403})


def examine_ofd(settings: OfdSettings, clock: Clock) -> Iterator[CheckupFinding]:
    """Its health check, its time, and its certificate."""
    look = check(settings, clock)
    yield _examine_answer(settings, look)
    if look.answer.status is None:
        return
    yield _examine_clock(look.clock_ahead_s)
    if look.certificate_days is not None:
        yield _examine_certificate(look.certificate_days)


def _examine_answer(settings: OfdSettings, look: ProbeResult) -> CheckupFinding:
    answer = look.answer
    match answer.kind:
        case AnswerKind.ACCEPTED:
            return ok("OFD", f"{look.asked} answers, in {look.took_s * 1000:.0f} ms")
        case AnswerKind.BRIDGE_REFUSED:
            return _examine_refusal(settings, look)
        case AnswerKind.NOT_THE_OFD if not settings.health_path:
            return warn("OFD", f"{look.asked} is reached; it has no health check", _WATCH)
        case AnswerKind.NOT_THE_OFD:
            advice = "open the address in a browser on this machine: a network's login page may be in between"
            return fail("OFD", f"{look.asked}: somebody else answers: {answer.text}", advice)
        case AnswerKind.SLOW_DOWN:
            return warn("OFD", f"{look.asked} asks to be left alone for a while: {answer.text}", _WATCH)
        case _:
            advice = "check ofd.url, the network, and the OFD; receipts are printed meanwhile, and sent when it is back"
            return fail("OFD", f"{look.asked} does not answer, or not well: {answer.text}", advice)


_WATCH: Final = "see with `kkt-bridge status` whether documents go out"


def _examine_refusal(settings: OfdSettings, look: ProbeResult) -> CheckupFinding:
    answer = look.answer
    if answer.status in _NO_HEALTH_CHECK:
        return warn("OFD", f"{settings.shown_url} has no health check: {answer.text}", _WATCH)
    return fail("OFD", f"{look.asked} refuses this bridge: {answer.text}", _advice_on(answer, settings))


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

"""The OFD: does it answer, and does its clock agree with ours?"""

from collections.abc import Iterator
from contextlib import closing
from typing import Final

from kkt_bridge.cli.checkup.findings import Finding, fail, ok, warn
from kkt_bridge.clock import Clock
from kkt_bridge.errors import OfdError
from kkt_bridge.ofd.client import OfdClient
from kkt_bridge.ofd.probe import clock_ahead_s
from kkt_bridge.settings import OfdSettings

CLOCK_WARN_S: Final = 60.0
"""Further apart, one of the two clocks is wrong rather than late."""


def examine_ofd(settings: OfdSettings, clock: Clock) -> Iterator[Finding]:
    """Its health check, and its time."""
    with closing(OfdClient(settings, clock)) as ofd:
        started = clock.monotonic()
        try:
            has_health_check = ofd.ask_health()
        except OfdError as error:
            advice = "check ofd.url, the network, and the OFD; receipts are printed meanwhile, and sent when it is back"
            yield fail("OFD", f"{settings.url}{settings.health_path} does not answer, or not well: {error}", advice)
            return
        took_ms = (clock.monotonic() - started) * 1000
    if not has_health_check:
        yield warn(
            "OFD", f"{settings.url} has no health check", "see with `kkt-bridge status` whether documents go out"
        )
        return
    yield ok("OFD", f"{settings.url} answers, in {took_ms:.0f} ms")
    yield _examine_clock(clock_ahead_s(settings, clock))


def _examine_clock(ahead_s: float | None) -> Finding:
    if ahead_s is None:
        return ok("OFD clock", "it does not tell its time")
    if abs(ahead_s) > CLOCK_WARN_S:
        advice = "see that NTP keeps this machine's clock"
        return warn("OFD clock", f"{ahead_s:+.0f} s from this machine's", advice)
    return ok("OFD clock", f"{ahead_s:+.1f} s from this machine's")

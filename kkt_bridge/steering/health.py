"""Health: the worst of the parts, each with its reason."""

from collections.abc import Sequence
from typing import Final

from kkt_bridge.ofd.breaker import Breaker
from kkt_bridge.ofd.network import NetworkName
from kkt_bridge.stages.lane import NOT_YET_REACHED, LaneView
from kkt_bridge.wire.messages import ComponentHealth, HealthState, HealthStatus

_ORDER: Final[tuple[HealthStatus, ...]] = ("healthy", "degraded", "unhealthy")


def health(
    *,
    journal_failing: str | None,
    accepting: bool,
    paused: bool,
    breaker: Breaker,
    network: NetworkName,
    clock_wrong: str | None,
    lanes: Sequence[LaneView],
    at: str,
) -> HealthState:
    """The whole and its parts."""
    parts = {
        "journal": _part("unhealthy", journal_failing),
        "buffer": _buffer(accepting=accepting, paused=paused),
        "ofd": _ofd(breaker, network),
        "clock": _part("degraded", clock_wrong),
        **{f"kkt/{lane.kkt}": _lane(lane) for lane in lanes},
    }
    worst = max((part.status for part in parts.values()), key=_ORDER.index)
    # One register of several away is a shop that still sells.
    if worst == "unhealthy" and not _sells(parts, lanes, journal_failing, accepting=accepting):
        return HealthState(status="unhealthy", components=parts, at=at)
    return HealthState(status="degraded" if worst != "healthy" else "healthy", components=parts, at=at)


def _sells(
    parts: dict[str, ComponentHealth], lanes: Sequence[LaneView], journal_failing: str | None, *, accepting: bool
) -> bool:
    some_lane = any(parts[f"kkt/{lane.kkt}"].status != "unhealthy" for lane in lanes)
    return journal_failing is None and accepting and some_lane


def _part(status: HealthStatus, reason: str | None) -> ComponentHealth:
    return ComponentHealth(status="healthy") if reason is None else ComponentHealth(status=status, reason=reason)


def _buffer(*, accepting: bool, paused: bool) -> ComponentHealth:
    if paused:
        return ComponentHealth(status="degraded", reason="paused by an operator")
    return _part("unhealthy", None if accepting else "full: receipts are refused")


def _ofd(breaker: Breaker, network: NetworkName) -> ComponentHealth:
    if breaker.state != "closed":
        return ComponentHealth(status="degraded", reason=f"breaker {breaker.state}: {breaker.last_error}")
    return _part("degraded", None if network == "online" else f"network {network}")


def _lane(view: LaneView) -> ComponentHealth:
    if view.problem is None:
        return ComponentHealth(status="healthy")
    if view.problem == NOT_YET_REACHED:
        return ComponentHealth(status="degraded", reason="starting: not asked yet")
    return ComponentHealth(status="unhealthy", reason=f"{view.problem}: {view.detail}" if view.detail else view.problem)

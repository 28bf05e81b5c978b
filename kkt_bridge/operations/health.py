"""Health: the worst of the parts, each with its reason."""

from collections.abc import Iterable, Mapping
from typing import Final

from kkt_bridge.wire.messages import ComponentHealth, HealthState, HealthStatus

JOURNAL: Final = "journal"
BUFFER: Final = "buffer"
REGISTER: Final = "kkt/"
"""What the name of a register's part begins with."""

WELL: Final = ComponentHealth(status="healthy")

_ORDER: Final[tuple[HealthStatus, ...]] = ("healthy", "degraded", "unhealthy")


def part(status: HealthStatus, reason: str | None) -> ComponentHealth:
    """A part that is as bad as this where there is a reason, and well where there is none."""
    return WELL if reason is None else ComponentHealth(status=status, reason=reason)


def degraded_by(reasons: Iterable[str | None]) -> ComponentHealth:
    """A part that is degraded by every one of these that is a reason."""
    return part("degraded", "; ".join(reason for reason in reasons if reason is not None) or None)


def whole(parts: Mapping[str, ComponentHealth], at: str) -> HealthState:
    """The bridge from its parts. `unhealthy` is a bridge that takes no receipts, or can print none."""
    worst = max((each.status for each in parts.values()), key=_ORDER.index, default="unhealthy")
    if worst == "unhealthy" and _sells(parts):
        worst = "degraded"  # one register of several away is a shop that still sells
    return HealthState(status=worst, components=dict(parts), at=at)


def _sells(parts: Mapping[str, ComponentHealth]) -> bool:
    registers = [each for name, each in parts.items() if name.startswith(REGISTER)]
    needed = [parts[name] for name in (JOURNAL, BUFFER) if name in parts]
    return all(each.status != "unhealthy" for each in needed) and any(each.status != "unhealthy" for each in registers)

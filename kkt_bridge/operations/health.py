"""Health: that of each part with its reason, and that of the bridge, which is the worst of them."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.wire.messages import ComponentHealth, HealthState, HealthStatus

JOURNAL: Final = "journal"
BUFFER: Final = "buffer"
REGISTER: Final = "kkt/"
"""The beginning of the name of a register's part."""

WELL: Final = ComponentHealth(status="healthy")

T = TypeVar("T")

log = logging.getLogger(__name__)

_ORDER: Final[tuple[HealthStatus, ...]] = ("healthy", "degraded", "unhealthy")


def part(status: HealthStatus, reason: str | None) -> ComponentHealth:
    """Return this status where there is a reason, and `WELL` where there is none."""
    return WELL if reason is None else ComponentHealth(status=status, reason=reason)


def degraded_by(reasons: Iterable[str | None]) -> ComponentHealth:
    """Return the health of a part that each of these reasons degrades; None is no reason."""
    return part("degraded", "; ".join(reason for reason in reasons if reason is not None) or None)


def whole(parts: Mapping[str, ComponentHealth], at: str) -> HealthState:
    """Return the health of the bridge. One that takes no receipts, or can print none, is `unhealthy`."""
    worst = max((each.status for each in parts.values()), key=_ORDER.index, default="unhealthy")
    if worst == "unhealthy" and _sells(parts):
        worst = "degraded"  # one register of several away is a shop that still sells
    return HealthState(status=worst, components=dict(parts), at=at)


def _sells(parts: Mapping[str, ComponentHealth]) -> bool:
    registers = [each for name, each in parts.items() if name.startswith(REGISTER)]
    needed = [parts[name] for name in (JOURNAL, BUFFER) if name in parts]
    return all(each.status != "unhealthy" for each in needed) and any(each.status != "unhealthy" for each in registers)


class Guard:
    """Runs parts that may fail, so that none silences another; a failure is logged once, until it changes."""

    def __init__(self) -> None:
        self._broken: dict[str, str] = {}

    @property
    def broken(self) -> dict[str, str]:
        """The parts that failed when they were last run, with the reason in one line."""
        return dict(self._broken)

    def run(self, part: str, work: Callable[[], T]) -> T | None:
        """Return what `work` returns; None where it raises."""
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 (whatever it is, the other parts go on)
            self._note(part, error)
            return None
        if self._broken.pop(part, None) is not None:
            log.warning("%s can be looked at again", part)
        return result

    def _note(self, part: str, error: Exception) -> None:
        is_ours = isinstance(error, KktBridgeError)
        reason = " ".join((str(error) if is_ours else f"{type(error).__name__}: {error}").split())
        if self._broken.get(part) != reason:
            log.error("%s cannot be looked at: %s", part, reason, exc_info=None if is_ours else error)
            self._broken[part] = reason

"""Runs what may fail without failing itself, and remembers what has failed: one broken part silences no other."""

import logging
from collections.abc import Callable
from typing import TypeVar

from kkt_bridge.errors import KktBridgeError

T = TypeVar("T")

log = logging.getLogger(__name__)


class Guard:
    """Which parts failed when they were last run, and why; the log is told when that changes, not each time."""

    def __init__(self) -> None:
        self._broken: dict[str, str] = {}

    @property
    def broken(self) -> dict[str, str]:
        """The parts that failed when they were last run, with the reason in one line."""
        return dict(self._broken)

    def run(self, part: str, work: Callable[[], T]) -> T | None:
        """What `work` returns; None where it raises."""
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

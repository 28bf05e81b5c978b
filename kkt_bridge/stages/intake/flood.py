"""Who sends more than a terminal ever has to say: seen here, told by an alert."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kkt_bridge.clock import Clock

WINDOW_S: Final = 5.0
"""Seconds over which messages are counted."""

FLOOD_PER_S: Final = 100.0
"""Messages a second of one POS, over a whole window, that are a flood if it harms: a cashier needs less than one."""


@dataclass(frozen=True, slots=True)
class FloodStatus:
    """A POS that floods the bridge."""

    pos: str
    """Its name, of at most 64 characters; `command` stands for the operators' branch."""
    rate_per_s: float
    """Messages a second in the last whole window."""
    since_ms: int
    """When the flood began by the system clock, milliseconds since 1970."""


class FloodWatch:
    """Counts messages by sender in windows of `WINDOW_S`; noted in the intake's thread, looked at from any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._opened_at = clock.monotonic()
        self._opened_ms = clock.now_ms()
        self._counts: Counter[str] = Counter()
        self._harmful: set[str] = set()
        """Senders of which something was refused in this window, or for which others had to wait."""
        self._floods: dict[str, FloodStatus] = {}

    def note(self, senders: Mapping[str, int], *, left_waiting: bool) -> None:
        """So many messages of these senders were taken up together, and more were left waiting or not."""
        with self._lock:
            self._close_window()
            self._counts.update(senders)
            if left_waiting and len(senders) > 1:
                self._harmful.update(senders)

    def note_refusal(self, sender: str) -> None:
        """A message of this sender was refused."""
        with self._lock:
            self._close_window()
            self._harmful.add(sender)

    @property
    def flood(self) -> FloodStatus | None:
        """The worst flood of the last whole window; None if there was none."""
        with self._lock:
            self._close_window()
            return max(self._floods.values(), key=lambda view: view.rate_per_s, default=None)

    def _close_window(self) -> None:
        now = self._clock.monotonic()
        lasted_s = now - self._opened_at
        if lasted_s < WINDOW_S:
            return
        rates = {pos: count / lasted_s for pos, count in self._counts.items()}
        self._floods = {
            pos: FloodStatus(pos, rate, self._floods[pos].since_ms if pos in self._floods else self._opened_ms)
            for pos, rate in rates.items()
            if rate >= FLOOD_PER_S and pos in self._harmful
        }
        self._counts.clear()
        self._harmful.clear()
        self._opened_at, self._opened_ms = now, self._clock.now_ms()

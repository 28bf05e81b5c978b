"""Floods: who sends more than a terminal ever has to say, for an alert; and the log, which they must not fill.

Each refusal is a warning in the log; of a flood the first lines of each second, and then how many more.
"""

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kkt_bridge.clock import Clock

if TYPE_CHECKING:
    from kkt_bridge.stages.intake.decide import Request

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
    """The beginning of the flood by the system clock, milliseconds since 1970."""


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
            if self._clock.monotonic() - self._opened_at >= WINDOW_S:
                self._close_window()
            self._counts.update(senders)
            if left_waiting and len(senders) > 1:
                self._harmful.update(senders)

    def note_refusal(self, sender: str) -> None:
        """A message of this sender was refused."""
        with self._lock:
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


LINES_PER_SENDER: Final = 5
"""Lines of one POS in a second."""

LINES_MAX: Final = 50
"""Lines in a second, whoever is refused."""

PERIOD_S: Final = 1.0
"""Seconds for which those lines are counted."""

log = logging.getLogger(__name__)


class RefusalLog:
    """Says what was refused."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = float("-inf")
        self._lines: Counter[str] = Counter()
        self.untold: Counter[str] = Counter()
        """Refusals of this second beyond the lines, by sender; of senders beyond `LINES_MAX` under an empty name."""

    def note(self, request: "Request", code: str, message: str) -> None:
        """A request was refused."""
        self.step()
        sender = request.sender
        if self._lines.total() >= LINES_MAX:
            self.untold[sender if sender in self._lines else ""] += 1
        elif self._lines[sender] >= LINES_PER_SENDER:
            self.untold[sender] += 1
        else:
            self._lines[sender] += 1
            what = f"command {request.name}" if request.kind == "command" else request.kind
            log.warning("%s refused: %s: %s", what, code, message, extra=request.ids)

    def step(self) -> float | None:
        """Tell the sum when its second is over; return in how many seconds there is one to tell."""
        now = self._clock.monotonic()
        if now - self._began < PERIOD_S:
            return self._began + PERIOD_S - now if self.untold else None
        for sender, count in self.untold.items():
            log.warning("%d more refused of %s within a second", count, sender or "others")
        self._began = now
        self._lines.clear()
        self.untold.clear()
        return None

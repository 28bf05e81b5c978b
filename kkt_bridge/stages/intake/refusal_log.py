"""A warning in the log for each refusal; of a flood the first lines of each second, and then how many more."""

import logging
from collections import Counter
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.stages.intake.request import Request

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
        self._untold: Counter[str] = Counter()
        """Refusals of this second beyond the lines, by sender; of senders beyond `LINES_MAX` under an empty name."""

    def note(self, request: Request, code: str, message: str) -> None:
        """A request was refused."""
        self._turn_the_second()
        sender = request.sender
        if self._lines.total() >= LINES_MAX:
            self._untold[sender if sender in self._lines else ""] += 1
        elif self._lines[sender] >= LINES_PER_SENDER:
            self._untold[sender] += 1
        else:
            self._lines[sender] += 1
            what = f"command {request.name}" if request.kind == "command" else request.kind
            log.warning("%s refused: %s: %s", what, code, message, extra=request.ids)

    def step(self) -> float | None:
        """Tell the sum when its second is over; return in how many seconds there is one to tell."""
        self._turn_the_second()
        return self._began + PERIOD_S - self._clock.monotonic() if self._untold else None

    def _turn_the_second(self) -> None:
        now = self._clock.monotonic()
        if now - self._began < PERIOD_S:
            return
        for sender, count in self._untold.items():
            log.warning("%d more refused of %s within a second", count, sender or "others")
        self._began = now
        self._lines.clear()
        self._untold.clear()

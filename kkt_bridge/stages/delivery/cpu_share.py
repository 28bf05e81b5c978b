"""The share of the processor that delivery takes while receipts need it.

A person waits for the receipt; its document has days. Where the other threads of the bridge keep its core busy,
delivery takes turns so short that they hardly notice, and never none: what it has to do is done as soon as they rest.
That the core is busy is measured, not concluded from a queue: a slow register has one too.
"""

from typing import Final

from kkt_bridge.clock import Clock

WINDOW_S: Final = 0.1
"""Seconds over which it is measured how busy the others are."""

BUSY_FROM: Final = 0.4
"""Cores that the other threads take together; from here on they are busy."""

SHARE: Final = 0.05
"""Of one core, that delivery takes meanwhile: enough for some hundred documents a second."""

REST_MAX_S: Final = 0.5
"""Seconds that one rest lasts, at most."""


class Pace:
    """Used by delivery's thread: `note_step` after each step, `rest_s` before the next."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._window_began: float | None = None
        """None before the first step: only in its own thread can delivery ask what that one has used."""
        self._window_own = self._window_all = self._own = 0.0
        self._rest_until = 0.0
        self._others_are_busy = False

    def rest_s(self) -> float:
        """Seconds that delivery should still leave the processor to the others."""
        return max(0.0, self._rest_until - self._clock.monotonic())

    def note_step(self) -> None:
        """Take note of what the last step has cost, and of what the others have used."""
        now, (own, whole) = self._clock.monotonic(), self._clock.processor_s()
        if self._window_began is None:
            self._window_began, self._window_own, self._window_all, self._own = now, own, whole, own
        if (elapsed := now - self._window_began) >= WINDOW_S:
            others = (whole - self._window_all) - (own - self._window_own)
            self._others_are_busy = others >= BUSY_FROM * elapsed
            self._window_began, self._window_own, self._window_all = now, own, whole
        spent, self._own = own - self._own, own
        if self._others_are_busy:
            self._rest_until = now + min(REST_MAX_S, spent * (1 / SHARE - 1))

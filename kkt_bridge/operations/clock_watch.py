"""Watches the system clock: against the monotonic one for jumps, against what is known of time for nonsense.

Nothing in the bridge depends on the answer: order, back-offs and ages have clocks of their own. It is for the
people whose receipts, logs and shifts carry wrong times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from kkt_bridge.clock import Clock

JUMP_S: Final = 60.0
"""Less than this is a correction, not a jump."""

BEHIND_S: Final = 60.0
"""Seconds that the clock may be behind the newest receipt's time."""

DRIFT_S: Final = 300.0
"""Seconds that a register's clock may differ from the system's before one of them must be wrong."""

STEADY_S: Final = 600.0
"""After this long without a jump, a time that nothing speaks against is believed."""

BEHIND_HELD_S: Final = 86_400.0
"""Seconds for which the newest receipt's time counts against a clock that runs evenly and that no register confirms.

A single receipt that was taken while the clock was years ahead would else be held against the right time for years;
nobody can tell which of the two was wrong, and by then people have been told for a day.
"""

BELIEVED_MAX: Final = 8
"""Times remembered as good: clocks are put right more than once, but not often."""

EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Before this program existed: a clock that shows it has lost its battery."""

ADVICE: Final = "check its battery and NTP; order and back-offs are not affected"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ClockVerdict:
    """The judgement of the system clock, each part in one line."""

    alert: str | None = None
    """The alert; None when all is well."""
    wrong: str | None = None
    """The reason why the clock is wrong now; None while it may be right."""


@dataclass(frozen=True, slots=True)
class _Reading:
    wall_ms: int
    monotonic_s: float


class ClockWatch:
    """Judges the system clock each time it is checked."""

    def __init__(self, clock: Clock, zone: tzinfo) -> None:
        self._clock = clock
        self._zone = zone
        self._last: _Reading | None = None
        self._jump_s: float | None = None
        """The last jump that is not yet believed."""
        self._jumped_at = 0.0
        self._even_since = clock.monotonic()
        """Since when there was no jump."""
        self._agreed_since: float | None = None
        """Since when every register's clock that was asked has agreed with it; None while one does not, or none was."""
        self._moved_s = 0.0
        """All jumps of this process together."""
        self._believed: list[float] = []
        """The values of `_moved_s` when the time was believed, oldest first."""

    def check(self, newest_ms: int, drifts: Mapping[str, float]) -> ClockVerdict:
        """Return the verdict; `newest_ms` is the newest time in the order of receipts, `drifts` the registers' seconds.

        A register whose clock is this very one is not among them.
        """
        now = _Reading(self._clock.now_ms(), self._clock.monotonic())
        self._note_jump(now)
        self._note_agreement(now, drifts)
        nonsense, drifting = self._nonsense(now, newest_ms), _drifting(drifts)
        if self._last is None and nonsense is None:
            self._remember()
        self._last = now
        if self._jump_s is not None and nonsense is None:
            self._believe(now, drifting)
        evidence = nonsense or drifting
        if self._jump_s is not None:
            what = f"jumped by {_signed(self._jump_s)}{f', and {evidence}' if evidence else ''}"
            return ClockVerdict(f"the system clock {what}: {ADVICE}", f"it {what}" if evidence else None)
        if nonsense is not None:
            return ClockVerdict(f"the system clock is wrong: {nonsense}: {ADVICE}", nonsense)
        return ClockVerdict()

    def _note_jump(self, now: _Reading) -> None:
        if self._last is None:
            return
        jump_s = (now.wall_ms - self._last.wall_ms) / 1000 - (now.monotonic_s - self._last.monotonic_s)
        if abs(jump_s) > JUMP_S:
            self._jump_s, self._jumped_at = jump_s, now.monotonic_s
            self._even_since, self._agreed_since = now.monotonic_s, None
            self._moved_s += jump_s

    def _note_agreement(self, now: _Reading, drifts: Mapping[str, float]) -> None:
        if not drifts or _drifting(drifts) is not None:
            self._agreed_since = None
        elif self._agreed_since is None:
            self._agreed_since = now.monotonic_s

    def _is_outweighed(self, now: _Reading) -> bool:
        """Return True if enough confirms the clock by now: a receipt with a later time was taken at a wrong one."""
        agreed = self._agreed_since is not None and now.monotonic_s - self._agreed_since >= STEADY_S
        return agreed or now.monotonic_s - self._even_since >= BEHIND_HELD_S

    def _believe(self, now: _Reading, drifting: str | None) -> None:
        """Forget the jump once the clock is back where it was, or has run undisputed for long."""
        assert self._jump_s is not None
        # On to a time that was believed later only: that may be the very error that was put right.
        was_there = self._is_where_it_was(self._believed if self._jump_s < 0 else self._believed[:1])
        if was_there:
            self._jump_s = None
        elif drifting is None and now.monotonic_s - self._jumped_at >= STEADY_S:
            self._jump_s = None
            self._remember()

    def _remember(self) -> None:
        if len(self._believed) < BELIEVED_MAX:
            self._believed.append(self._moved_s)

    def _is_where_it_was(self, times: Sequence[float]) -> bool:
        return any(abs(self._moved_s - moved_s) <= JUMP_S for moved_s in times)

    def _nonsense(self, now: _Reading, newest_ms: int) -> str | None:
        shown = _EPOCH + timedelta(milliseconds=now.wall_ms)
        local = shown.astimezone(self._zone).isoformat(sep=" ", timespec="seconds")
        if shown < EARLIEST:
            return f"it shows {local}, a time that is long over"
        behind_s = (newest_ms - now.wall_ms) / 1000
        # Receipts taken while the clock was ahead say nothing against it once it is where it was before.
        if behind_s > BEHIND_S and not self._is_where_it_was(self._believed):
            if self._is_outweighed(now):
                self._remember()
                return None
            return f"it shows {local}, {_span(behind_s)} before the newest receipt"
        return None


def _drifting(drifts: Mapping[str, float]) -> str | None:
    far = (f"the clock of {kkt} differs from it by {_signed(s)}" for kkt, s in drifts.items() if abs(s) > DRIFT_S)
    return ", ".join(far) or None


def _signed(seconds: float) -> str:
    return f"{'-' if seconds < 0 else '+'}{_span(seconds)}"


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(abs(seconds))))

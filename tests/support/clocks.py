"""Time that passes when a test says so."""

NOON_MS = 1_795_338_180_000
"""2026-11-22T12:03:00+03:00."""


class ManualClock:
    """A clock with two hands: the wall's, which may be set to anything, and the monotonic one, which only goes on."""

    def __init__(self, wall_ms: int = NOON_MS, monotonic_s: float = 1000.0) -> None:
        self.wall_ms = wall_ms
        self.monotonic_s = monotonic_s
        self.own_processor_s = self.all_processor_s = 0.0

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic(self) -> float:
        return self.monotonic_s

    def processor_s(self) -> tuple[float, float]:
        return self.own_processor_s, self.all_processor_s

    def advance(self, seconds: float) -> None:
        """Let time pass on both hands."""
        assert seconds >= 0
        self.wall_ms += round(seconds * 1000)
        self.monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as NTP or a dead battery does; no time passes."""
        self.wall_ms += round(seconds * 1000)

    def reboot(self, monotonic_s: float = 5.0) -> None:
        """Start the machine anew: the monotonic hand begins somewhere else."""
        self.monotonic_s = monotonic_s

"""Stage 5: what has been finished long enough becomes a tombstone, a little at a time."""

from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.outbox import drop_old_events
from kkt_bridge.journal.retention import PurgeLimits, purge_receipts, purge_traces
from kkt_bridge.journal.steps import drop_refusal_steps, steps_published
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.settings import RetentionSettings

BATCH_MAX: Final = 100
"""Receipts in one transaction: it must not keep a receipt waiting."""

PAUSE_S: Final = 0.05
"""Between two transactions of a purge."""

INTERVAL_S: Final = 600.0
"""Between two purges."""

FLUSH_S: Final = 1.0
"""How long a posted change may wait for a commit to go along with."""

DAY_MS: Final = 86_400_000


class Housekeeping:
    """Keeps the journal bounded."""

    def __init__(self, *, settings: RetentionSettings, journal: Journal, clock: Clock) -> None:
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._after: int | None = 0
        self._next_purge_at = 0.0

    def step(self) -> float | None:
        """Flush what was posted; purge a batch if it is time."""
        try:
            if self._journal.failing:
                self._journal.write(_nothing)  # only a commit shows that the disk is well again
            self._journal.flush()
            return self._purge()
        except StorageUnavailable:
            return FLUSH_S  # the journal's own health says so

    def _purge(self) -> float:
        now = self._clock.monotonic()
        if self._after is None:
            if now < self._next_purge_at:
                return FLUSH_S
            self._after = 0
        limits, after = self._limits(), self._after
        self._after = self._journal.write(lambda tx: purge_receipts(tx, limits, after, BATCH_MAX))
        if self._after is not None:
            return PAUSE_S
        if self._purge_traces(limits) >= BATCH_MAX:
            self._after = after  # there is more of them
            return PAUSE_S
        self._next_purge_at = now + INTERVAL_S
        return FLUSH_S

    def _purge_traces(self, limits: PurgeLimits) -> int:
        """Drop a batch of what no receipt needs; return how much of one kind went at most."""
        traces = self._journal.write(lambda tx: purge_traces(tx, limits, BATCH_MAX))
        steps = self._journal.write(lambda tx: drop_refusal_steps(tx, limits.steps_published, BATCH_MAX))
        self._journal.write(lambda tx: drop_old_events(tx, limits.events_before_ms))
        return max(traces, steps)

    def _limits(self) -> PurgeLimits:
        now = self._clock.now_ms()
        return PurgeLimits(
            synced_before_ms=now - int(self._settings.synced_days * DAY_MS),
            dead_before_ms=now - int(self._settings.dead_days * DAY_MS),
            events_before_ms=now - int(self._settings.events_days * DAY_MS),
            steps_published=self._journal.read(steps_published),
        )


def _nothing(_tx: Transaction) -> None:
    """A commit for its own sake."""

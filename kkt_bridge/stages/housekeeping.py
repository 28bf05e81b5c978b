"""Stage 5: what has been finished long enough becomes a tombstone, a little at a time.

A round looks through what is old, oldest first, and then gives space back that a burst has left empty.
Every step of it is one look or one small commit, with a pause behind it: a receipt never waits for more
than that, and neither do those who share the thread.
"""

import logging
from collections.abc import Iterator
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.outbox import steps_published
from kkt_bridge.journal.retention import (
    EXPIRING_RECORDS,
    ExpiringRecords,
    PurgeLimits,
    Space,
    aged_receipts,
    drop_expired,
    expired_keys,
    purge_receipts,
    space_of,
    vacuum,
)
from kkt_bridge.settings import RetentionSettings

BATCH_MAX: Final = 8
"""Records that one commit purges: each touches half a dozen pages of its own, and a busy commit has a hundred."""

LOOK_MAX: Final = 500
"""Rows in one look for what is old; a look holds nobody up."""

PAUSE_S: Final = 0.05
"""Between two steps of a round."""

INTERVAL_S: Final = 600.0
"""Between two rounds."""

FLUSH_S: Final = 1.0
"""Seconds that a posted change may wait for a commit to go along with."""

FREE_PAGES_MIN: Final = 1000
"""Empty pages that are left alone in any case: the next receipts fill them."""

MUCH_FREE: Final = 1 / 4
"""The part of the file that may be empty; beyond that, it is made smaller, until no more is empty than"""

LITTLE_FREE: Final = 1 / 8
"""this part, so that an hour's receipts do not make it grow again at once."""

DAY_MS: Final = 86_400_000

log = logging.getLogger(__name__)


class Housekeeping:
    """Keeps the journal bounded."""

    def __init__(self, *, settings: RetentionSettings, journal: Journal, clock: Clock) -> None:
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._round = self._begin_round()
        self._next_round_at = 0.0

    def step(self) -> float | None:
        """Flush what was posted; do a step of a round if it is time."""
        try:
            if self._journal.failing:
                self._journal.write(lambda _tx: None)  # only a commit shows that the disk is well again
            self._journal.flush()
            return self._go_on()
        except StorageUnavailable:  # the journal's own health says so
            self._round = self._begin_round()
            return FLUSH_S

    def _go_on(self) -> float:
        now = self._clock.monotonic()
        if now < self._next_round_at:
            return FLUSH_S
        for _ in self._round:
            return PAUSE_S
        self._round = self._begin_round()
        self._next_round_at = now + INTERVAL_S
        return FLUSH_S

    def _begin_round(self) -> Iterator[None]:
        """All that there is to do, with a stop after each step."""
        yield from self._purge_receipts()
        for trace in EXPIRING_RECORDS:
            yield from self._purge_records(trace)
        yield from self._give_space_back()

    def _purge_receipts(self) -> Iterator[None]:
        after: int | None = 0
        while after is not None:
            limits, behind = self._limits(), after
            page = self._journal.read(lambda c: aged_receipts(c, limits, behind, LOOK_MAX))  # noqa: B023 (run at once)
            for first in range(0, len(page.aged), BATCH_MAX):
                aged = page.aged[first : first + BATCH_MAX]
                expired = self._journal.write(lambda tx: purge_receipts(tx, limits, aged))  # noqa: B023 (run at once)
                if expired:
                    log.warning("dead letters that nobody requeued or discarded in time have expired: %d", expired)
                yield
            if not page.aged:
                yield
            after = page.after

    def _purge_records(self, trace: ExpiringRecords) -> Iterator[None]:
        limits = self._limits()
        while self._journal.read(lambda connection: expired_keys(connection, trace, limits, 1)):
            self._journal.write(lambda tx: drop_expired(tx, trace, limits, BATCH_MAX))
            yield

    def _give_space_back(self) -> Iterator[None]:
        space = self._journal.read(space_of)
        if not _is_free(space, MUCH_FREE):
            return
        while _is_free(space, LITTLE_FREE):
            self._journal.write(vacuum)
            yield
            before, space = space, self._journal.read(space_of)
            if space.free >= before.free:
                return  # new receipts take it as fast, or the file cannot be made smaller

    def _limits(self) -> PurgeLimits:
        now = self._journal.steady_ms()
        return PurgeLimits(
            synced_before_ms=now - int(self._settings.synced_days * DAY_MS),
            dead_before_ms=now - int(self._settings.dead_days * DAY_MS),
            events_before_ms=now - int(self._settings.events_days * DAY_MS),
            steps_published=self._journal.read(steps_published),
        )


def _is_free(space: Space, part: float) -> bool:
    return space.free > FREE_PAGES_MIN and space.free > space.pages * part

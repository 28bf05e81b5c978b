"""6. What it cannot keep it refuses before accepting: buffer full, paused, disk failing."""

from typing import Any

from simulation.broker import QueuedMessage
from simulation.invariants.invariant import Invariant

PENDING = """
SELECT count(*), count(*) FILTER (WHERE id IN (
    SELECT receipt FROM steps WHERE from_status = 'dead' OR error LIKE 'recovered:%'
))
FROM receipts WHERE status IN ('buffered', 'printing', 'printed')
"""
"""Receipts in the buffer, and how many of them an operator or a fiscal storage brought back: these have documents, so
nobody may refuse them."""


class RefusedBeforeAccepted(Invariant):
    """There are never more receipts than the buffer holds, whoever looks whenever a message is acknowledged.

    And while the bridge has said that it is paused, none are added.
    """

    name = "refused before accepted"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._taken_when_paused: int | None = None

    def acknowledged(self, queued: QueuedMessage | None) -> None:
        ((pending, brought_back),) = self.world.rows(PENDING)
        if pending - brought_back > self.world.day.capacity:
            self.fail(
                f"{pending} receipts in a buffer for {self.world.day.capacity}, {brought_back} of them brought back"
            )
        self._look_at_the_pause()

    def told(self, topic: list[str], content: dict[str, Any]) -> None:
        self._look_at_the_pause()

    def _look_at_the_pause(self) -> None:
        if not self.world.operator.paused:
            self._taken_when_paused = None
            return
        ((taken,),) = self.world.rows("SELECT max(received_steady_ms) FROM receipts")
        if self._taken_when_paused is None:
            self._taken_when_paused = taken or 0
        elif (taken or 0) > self._taken_when_paused:
            self.fail("a receipt was taken by a paused bridge")

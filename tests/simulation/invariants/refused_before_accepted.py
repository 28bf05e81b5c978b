"""6. What it cannot keep it refuses before accepting: buffer full, paused, disk failing."""

from typing import Any

from simulation.broker import Letter
from simulation.invariants.invariant import Invariant


class RefusedBeforeAccepted(Invariant):
    """There are never more receipts than the buffer holds, whoever looks whenever a message is acknowledged.

    And while the bridge has said that it is paused, none are added.
    """

    name = "refused before accepted"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._taken_when_paused: int | None = None

    def acknowledged(self, letter: Letter | None) -> None:
        ((pending,),) = self.world.rows(
            "SELECT count(*) FROM receipts WHERE status IN ('buffered', 'printing', 'printed')"
        )
        if pending > self.world.day.capacity:
            self.fail(f"{pending} receipts in a buffer for {self.world.day.capacity}")
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

"""6. What it cannot keep it refuses before accepting: buffer full, paused, disk failing."""

from simulation.broker import Letter
from simulation.invariants.invariant import Invariant


class RefusedBeforeAccepted(Invariant):
    """There are never more receipts than the buffer holds, whoever looks whenever a message is acknowledged."""

    name = "refused before accepted"

    def acknowledged(self, letter: Letter | None) -> None:
        ((pending,),) = self.world.rows(
            "SELECT count(*) FROM receipts WHERE status IN ('buffered', 'printing', 'printed')"
        )
        if pending > self.world.day.capacity:
            self.fail(f"{pending} receipts in a buffer for {self.world.day.capacity}")

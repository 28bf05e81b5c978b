"""7. No input ends a loop: a bad payload is answered and acknowledged, and cannot come back for ever."""

from simulation.broker import QueuedMessage
from simulation.invariants.invariant import Invariant


class NoInputEndsALoop(Invariant):
    """Whatever is left unacknowledged while everything is well would come back for ever.

    That a step raises, or that the bridge never rests, is seen by the world itself.
    """

    name = "no input ends a loop"
    outlives_journal = True

    def finish(self) -> None:
        left: list[QueuedMessage] = self.world.broker.waiting()
        if left:
            self.fail(f"never acknowledged: {[(queued.topic, queued.payload[:200]) for queued in left]}")

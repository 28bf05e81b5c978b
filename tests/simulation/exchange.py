"""The exchange with the OFD in the simulated world: what the child process does, one request at a time.

It is not the bridge: it may get a turn, or none, between any two steps of the bridge, and ends with it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer, OfdRequest
from simulation.ofd import Ofd


@dataclass
class Batch:
    """Requests under way."""

    number: int
    left: list[OfdRequest]
    answers: list[OfdAnswer] = field(default_factory=list)


class SimulatedExchange:
    """See `kkt_bridge.ofd.exchange.Exchange`."""

    def __init__(self, ofd: Ofd, rng: random.Random) -> None:
        self.wakeup = threading.Event()
        self._ofd = ofd
        self._rng = rng
        self._batches: list[Batch] = []
        self._done: list[tuple[int, list[OfdAnswer]]] = []

    def submit(self, batch: int, requests: Sequence[OfdRequest]) -> None:
        """See `Exchange`."""
        if self._ofd.swallow_next:
            self._ofd.swallow_next -= 1  # a bug of the exchange's: nothing ever comes of it
            return
        self._batches.append(Batch(batch, list(requests)))

    def take(self) -> list[tuple[int, list[OfdAnswer]]]:
        """See `Exchange`."""
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """See `Exchange`."""
        self._batches.clear()

    @property
    def is_busy(self) -> bool:
        """Return whether something is under way."""
        return bool(self._batches)

    def carry(self) -> None:
        """Carry out one request of any batch."""
        batch = self._rng.choice(self._batches)
        answer = self._ofd.exchange(batch.left.pop(0))
        batch.answers.append(answer)
        if answer.kind is not AnswerKind.ACCEPTED or not batch.left or self._rng.random() < 0.1:
            self._batches.remove(batch)
            self._done.append((batch.number, batch.answers))
            self.wakeup.set()

"""Many hands for the delivery: each sender takes a train of one register's documents to the OFD at a time."""

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.journal.records import DueDocument
from kkt_bridge.stages.courier import Answer, Courier
from kkt_bridge.stages.rounds import Round

SENDERS_MAX: Final = 8
"""Registers whose documents are on their way at the same time; an OFD may not like more connections than that."""

DEPARTURE_S: Final = 0.025
"""How long after one train the next one goes, if the first is not back by then: while an OFD answers at once, sending
is computing, and several who compute in one interpreter only take it from each other; before a slow one all wait."""


@dataclass(frozen=True, slots=True)
class Train:
    """Documents of one register, in the order in which they are to arrive, as part of a round."""

    kkt: str
    documents: Sequence[DueDocument]
    round: Round


class Sender:
    """Given a train, carries it in a thread of its own, and rings when it is back."""

    def __init__(self, courier: Courier, back: threading.Event) -> None:
        self._courier = courier
        self._back = back
        self._train: Train | None = None
        self._answers: list[Answer] | None = None
        self.bell = threading.Event()
        """Wakes this sender."""

    def give(self, train: Train) -> None:
        """Have it carried; only when nothing is under way with this sender."""
        self._train = train
        self.bell.set()

    def take(self) -> list[Answer] | None:
        """What became of the train, as far as it got; None while it is under way."""
        answers = self._answers
        if answers is not None:
            self._answers = None  # nothing more comes before the next train is given
        return answers

    def step(self) -> None:
        """Carry the train, if there is one."""
        train, self._train = self._train, None
        if train is None:
            return
        answers: list[Answer] = []
        try:
            self._courier.carry(train.documents, answers)
        finally:
            # Whatever happened: a train that never came back would hold up its register for ever.
            self._answers = answers
            self._back.set()


class Crew:
    """All the senders, as the delivery sees them: who is free, and whose documents are under way."""

    def __init__(self, courier: Courier, size: int, clock: Clock) -> None:
        self.bell = threading.Event()
        """Wakes the delivery: somebody is back."""
        self.senders = [Sender(courier, self.bell) for _ in range(size)]
        self._free = list(self.senders)
        self._under_way: dict[str, tuple[Train, Sender]] = {}
        self._departure_at = 0.0
        self._clock = clock

    @property
    def under_way(self) -> Collection[str]:
        """Registers whose documents are under way."""
        return self._under_way.keys()

    def seconds_to_departure(self) -> float | None:
        """How long until another train may go; None if not before one is back."""
        if not self._free:
            return None
        return max(0.0, self._departure_at - self._clock.monotonic()) if self._under_way else 0.0

    def send(self, train: Train) -> None:
        """Send a train on its way, if one may go and nothing of its register is under way."""
        sender = self._free.pop()
        self._under_way[train.kkt] = train, sender
        self._departure_at = self._clock.monotonic() + DEPARTURE_S
        sender.give(train)

    def back(self) -> Iterator[tuple[Train, list[Answer]]]:
        """The trains that have come back, and what became of their documents."""
        for train, sender in list(self._under_way.values()):
            if (answers := sender.take()) is not None:
                del self._under_way[train.kkt]
                self._free.append(sender)
                yield train, answers

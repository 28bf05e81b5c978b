"""A trial: whether the way to the OFD is open, shown by its health check or by a document.

A health check is hearsay, a delivery is proof. Where the check fails, every third trial goes on with a document all the
same; where documents fail although it is well, it closes no breaker.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from kkt_bridge.journal.records import DueDocument

HEARSAY_MAX: Final = 3
"""Failing health checks in a row, each of so many of which is followed by a document."""


IN_TURN_MAX: Final = 3
"""Documents besides the oldest that one trial tries: each may take as long as a time-out."""


@dataclass(slots=True)
class Trial:
    """One of them, under way."""

    candidates: deque[DueDocument] = field(default_factory=deque)
    """Documents to be tried, one after the other, until one is taken."""
    is_well: bool | None = None
    """What the health check said; None where there is none, or it was not asked."""
    asking: int | None = None
    """The number of the question under way."""


class Trials:
    """What is remembered from one trial to the next."""

    def __init__(self) -> None:
        self._failed_checks = 0
        self._in_vain = 0
        self._is_proven = False
        """Whether the last trial's document was taken, whatever the health check says."""
        self._turn = 0

    def note_check(self, *, well: bool) -> None:
        """Take note of what the health check said."""
        self._failed_checks = 0 if well else self._failed_checks + 1

    @property
    def is_proof_due(self) -> bool:
        """Whether a document is to be tried, though the health check fails."""
        return self._is_proven or self._failed_checks % HEARSAY_MAX == 0

    def note_documents(self, *, taken: bool) -> None:
        """Take note of whether a trial's documents got through."""
        self._is_proven = taken
        self._in_vain = 0 if taken else self._in_vain + 1

    def choose(self, ready: list[DueDocument]) -> deque[DueDocument]:
        """The oldest document; where it was tried in vain before, also the next ones in turn.

        The oldest alone would be the eternal trial: were it a bad one, everything behind it would wait for ever.
        `ready` holds the oldest of each register and those behind the last turn, oldest first.
        """
        if not ready:
            return deque()
        oldest = ready[0]
        chosen = deque([oldest])
        if self._in_vain:
            others = [due for due in ready if due.document != oldest.document]
            behind = [due for due in others if due.document > self._turn]
            in_turn = (behind or others)[:IN_TURN_MAX]
            self._turn = in_turn[-1].document if in_turn else 0
            chosen.extend(in_turn)
        return chosen

    @property
    def turn(self) -> int:
        """The last document that had its turn."""
        return self._turn

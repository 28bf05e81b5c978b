"""A trial: whether the way to the OFD is open, shown by its health check or by a document.

A health check is hearsay, a delivery is proof. Where the check fails, every third trial goes on with a document all the
same; where documents fail although it is well, it closes no breaker.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kkt_bridge.journal.records import DueDocument

HEARSAY_MAX: Final = 3
"""Failing health checks in a row, each of so many of which is followed by a document."""

OTHERS_MAX: Final = 3
"""Documents besides one that a trial tries: each may take as long as a time-out."""


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
    """What is remembered from one trial to the next, until a document is taken.

    The oldest document of a register overtakes nobody, so those of all registers are tried first. Were each of them a
    bad one, everything behind would wait for ever: only then are some from behind tried, right after the oldest of
    their register has failed once more. Whatever one would overtake has failed too since a document was taken last.
    """

    def __init__(self) -> None:
        self._failed_checks = 0
        self._in_vain = False
        """Whether a trial's documents have failed since one was taken."""
        self._is_proven = False
        """Whether the last trial's document was taken, whatever the health check says."""
        self._tried: dict[str, int] = {}
        """By register, up to which document all that are ready were tried in vain since one was taken."""
        self._led: dict[str, int] = {}
        """By register, the number of the last trial in which it had its turn."""
        self._count = 0

    def note_check(self, *, well: bool) -> None:
        """Take note of what the health check said."""
        self._failed_checks = 0 if well else self._failed_checks + 1

    @property
    def is_proof_due(self) -> bool:
        """Whether a document is to be tried, though the health check fails."""
        return self._is_proven or self._failed_checks % HEARSAY_MAX == 0

    def note_taken(self) -> None:
        """The OFD took a document: what failed before may have failed through no fault of its own."""
        self._in_vain = False
        self._tried.clear()
        self._led.clear()

    def note_failed(self, due: DueDocument) -> None:
        """A trial's document was not taken."""
        self._tried[due.kkt] = max(due.document, self._tried.get(due.kkt, 0))

    def end(self, *, taken: bool) -> None:
        """A trial is over that tried documents."""
        self._is_proven = taken
        self._in_vain = not taken

    def in_turn(self, oldest: Iterable[DueDocument]) -> list[DueDocument]:
        """The oldest documents of the registers, those first whose register had its turn longest ago."""
        return sorted(oldest, key=lambda due: (self._led.get(due.kkt, 0), due.document))

    def behind(self, first: DueDocument) -> int | None:
        """Behind which document of its register one is to be tried besides this one; None where none is."""
        tried = self._tried.get(first.kkt, 0)
        return tried if self._in_vain and tried >= first.document else None

    def start_over(self, first: DueDocument) -> None:
        """All documents of its register were tried: the one behind this is next."""
        self._tried[first.kkt] = first.document

    def begin(self, first: DueDocument, behind: Sequence[DueDocument], others: Sequence[DueDocument]) -> Trial:
        """A trial of this document, and where that was in vain before, of others too.

        Those of other registers come before it: if one of them is taken, none from `behind` need overtake it.
        """
        self._count += 1
        self._led[first.kkt] = self._count
        chosen = [*others[: OTHERS_MAX - 1], first, *behind][: 1 + OTHERS_MAX] if self._in_vain else [first]
        return Trial(deque(chosen))

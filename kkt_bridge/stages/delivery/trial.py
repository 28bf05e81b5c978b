"""Trials: whether the way to the OFD is open, shown by its health check or by a document, one at a time.

A health check is hearsay, a delivery is proof. Where the check fails, every third trial goes on with a document all the
same; where documents fail although it is well, it closes no breaker.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kkt_bridge.journal.records import DueDocument

FAILED_CHECKS_PER_PROOF: Final = 3
"""Failing health checks in a row, each of so many of which is followed by a document."""

OTHERS_MAX: Final = 3
"""Documents besides one that a trial tries: each may take as long as a time-out."""


class TrialState(StrEnum):
    """The states of the trial under way."""

    NONE = "none"
    """There is none."""
    CHECKING = "checking"
    """The health check is asked first."""
    TRYING = "trying"
    """Documents are tried, one after the other, until one is taken."""


TRIAL_TRANSITIONS: Final[Mapping[TrialState, frozenset[TrialState]]] = MappingProxyType(
    {
        TrialState.NONE: frozenset({TrialState.CHECKING, TrialState.TRYING}),
        TrialState.CHECKING: frozenset({TrialState.TRYING, TrialState.NONE}),
        TrialState.TRYING: frozenset({TrialState.NONE}),
    }
)


class Trials:
    """The trial under way, and what is remembered from one to the next until a document is taken.

    The oldest document of a register overtakes nobody, so those of all registers are tried first. Were each of them a
    bad one, everything behind would wait for ever: only then are some from behind tried, right after the oldest of
    their register has failed once more. Whatever one would overtake has failed too since a document was taken last.
    """

    def __init__(self) -> None:
        self.state = TrialState.NONE
        self.candidates: deque[DueDocument] = deque()
        """Documents still to be tried."""
        self.health_ok: bool | None = None
        """The health check's verdict in this trial; None where there is none, or it was not asked."""
        self.next_at = 0.0
        """When the next trial may begin: seconds on the monotonic clock."""
        self._failed_checks = 0
        self._in_vain = False
        """True where a trial's documents have failed since one was taken."""
        self._is_proven = False
        """True where the last trial's document was taken, whatever the health check says."""
        self._tried: dict[str, int] = {}
        """By register, up to which document all that are ready were tried in vain since one was taken."""
        self._led: dict[str, int] = {}
        """By register, the number of the last trial in which it had its turn."""
        self._count = 0

    # -- which documents ------------------------------------------------------------------------------------

    def in_turn(self, oldest: Iterable[DueDocument]) -> list[DueDocument]:
        """Return the oldest documents of the registers, those first whose register had its turn longest ago."""
        return sorted(oldest, key=lambda due: (self._led.get(due.kkt, 0), due.document))

    def behind(self, first: DueDocument) -> int | None:
        """Return the document of its register behind which one is to be tried besides this one; None for none."""
        tried = self._tried.get(first.kkt, 0)
        return tried if self._in_vain and tried >= first.document else None

    def start_over(self, first: DueDocument) -> None:
        """Begin behind this document again: all documents of its register were tried."""
        self._tried[first.kkt] = first.document

    def choose(
        self, first: DueDocument, behind: Sequence[DueDocument], others: Sequence[DueDocument]
    ) -> list[DueDocument]:
        """Return the documents of the next trial: this one, and where that was in vain before, others too.

        Those of other registers come before it: if one of them is taken, none from `behind` need overtake it.
        """
        self._count += 1
        self._led[first.kkt] = self._count
        return [*others[: OTHERS_MAX - 1], first, *behind][: 1 + OTHERS_MAX] if self._in_vain else [first]

    # -- the one under way ----------------------------------------------------------------------------------

    def _become(self, state: TrialState) -> None:
        assert state in TRIAL_TRANSITIONS[self.state], f"a trial {state} after {self.state}"
        self.state = state

    def begin(self, candidates: Iterable[DueDocument], *, checks_first: bool = False) -> None:
        """Begin one with these documents, with the health check before them if so wanted."""
        self._become(TrialState.CHECKING if checks_first else TrialState.TRYING)
        self.candidates = deque(candidates)
        self.health_ok = None

    @property
    def is_proof_due(self) -> bool:
        """True where a document is to be tried, though the health check fails."""
        return self._is_proven or self._failed_checks % FAILED_CHECKS_PER_PROOF == 0

    def note_check(self, *, health_ok: bool | None, is_contradicted: bool) -> None:
        """Take the health check's answer, None where there is no such check: documents follow, or the trial is over.

        `is_contradicted`: deliveries fail although the check is well.
        """
        self.health_ok = health_ok
        needs_proof = True
        if health_ok is not None:
            self._failed_checks = 0 if health_ok else self._failed_checks + 1
            needs_proof = bool(self.candidates) and (is_contradicted if health_ok else self.is_proof_due)
        if needs_proof:
            self._become(TrialState.TRYING)
        else:
            self.end()

    def note_outcome(self, due: DueDocument, *, is_taken: bool, is_pause: bool) -> bool:
        """Take note of the outcome of the trial's document; return True if the trial is over.

        One document that is taken is enough.
        """
        if not is_taken and not is_pause:
            self._tried[due.kkt] = max(due.document, self._tried.get(due.kkt, 0))
            if self.candidates:
                return False
        if not is_pause:  # an OFD that asks for patience is there, and says nothing of the document
            self._is_proven = is_taken
            self._in_vain = not is_taken
        self.end()
        return True

    def end(self) -> None:
        """End the trial under way."""
        self._become(TrialState.NONE)
        self.candidates.clear()
        self.health_ok = None

    def note_taken(self) -> None:
        """Forget what failed before: the OFD took a document, it may have failed through no fault of its own."""
        self._in_vain = False
        self._tried.clear()
        self._led.clear()

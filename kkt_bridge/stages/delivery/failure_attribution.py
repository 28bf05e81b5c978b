"""Attribution of failures, by all answers together: who fails, since when, and whether anything was taken meanwhile.

Order is told by *moments*, numbers that grow with every batch sent and every answer judged. Nothing here outlives the
process but what the journal's rows tell: documents that failed before are failing when it starts, with nothing known to
have been taken since. That errs on the safe side: no strike is given until something is taken.
"""

import itertools
from collections.abc import Iterable
from typing import Final

from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer

FAILING_SERVICE_FROM: Final = 3
"""Different documents failing, none taken since the first of them failed, from which it is the service that fails."""

REFUSED_IN_A_ROW_MAX: Final = 10
"""Different documents refused in a row, with none taken between, after which it is not believed that each is bad."""

REMEMBERED_MAX: Final = 10_000
"""Documents of which it is remembered when they failed; beyond that, the one that began first is forgotten."""

TAKES_NOTHING_S: Final = 600.0
"""Seconds of attempts that all came to nothing before that is worth telling."""


class FailureAttribution:
    """Used by one thread; the fields without an underscore may be read by others."""

    def __init__(self) -> None:
        self._moments = itertools.count(1)
        self._taken_at = 0
        """The moment at which the last document that was taken was sent."""
        self._failing: dict[int, int] = {}
        """Documents, and the moment at which each began to fail."""
        self._failed_at: dict[int, int] = {}
        """Documents, and the moment at which each failed last."""
        self._misdirected: dict[int, int] = {}
        """Documents, and the moment at which the bridge was first refused on each."""
        self._misdirected_since: set[int] = set()
        """Documents on which the bridge was refused since the last one was taken, those that died of it too."""
        self._refused: set[int] = set()
        """Documents refused since the last one was taken."""
        self.health_contradicted = False
        """True while deliveries fail in a way that the health check does not see: then it proves nothing."""
        self.bridge_refused: str | None = None
        self.refuses_all: str | None = None
        self.takes_nothing_since: float | None = None
        """Since when attempts come to nothing, in seconds on the monotonic clock."""

    def next_moment(self) -> int:
        """Return a moment later than all before."""
        return next(self._moments)

    def recall(self, failing: Iterable[int]) -> None:
        """Take over which documents had failed before this process began, dead letters of it too."""
        for document in failing:
            self._failing.setdefault(document, self.next_moment())

    def service_fails(self, document: int | None = None) -> bool:
        """Return whether the service fails rather than documents, this one counted among those failing."""
        fresh = sum(began > self._taken_at for began in self._failing.values())
        return fresh + (document is not None and document not in self._failing) >= FAILING_SERVICE_FROM

    def took_others(self, document: int) -> bool:
        """Return whether the OFD took another document since this one failed last."""
        failed_at = self._failed_at.get(document)
        return failed_at is not None and self._taken_at > failed_at

    def took_others_since_refusal(self, document: int) -> bool:
        """Return whether it took another since it refused the bridge on this one, and refused it on no other since.

        Without the latter, a single document taken in the middle of such an outage would cost all that were tried
        before it.
        """
        refused_at = self._misdirected.get(document)
        return refused_at is not None and self._taken_at > refused_at and not self._misdirected_since - {document}

    @property
    def is_suspicious(self) -> bool:
        """True while one document at a time is to be tried, not each register's: what fails may fail for all."""
        return self.bridge_refused is not None or self.refuses_all is not None or self.service_fails()

    def note(
        self, document: int, answer: OfdAnswer, *, sent_at: int, health_ok: bool | None, is_dead: bool, now_s: float
    ) -> None:
        """Take note of an answer, after it was decided upon. `sent_at` is the moment of its batch.

        With `is_dead`, the document was found to be at fault. SLOW_DOWN is nobody's.
        """
        if answer.kind is AnswerKind.ACCEPTED:
            self._note_taken(document, sent_at)
            return
        if self.takes_nothing_since is None:
            self.takes_nothing_since = now_s
        moment = self.next_moment()
        match answer.kind:
            case AnswerKind.DOCUMENT_REFUSED:
                self._refused.add(document)
                if len(self._refused) >= REFUSED_IN_A_ROW_MAX:
                    self.refuses_all = answer.text
            case AnswerKind.BRIDGE_REFUSED:
                self._remember(self._misdirected, document, moment)
                self._misdirected_since.add(document)
                if not is_dead:  # else others get through: it is not the bridge that is refused
                    self.bridge_refused = answer.text
                    self.health_contradicted = True
            case AnswerKind.NOT_THE_OFD:
                self.health_contradicted = True
            case AnswerKind.SERVICE_FAILED | AnswerKind.LINE_FAILED:
                self._remember(self._failing, document, moment)
                self._failed_at[document] = moment
                if health_ok is not None:
                    self.health_contradicted = health_ok

    def _note_taken(self, document: int, sent_at: int) -> None:
        self._taken_at = max(self._taken_at, sent_at)
        self._misdirected_since.clear()
        self.forget(document)
        self.health_contradicted = False
        self.clear_refusals()
        self.takes_nothing_since = None

    def clear_refusals(self) -> None:
        """Take back that the OFD refuses this bridge, or everything: nothing shows it any more."""
        self._refused.clear()
        self.bridge_refused = self.refuses_all = None

    def forget(self, document: int) -> None:
        """Forget a document: nothing that it was answered says anything of the service any more."""
        for memory in (self._failing, self._failed_at, self._misdirected):
            memory.pop(document, None)

    def exhaust(self, document: int) -> None:
        """Forget a document that failed too often to be tried again, but count it as failing until another is taken.

        Without that, an outage in which few documents are made would cost them all, two by two.
        """
        for memory in (self._failed_at, self._misdirected):
            memory.pop(document, None)

    def _remember(self, memory: dict[int, int], document: int, moment: int) -> None:
        memory.setdefault(document, moment)
        if len(memory) > REMEMBERED_MAX:
            oldest = next(iter(memory))
            del memory[oldest]
            self._failed_at.pop(oldest, None)

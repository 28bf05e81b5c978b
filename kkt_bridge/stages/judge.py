"""The question whose fault a failure is, and what breaker and network learn of it.

An outage is nobody's fault: the breaker opens, and a week of it costs no document anything. A failure is
a *strike* against the document when the OFD is known to be alive (its health check answers, or it took
another document since this one last failed), or when an operator forced the attempt. A document that
strikes again while the OFD is alive does not count against the service: one poisonous document must not
close the road for the others.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kkt_bridge.clock import Clock
from kkt_bridge.errors import DocumentRefused, OfdError, OfdUnavailable, OfdUnreachable
from kkt_bridge.journal.records import DueDocument
from kkt_bridge.ofd.breaker import Breaker, BreakerChange, DocumentAtFault
from kkt_bridge.ofd.network import Network, NetworkName
from kkt_bridge.stages.courier import Answer, Courier

T = TypeVar("T")
Gate = Callable[[Callable[[], int | None]], int | None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt: the OFD's time, or an error and whether it is a strike."""

    due: DueDocument
    server_time: int | None = None
    error: OfdError | None = None
    strike: bool = False
    outage: bool = False
    """Whether the OFD is known to be away: it fails its health check too."""


@dataclass(frozen=True, slots=True)
class NetworkChange:
    """A change of what is believed of the way to the OFD."""

    previous: NetworkName
    current: NetworkName


class Judge:
    """Says what an answer means, in one thread; the breaker and the network believe nobody else."""

    def __init__(self, *, courier: Courier, breaker: Breaker, network: Network, clock: Clock) -> None:
        self._courier = courier
        self._breaker = breaker
        self._network = network
        self._clock = clock
        self._last_success = 0
        self._failed_at: dict[int, int] = {}
        """When each document that did not get through failed last; this and the above in the courier's moments."""
        self._news: list[BreakerChange | NetworkChange] = []

    @property
    def all_is_well(self) -> bool:
        """Whether the way to the OFD is believed to be open."""
        return self._network.state == "online"

    def note_breaker(self, change: BreakerChange) -> None:
        """Take note of a change for its event; called by the breaker."""
        self._news.append(change)
        log.warning("the breaker to the OFD is %s (was %s): %s", change.current, change.previous, change.last_error)

    def take_news(self) -> list[BreakerChange | NetworkChange]:
        """What changed since the last time."""
        news, self._news = self._news, []
        return news

    def look_around(self) -> None:
        """See how the way to the OFD is, while there is nothing to send that would tell."""
        try:
            well = self._courier.ask_health()
        except OfdError as error:
            self._observe_failure(error)
        else:
            self._take_note(self._network.observe("online", self._now()) if well else self._reconsidered())

    def _reconsidered(self) -> NetworkName | None:
        return self._network.reconsider(self._now())

    def _now(self) -> float:
        return self._clock.monotonic()

    def forget(self, due: DueDocument) -> None:
        """The document will not be tried again."""
        self._failed_at.pop(due.document, None)

    def judge(self, answer: Answer, *, force: bool) -> Outcome:
        """What this answer, or an operator's forced one, means."""
        return self._judge(answer, self._breaker.pass_by_force if force else self._breaker.hear, force=force)

    def probe(self, candidates: Callable[[], Sequence[DueDocument]]) -> list[Outcome]:
        """Ask, through the breaker, whether the OFD is back: by its health check, or with documents.

        One document that gets through is enough. Returns what became of those that were tried.
        """
        tried: list[Outcome] = []

        def ask() -> int | None:
            if not self._courier.ask_health():
                self._try_until_one_arrives(candidates(), tried)
            return None

        try:
            self._breaker.call(ask)
        except OfdError as error:
            if not tried:
                self._observe_failure(error)
        else:
            self._observe("online")
        return tried

    def _try_until_one_arrives(self, documents: Sequence[DueDocument], tried: list[Outcome]) -> None:
        error: OfdError = OfdUnreachable("the OFD has no health check, and there is no document to try")
        for due in documents:
            outcome = self._judge(self._courier.carry_one(due), _straight, force=False)
            tried.append(outcome)
            if outcome.error is None:
                return
            error = outcome.error
        raise error

    def _judge(self, answer: Answer, gate: Gate, *, force: bool) -> Outcome:
        due = answer.due
        alive = self._is_alive(answer)
        try:
            server_time = gate(lambda: _outcome(answer, at_fault=bool(alive and due.strikes)))
        except DocumentRefused as error:
            self.forget(due)
            self._observe("online")
            return Outcome(due, error=error, strike=True)
        except (OfdUnavailable, OfdUnreachable, DocumentAtFault) as error:
            self._observe_failure(error)
            self._failed_at[due.document] = answer.ended
            return Outcome(due, error=error, strike=force or bool(alive), outage=alive is False and not force)
        self._last_success = max(self._last_success, answer.began)
        self.forget(due)
        self._observe("online")
        return Outcome(due, server_time=server_time)

    def _is_alive(self, answer: Answer) -> bool | None:
        """Whether the OFD is there, although it failed on this document; None if nothing tells."""
        if answer.is_well is not None:
            return answer.is_well
        failed_before = self._failed_at.get(answer.due.document)
        return True if failed_before is not None and self._last_success > failed_before else None

    def _observe_failure(self, error: OfdError) -> None:
        self._observe("offline" if isinstance(error, OfdUnreachable) else "degraded")

    def _observe(self, seen: NetworkName) -> None:
        self._take_note(self._network.observe(seen, self._now()))

    def _take_note(self, previous: NetworkName | None) -> None:
        if previous is not None:
            self._news.append(NetworkChange(previous, self._network.state))
            log.warning("the way to the OFD is %s (was %s)", self._network.state, previous)


def _outcome(answer: Answer, *, at_fault: bool) -> int | None:
    """The OFD's time, or the failure as the breaker is to see it."""
    if answer.error is None:
        return answer.server_time
    if at_fault and not isinstance(answer.error, DocumentRefused):
        raise DocumentAtFault(str(answer.error)) from answer.error
    raise answer.error


def _straight(call: Callable[[], T]) -> T:
    """No gate: the breaker is being asked already."""
    return call()

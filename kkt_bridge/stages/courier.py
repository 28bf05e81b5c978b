"""One attempt at the OFD, and the question whose fault a failure is.

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
from kkt_bridge.ofd.client import OfdClient
from kkt_bridge.ofd.network import Network, NetworkName
from kkt_bridge.stages.document import DocumentBuilder, idempotency_key

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


class Courier:
    """Carries one document at a time; the only user of the OFD client."""

    def __init__(
        self, *, ofd: OfdClient, breaker: Breaker, network: Network, builder: DocumentBuilder, clock: Clock
    ) -> None:
        self._ofd = ofd
        self._breaker = breaker
        self._network = network
        self._builder = builder
        self._clock = clock
        self._successes = 0
        self._successes_at_failure: dict[int, int] = {}
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
            well = self._ofd.ask_health()
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
        self._successes_at_failure.pop(due.document, None)

    def send(self, due: DueDocument, *, force: bool) -> Outcome:
        """Try one document. BreakerOpen if the breaker does not let it; by force it must."""
        gate: Gate = self._breaker.pass_by_force if force else self._breaker.call
        return self._attempt(due, gate, force=force)

    def probe(self, candidates: Callable[[], Sequence[DueDocument]]) -> list[Outcome]:
        """Ask, through the breaker, whether the OFD is back: by its health check, or with documents.

        One document that gets through is enough. Returns what became of those that were tried.
        """
        tried: list[Outcome] = []

        def ask() -> int | None:
            if not self._ofd.ask_health():
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
            outcome = self._attempt(due, _straight, force=False)
            tried.append(outcome)
            if outcome.error is None:
                return
            error = outcome.error
        raise error

    def _attempt(self, due: DueDocument, gate: Gate, *, force: bool) -> Outcome:
        try:
            body = self._builder.body(due)
        except Exception as error:
            # Its own fault, or ours; either way no reason to hold up the documents behind it.
            log.exception("no document can be made of %s:%s", due.pos_id, due.receipt_id)
            return Outcome(due, error=DocumentRefused(f"cannot be put together: {error}"), strike=True)
        alive: bool | None = None

        def deliver() -> int | None:
            nonlocal alive
            try:
                return self._ofd.deliver(idempotency_key(due), body)
            except (OfdUnavailable, OfdUnreachable) as error:
                alive = self._is_alive(due)
                if alive and due.strikes:
                    raise DocumentAtFault(str(error)) from error
                raise

        try:
            server_time = gate(deliver)
        except DocumentRefused as error:
            self.forget(due)
            self._observe("online")
            return Outcome(due, error=error, strike=True)
        except (OfdUnavailable, OfdUnreachable, DocumentAtFault) as error:
            self._observe_failure(error)
            self._successes_at_failure[due.document] = self._successes
            return Outcome(due, error=error, strike=force or bool(alive), outage=alive is False and not force)
        self._successes += 1
        self.forget(due)
        self._observe("online")
        return Outcome(due, server_time=server_time)

    def _is_alive(self, due: DueDocument) -> bool | None:
        """Whether the OFD is there, although it failed on this document; None if nothing tells."""
        try:
            if self._ofd.ask_health():
                return True
        except OfdError:
            return False
        before = self._successes_at_failure.get(due.document)
        return True if before is not None and self._successes > before else None

    def _observe_failure(self, error: OfdError) -> None:
        self._observe("offline" if isinstance(error, OfdUnreachable) else "degraded")

    def _observe(self, seen: NetworkName) -> None:
        self._take_note(self._network.observe(seen, self._now()))

    def _take_note(self, previous: NetworkName | None) -> None:
        if previous is not None:
            self._news.append(NetworkChange(previous, self._network.state))
            log.warning("the way to the OFD is %s (was %s)", self._network.state, previous)


def _straight(call: Callable[[], T]) -> T:
    """No gate: the breaker is being asked already."""
    return call()

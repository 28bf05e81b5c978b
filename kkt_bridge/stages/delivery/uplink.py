"""The way to the OFD, shared by all lanes: pauses, breaker, network, and the evidence of all answers together."""

import logging
from dataclasses import dataclass
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.ofd.breaker import Breaker, BreakerChange
from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer
from kkt_bridge.ofd.retry_after import RETRY_AFTER_MAX_S
from kkt_bridge.receipts.lifecycle import DeliveryState
from kkt_bridge.settings import SyncSettings
from kkt_bridge.stages.delivery.backoff import backoff_s
from kkt_bridge.stages.delivery.disposition import ANSWER_RULES, Disposition, NetworkState
from kkt_bridge.stages.delivery.failure_attribution import FailureAttribution

SLOW_DOWN_FIRST_S: Final = 1.0
"""Seconds of the first pause where the OFD asks for patience and not for how much; each further one doubles."""

REFUSED_PAUSE_MAX_S: Final = 3600.0
"""Seconds between two trials while every document is refused, at most: each trial may cost a good document."""

QUICK_FAILURES_MAX: Final = 8
"""Failures in a row that are followed by another attempt at once; the breaker usually opens before that."""

EQUAL_OBSERVATIONS: Final = 3
"""A new state is believed when it was seen this often in a row."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NetworkChange:
    """A change of state, as it goes into `event/network`."""

    previous: NetworkState
    current: NetworkState


class Network:
    """Observations in, a debounced state out; used by one thread, `state` may be read by others."""

    def __init__(self, hold_s: float) -> None:
        """`hold_s`: seconds that a state lasts at least."""
        self._hold_s = hold_s
        self._changed_at_s: float | None = None
        self._seen: NetworkState = "online"
        self._times = 0
        self.state: NetworkState = "online"

    def observe(self, seen: NetworkState, now_s: float) -> NetworkState | None:
        """Take one observation at a time of the monotonic clock; return the previous state if it changed."""
        self._times = self._times + 1 if seen == self._seen else 1
        self._seen = seen
        return self.reconsider(now_s)

    def reconsider(self, now_s: float) -> NetworkState | None:
        """Believe what was seen often enough, if the hold is over by now; return the previous state if it changed."""
        seen = self._seen
        held = self._changed_at_s is None or now_s - self._changed_at_s >= self._hold_s
        if seen == self.state or self._times < EQUAL_OBSERVATIONS or not held:
            return None
        previous, self.state, self._changed_at_s = self.state, seen, now_s
        return previous


class Uplink:
    """Used by delivery's thread; `breaker`, `network`, `evidence` and `paused_until` may be read by others."""

    def __init__(self, *, breaker: Breaker, network: Network, settings: SyncSettings, clock: Clock) -> None:
        self.breaker = breaker
        self.network = network
        self.evidence = FailureAttribution()
        self._settings = settings
        self._clock = clock
        self._slow_until = self._refused_until = 0.0
        self._slowdowns = self._refusal_pauses = 0
        self._failures_in_a_row = 0
        self._changes: list[BreakerChange | NetworkChange] = []

    # -- may anything be sent? -----------------------------------------------------------------------------

    @property
    def paused_until(self) -> float | None:
        """Until when nothing is sent, in seconds on the monotonic clock; None while there is no pause."""
        until = max(self._slow_until, self._refused_until)
        return until if until > self._clock.monotonic() else None

    def paused_s(self, *, force: bool = False) -> float:
        """Return the seconds for which nothing may be sent; by force, only the OFD's own wish counts."""
        until = self._slow_until if force else max(self._slow_until, self._refused_until)
        return max(0.0, until - self._clock.monotonic())

    def hold_s(self) -> float:
        """Return the seconds before a held document is tried again. An open breaker keeps a pace of its own."""
        is_quick = self._failures_in_a_row < QUICK_FAILURES_MAX or self.breaker.state != "closed"
        return 0.0 if is_quick else self._settings.interval_s

    # -- what became of it ---------------------------------------------------------------------------------

    def note(
        self, document: int, answer: OfdAnswer, disposition: Disposition, *, sent_at: int, health_ok: bool | None
    ) -> None:
        """Take note of an answer about a document, and of what follows from it."""
        is_dead, now_s = disposition.delivery is DeliveryState.DEAD, self._clock.monotonic()
        self.evidence.note(document, answer, sent_at=sent_at, health_ok=health_ok, is_dead=is_dead, now_s=now_s)
        self.observe(ANSWER_RULES[answer.kind].network)
        if answer.kind is AnswerKind.DOCUMENT_REFUSED and self.evidence.refuses_all is not None:
            self._pause_refused()
        match disposition.uplink:
            case "success":
                self._slowdowns = self._refusal_pauses = self._failures_in_a_row = 0
                self._refused_until = 0.0
                self.breaker.succeed()
            case "failure":
                self._failures_in_a_row += 1
                self.breaker.fail(answer.text)
            case "pause":
                self._pause_slow(answer.retry_after_s)
            case "nothing":
                pass
        if disposition.reason == "max_attempts":
            self.evidence.exhaust(document)
        elif is_dead:
            self.evidence.forget(document)

    def _pause_slow(self, retry_after_s: float | None) -> None:
        self._slowdowns += 1
        own_s = backoff_s(self._slowdowns, initial_s=SLOW_DOWN_FIRST_S, max_s=self._settings.backoff_max_s, chance=0)
        # Several may be under way when it asks for patience: the longest wish counts.
        until = self._clock.monotonic() + min(retry_after_s or own_s, RETRY_AFTER_MAX_S)
        self._slow_until = max(self._slow_until, until)

    def _pause_refused(self) -> None:
        self._refusal_pauses += 1
        first_s = self.breaker.reset_timeout_s
        pause_s = backoff_s(self._refusal_pauses, initial_s=first_s, max_s=max(first_s, REFUSED_PAUSE_MAX_S), chance=0)
        self._refused_until = self._clock.monotonic() + pause_s
        log.error("the OFD refuses one document after the other; the next is tried in %.0f s", pause_s)

    def observe(self, seen: NetworkState) -> None:
        """Take one observation of the network."""
        self._note_network(self.network.observe(seen, self._clock.monotonic()))

    def reconsider(self) -> None:
        """Believe what was observed of the network often enough, if it is time for that by now."""
        self._note_network(self.network.reconsider(self._clock.monotonic()))

    def _note_network(self, previous: NetworkState | None) -> None:
        if previous is not None:
            self._changes.append(NetworkChange(previous, self.network.state))
            log.warning("the way to the OFD is %s (was %s)", self.network.state, previous)

    # -- changes of state, for their events ------------------------------------------------------------------

    def note_breaker(self, change: BreakerChange) -> None:
        """Take note of a change of the breaker's; called by it."""
        self._changes.append(change)
        log.warning("the breaker to the OFD is %s (was %s): %s", change.current, change.previous, change.last_error)

    def take_changes(self) -> list[BreakerChange | NetworkChange]:
        """Return what changed since the last time."""
        changes, self._changes = self._changes, []
        return changes

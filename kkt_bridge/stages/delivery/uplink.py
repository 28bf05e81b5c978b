"""The road to the OFD, shared by all lanes: whether anything may be sent now, and how what was sent fared."""

import logging
from dataclasses import dataclass
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.ofd.backoff import backoff_s
from kkt_bridge.ofd.breaker import Breaker, BreakerChange
from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer
from kkt_bridge.ofd.network import Network, NetworkName
from kkt_bridge.settings import SyncSettings
from kkt_bridge.stages.delivery.disposition import RULES, Disposition
from kkt_bridge.stages.delivery.evidence import FailureAttribution

SLOW_DOWN_FIRST_S: Final = 1.0
"""Seconds of the first pause where the OFD asks for patience and not for how much; each further one doubles."""

SLOW_DOWN_MAX_S: Final = 15 * 60.0
"""Seconds that the OFD is left alone at its own wish, at most."""

REFUSED_PAUSE_MAX_S: Final = 3600.0
"""Seconds between two trials while every document is refused, at most: each trial may cost a good document."""

QUICK_FAILURES_MAX: Final = 8
"""Failures in a row that are followed by another attempt at once; the breaker usually opens before that."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NetworkChange:
    """A change of what is believed of the way to the OFD."""

    previous: NetworkName
    current: NetworkName


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
        self._news: list[BreakerChange | NetworkChange] = []

    # -- may anything be sent? -----------------------------------------------------------------------------

    @property
    def paused_until(self) -> float | None:
        """Until when nothing is sent, in seconds on the monotonic clock; None while there is no pause."""
        until = max(self._slow_until, self._refused_until)
        return until if until > self._clock.monotonic() else None

    def paused_s(self, *, force: bool = False) -> float:
        """Seconds for which nothing may be sent; by force, only the OFD's own wish counts."""
        until = self._slow_until if force else max(self._slow_until, self._refused_until)
        return max(0.0, until - self._clock.monotonic())

    @property
    def is_on_trial(self) -> bool:
        """Whether one document at a time, or the health check, is to show if the way is open."""
        return self.breaker.state != "closed" or self.evidence.is_suspicious

    @property
    def is_well(self) -> bool:
        """Whether the way to the OFD is believed to be open."""
        return self.network.state == "online"

    def hold_s(self) -> float:
        """Seconds before a document that is held is tried again. A breaker that is open keeps a pace of its own."""
        is_quick = self._failures_in_a_row < QUICK_FAILURES_MAX or self.breaker.state != "closed"
        return 0.0 if is_quick else self._settings.interval_s

    # -- what became of it ---------------------------------------------------------------------------------

    def note(
        self, document: int, answer: OfdAnswer, disposition: Disposition, *, sent_at: int, is_well: bool | None
    ) -> None:
        """Take note of an answer about a document, and of what follows from it."""
        is_dead, now_s = disposition.fate == "dead", self._clock.monotonic()
        self.evidence.note(document, answer, sent_at=sent_at, is_well=is_well, is_dead=is_dead, now_s=now_s)
        self.observe(RULES[answer.kind].network)
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

    def _pause_slow(self, wanted_s: float | None) -> None:
        self._slowdowns += 1
        own = backoff_s(self._slowdowns, initial_s=SLOW_DOWN_FIRST_S, max_s=self._settings.backoff_max_s, chance=0)
        # Several may be under way when it asks for patience: the longest wish counts.
        self._slow_until = max(self._slow_until, self._clock.monotonic() + min(wanted_s or own, SLOW_DOWN_MAX_S))

    def _pause_refused(self) -> None:
        self._refusal_pauses += 1
        first_s = self.breaker.reset_timeout_s
        pause = backoff_s(self._refusal_pauses, initial_s=first_s, max_s=max(first_s, REFUSED_PAUSE_MAX_S), chance=0)
        self._refused_until = self._clock.monotonic() + pause
        log.error("the OFD refuses one document after the other; the next is tried in %.0f s", pause)

    def observe(self, seen: NetworkName) -> None:
        """Take one observation of the way to the OFD."""
        self._note_network(self.network.observe(seen, self._clock.monotonic()))

    def reconsider(self) -> None:
        """Believe what was observed often enough, if it is time for that by now."""
        self._note_network(self.network.reconsider(self._clock.monotonic()))

    def _note_network(self, previous: NetworkName | None) -> None:
        if previous is not None:
            self._news.append(NetworkChange(previous, self.network.state))
            log.warning("the way to the OFD is %s (was %s)", self.network.state, previous)

    # -- news ----------------------------------------------------------------------------------------------

    def note_breaker(self, change: BreakerChange) -> None:
        """Take note of a change for its event; called by the breaker."""
        self._news.append(change)
        log.warning("the breaker to the OFD is %s (was %s): %s", change.current, change.previous, change.last_error)

    def take_news(self) -> list[BreakerChange | NetworkChange]:
        """What changed since the last time."""
        news, self._news = self._news, []
        return news

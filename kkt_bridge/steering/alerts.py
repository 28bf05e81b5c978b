"""Alerts: what wants a person, told once when it begins and once when it is over.

What is looked at is what the telemetry sees anyway. Which alerts are raised outlives the process, so that a start
is no reason to raise them again; their events go through the outbox, so that neither a kill nor an absent broker
swallows one. While the disk takes nothing they wait in memory, with the times at which they happened.
"""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from typing import Final, Literal

from kkt_bridge.clock import Clock
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.settings import get_setting, set_setting
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.stages.lane import LaneView
from kkt_bridge.steering.clock_watch import ClockVerdict
from kkt_bridge.wire.messages import AlertEvent
from kkt_bridge.wire.times import rfc3339
from kkt_bridge.wire.topics import Topics

WAITING_MAX: Final = 200
"""Events that wait for the disk; more alerts than this in one failure of a disk tell nothing new."""

_RAISED: Final = "alerts_raised"

log = logging.getLogger(__name__)

Key = tuple[str, str | None]
"""An alert and its subject."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the telemetry sees, as far as alerts are concerned."""

    lanes: Sequence[LaneView]
    storage: str | None
    """Why the journal takes nothing; None when it does."""
    clock: ClockVerdict
    rival: str | None
    """Why another bridge of the same name is suspected."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a condition holds for a subject: its message, or None when it does not hold."""

    subject: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Condition:
    """One row of the table. A subject that `look` does not mention is not known of: its alert stays as it is."""

    alert: str
    severity: Literal["warning", "critical"]
    look: Callable[[Sight], Iterator[Finding]]
    over: str
    """What is said when it no longer holds."""
    quiet_s: float = 0.0
    """How long it must not have held before it is over: for what comes and goes."""


def _unsettled_doubts(sight: Sight) -> Iterator[Finding]:
    for view in sight.lanes:
        if view.doubts is None:
            continue
        count = len(view.doubts)
        receipts = "1 receipt was" if count == 1 else f"{count} receipts were"
        message = (
            f"{view.kkt} prints nothing: it cannot tell whether {receipts} printed; look with "
            "`kkt-bridge settle list` and settle it by hand"
        )
        yield Finding(view.kkt, message if count else None)


def _storage(sight: Sight) -> Iterator[Finding]:
    message = f"the journal takes nothing, new receipts are refused: {sight.storage}; look at the disk under it"
    yield Finding(None, message if sight.storage is not None else None)


def _clock(sight: Sight) -> Iterator[Finding]:
    yield Finding(None, sight.clock.alert)


def _rival(sight: Sight) -> Iterator[Finding]:
    yield Finding(None, sight.rival)


CONDITIONS: Final = (
    Condition("unsettled_doubt", "critical", _unsettled_doubts, "every doubt is settled, it prints again"),
    Condition("storage", "critical", _storage, "the journal takes receipts again"),
    Condition("clock", "warning", _clock, "nothing speaks against the system clock any more"),
    Condition("rival", "critical", _rival, "no other client has taken the MQTT session since", quiet_s=120.0),
)
"""Everything that is worth a person's attention."""


@dataclass(slots=True)
class _Raised:
    """An alert that is raised; steady milliseconds."""

    since_ms: int
    held_ms: int
    """When its condition was last seen to hold."""


class Alerts:
    """Which alerts are raised, and the word of it."""

    def __init__(
        self,
        *,
        journal: Journal,
        topics: Topics,
        registers: Sequence[str],
        zone: tzinfo,
        clock: Clock,
        conditions: Sequence[Condition] = CONDITIONS,
    ) -> None:
        self._journal = journal
        self._topic = topics.event("alert")
        self._registers = frozenset(registers)
        self._zone = zone
        self._clock = clock
        self._conditions = conditions
        self._raised: dict[Key, _Raised] | None = None
        self._waiting: deque[AlertEvent] = deque(maxlen=WAITING_MAX)

    def look(self, sight: Sight) -> None:
        """Raise and clear what has changed, with the journal's next commit; nothing is written where nothing has."""
        raised = self._recalled()
        for condition in self._conditions:
            for finding in condition.look(sight):
                self._judge(raised, condition, finding)
        if self._waiting and self._journal.failing is None:
            self._post(raised)

    def _recalled(self) -> dict[Key, _Raised]:
        """What is raised; at first, what an earlier process had raised, less what there is no longer."""
        if self._raised is None:
            text = self._journal.read(lambda connection: get_setting(connection, _RAISED)) or "[]"
            self._raised = {(alert, subject): _Raised(since, since) for alert, subject, since in json.loads(text)}
            known = {condition.alert: condition for condition in self._conditions}
            for alert, subject in list(self._raised):
                if alert not in known:
                    del self._raised[alert, subject]
                elif subject is not None and subject not in self._registers:
                    self._clear(self._raised, known[alert], subject, "it is no longer configured")
        return self._raised

    def _judge(self, raised: dict[Key, _Raised], condition: Condition, finding: Finding) -> None:
        key, now_ms = (condition.alert, finding.subject), self._journal.steady_ms()
        known = raised.get(key)
        if finding.message is None:
            if known is not None and now_ms - known.held_ms >= condition.quiet_s * 1000:
                self._clear(raised, condition, finding.subject, condition.over)
        elif known is not None:
            known.held_ms = now_ms
        else:
            raised[key] = _Raised(now_ms, now_ms)
            self._say(condition, "raised", finding.subject, finding.message)

    def _clear(self, raised: dict[Key, _Raised], condition: Condition, subject: str | None, why: str) -> None:
        since = raised.pop((condition.alert, subject)).since_ms
        lasted = timedelta(seconds=(self._journal.steady_ms() - since) // 1000)
        self._say(condition, "cleared", subject, f"{f'{subject}: ' if subject else ''}{why}; it had lasted {lasted}")

    def _say(
        self, condition: Condition, state: Literal["raised", "cleared"], subject: str | None, message: str
    ) -> None:
        log.log(
            logging.WARNING if state == "raised" else logging.INFO, "alert %s %s: %s", condition.alert, state, message
        )
        self._waiting.append(
            AlertEvent(
                alert=condition.alert,
                severity=condition.severity,
                state=state,
                subject=subject,
                message=message,
                at=rfc3339(self._clock.now_ms(), self._zone),
            )
        )

    def _post(self, raised: dict[Key, _Raised]) -> None:
        events = list(self._waiting)
        kept = json.dumps([[alert, subject, entry.since_ms] for (alert, subject), entry in raised.items()])

        def operation(tx: Transaction) -> None:
            for event in events:
                tx.publish(self._topic, event.payload(), is_event=True)
            set_setting(tx, _RAISED, kept)

        # Not written here: a disk that keeps writers waiting must not keep the state of everything else waiting.
        self._journal.post(operation)
        self._waiting.clear()

"""Alerts: which are raised. Each is told once when it is raised and once when it is cleared.

Which alerts there are is a table (`alert_table.py`), judged by what the components report. The set of raised alerts
outlives the process, so that a start raises none again; their events go through the outbox, so that neither a kill nor
an absent broker swallows one. While the disk takes nothing they wait in memory, with the times at which they happened,
and the set is shown all the same.
"""

import json
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta, tzinfo
from functools import partial
from typing import Any, Final, Literal

from kkt_bridge.clock import Clock
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.settings import get_setting, set_setting
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.operations.alert_table import CONDITIONS, Condition, Finding, Severity
from kkt_bridge.operations.health import Guard
from kkt_bridge.wire.messages import Alert, AlertEvent, AlertsState, rfc3339
from kkt_bridge.wire.topics import Topics

WAITING_MAX: Final = 200
"""Events that wait for the disk; more than this in one failure of a disk tell nothing new."""

_RAISED: Final = "alerts_raised"

_SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "warning")
"""The order in which alerts are shown."""

log = logging.getLogger(__name__)

Key = tuple[str, str | None]
"""An alert and the register that it is about."""


@dataclass(slots=True)
class _Raised:
    """An alert that is raised; times in steady milliseconds but for `since`."""

    code: str
    kkt: str | None
    since: str
    """By the wall clock, RFC 3339: for people."""
    since_ms: int
    severity: Severity
    message: str
    level: int = 0
    held_ms: int = 0
    """The last time at which its condition held."""


class Alerts:
    """Raises and clears alerts, and publishes their events."""

    def __init__(
        self,
        *,
        journal: Journal,
        topics: Topics,
        registers: Sequence[str],
        zone: tzinfo,
        clock: Clock,
        conditions: Sequence[Condition[Any]] = CONDITIONS,
    ) -> None:
        self._journal = journal
        self._topic = topics.event("alert")
        self._registers = frozenset(registers)
        self._zone = zone
        self._clock = clock
        self._conditions = {condition.code: condition for condition in conditions}
        self._raised: dict[Key, _Raised] = {}
        self._recalled = False
        self._held_since: dict[Key, int] = {}
        """Conditions that hold and are not raised yet, with the steady time since when."""
        self._waiting: deque[AlertEvent] = deque(maxlen=WAITING_MAX)
        self._guard = Guard()

    @property
    def broken(self) -> dict[str, str]:
        """Conditions that raised an error when they were last evaluated, with the reason."""
        return self._guard.broken

    def update(self, facts: Sequence[object]) -> None:
        """Raise and clear what has changed, with the journal's next commit; nothing is written where nothing has."""
        if not self._recalled:
            self._guard.run("recalled alerts", self._recall)
        for condition in self._conditions.values():
            findings = self._guard.run(f"alert {condition.code}", partial(condition.findings, facts))
            for finding in findings or ():
                self._apply(condition, finding)
        # Without what an earlier process had raised, what is kept now would overwrite it.
        if self._waiting and self._recalled and self._journal.failing is None:
            self._post()

    def state(self) -> AlertsState:
        """Return the raised alerts, the worst and the oldest first."""
        raised = sorted(
            self._raised.values(), key=lambda each: (_SEVERITIES.index(each.severity), each.since, each.kkt or "")
        )
        return AlertsState(
            alerts=[
                Alert(
                    code=each.code,
                    severity=each.severity,
                    since=each.since,
                    message=each.message,
                    what_to_do=self._conditions[each.code].what_to_do,
                    kkt=each.kkt,
                )
                for each in raised
            ],
            at=self._now(),
        )

    def _recall(self) -> None:
        """Load what an earlier process had raised, less what there is no longer."""
        text = self._journal.read(lambda connection: get_setting(connection, _RAISED)) or "[]"
        self._recalled = True
        for entry in json.loads(text):
            known = _remembered(entry)
            if known is None or known.code not in self._conditions:
                continue
            key, condition = (known.code, known.kkt), self._conditions[known.code]
            if key in self._raised:  # raised by this process before the journal could be read: it is no news
                self._waiting = deque(
                    (event for event in self._waiting if (event.code, event.kkt) != key), maxlen=WAITING_MAX
                )
            self._raised[key] = known
            if known.kkt is not None and condition.of_configured and known.kkt not in self._registers:
                self._clear(key, condition, "it is no longer configured")

    def _apply(self, condition: Condition[Any], finding: Finding) -> None:
        key, now_ms = (condition.code, finding.kkt), self._journal.steady_ms()
        known = self._raised.get(key)
        if finding.message is None:
            self._held_since.pop(key, None)
            if known is not None and now_ms - known.held_ms >= condition.quiet_s * 1000:
                self._clear(key, condition, condition.over)
            return
        if known is None:
            since_ms = self._held_since.setdefault(key, now_ms)
            if now_ms - since_ms < condition.after_s * 1000:
                return
            del self._held_since[key]
        self._hold(condition, finding, finding.message, known)

    def _hold(self, condition: Condition[Any], finding: Finding, message: str, known: _Raised | None) -> None:
        """Raise the alert, or update what is shown of it; tell it again where it is worse."""
        now_ms, severity = self._journal.steady_ms(), finding.severity or condition.severity
        if known is None:
            known = _Raised(condition.code, finding.kkt, self._now(), now_ms, severity, message)
            self._raised[condition.code, finding.kkt] = known
            is_news = True
        else:
            is_news = finding.level > known.level
        known.held_ms, known.level, known.severity, known.message = now_ms, finding.level, severity, message
        if is_news:
            self._tell(condition, known, "raised", message)

    def _clear(self, key: Key, condition: Condition[Any], why: str) -> None:
        known = self._raised.pop(key)
        lasted = timedelta(seconds=(self._journal.steady_ms() - known.since_ms) // 1000)
        subject = f"{known.kkt}: " if known.kkt else ""
        self._tell(condition, known, "cleared", f"{subject}{why}; it had lasted {lasted}")

    def _tell(
        self, condition: Condition[Any], known: _Raised, state: Literal["raised", "cleared"], message: str
    ) -> None:
        advice = f"; {condition.what_to_do}" if state == "raised" else ""
        log.warning("alert %s %s: %s%s", condition.code, state, message, advice)
        self._waiting.append(
            AlertEvent(
                alert=condition.code,
                code=condition.code,
                severity=known.severity,
                state=state,
                subject=known.kkt,
                kkt=known.kkt,
                since=known.since,
                message=message,
                what_to_do=condition.what_to_do if state == "raised" else None,
                at=self._now(),
            )
        )

    def _post(self) -> None:
        events = list(self._waiting)
        kept = json.dumps([asdict(entry) for entry in self._raised.values()], ensure_ascii=False)

        def operation(tx: Transaction) -> None:
            for event in events:
                tx.publish(self._topic, event.payload(), is_event=True)
            set_setting(tx, _RAISED, kept)

        # Not written here: a disk that keeps writers waiting must not keep the state of everything else waiting.
        self._journal.post(operation)
        self._waiting.clear()

    def _now(self) -> str:
        return rfc3339(self._clock.now_ms(), self._zone)


def _remembered(entry: Any) -> _Raised | None:
    """Return an alert that an earlier process kept; None, so that it is raised anew, if another release wrote it."""
    try:
        return _Raised(**entry)
    except TypeError:
        return None

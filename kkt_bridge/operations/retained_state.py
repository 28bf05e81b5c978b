"""Retained state: published on change, at most once a second a topic, and again at an interval.

The broker is not our database: after every connect all of it is published again.
"""

import threading
from dataclasses import dataclass
from typing import Any, Final

from kkt_bridge.clock import Clock
from kkt_bridge.mqtt.messages import BrokerSession, Publication
from kkt_bridge.wire.messages import Outgoing
from kkt_bridge.wire.topics import Topics

CHANGE_INTERVAL_S: Final = 1.0
"""The shortest time between two messages on one topic."""


@dataclass(slots=True)
class _Topic:
    message: Outgoing
    content: dict[str, Any]
    """The message without the fields that change all the time: a difference here is a change."""
    published_at: float | None = None
    changed: bool = True


class RetainedState:
    """The messages on the `state/...` topics."""

    def __init__(self, *, link: BrokerSession, topics: Topics, interval_s: float, clock: Clock) -> None:
        self._link = link
        self._topics = topics
        self._interval_s = interval_s
        self._clock = clock
        self._entries: dict[str, _Topic] = {}
        self._lock = threading.Lock()

    def put(self, name: str, message: Outgoing) -> None:
        """Set the message of `state/{name}`; a change is published once the last message there is a second old."""
        content = message.model_dump(exclude=set(message.no_news))
        with self._lock:
            now = self._clock.monotonic()
            entry = self._entries.get(name)
            if entry is None:
                entry = self._entries[name] = _Topic(message, content)
            else:
                # What waited for its second goes out before what replaces it: of a state that changes in step with the
                # interval the same phase would otherwise always be published.
                if entry.changed:
                    self._publish_if_due(name, entry, now)
                entry.changed |= entry.content != content
                entry.message, entry.content = message, content
            self._publish_if_due(name, entry, now)

    def link_up(self) -> None:
        """Publish everything again: the broker may know nothing of us."""
        with self._lock:
            for name, entry in self._entries.items():
                entry.published_at = None
                self._publish_if_due(name, entry, self._clock.monotonic())

    def step(self) -> float | None:
        """Publish what is due; return the seconds until the next step."""
        now = self._clock.monotonic()
        with self._lock:
            for name, entry in self._entries.items():
                self._publish_if_due(name, entry, now)
        return CHANGE_INTERVAL_S

    def snapshot(self) -> dict[str, Outgoing]:
        """Return every message by its name."""
        with self._lock:
            return {name: entry.message for name, entry in self._entries.items()}

    def _publish_if_due(self, name: str, entry: _Topic, now: float) -> None:
        if not self._link.online:
            return
        if entry.published_at is not None:
            silent_for = now - entry.published_at
            if silent_for < CHANGE_INTERVAL_S or not (entry.changed or silent_for >= self._interval_s):
                return
        entry.published_at, entry.changed = now, False
        self._link.publish(Publication(self._topics.state(name), entry.message.payload(), retain=True))

"""The MQTT session as the stages see it: messages to publish, notifications, and its status."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from kkt_bridge.mqtt.inbox import AckToken
from kkt_bridge.mqtt.refused_publications import HoldKey, Holds, Occurrences


class PublicationOwner(Protocol):
    """Is told by the session, in its thread, what becomes of messages; nothing of those lost with a connection."""

    def published(self, token: object) -> None:
        """Note that the broker has acknowledged the message with this token."""

    def refused(self, token: object) -> None:
        """Note that the broker refuses the message with this token: it is held, not lost; `refused_publications.py`."""


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """The state of the session, for telemetry, alerts and `status`."""

    online: bool
    complaint: str | None = None
    """The reason why the broker is away, in one line; None while it is not."""
    rival: str | None = None
    """The reason to suspect another bridge with our name, in one line; None while there is none."""
    protocol: str = "5"
    """The version of MQTT that is spoken, or tried next: "5" or "3.1.1"."""
    refused_subscriptions: tuple[str, ...] = ()
    """Filters that the broker does not grant on this connection, while the rest is served."""
    refused_topics: Occurrences = field(default_factory=Occurrences)
    """Topics on which the broker refuses what the bridge publishes."""
    parked: Occurrences = field(default_factory=Occurrences)
    """Messages over which the broker seems to cut the connection."""
    unroutable: Occurrences = field(default_factory=Occurrences)
    """Messages since the start that came to the bridge on a topic that is none of its own."""
    last_puback_age_s: float | None = None
    """Seconds for which the oldest published message waits for its PUBACK; None if none does."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to publish at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None
    token: object = None
    """Identifies the message to its owner: its number in the outbox, if it is an integer."""
    owner: PublicationOwner | None = None
    """Is told whether the broker takes it. A retained message without an owner gives way to the next on its topic."""

    @property
    def key(self) -> HoldKey:
        """Its number in the outbox, or its topic: the same on every connection."""
        return self.token if isinstance(self.token, int) else self.topic

    @property
    def size(self) -> int:
        """About how many bytes its packet has: never less, and hardly more."""
        return len(self.payload) + len(self.topic.encode()) + len(self.correlation or b"") + 32


class BrokerSession(Protocol):
    """The MQTT session, as far as the stages need it."""

    holds: Holds
    """Holds of the outbox."""

    @property
    def online(self) -> bool:
        """True while messages go out."""
        ...

    def publish(self, message: Publication) -> None:
        """Queue a message for this connection."""
        ...

    def acknowledge(self, tokens: Iterable[AckToken]) -> None:
        """Send PUBACKs, in this order."""
        ...

    def unsubscribe(self, filters: Iterable[str]) -> None:
        """Remove subscriptions that the broker may remember."""
        ...

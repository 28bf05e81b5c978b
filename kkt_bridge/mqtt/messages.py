"""What passes between the MQTT session and those who speak through it."""

from dataclasses import dataclass
from typing import Protocol


class Listener(Protocol):
    """Who is told about the session, in the session's thread: only to note it and ring somebody."""

    def link_up(self) -> None:
        """The session is online: what is retained, and what is in the outbox, may go out."""

    def link_down(self) -> None:
        """It is not; messages published and not yet acknowledged may be lost."""

    def published(self, token: object) -> None:
        """The broker has taken the message with this token."""

    def refused(self, token: object) -> None:
        """The broker does not take the message with this token: it is held back (see `holds.py`), and not lost."""


@dataclass(frozen=True, slots=True)
class Occurrences:
    """How often something was met, and one case of it."""

    count: int = 0
    example: str | None = None
    """A line for people: which topic, and why."""


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """How it stands between the bridge and the broker, for telemetry, alerts and `status`."""

    online: bool
    complaint: str | None = None
    """Why the broker is away, in one line; None while it is not."""
    rival: str | None = None
    """Why another bridge with our name is suspected, in one line; None while none is."""
    protocol: str = "5"
    """What is spoken, or tried next: "5" or "3.1.1"."""
    refused_subscriptions: tuple[str, ...] = ()
    """Filters that the broker does not grant on this connection, while the rest is served."""
    refused_topics: Occurrences = Occurrences()
    """Topics on which the broker refuses what the bridge publishes: it is kept, and tried again."""
    parked: Occurrences = Occurrences()
    """Messages over which the broker seems to cut the connection: they are kept, and tried again now and then."""
    unroutable: Occurrences = Occurrences()
    """Messages since the start that came to the bridge on a topic that is none of its own."""
    last_puback_age_s: float | None = None
    """How long the oldest message that the broker has not acknowledged waits for it; None if none does."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to publish at QoS 1. A message with a token is reported back when the broker has it."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None
    token: object = None

    @property
    def key(self) -> str | int:
        """By what it is known on several connections: its number in the outbox, or its topic."""
        return self.token if isinstance(self.token, int) else self.topic

    @property
    def size(self) -> int:
        """About how many bytes its packet has: not less, and hardly more."""
        return len(self.payload) + len(self.topic.encode()) + len(self.correlation or b"") + 32

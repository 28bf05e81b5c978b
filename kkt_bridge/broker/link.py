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


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish at QoS 1. A message with a token is reported back when the broker has it."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None
    token: object = None

    @property
    def size(self) -> int:
        """About how many bytes its packet has: not less, and hardly more."""
        return len(self.payload) + len(self.topic.encode()) + len(self.correlation or b"") + 32

"""What came from the broker and is not yet decided: the hand-over from the session to the intake."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple


class AckToken(NamedTuple):
    """What it takes to acknowledge a message: a packet id means something only on its own connection."""

    epoch: int
    mid: int
    qos: int


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as it arrived."""

    token: AckToken
    topic: str
    payload: bytes
    redelivered: bool
    """The broker has sent this before: DUP, or a retained copy that comes with each new subscription."""
    retained: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None


class Inbox:
    """A queue that tells its writer when it is full, so that the socket is not read and the broker waits."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._messages: deque[Incoming] = deque()
        self._arrived = threading.Event()

    def put(self, message: Incoming) -> None:
        """Add a message; the writer asks `is_full` before it reads more."""
        self._messages.append(message)
        self._arrived.set()

    def is_full(self) -> bool:
        """Whether reading should pause."""
        return len(self._messages) >= self._capacity

    def take(self, limit: int) -> list[Incoming]:
        """Up to `limit` messages in the order of their arrival."""
        self._arrived.clear()
        messages = self._messages
        taken = [messages.popleft() for _ in range(min(limit, len(messages)))]
        if messages:
            self._arrived.set()
        return taken

    @property
    def arrived(self) -> threading.Event:
        """Set while messages wait."""
        return self._arrived

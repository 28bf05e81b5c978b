"""Messages received and not yet decided on, and the order of their PUBACKs: from the session to the intake."""

import threading
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, NamedTuple

BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of messages that may wait; beyond that the socket is not read, and the broker keeps them."""

CROWD: Final = 1000
"""More messages waiting than any batch takes: someone floods the bridge, or it was away for long."""

ARRIVING: Final = 32
"""Messages since the last take that show, in a crowd, that the broker has more of them."""

CROWD_TAKE: Final = 8
"""Messages taken at a time from a crowd that still grows, or one of each sender where there are more senders."""

OVERHEAD_BYTES: Final = 512
"""Bytes that a message takes in memory beside its own."""

BRANCH_CHARS_MAX: Final = 256
"""Characters of a sender's branch; longer ones share one turn, whoever they are."""


class AckToken(NamedTuple):
    """Identifies a message for its PUBACK: a packet id is only valid on its own connection."""

    epoch: int
    """The number of the connection."""
    mid: int
    """The packet id."""
    qos: int


class Excess(NamedTuple):
    """Length and digest of a payload that is larger than any request may be."""

    length: int
    """Bytes."""
    digest: bytes
    """`Incoming.digest` of the whole."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A PUBLISH that was received."""

    token: AckToken
    topic: str
    payload: bytes
    redelivered: bool
    """The broker has sent this before: DUP, or a retained copy that comes with each new subscription."""
    retained: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None
    excess: Excess | None = None
    """Of a payload that was too large; `payload` is its beginning then."""

    @property
    def digest(self) -> bytes:
        """16 bytes of topic and payload as they were received, which a redelivery shares with it."""
        if self.excess is not None:
            return self.excess.digest
        return blake2b(self.topic.encode() + b"\0" + self.payload, digest_size=16).digest()

    def cut_to(self, size: int) -> "Incoming":
        """Return the message with no more than the first `size` bytes of its payload."""
        return replace(self, payload=self.payload[:size], excess=Excess(len(self.payload), self.digest))

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        variable = len(self.payload) + len(self.topic) + len(self.correlation or b"") + len(self.response_topic or "")
        return OVERHEAD_BYTES + variable


class Inbox:
    """A queue that is bounded in bytes, serves its senders in turns, and keeps the order of acknowledgements.

    A sender is a branch of topics: all requests of one POS share one, and so do all commands. One that floods the
    inbox delays each message of the others by one of its own; those of one sender keep their order. Turns can only be
    taken among what was read: so while a crowd arrives little of it is taken at a time, and reading goes first.

    The PUBACKs go out in the order in which the messages came (MQTT 5.0 section 4.6, [MQTT-4.6.0-2]): a message that
    was decided on early waits for those that were received before it.
    """

    def __init__(self, messages_max: int, bytes_max: int = BYTES_MAX) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Incoming]] = {}
        """By sender; none of the queues is empty."""
        self._turns: deque[str] = deque()
        """The senders with messages waiting, the next one first."""
        self._count = 0
        self._bytes = 0
        self._arrived_since_take = 0
        self._unacknowledged: deque[AckToken] = deque()
        """In the order of arrival; messages at QoS 0 have no PUBACK."""
        self._decided: Counter[AckToken] = Counter()
        """Those among them that may be acknowledged."""
        self.pubacks_held_back = 0
        """PUBACKs of decided messages that wait for those of earlier ones."""
        self.arrived = threading.Event()
        """Set while messages wait."""

    def __len__(self) -> int:
        return self._count

    def put(self, message: Incoming) -> None:
        """Add a message; the writer asks `is_full` before it reads more."""
        branch = message.topic.rpartition("/")[0]
        if len(branch) > BRANCH_CHARS_MAX:
            branch = ""
        with self._lock:
            if branch not in self._waiting:
                self._waiting[branch] = deque()
                self._turns.append(branch)
            self._waiting[branch].append(message)
            self._count += 1
            self._arrived_since_take += 1
            self._bytes += message.size
            if message.token.qos > 0:
                self._unacknowledged.append(message.token)
        self.arrived.set()

    def is_full(self) -> bool:
        """Return True while the socket should not be read."""
        return self._count >= self._messages_max or self._bytes >= self._bytes_max

    def take(self, limit: int, bytes_max: int = BYTES_MAX) -> list[Incoming]:
        """Take up to `limit` messages and about so many bytes, one of each sender in turn; at least one if any waits.

        Of a crowd that still grows it is less: what is not read yet may be another sender's, whose turn it is.
        """
        self.arrived.clear()
        taken: list[Incoming] = []
        size = 0
        with self._lock:
            if self._count > CROWD and self._arrived_since_take > ARRIVING:
                limit = min(limit, max(CROWD_TAKE, len(self._turns)))
            self._arrived_since_take = 0
            while self._turns and len(taken) < limit and size < bytes_max:
                branch = self._turns.popleft()
                queue = self._waiting[branch]
                message = queue.popleft()
                if queue:
                    self._turns.append(branch)
                else:
                    del self._waiting[branch]
                taken.append(message)
                size += message.size
            self._count -= len(taken)
            self._bytes -= size
        if self._turns:
            self.arrived.set()
        return taken

    def release_pubacks(self, decided: Iterable[AckToken]) -> list[AckToken]:
        """Note that these messages need not be sent again; return the PUBACKs to send now, in the order of arrival."""
        with self._lock:
            added = [token for token in decided if token.qos > 0]
            self._decided.update(added)
            ready: list[AckToken] = []
            while self._unacknowledged and self._decided[self._unacknowledged[0]] > 0:
                token = self._unacknowledged.popleft()
                ready.append(token)
                self._decided[token] -= 1
                if not self._decided[token]:
                    del self._decided[token]
            self.pubacks_held_back += len(added) - len(ready)
            return ready

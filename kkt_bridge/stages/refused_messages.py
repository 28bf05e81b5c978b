"""Messages of the outbox that the broker refused: they stay there, and are tried again when they are due.

One that is at fault itself is tried alone. Of a topic that is refused the oldest message is tried, and when the
broker takes it, those behind it follow in their order; only then does the topic flow again as before.
"""

from dataclasses import dataclass
from typing import Final

from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.outbox import message_with, messages_on
from kkt_bridge.journal.records import Message
from kkt_bridge.mqtt.refused_publications import Holds

BATCH_MAX: Final = 50
"""Messages of one topic that are read at once when it flows again."""


@dataclass(slots=True)
class _Trial:
    """A topic that is being tried."""

    after: int
    """The last message that was handed over."""
    taken: bool = False
    """The broker has taken one: the rest may follow."""


class RefusedMessages:
    """Finds what may be tried again; in the session's thread."""

    def __init__(self, journal: Journal, holds: Holds, *, without: str) -> None:
        """`without` is a topic that is held by somebody else."""
        self._journal = journal
        self._holds = holds
        self._without = without
        self._trials: dict[str, _Trial] = {}
        self._probes: dict[int, str] = {}
        """The first message of each topic that is being tried."""

    def may_go(self, message: Message) -> bool:
        """Return whether this message is held neither for itself nor for its topic."""
        return message.id not in self._holds and message.topic not in self._holds

    def start_over(self) -> None:
        """A new connection: nothing is being tried any more."""
        self._trials.clear()
        self._probes.clear()

    def due(self, now: float, upto: int, room: int) -> list[Message]:
        """Return the messages to send now, at most about `room`, of those up to this one. Errors: the journal's."""
        found: list[Message] = []
        for key in self._holds.due(now):
            if len(found) >= room:
                return found
            if isinstance(key, int):
                found += self._one(key)
            elif key != self._without:
                found += self._first_of(key, upto)
        for topic in list(self._trials):
            found += self._rest_of(topic, upto, room - len(found))
        return found

    def taken(self, message: int) -> None:
        """The broker has this message."""
        self._holds.release(message)
        if (topic := self._probes.pop(message, None)) in self._trials:
            self._trials[topic].taken = True

    def refused(self, message: int) -> None:
        """It was refused again; by now it or its topic is held again."""
        if self._holds.is_trying(message):
            self._holds.release(message)  # its topic is what is held now
        topic = self._probes.pop(message, None)
        if topic in self._trials and self._holds.is_trying(topic):
            self._trials[topic].taken = True  # that message alone was at fault

    def _one(self, number: int) -> list[Message]:
        message = self._journal.read(lambda connection: message_with(connection, number))
        if message is None or message.topic in self._holds:
            self._holds.release(number)  # gone by its age; or it goes with its topic
            return []
        self._holds.try_again(number)
        return [message]

    def _first_of(self, topic: str, upto: int) -> list[Message]:
        first = self._read(topic, 0, upto, 1)
        if not first:
            self._holds.release(topic)
            return []
        self._holds.try_again(topic)
        self._trials[topic] = _Trial(after=first[0].id)
        self._probes[first[0].id] = topic
        return first

    def _rest_of(self, topic: str, upto: int, room: int) -> list[Message]:
        trial = self._trials[topic]
        if not self._holds.is_trying(topic):
            del self._trials[topic]  # refused again
            return []
        if not trial.taken or room <= 0:
            return []
        limit = min(room, BATCH_MAX)
        messages = self._read(topic, trial.after, upto, limit)
        if messages:
            trial.after = messages[-1].id
        if len(messages) < limit:
            del self._trials[topic]
            self._holds.release(topic)
        return [message for message in messages if message.id not in self._holds]

    def _read(self, topic: str, after: int, upto: int, limit: int) -> list[Message]:
        return self._journal.read(
            lambda connection: messages_on(connection, topic, after=after, upto=upto, limit=limit)
        )

    @property
    def has_more(self) -> bool:
        """True if a topic that is taken again has messages left to go."""
        return any(trial.taken for trial in self._trials.values())

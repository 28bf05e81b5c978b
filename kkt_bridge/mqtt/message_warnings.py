"""Messages that came to the bridge and cannot be served as they were meant: each is said, and none too often."""

import logging
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.mqtt.messages import Occurrences
from kkt_bridge.wire.topics import Topics

SILENT_S: Final = 3600.0
"""How long one topic is not complained of again."""

REMEMBERED_MAX: Final = 1000
"""Topics that are remembered as complained of; beyond that all are forgotten, and complained of once more."""

log = logging.getLogger(__name__)


class MessageWarnings:
    """Notes unroutable messages and response topics outside of the asker's branch."""

    def __init__(self, topics: Topics, clock: Clock) -> None:
        self._topics = topics
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}
        self.unroutable = Occurrences()
        """Messages on topics that are none of the bridge's own."""

    def look_at(self, topic: str, response_topic: str | None) -> None:
        """Look at a message that has come."""
        route = self._topics.route(topic)
        if route is None:
            self.unroutable = Occurrences(self.unroutable.count + 1, topic[:200])
            if self._is_news("topic", topic):
                log.warning(
                    "a message came on %.200r, which is no topic of this bridge: nobody is served or answered by it. "
                    "Does the broker change topics (RabbitMQ makes slashes of dots), or is the bridge's name another?",
                    topic,
                )
            return
        if not response_topic or (answered_on := self._topics.answer_topic(route, response_topic)) == response_topic:
            return
        if self._is_news("response topic", topic):
            log.warning(
                "%.200s asks for its answers on %.200r, outside of its own branch: they go to %.200s",
                topic,
                response_topic,
                answered_on,
            )

    def _is_news(self, kind: str, topic: str) -> bool:
        now, key = self._clock.monotonic(), (kind, topic[:200])
        last = self._said.get(key)
        if last is not None and now - last < SILENT_S:
            return False
        if len(self._said) >= REMEMBERED_MAX:
            self._said.clear()
        self._said[key] = now
        return True

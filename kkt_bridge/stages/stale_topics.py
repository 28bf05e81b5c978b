"""Retained topics that are the bridge's no more are cleared: a register taken out, another name or topic root.

The broker keeps a retained message for ever, and a dashboard would show a register as ready that is long gone. Which
topics the bridge has published is remembered in the journal.
"""

import json
import logging
from collections.abc import Iterable
from typing import Final

from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.settings import get_setting, set_setting
from kkt_bridge.mqtt.messages import BrokerSession, Publication
from kkt_bridge.wire.topics import Topics

SETTING: Final = "retained_topics"
"""Under which the journal keeps the topics, as a JSON list."""

log = logging.getLogger(__name__)


class StaleTopics:
    """Clears what an earlier configuration left."""

    def __init__(self, *, journal: Journal, link: BrokerSession, topics: Topics, registers: Iterable[str]) -> None:
        self._journal = journal
        self._link = link
        self._topics = topics
        self._ours = [*topics.states(), *(topics.state(f"kkt/{kkt}") for kkt in registers)]
        self._waiting: set[object] = set()
        """Topics that are being cleared."""

    def link_up(self) -> None:
        """Clear what is not ours any more, and remember what is."""
        self._waiting.clear()
        try:
            known = self._known()
        except StorageUnavailable as problem:
            log.warning("which retained topics are the bridge's cannot be read: %s", problem)
            return
        stale = [topic for topic in known if topic not in self._ours]
        if set(known) != set(self._ours):
            self._remember([*self._ours, *stale])
        for topic in stale:
            self._waiting.add(topic)
            self._link.publish(Publication(topic, b"", retain=True, token=topic, owner=self))
        if branches := self._other_branches(stale):
            log.info("the bridge was known as %s before: what it left there is cleared", ", ".join(branches))
            for branch in branches:
                root, _, bridge = branch.rpartition("/")
                self._link.unsubscribe(Topics(root, bridge).subscriptions())
                self._link.unsubscribe([Topics(root, bridge).state("online")])

    def published(self, token: object) -> None:
        """A topic is cleared; when all are, they are forgotten."""
        self._waiting.discard(token)
        if not self._waiting:
            self._remember(self._ours)

    def refused(self, token: object) -> None:
        """It stays remembered, and is tried again on the next connection."""

    def _other_branches(self, stale: list[str]) -> list[str]:
        ending = "/" + self._topics.state("online").removeprefix(self._topics.branch + "/")
        return [topic.removesuffix(ending) for topic in stale if topic.endswith(ending)]

    def _known(self) -> list[str]:
        text = self._journal.read(lambda connection: get_setting(connection, SETTING))
        return list(json.loads(text)) if text else []

    def _remember(self, topics: list[str]) -> None:
        self._journal.post(lambda tx: set_setting(tx, SETTING, json.dumps(topics)))

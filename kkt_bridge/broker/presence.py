"""Birth, will and farewell of a bridge, and what they tell of a second bridge with the same name."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Presence:
    """Birth, will and farewell: one retained topic."""

    topic: str
    online: bytes
    offline: bytes
    boot_id: str
    """What tells this run of the bridge from every other."""


class RivalWatch:
    """Notices another bridge that uses our bridge_id.

    Two clients with one id take the session from each other, and most brokers cut the older connection
    without a word. But a rival's birth then stands where ours was the last.
    """

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id
        self._births = 0

    def born(self) -> None:
        """Our own birth is being published."""
        self._births += 1

    def is_rival(self, presence: bytes) -> bool:
        """Whether this presence is a rival's. On our first connection it may be what a crashed run left: no verdict."""
        try:
            said = json.loads(presence)
            return self._births > 1 and said["online"] is True and said["boot_id"] != self._boot_id
        except (ValueError, KeyError, TypeError):
            return False

"""Birth, will and farewell of a bridge, and what they tell of a second bridge with the same name."""

import json
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Presence:
    """Birth, will and farewell: one retained topic."""

    topic: str
    online: bytes
    offline: bytes
    boot_id: str
    """What tells this run of the bridge from every other."""
    since: str
    """When it started, as it stands in the messages."""
    repeat_s: float = 30.0
    """The birth is published again this often, as all retained state is."""


class SessionTakeoverDetector:
    """Notices another bridge that uses our bridge_id.

    Two clients with one id take the session from each other, and most brokers cut the older connection
    without a word. But a rival's birth then stands where ours was the last.
    """

    def __init__(self, boot_id: str, since: str) -> None:
        self._boot_id = boot_id
        self._since = datetime.fromisoformat(since)
        self._births = 0

    def born(self) -> None:
        """Our own birth is being published."""
        self._births += 1

    def is_taken_over(self, presence: bytes, *, retained: bool) -> bool:
        """Whether this presence, met after our birth, is a rival's.

        On our first connection it may be what a crashed run left, and a retained one is judged only if it began
        after us: a broker that lost its last minutes shows us our own past. So of two rivals the older yields.
        """
        try:
            said = json.loads(presence)
            if self._births < 2 or said["online"] is not True or said["boot_id"] == self._boot_id:
                return False
            return not retained or datetime.fromisoformat(said["since"]) > self._since
        except (ValueError, KeyError, TypeError):
            return False

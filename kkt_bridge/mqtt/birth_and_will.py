"""Birth and will: the retained messages on one topic that tell whether the bridge is online.

By its birth there another bridge with our bridge_id is noticed, too: a session takeover.
"""

import json
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Presence:
    """The retained messages that tell whether the bridge is online."""

    topic: str
    online: bytes
    """The birth."""
    offline: bytes
    """The will, and the last message before a DISCONNECT."""
    boot_id: str
    """Tells this run of the bridge from every other."""
    since: str
    """The start of this run, as it stands in the messages."""
    repeat_s: float = 30.0
    """Seconds after which the birth is published again, as all retained state is."""


class SessionTakeoverDetector:
    """Tells from the messages on the topic of our presence that another bridge uses our bridge_id.

    Two clients with one id take the session from each other, and most brokers cut the older connection without a
    DISCONNECT. But the other bridge's birth then stands where ours was the last.
    """

    def __init__(self, boot_id: str, since: str) -> None:
        self._boot_id = boot_id
        self._since = datetime.fromisoformat(since)
        self._births = 0

    def note_birth(self) -> None:
        """Note that our own birth is being published."""
        self._births += 1

    def is_taken_over(self, presence: bytes, *, retained: bool) -> bool:
        """Return True if this message, received after our birth, is the birth of another bridge.

        On our first connection it may be what a crashed run left, and a retained one counts only if it began after
        us: a broker that lost its last minutes shows us our own past. So of two bridges the older yields.
        """
        try:
            said = json.loads(presence)
            if self._births < 2 or said["online"] is not True or said["boot_id"] == self._boot_id:
                return False
            return not retained or datetime.fromisoformat(said["since"]) > self._since
        except (ValueError, KeyError, TypeError):
            return False

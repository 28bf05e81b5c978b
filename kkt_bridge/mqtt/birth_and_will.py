"""Birth and will: the retained messages on one topic that tell whether the bridge is online."""

from dataclasses import dataclass


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

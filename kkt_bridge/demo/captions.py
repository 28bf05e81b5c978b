"""What happens, in words: one sentence for each turn of the story."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

Mood = Literal["plain", "good", "warn", "bad", "story"]

FILL_STEPS: Final = (80, 90, 100)
"""Percent of the buffer at which a dashboard speaks up."""


def _time_of_day() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence, how it is meant, and the time of day."""

    text: str
    mood: Mood = "plain"
    at: str = field(default_factory=_time_of_day)


def story(text: str) -> Caption:
    """What the demo itself does."""
    return Caption(text, "story")


def presence(*, online: bool) -> Caption:
    """The bridge came or went."""
    return Caption("The bridge is online", "good") if online else Caption("The bridge is offline", "bad")


def network(previous: str, current: str) -> Caption | None:
    """The bridge changed its mind about its way to the OFD."""
    if current == "online":
        return Caption("The OFD is back: what waited is being delivered", "good")
    if previous == "online":
        return Caption("OFD is away: sales go on, documents wait", "bad")
    return None


def breaker(event: dict[str, Any]) -> Caption | None:
    """The circuit breaker changed."""
    match event["from"], event["to"]:
        case "half_open", "open":
            return Caption("One careful question to the OFD: no answer yet", "warn")
        case "half_open", "closed":
            return Caption("One careful question to the OFD, and it answers: the buffer drains", "good")
        case _, "open":
            return Caption(f"Breaker open after {event['failures']} failures: the OFD is left in peace", "bad")
    return None


def filling(percent: int) -> Caption:
    """The buffer has reached one of `FILL_STEPS`."""
    if percent >= 100:
        return Caption("The buffer is full: new receipts are refused until the OFD takes one", "bad")
    return Caption(f"The buffer is {percent} % full", "warn")


def fill_step(percent: float) -> int:
    """The highest of `FILL_STEPS` that is reached; 0 below all."""
    return max((step for step in FILL_STEPS if percent >= step), default=0)


def shift(event: dict[str, Any]) -> Caption:
    """A shift was opened or closed."""
    return Caption(f"Shift {event['number']} is {'open' if event['open'] else 'closed'} on {event['kkt']}")


def rejected(pos: str, code: str) -> Caption:
    """A POS was told no."""
    return Caption(f"{pos}: rejected, {code}", "bad")


def dead(step: dict[str, Any]) -> Caption:
    """The OFD refuses a document for good."""
    return Caption(f"A document of {step['pos_id']} is in the dead-letter queue: {step.get('error')}", "bad")

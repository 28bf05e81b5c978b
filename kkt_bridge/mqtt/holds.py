"""What the broker does not take is set aside, tried again now and then, and does not stop the rest.

A key is a topic, or the number of one message in the outbox. Nothing is lost by this: the messages stay where they
are, in the journal, and after a restart the holds are learned anew.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kkt_bridge.mqtt.messages import Occurrences

Key = str | int
"""A topic, or a message's number in the outbox."""

HOLDS_MAX: Final = 1000
"""Keys held at once; what is refused beyond that is found again when the whole outbox is gone through anew."""

INITIAL_WAIT_S: Final = 5.0
"""Before the first new trial; each failure doubles it."""

REFUSED_WAIT_MAX_S: Final = 60.0
"""A trial that is refused costs a packet."""

CUT_WAIT_MAX_S: Final = 300.0
"""A trial that is cut off costs the connection."""

CUTS_MAX: Final = 3
"""In flight when so many young connections in a row were cut, a message is taken for the cause."""


class HoldKind(enum.Enum):
    """Why something is held."""

    REFUSED = "refused"
    """The broker says no: its access list, a quota, a limit of size."""
    CUT = "cut"
    """The broker seems to cut the connection over it."""


_WAIT_MAX_S: Final = {HoldKind.REFUSED: REFUSED_WAIT_MAX_S, HoldKind.CUT: CUT_WAIT_MAX_S}


@dataclass(slots=True)
class Hold:
    """One key that is held."""

    kind: HoldKind
    why: str
    failures: int
    not_before: float
    """When it may be tried again, in steady seconds."""
    trying: bool = False
    """It is being tried: what becomes of it decides."""


class Holds:
    """What is held, by key. Changed in the session's thread; `refused` and `parked` may be read from any."""

    def __init__(self) -> None:
        self._holds: dict[Key, Hold] = {}
        self._counts = dict.fromkeys(HoldKind, 0)
        self._examples: dict[HoldKind, str] = {}
        self.overflowed = False
        """Something was refused and could not be noted."""
        self.refused = Occurrences()
        """What the broker says no to."""
        self.parked = Occurrences()
        """What it seems to cut the connection over."""

    def __contains__(self, key: Key) -> bool:
        return key in self._holds

    def __bool__(self) -> bool:
        return bool(self._holds)

    def hold(self, key: Key, kind: HoldKind, why: str, now: float) -> bool:
        """Set a key aside, or further back if it was being tried. Returns whether that is news."""
        hold = self._holds.get(key)
        if hold is None:
            if len(self._holds) >= HOLDS_MAX:
                self.overflowed = True
                return False
            self._holds[key] = Hold(kind, why, 1, now + INITIAL_WAIT_S)
            self._changed(kind, +1, why)
            return True
        if hold.trying:
            wait = min(INITIAL_WAIT_S * 2.0 ** min(hold.failures, 16), _WAIT_MAX_S[kind])
            self._changed(hold.kind, -1)
            hold.kind, hold.why, hold.trying = kind, why, False
            hold.failures, hold.not_before = hold.failures + 1, now + wait
            self._changed(kind, +1, why)
        return False

    def release(self, key: Key) -> None:
        """It is taken again."""
        if (hold := self._holds.pop(key, None)) is not None:
            self._changed(hold.kind, -1)

    def is_trying(self, key: Key, kind: HoldKind | None = None) -> bool:
        """Whether a held key, of this kind if one is given, is being tried."""
        hold = self._holds.get(key)
        return hold is not None and hold.trying and kind in {None, hold.kind}

    def try_again(self, key: Key) -> None:
        """It is about to be tried."""
        self._holds[key].trying = True

    def due(self, now: float) -> list[Key]:
        """What may be tried again, longest due first; of the suspects of a cut one at a time."""
        ready = sorted(
            (hold.not_before, number, key)
            for number, (key, hold) in enumerate(self._holds.items())
            if not hold.trying and hold.not_before <= now
        )
        found: list[Key] = []
        suspect = any(hold.trying and hold.kind is HoldKind.CUT for hold in self._holds.values())
        for _, _, key in ready:
            if self._holds[key].kind is HoldKind.CUT:
                if suspect:
                    continue
                suspect = True
            found.append(key)
        return found

    def next_due(self) -> float | None:
        """When something may be tried again."""
        return min((hold.not_before for hold in self._holds.values() if not hold.trying), default=None)

    def link_down(self) -> None:
        """What was being tried will be tried on the next connection."""
        for hold in self._holds.values():
            hold.trying = False

    def _changed(self, kind: HoldKind, by: int, why: str | None = None) -> None:
        self._counts[kind] += by
        if why is not None:
            self._examples[kind] = why
        count = self._counts[kind]
        occurrences = Occurrences(count, self._examples.get(kind) if count else None)
        if kind is HoldKind.REFUSED:
            self.refused = occurrences
        else:
            self.parked = occurrences


@dataclass(frozen=True, slots=True)
class Suspects:
    """How many cuts in a row each message was in flight at. A pure value."""

    cuts: tuple[tuple[Key, int], ...] = ()

    def cut(self, in_flight: Iterable[Key]) -> "tuple[Suspects, list[Key]]":
        """A young connection was cut while these were on their way: what is known now, and what to park."""
        before = dict(self.cuts)
        counted = {key: before.get(key, 0) + 1 for key in in_flight}
        parked = [key for key, cuts in counted.items() if cuts >= CUTS_MAX]
        return Suspects(tuple((key, cuts) for key, cuts in counted.items() if cuts < CUTS_MAX)), parked

"""Holds: what the broker refuses is kept back and tried again now and then, and does not stop the rest.

A key is a topic, or the number of one message in the outbox. Nothing is lost by this: the messages stay in the
journal, and after a restart the holds are learned anew.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

HoldKey = str | int
"""A topic, or a message's number in the outbox."""

HOLDS_MAX: Final = 1000
"""Keys held at once; what is refused beyond that is found again when the whole outbox is gone through anew."""

INITIAL_WAIT_S: Final = 5.0
"""Seconds before the first trial; each failure doubles them."""

REFUSED_WAIT_MAX_S: Final = 60.0
"""The longest wait in seconds where a trial that fails costs a packet."""

CUT_WAIT_MAX_S: Final = 300.0
"""The longest wait in seconds where a trial that fails costs the connection."""

CUTS_MAX: Final = 3
"""A message that was in flight when so many young connections in a row were cut is taken for the cause."""


class HoldKind(enum.Enum):
    """The reason for a hold."""

    REFUSED = "refused"
    """The broker refuses it: its access list, a quota, a limit of size."""
    CUT = "cut"
    """The broker seems to cut the connection over it."""


_WAIT_MAX_S: Final = {HoldKind.REFUSED: REFUSED_WAIT_MAX_S, HoldKind.CUT: CUT_WAIT_MAX_S}


@dataclass(frozen=True, slots=True)
class Occurrences:
    """A count, and one example."""

    count: int = 0
    example: str | None = None
    """A line for people: which topic, and why."""

    def __add__(self, other: "Occurrences") -> "Occurrences":
        return Occurrences(self.count + other.count, self.example or other.example)


@dataclass(slots=True)
class Hold:
    """One key that is held."""

    kind: HoldKind
    why: str
    failures: int
    not_before: float
    """The earliest time of the next trial, in monotonic seconds."""
    trying: bool = False
    """A trial is under way."""


class Holds(dict[HoldKey, Hold]):
    """The holds, by key. Changed in the session's thread; `refused` and `parked` may be read from any."""

    def __init__(self) -> None:
        super().__init__()
        self._counts = dict.fromkeys(HoldKind, 0)
        self._examples: dict[HoldKind, str] = {}
        self.overflowed = False
        """Something was refused and could not be noted: the holds were full."""
        self.refused = Occurrences()
        """Held as `HoldKind.REFUSED`."""
        self.parked = Occurrences()
        """Held as `HoldKind.CUT`."""

    def hold(self, key: HoldKey, kind: HoldKind, why: str, now: float) -> bool:
        """Hold a key, or hold it longer if its trial has failed; return True if it was not held before."""
        hold = self.get(key)
        if hold is None:
            if len(self) >= HOLDS_MAX:
                self.overflowed = True
                return False
            self[key] = Hold(kind, why, 1, now + INITIAL_WAIT_S)
            self._changed(kind, +1, why)
            return True
        if hold.trying:
            wait = min(INITIAL_WAIT_S * 2.0 ** min(hold.failures, 16), _WAIT_MAX_S[kind])
            self._changed(hold.kind, -1)
            hold.kind, hold.why, hold.trying = kind, why, False
            hold.failures, hold.not_before = hold.failures + 1, now + wait
            self._changed(kind, +1, why)
        return False

    def release(self, key: HoldKey) -> None:
        """Hold a key no longer: the broker has taken it."""
        if (hold := self.pop(key, None)) is not None:
            self._changed(hold.kind, -1)

    def is_trying(self, key: HoldKey, kind: HoldKind | None = None) -> bool:
        """Return True if a trial of this key, held for this kind if one is given, is under way."""
        hold = self.get(key)
        return hold is not None and hold.trying and kind in {None, hold.kind}

    def try_again(self, key: HoldKey) -> None:
        """Note that the trial of a held key begins."""
        self[key].trying = True

    def due(self, now: float) -> list[HoldKey]:
        """Return what may be tried now, longest due first; of what is held for a cut one at a time."""
        ready = sorted(
            (hold.not_before, number, key)
            for number, (key, hold) in enumerate(self.items())
            if not hold.trying and hold.not_before <= now
        )
        found: list[HoldKey] = []
        suspect = any(hold.trying and hold.kind is HoldKind.CUT for hold in self.values())
        for _, _, key in ready:
            if self[key].kind is HoldKind.CUT:
                if suspect:
                    continue
                suspect = True
            found.append(key)
        return found

    def next_due(self) -> float | None:
        """Return when something may be tried again, in monotonic seconds."""
        return min((hold.not_before for hold in self.values() if not hold.trying), default=None)

    def link_down(self) -> None:
        """Note that the connection is lost: its trials will be made on the next one."""
        for hold in self.values():
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
    """At how many cuts in a row each message was in flight. A pure value."""

    cuts: tuple[tuple[HoldKey, int], ...] = ()

    def cut(self, in_flight: Iterable[HoldKey]) -> "tuple[Suspects, list[HoldKey]]":
        """Return what is known after a young connection was cut while these were in flight, and what to hold."""
        before = dict(self.cuts)
        counted = {key: before.get(key, 0) + 1 for key in in_flight}
        parked = [key for key, cuts in counted.items() if cuts >= CUTS_MAX]
        return Suspects(tuple((key, cuts) for key, cuts in counted.items() if cuts < CUTS_MAX)), parked

"""When and how the session tries the broker next: a pure state machine, with its table.

Which protocol: MQTT 5 first. MQTT 3.1.1 is fallen back to only where the broker says that it does not know MQTT 5, or
meets its CONNECT with silence twice in a row, as old brokers do (OASIS MQTT 5.0 section 4.13, MQTT 3.1.1 section
3.2.2.3); never at a broker that has spoken MQTT 5. What worked is remembered. Silence may also be that of a broker
which was starting, or overloaded: what it led to is a trial, after which MQTT 5 is asked for once more. A packet that
this side cannot read is taken over MQTT 3.1.1, which carries fewer things that can be odd, and acknowledged there.
"""

import enum
from dataclasses import dataclass, replace
from typing import Final, Literal

Choice = Literal["auto", "5", "3.1.1"]
"""The setting `mqtt.protocol`."""

INITIAL_WAIT_S: Final = 0.2
"""Before the second attempt."""

WAIT_MAX_S: Final = 5.0
"""Each failed attempt doubles the wait up to this."""

STABLE_S: Final = 5.0
"""A connection that lasted less is no success: whoever cuts it, a second bridge perhaps, is not to be raced."""

TAKEN_OVER_WAIT_S: Final = 30.0
"""When another client has taken the session: two of a kind must not fight for it several times a second."""

SILENCES_MAX: Final = 2
"""Unanswered MQTT 5 handshakes in a row that make a broker one of MQTT 3.1.1."""

OLD_FOR_S: Final = 3600.0
"""How long a broker counts as one of MQTT 3.1.1: it may have been starting, or be replaced."""

DETOUR_S: Final = 5.0
"""How long MQTT 3.1.1 is spoken after a packet that could not be read: time to take what waits and acknowledge it."""

TRIAL_S: Final = 60.0
"""How long a connection lasts that silence led to, before MQTT 5 is asked for again: what waited has been served."""


class Protocol(enum.Enum):
    """A version of MQTT."""

    MODERN = "5"
    OLD = "3.1.1"


class ConnectionEnd(enum.Enum):
    """How an attempt, or a connection, ended."""

    UNREACHABLE = "unreachable"
    """Nobody listens, or there is no way to him."""
    SILENT = "silent"
    """Connected, and no CONNACK came: closed, or past the deadline."""
    UNSUPPORTED = "unsupported"
    """The broker does not speak this version."""
    REFUSED = "refused"
    """The broker let us not in, or not read what we live on."""
    LOST = "lost"
    """A connection that had stood broke."""
    UNREADABLE = "unreadable"
    """The broker sent a packet that could not be read."""
    DETOUR_OVER = "detour over"
    """What could not be read over MQTT 5 had its time over MQTT 3.1.1."""
    TRIAL_OVER = "trial over"
    """A connection that silence had led to had its time."""
    TAKEN_OVER = "taken over"
    """Another client has our client id, or another bridge our name."""


class RedialState(enum.Enum):
    """Where the machine stands: what it tries, and what it knows of the broker."""

    TRYING_MODERN = "trying MQTT 5"
    TRYING_OLD = "trying MQTT 3.1.1"
    TRYING_OLD_AFTER_SILENCE = "trying MQTT 3.1.1, as MQTT 5 met silence"
    ON_TRIAL = "it speaks MQTT 3.1.1, and has met MQTT 5 with silence"
    ASKING_AGAIN = "it has spoken MQTT 3.1.1 and is asked for MQTT 5 once more"
    KNOWN_MODERN = "the broker has spoken MQTT 5"
    KNOWN_OLD = "the broker speaks MQTT 3.1.1 only"
    ON_DETOUR = "it speaks MQTT 5, and MQTT 3.1.1 for a while"
    FIXED = "the setting decides"


PROTOCOLS: Final = {
    RedialState.TRYING_MODERN: Protocol.MODERN,
    RedialState.TRYING_OLD: Protocol.OLD,
    RedialState.TRYING_OLD_AFTER_SILENCE: Protocol.OLD,
    RedialState.ON_TRIAL: Protocol.OLD,
    RedialState.ASKING_AGAIN: Protocol.MODERN,
    RedialState.KNOWN_MODERN: Protocol.MODERN,
    RedialState.KNOWN_OLD: Protocol.OLD,
    RedialState.ON_DETOUR: Protocol.OLD,
}
"""What is spoken where; in `FIXED` the setting says so."""

WELCOMED: Final = {
    RedialState.TRYING_MODERN: RedialState.KNOWN_MODERN,
    RedialState.TRYING_OLD: RedialState.KNOWN_OLD,
    RedialState.TRYING_OLD_AFTER_SILENCE: RedialState.ON_TRIAL,
    RedialState.ASKING_AGAIN: RedialState.KNOWN_MODERN,
}
"""Where a successful handshake leads; elsewhere it changes nothing."""

TRANSITIONS: Final = {
    (RedialState.TRYING_MODERN, ConnectionEnd.UNSUPPORTED): RedialState.TRYING_OLD,
    (RedialState.TRYING_OLD, ConnectionEnd.UNSUPPORTED): RedialState.TRYING_MODERN,
    (RedialState.TRYING_OLD, ConnectionEnd.SILENT): RedialState.TRYING_MODERN,
    # Silence proves nothing: each dial after it is one in MQTT 5 again.
    (RedialState.TRYING_OLD_AFTER_SILENCE, ConnectionEnd.SILENT): RedialState.TRYING_MODERN,
    (RedialState.TRYING_OLD_AFTER_SILENCE, ConnectionEnd.UNREACHABLE): RedialState.TRYING_MODERN,
    (RedialState.TRYING_OLD_AFTER_SILENCE, ConnectionEnd.UNSUPPORTED): RedialState.TRYING_MODERN,
    (RedialState.TRYING_OLD_AFTER_SILENCE, ConnectionEnd.REFUSED): RedialState.ASKING_AGAIN,
    **{(RedialState.ON_TRIAL, ending): RedialState.ASKING_AGAIN for ending in ConnectionEnd},
    (RedialState.ASKING_AGAIN, ConnectionEnd.SILENT): RedialState.KNOWN_OLD,
    (RedialState.ASKING_AGAIN, ConnectionEnd.UNSUPPORTED): RedialState.KNOWN_OLD,
    (RedialState.ASKING_AGAIN, ConnectionEnd.REFUSED): RedialState.TRYING_MODERN,
    (RedialState.KNOWN_OLD, ConnectionEnd.UNSUPPORTED): RedialState.TRYING_MODERN,
    # It answered so when it was asked in the other way: another broker stands there now.
    (RedialState.KNOWN_MODERN, ConnectionEnd.UNSUPPORTED): RedialState.TRYING_OLD,
    (RedialState.KNOWN_MODERN, ConnectionEnd.UNREADABLE): RedialState.ON_DETOUR,
    (RedialState.ON_DETOUR, ConnectionEnd.DETOUR_OVER): RedialState.KNOWN_MODERN,
    # No way to take it: back, rather than stay where response topics are not heard of.
    (RedialState.ON_DETOUR, ConnectionEnd.UNSUPPORTED): RedialState.KNOWN_MODERN,
    (RedialState.ON_DETOUR, ConnectionEnd.SILENT): RedialState.KNOWN_MODERN,
    (RedialState.ON_DETOUR, ConnectionEnd.UNREADABLE): RedialState.KNOWN_MODERN,
}
"""Where an ending leads; what is not here stays where it is. Silence while trying MQTT 5 is counted besides."""

AT_ONCE: Final = frozenset({ConnectionEnd.UNSUPPORTED, ConnectionEnd.DETOUR_OVER, ConnectionEnd.TRIAL_OVER})
"""After these the next attempt does not wait, where it is another one, and not the first one again."""


@dataclass(frozen=True, slots=True)
class Redial:
    """What is to be tried next, and when. Each event gives a new value; times are steady seconds."""

    choice: Choice = "auto"
    place: RedialState = RedialState.TRYING_MODERN
    silences: int = 0
    """Unanswered MQTT 5 handshakes in a row."""
    old_since: float = 0.0
    """Since when the broker counts as one of MQTT 3.1.1, where it does."""
    next_wait_s: float = INITIAL_WAIT_S
    """How long the next failure makes wait."""
    not_before: float = float("-inf")
    """When the next attempt may be made."""

    @classmethod
    def by(cls, choice: Choice) -> "Redial":
        """The state before the first attempt."""
        return cls(choice, RedialState.TRYING_MODERN if choice == "auto" else RedialState.FIXED)

    @property
    def protocol(self) -> Protocol:
        """What the next attempt, or the present connection, speaks."""
        return Protocol(self.choice) if self.place is RedialState.FIXED else PROTOCOLS[self.place]

    @property
    def is_detour(self) -> bool:
        """Whether this connection is to last `DETOUR_S` only."""
        return self.place is RedialState.ON_DETOUR

    @property
    def is_trial(self) -> bool:
        """Whether this connection is to last `TRIAL_S` only, or until nothing is on its way."""
        return self.place is RedialState.ON_TRIAL

    def dialling(self, now: float) -> "Redial":
        """An attempt is about to be made: that a broker is an old one is forgotten after a while."""
        if self.place is RedialState.KNOWN_OLD and now - self.old_since > OLD_FOR_S:
            return replace(self, place=RedialState.TRYING_MODERN, silences=0)
        return self

    def welcomed(self) -> "Redial":
        """The broker has let us in."""
        return replace(self, place=WELCOMED.get(self.place, self.place), silences=0)

    def ended(self, how: ConnectionEnd, now: float, *, lasted_s: float = 0.0) -> "Redial":
        """An attempt or connection is over; `lasted_s` is how long it was online."""
        place, silences = TRANSITIONS.get((self.place, how), self.place), 0
        if self.place is RedialState.TRYING_MODERN and how is ConnectionEnd.SILENT:
            silences = self.silences + 1
            place = RedialState.TRYING_OLD_AFTER_SILENCE if silences >= SILENCES_MAX else place
        moved = place is not self.place
        old_since = now if place in {RedialState.TRYING_OLD, RedialState.KNOWN_OLD} and moved else self.old_since
        state = replace(self, place=place, silences=0 if moved else silences, old_since=old_since)
        if (
            moved
            and how in AT_ONCE
            and self.place not in {RedialState.TRYING_OLD, RedialState.TRYING_OLD_AFTER_SILENCE}
        ):
            return replace(state, not_before=now)
        wait = _wait(how, self.next_wait_s, lasted_s)
        return replace(state, not_before=now + wait, next_wait_s=min(wait * 2, max(WAIT_MAX_S, wait)))


def _wait(how: ConnectionEnd, next_wait_s: float, lasted_s: float) -> float:
    if how is ConnectionEnd.TAKEN_OVER:
        return TAKEN_OVER_WAIT_S
    return INITIAL_WAIT_S if lasted_s > STABLE_S else next_wait_s

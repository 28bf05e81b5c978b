"""When to send the next CONNECT, and with which version of MQTT: a pure state machine with its tables.

MQTT 5 is tried first. The bridge falls back to MQTT 3.1.1 only where the broker says that it does not support MQTT 5,
or answers its CONNECT with silence twice in a row, as old brokers do (OASIS MQTT 5.0 section 4.13, MQTT 3.1.1 section
3.2.2.3); never at a broker that has spoken MQTT 5. What worked is remembered. A broker that was starting or overloaded
is silent too: a connection that silence led to is on trial, and MQTT 5 is tried once more after it. A packet that this
side cannot read is received and acknowledged over MQTT 3.1.1, which carries fewer things that can be malformed.
"""

import enum
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

ProtocolSetting = Literal["auto", "5", "3.1.1"]
"""The setting `mqtt.protocol`."""

INITIAL_WAIT_S: Final = 0.2
"""Before the second attempt."""

WAIT_MAX_S: Final = 5.0
"""Each failed attempt doubles the wait up to this."""

STABLE_S: Final = 5.0
"""A connection that lasted less does not reset the wait: whoever ends it, a second bridge perhaps, is not raced."""

TAKEN_OVER_WAIT_S: Final = 30.0
"""After a session takeover: two bridges must not take the session from each other several times a second."""

SILENCES_MAX: Final = 2
"""MQTT 5 CONNECTs in a row without a CONNACK after which MQTT 3.1.1 is tried."""

V311_REMEMBERED_S: Final = 3600.0
"""Seconds for which a broker counts as one of MQTT 3.1.1 only: it may have been starting, or be replaced."""

DOWNGRADE_S: Final = 5.0
"""Seconds of MQTT 3.1.1 after an unreadable packet: time to receive what waits and acknowledge it."""

TRIAL_S: Final = 60.0
"""Seconds of a connection on trial before MQTT 5 is tried again: by then what waited has been served."""


class MqttVersion(enum.Enum):
    """A version of MQTT, by its name in the settings."""

    V5 = "5"
    V311 = "3.1.1"


class ConnectionEnd(enum.Enum):
    """The end of an attempt to connect, or of a connection."""

    UNREACHABLE = "unreachable"
    """No TCP connection."""
    SILENT = "silent"
    """A TCP connection without a CONNACK: it was closed, or the deadline passed."""
    UNSUPPORTED = "unsupported"
    """The CONNACK says that the broker does not support this version."""
    REFUSED = "refused"
    """The broker refused the CONNECT, or the subscription to receipts."""
    LOST = "lost"
    """A connection that was up broke."""
    UNREADABLE = "unreadable"
    """The broker sent a packet that could not be read."""
    DOWNGRADE_OVER = "downgrade over"
    """The time over MQTT 3.1.1 after an unreadable packet is over."""
    TRIAL_OVER = "trial over"
    """The time of a connection on trial is over."""
    TAKEN_OVER = "taken over"
    """Session taken over: another client has the client id, or another bridge the bridge_id."""


class RedialState(enum.Enum):
    """The version that is tried, and the knowledge of the broker."""

    TRYING_V5 = "trying MQTT 5"
    TRYING_V311 = "trying MQTT 3.1.1"
    TRYING_V311_AFTER_SILENCE = "trying MQTT 3.1.1, as MQTT 5 met silence"
    V311_ON_TRIAL = "it speaks MQTT 3.1.1, and has met MQTT 5 with silence"
    TRYING_V5_AGAIN = "it has spoken MQTT 3.1.1 and is asked for MQTT 5 once more"
    KNOWN_V5 = "the broker has spoken MQTT 5"
    KNOWN_V311 = "the broker speaks MQTT 3.1.1 only"
    V311_DOWNGRADE = "it speaks MQTT 5, and MQTT 3.1.1 for a while after an unreadable packet"
    FIXED = "the setting decides"


VERSIONS: Final = {
    RedialState.TRYING_V5: MqttVersion.V5,
    RedialState.TRYING_V311: MqttVersion.V311,
    RedialState.TRYING_V311_AFTER_SILENCE: MqttVersion.V311,
    RedialState.V311_ON_TRIAL: MqttVersion.V311,
    RedialState.TRYING_V5_AGAIN: MqttVersion.V5,
    RedialState.KNOWN_V5: MqttVersion.V5,
    RedialState.KNOWN_V311: MqttVersion.V311,
    RedialState.V311_DOWNGRADE: MqttVersion.V311,
}
"""The version spoken in each state; in `FIXED` the setting says it."""

ON_CONNACK: Final = {
    RedialState.TRYING_V5: RedialState.KNOWN_V5,
    RedialState.TRYING_V311: RedialState.KNOWN_V311,
    RedialState.TRYING_V311_AFTER_SILENCE: RedialState.V311_ON_TRIAL,
    RedialState.TRYING_V5_AGAIN: RedialState.KNOWN_V5,
}
"""Transitions on a CONNACK that accepts the connection; elsewhere it changes nothing."""

ON_END: Final = {
    (RedialState.TRYING_V5, ConnectionEnd.UNSUPPORTED): RedialState.TRYING_V311,
    (RedialState.TRYING_V311, ConnectionEnd.UNSUPPORTED): RedialState.TRYING_V5,
    (RedialState.TRYING_V311, ConnectionEnd.SILENT): RedialState.TRYING_V5,
    # Silence proves nothing: the next attempt is one with MQTT 5 again.
    (RedialState.TRYING_V311_AFTER_SILENCE, ConnectionEnd.SILENT): RedialState.TRYING_V5,
    (RedialState.TRYING_V311_AFTER_SILENCE, ConnectionEnd.UNREACHABLE): RedialState.TRYING_V5,
    (RedialState.TRYING_V311_AFTER_SILENCE, ConnectionEnd.UNSUPPORTED): RedialState.TRYING_V5,
    (RedialState.TRYING_V311_AFTER_SILENCE, ConnectionEnd.REFUSED): RedialState.TRYING_V5_AGAIN,
    **{(RedialState.V311_ON_TRIAL, ending): RedialState.TRYING_V5_AGAIN for ending in ConnectionEnd},
    (RedialState.TRYING_V5_AGAIN, ConnectionEnd.SILENT): RedialState.KNOWN_V311,
    (RedialState.TRYING_V5_AGAIN, ConnectionEnd.UNSUPPORTED): RedialState.KNOWN_V311,
    (RedialState.TRYING_V5_AGAIN, ConnectionEnd.REFUSED): RedialState.TRYING_V5,
    (RedialState.KNOWN_V311, ConnectionEnd.UNSUPPORTED): RedialState.TRYING_V5,
    # It said the opposite before: another broker is there now.
    (RedialState.KNOWN_V5, ConnectionEnd.UNSUPPORTED): RedialState.TRYING_V311,
    (RedialState.KNOWN_V5, ConnectionEnd.UNREADABLE): RedialState.V311_DOWNGRADE,
    (RedialState.V311_DOWNGRADE, ConnectionEnd.DOWNGRADE_OVER): RedialState.KNOWN_V5,
    # No way to receive it: back, rather than stay with a version without response topics.
    (RedialState.V311_DOWNGRADE, ConnectionEnd.UNSUPPORTED): RedialState.KNOWN_V5,
    (RedialState.V311_DOWNGRADE, ConnectionEnd.SILENT): RedialState.KNOWN_V5,
    (RedialState.V311_DOWNGRADE, ConnectionEnd.UNREADABLE): RedialState.KNOWN_V5,
}
"""Transitions on an end; a pair that is missing keeps the state. Silence while trying MQTT 5 is counted besides."""

AT_ONCE: Final = frozenset({ConnectionEnd.UNSUPPORTED, ConnectionEnd.DOWNGRADE_OVER, ConnectionEnd.TRIAL_OVER})
"""Ends after which another version is tried without a wait, unless that was the second version in a row."""


class PlannedEnd(NamedTuple):
    """The end, by the bridge, of a connection that lasts only for a while."""

    after_s: float
    end: ConnectionEnd
    only_idle: bool
    """It lasts longer while messages are on their way."""
    reason: str
    """For the log."""


PLANNED_ENDS: Final = {
    RedialState.V311_DOWNGRADE: PlannedEnd(
        DOWNGRADE_S, ConnectionEnd.DOWNGRADE_OVER, only_idle=False, reason="back to MQTT 5"
    ),
    RedialState.V311_ON_TRIAL: PlannedEnd(
        TRIAL_S, ConnectionEnd.TRIAL_OVER, only_idle=True, reason="MQTT 5 is asked for once more"
    ),
}
"""The states whose connections are temporary."""


@dataclass(frozen=True, slots=True)
class Redial:
    """The state machine, as a value: each event returns the next one. Times are monotonic seconds."""

    setting: ProtocolSetting = "auto"
    state: RedialState = RedialState.TRYING_V5
    silences: int = 0
    """MQTT 5 CONNECTs in a row without a CONNACK."""
    v311_since: float = 0.0
    """Since when the broker counts as one of MQTT 3.1.1, where it does."""
    next_wait_s: float = INITIAL_WAIT_S
    """The wait after the next failure."""
    not_before: float = float("-inf")
    """The earliest time of the next attempt."""

    @classmethod
    def from_setting(cls, setting: ProtocolSetting) -> "Redial":
        """Return the state before the first attempt."""
        return cls(setting, RedialState.TRYING_V5 if setting == "auto" else RedialState.FIXED)

    @property
    def version(self) -> MqttVersion:
        """The version of the next attempt, or of the present connection."""
        return MqttVersion(self.setting) if self.state is RedialState.FIXED else VERSIONS[self.state]

    def on_connect(self, now: float) -> "Redial":
        """Return the state for the attempt that begins now: after a while, MQTT 5 is tried again."""
        if self.state is RedialState.KNOWN_V311 and now - self.v311_since > V311_REMEMBERED_S:
            return replace(self, state=RedialState.TRYING_V5, silences=0)
        return self

    def on_connack(self) -> "Redial":
        """Return the state after a CONNACK that accepts the connection."""
        return replace(self, state=ON_CONNACK.get(self.state, self.state), silences=0)

    def on_end(self, end: ConnectionEnd, now: float, *, lasted_s: float = 0.0) -> "Redial":
        """Return the state after an attempt or a connection that was online for `lasted_s`."""
        state, silences = ON_END.get((self.state, end), self.state), 0
        if self.state is RedialState.TRYING_V5 and end is ConnectionEnd.SILENT:
            silences = self.silences + 1
            state = RedialState.TRYING_V311_AFTER_SILENCE if silences >= SILENCES_MAX else state
        moved = state is not self.state
        v311_since = now if state in {RedialState.TRYING_V311, RedialState.KNOWN_V311} and moved else self.v311_since
        after = replace(self, state=state, silences=0 if moved else silences, v311_since=v311_since)
        second_version = self.state in {RedialState.TRYING_V311, RedialState.TRYING_V311_AFTER_SILENCE}
        if moved and end in AT_ONCE and not second_version:
            return replace(after, not_before=now)
        if end is ConnectionEnd.TAKEN_OVER:
            wait_s = TAKEN_OVER_WAIT_S
        else:
            wait_s = INITIAL_WAIT_S if lasted_s > STABLE_S else self.next_wait_s
        return replace(after, not_before=now + wait_s, next_wait_s=min(wait_s * 2, max(WAIT_MAX_S, wait_s)))

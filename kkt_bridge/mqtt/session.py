"""The bridge's MQTT session: the one owner of the paho client.

Everything that touches paho happens in the thread that calls `step`; other threads put into queues and
ring a bell. Each connection gets a client of its own, so nothing of an old one (packet ids, paho's
queues, in-flight counts) can reach into a new one: acknowledgements carry the epoch they belong to, and
stale ones are dropped. What is to survive a lost connection is in the journal's outbox, not here.

When to dial next and with which protocol is decided in `redial.py`; what the broker does not take is held back by
`holds.py`.
"""

import enum
import logging
import select
import socket
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any, Final, NamedTuple

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from kkt_bridge.clock import Clock
from kkt_bridge.mqtt.birth_and_will import Presence, SessionTakeoverDetector
from kkt_bridge.mqtt.buffered_socket import BufferedSocket
from kkt_bridge.mqtt.holds import HoldKind, Holds, Key, Suspects
from kkt_bridge.mqtt.inbox import AckToken, Excess, Inbox, Incoming, digest_of
from kkt_bridge.mqtt.message_warnings import MessageWarnings
from kkt_bridge.mqtt.messages import Listener, Occurrences, Publication, SessionStatus
from kkt_bridge.mqtt.paho_client import (
    Dial,
    SessionClient,
    connect,
    correlated,
    dial_tcp,
    session_client,
    subscriptions,
    topic_of,
)
from kkt_bridge.mqtt.redial import DETOUR_S, STABLE_S, TRIAL_S, ConnectionEnd, Protocol, Redial
from kkt_bridge.settings import MqttSettings
from kkt_bridge.wire.messages import ID_SOUGHT_BYTES, REQUEST_BYTES_MAX
from kkt_bridge.wire.topics import Topics

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""Until the broker's CONNACK, then without a byte until its SUBACK: what it kept for us comes before that."""

PUBACK_TIMEOUT_S: Final = 20.0
"""How long the broker may owe a PUBACK while nothing but pings is answered: such a one serves nobody.

A PUBACK stands in the stream behind what the broker had sent before: while messages come, it may still be on its way.
"""

PUBACK_TIMEOUT_MAX_S: Final = 300.0
"""How long it may owe one, while we read, whatever else comes."""

BIRTH_INTERVAL_S: Final = 1.0
"""The shortest time between two answers to a presence that is not ours."""

WINDOW_MAX: Final = 200
"""Messages of ours that may wait for the broker's PUBACK at once, if the broker allows so many."""

PACKET_MAX: Final = 256 * 1024 * 1024
"""What MQTT can carry; a broker may allow less."""

EARLY_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of messages that wait for the SUBACK; beyond that they go to the inbox, which the reading stops for."""

READS_PER_STEP: Final = 64
"""Packets read before others get their turn."""

SELECT_TIMEOUT_S: Final = 1.0
FULL_INBOX_WAIT_S: Final = 0.005

_TAKEN_OVER: Final = 0x8E
_UNSUPPORTED_PROTOCOL: Final = 0x84
_FAILURE: Final = 0x80
_OF_THE_MESSAGE: Final = frozenset({0x95, 0x99})
"""Reasons that lie in the message and not in its topic: too large, and a payload that the broker does not like."""

_PAHO: Final = {Protocol.MODERN: MQTTProtocolVersion.MQTTv5, Protocol.OLD: MQTTProtocolVersion.MQTTv311}

log = logging.getLogger(__name__)


class Phase(enum.Enum):
    """Where a connection stands."""

    AWAY = "away"
    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"
    ONLINE = "online"


class _InFlight(NamedTuple):
    """A message that waits for its PUBACK."""

    message: Publication
    at: float


class Session:
    """The bridge's one connection to the broker, kept up for ever."""

    def __init__(
        self,
        settings: MqttSettings,
        topics: Topics,
        presence: Presence,
        inbox: Inbox,
        clock: Clock,
        *,
        dial: Dial = dial_tcp,
        rng: Random | None = None,
    ) -> None:
        """`dial` opens the connection to the broker; `rng` spreads the attempts."""
        self._settings = settings
        self._topics = topics
        self._client_id = settings.client_id or f"kkt-bridge-{topics.bridge}"
        self._presence = presence
        self._inbox = inbox
        self._clock, self._dial, self._rng = clock, dial, rng or Random()  # noqa: S311 (jitter)
        self._listeners: list[Listener] = []
        self._wakeup_out, self._wakeup_in = socket.socketpair()
        self._wakeup_in.setblocking(False)
        self._wakeup_out.setblocking(False)
        self._outgoing: deque[Publication] = deque()
        self._states: dict[str, Publication] = {}
        """Retained messages that wait: the latest of each topic."""
        self._early: list[Incoming] = []
        """What came before the broker had agreed to the subscriptions."""
        self._early_bytes = 0
        self._acks: deque[AckToken] = deque()
        self._client: SessionClient | None = None
        self._phase = Phase.AWAY
        self._epoch = 0
        self._redial = Redial.by(settings.protocol)
        self._ending: ConnectionEnd | None = None
        """How this connection ends, where that is known before its end."""
        self._window = WINDOW_MAX
        self._packet_max = PACKET_MAX
        self._in_flight: dict[int, _InFlight] = {}
        self._not_reading_until = float("-inf")
        self._received_at = float("-inf")
        """When the last PUBLISH came."""
        self._owed_since: float | None = None
        """Since when the broker owes us the oldest PUBACK, as it stood in the last round."""
        self._suspects = Suspects()
        self._refused_subscriptions: tuple[str, ...] = ()
        self._oddities = MessageWarnings(topics, clock)
        self.holds = Holds()
        """What the broker does not take, and those who publish it try again."""
        self._held_states = Holds()
        """Retained topics that it does not take."""
        self._deadline = 0.0
        self._online_since = 0.0
        self._born_at = float("-inf")
        self._birth_wanted = False
        self._rivals = SessionTakeoverDetector(presence.boot_id, presence.since)
        self._yielding = False
        self._complaint: str | None = None
        """Of this attempt or connection."""
        self._last_complaint: str | None = None
        self._farewell = False
        self._goodbye_said = False

    # -- for other threads -------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Have `listener` told when the link comes, goes, and delivers."""
        self._listeners.append(listener)

    @property
    def online(self) -> bool:
        """Whether messages go out now."""
        return self._phase is Phase.ONLINE

    @property
    def complaint(self) -> str | None:
        """Why the broker is away, for `state/health`; None while it is not."""
        return None if self.online else (self._complaint or self._last_complaint or "not yet connected")

    @property
    def rival(self) -> str | None:
        """Why another client with our id is suspected; None while none is, and from the next attempt on."""
        return (self._complaint or self._last_complaint) if self._yielding else None

    @property
    def view(self) -> SessionStatus:
        """How it stands between the bridge and the broker; from any thread."""
        owed_since = self._owed_since
        return SessionStatus(
            online=self.online,
            complaint=self.complaint,
            rival=self.rival,
            protocol=self._redial.protocol.value,
            refused_subscriptions=self._refused_subscriptions,
            refused_topics=_together(self.holds.refused, self._held_states.refused),
            parked=_together(self.holds.parked, self._held_states.parked),
            unroutable=self._oddities.unroutable,
            last_puback_age_s=None if owed_since is None else max(0.0, self._clock.monotonic() - owed_since),
        )

    def publish(self, message: Publication) -> None:
        """Queue a message for this connection. Without one, or when it is lost first, so is the message."""
        if not self.online:
            return
        if message.retain and message.token is None:
            self._states[message.topic] = message
        else:
            self._outgoing.append(message)
        self.wake()

    def unsubscribe(self, filters: Iterable[str]) -> None:
        """Give up subscriptions that the broker may remember; in the session's thread, while online."""
        if self._client is not None:
            self._client.unsubscribe(list(filters))

    def acknowledge(self, tokens: Iterable[AckToken]) -> None:
        """Acknowledge messages, in this order; those of an earlier connection are dropped."""
        self._acks.extend(tokens)
        self.wake()

    def wake(self) -> None:
        """Wake the session's thread."""
        with suppress(OSError):  # it is ringing already, or the session is closed
            self._wakeup_in.send(b"!")

    def publish_offline(self) -> None:
        """Have the session send what is queued, say that it goes offline, and disconnect."""
        self._farewell = True
        self.wake()

    @property
    def gone(self) -> bool:
        """Whether the farewell is said."""
        return self._farewell and self._phase is Phase.AWAY

    # -- in the session's thread ---------------------------------------------------------------------

    def step(self, timeout_s: float = SELECT_TIMEOUT_S) -> None:
        """Do one bounded piece of work: a connection attempt, or one round of reading and writing."""
        if self._client is not None:
            self._round(self._client, timeout_s)
        elif self._farewell:
            return
        elif (wait := self._redial.not_before - self._clock.monotonic()) > 0:
            self._wait([], [], min(wait, timeout_s))
        else:
            self._connect()

    def close(self) -> None:
        """Let go of everything, without a word to the broker."""
        self._drop()
        self._wakeup_in.close()
        self._wakeup_out.close()

    def _connect(self) -> None:
        self._epoch += 1
        now = self._clock.monotonic()
        self._redial = self._redial.dialling(now)
        self._complaint = self._ending = None
        client = self._new_client()
        try:
            connect(client, self._settings)
        except (OSError, ValueError) as error:
            _let_go(client)
            self._dial_later(ConnectionEnd.UNREACHABLE, f"{self._settings.host}:{self._settings.port}: {error}")
            return
        self._client = client
        self._yielding = False
        self._phase = Phase.CONNECTING
        self._deadline = now + HANDSHAKE_TIMEOUT_S

    def _new_client(self) -> SessionClient:
        client = session_client(
            self._settings, self._presence, self._client_id, _PAHO[self._redial.protocol], self._dial
        )
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        return client

    def _round(self, client: SessionClient, timeout_s: float) -> None:
        self._send_queued(client)
        self._write(client)
        sock = client.buffer()
        if sock is None:
            self._lost("the connection closed")
            return
        reading = [] if self._inbox.is_full() else [sock]
        if not reading:
            self._not_reading_until = self._clock.monotonic()
        if not reading or sock.has_input:
            # A full inbox empties without ringing here: look again soon.
            timeout_s = 0 if reading else FULL_INBOX_WAIT_S
        readable, _, _ = self._wait(reading, [sock] if sock.has_output else [], timeout_s)
        if sock in readable or (reading and sock.has_input):
            self._read(client, sock)
            if self._phase is Phase.SUBSCRIBING:
                self._deadline = self._clock.monotonic() + HANDSHAKE_TIMEOUT_S
        self._write(client)
        client.loop_misc()
        if client.socket() is None or self._yielding or self._ending is not None:
            self._lost("the connection closed")
        else:
            self._look_at_the_clock(client)

    def _look_at_the_clock(self, client: SessionClient) -> None:
        now = self._clock.monotonic()
        if self._phase is not Phase.ONLINE:
            if now > max(self._deadline, self._not_reading_until + HANDSHAKE_TIMEOUT_S):
                self._lost("the broker does not answer the handshake")
        elif self._owes_a_puback(now):
            waiting_s = now - next(iter(self._in_flight.values())).at
            self._lost(f"the broker acknowledges nothing: a message waits for its PUBACK for {waiting_s:.0f} s")
        elif self._redial.is_detour and now - self._online_since > DETOUR_S:
            self._ending = ConnectionEnd.DETOUR_OVER
            client.disconnect()
            self._lost("back to MQTT 5")
        elif self._redial.is_trial and now - self._online_since > TRIAL_S and self._is_quiet:
            self._ending = ConnectionEnd.TRIAL_OVER
            client.disconnect()
            self._lost("MQTT 5 is asked for once more")

    @property
    def _is_quiet(self) -> bool:
        """Whether nothing is on its way in either direction, as far as can be seen here."""
        return not (self._in_flight or self._outgoing or self._states or self._acks or len(self._inbox))

    def _owes_a_puback(self, now: float) -> bool:
        """Whether the broker owes us the oldest PUBACK for too long.

        While we do not read, that cannot be told; while messages come, it is only told in the end.
        """
        if not self._in_flight:
            self._owed_since = None
            return False
        oldest = next(iter(self._in_flight.values()))
        self._owed_since = max(oldest.at, self._not_reading_until)
        silent_since = max(self._owed_since, self._received_at)
        return now - silent_since > PUBACK_TIMEOUT_S or now - self._owed_since > PUBACK_TIMEOUT_MAX_S

    def _wait(self, reading: list[Any], writing: list[Any], timeout: float) -> tuple[list[Any], list[Any], list[Any]]:
        try:
            ready = select.select([self._wakeup_out, *reading], writing, [], timeout)
        except (OSError, ValueError):  # the socket was closed under us
            return [], [], []
        if self._wakeup_out in ready[0]:
            with suppress(BlockingIOError):
                self._wakeup_out.recv(4096)
        return ready

    def _read(self, client: SessionClient, sock: BufferedSocket) -> None:
        for _ in range(READS_PER_STEP):
            result = client.loop_read()
            if result == MQTTErrorCode.MQTT_ERR_PROTOCOL and self._phase is not Phase.CONNECTING:
                self._ending, self._complaint = ConnectionEnd.UNREADABLE, "the broker sent a packet that cannot be read"
            if result != 0 or client.socket() is None or self._inbox.is_full() or not sock.has_input:
                return

    def _write(self, client: SessionClient) -> None:
        if client.want_write():
            client.loop_write()
        if (sock := client.buffer()) is not None:
            sock.flush()

    def _send_queued(self, client: Client) -> None:
        while self._acks:
            token = self._acks.popleft()
            if token.epoch == self._epoch and token.qos > 0:
                client.ack(token.mid, token.qos)
        if self._phase is not Phase.ONLINE:
            return
        self._say_who_we_are(client)
        while len(self._in_flight) < self._window and (message := self._next_message()) is not None:
            self._publish_now(client, message)
        if self._farewell and not self._outgoing and not self._states and not self._in_flight:
            self._say_goodbye(client)

    def _next_message(self) -> Publication | None:
        while self._states:
            _, message = self._states.popitem()
            if self._may_go(message):
                return message
        return self._outgoing.popleft() if self._outgoing else None

    def _may_go(self, state: Publication) -> bool:
        """Whether a retained topic is not held back; who publishes it says it again soon."""
        if state.topic not in self._held_states:
            return True
        if self._held_states.is_trying(state.topic) or state.topic not in self._held_states.due(
            self._clock.monotonic()
        ):
            return False
        self._held_states.try_again(state.topic)
        return True

    def _say_who_we_are(self, client: Client) -> None:
        """The birth, where another presence stands in its place, and now and then besides."""
        now = self._clock.monotonic()
        if self._farewell or now - self._born_at < BIRTH_INTERVAL_S:
            return
        if self._birth_wanted or now - self._born_at >= self._presence.repeat_s:
            self._publish_birth(client, now)

    def _publish_birth(self, client: Client, now: float) -> None:
        self._born_at, self._birth_wanted = now, False
        self._publish_now(client, Publication(self._presence.topic, self._presence.online, retain=True))

    def _say_goodbye(self, client: Client) -> None:
        """The will is not sent at a clean end: say it ourselves, and go when the broker has it."""
        if self._goodbye_said:
            client.disconnect()
        else:
            self._publish_now(client, Publication(self._presence.topic, self._presence.offline, retain=True))
            self._goodbye_said = True

    def _publish_now(self, client: Client, message: Publication) -> None:
        properties = None
        if message.correlation is not None and self._redial.protocol is Protocol.MODERN:
            properties = correlated(message.correlation)
        if message.size > self._packet_max:
            why = f"{message.size} bytes are more than the broker takes ({self._packet_max})"
            self._hold(message, message.key, HoldKind.REFUSED, why)
            return
        try:
            info = client.publish(message.topic, message.payload, qos=1, retain=message.retain, properties=properties)
        except ValueError as error:
            self._hold(message, message.key, HoldKind.REFUSED, str(error))
        else:
            self._in_flight[info.mid] = _InFlight(message, self._clock.monotonic())

    def _holds_of(self, message: Publication) -> Holds:
        return self._held_states if message.token is None else self.holds

    def _hold(self, message: Publication, key: Key, kind: HoldKind, why: str) -> None:
        """Keep a message back that the broker does not take, so that the rest goes on."""
        if self._holds_of(message).hold(key, kind, f"{message.topic[:200]}: {why}", self._clock.monotonic()):
            log.error(
                "a message on %.200s is not taken (%s): it is kept and tried again; "
                "check the broker's access list and limits",
                message.topic,
                why,
            )
        if message.token is not None:
            for listener in self._listeners:
                listener.refused(message.token)

    # -- paho's callbacks: in the session's thread, inside loop_read or loop_misc ------------------------

    def _on_connect(
        self, client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._complaint = f"the broker refused the connection: {reason}"
            unsupported = reason.value == _UNSUPPORTED_PROTOCOL
            self._ending = ConnectionEnd.UNSUPPORTED if unsupported else ConnectionEnd.REFUSED
            return
        self._redial = self._redial.welcomed()
        # A limit of 0 is none (MQTT 5.0 section 3.2.2.3), and one above what MQTT can carry is legal.
        self._window = min(getattr(properties, "ReceiveMaximum", 0) or WINDOW_MAX, WINDOW_MAX)
        self._packet_max = min(getattr(properties, "MaximumPacketSize", 0) or PACKET_MAX, PACKET_MAX)
        self._phase = Phase.SUBSCRIBING
        # Also when the session is present: a broker that lost half of its database would not tell.
        modern = self._redial.protocol is Protocol.MODERN
        client.subscribe(subscriptions(self._topics.subscriptions(), self._presence.topic, modern=modern))
        log.info(
            "connected to the broker %s:%d with MQTT %s, session %s",
            self._settings.host,
            self._settings.port,
            self._redial.protocol.value,
            "resumed" if flags.session_present else "new",
        )

    def _on_subscribe(
        self, client: Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        filters = [*self._topics.subscriptions(), self._presence.topic]
        refused = {
            name: str(reason) for name, reason in zip(filters, reasons, strict=False) if reason.value >= _FAILURE
        }
        if filters[0] in refused or len(reasons) != len(filters):
            # Without receipts there is nothing to serve; and what an old subscription lets in could not be answered.
            why = refused.get(filters[0], "an answer of another length")
            self._complaint = f"the broker refused the subscription to {filters[0]} ({why}): check its access list"
            self._ending = ConnectionEnd.REFUSED
            return
        # The bridge's own presence only shows rivals and forgeries: an access list need not let it read that.
        self._refused_subscriptions = tuple(name for name in refused if name != self._presence.topic)
        for name, why in refused.items():
            log.error(
                "the broker refuses the subscription to %s (%s), the rest is served: check its access list", name, why
            )
        self._phase = Phase.ONLINE
        self._online_since = self._clock.monotonic()
        self._hand_over_early()
        self._rivals.born()
        self._publish_birth(client, self._online_since)
        for listener in self._listeners:
            listener.link_up()

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._received_at = self._clock.monotonic()
        payload = bytes(message.payload)
        if (topic := topic_of(message)) == self._presence.topic:
            if self._rivals.is_taken_over(payload, retained=bool(message.retain)):
                self._yield_to_takeover()
            elif payload != self._presence.online:
                self._birth_wanted = True  # a will that came late, or somebody's forgery: the last word is ours
            return
        properties = message.properties
        excess = Excess(len(payload), digest_of(topic, payload)) if len(payload) > REQUEST_BYTES_MAX else None
        incoming = Incoming(
            token=AckToken(self._epoch, message.mid, message.qos),
            topic=topic,
            payload=payload[:ID_SOUGHT_BYTES] if excess else payload,
            redelivered=bool(message.dup or message.retain),
            retained=bool(message.retain),
            response_topic=getattr(properties, "ResponseTopic", None),
            correlation=getattr(properties, "CorrelationData", None),
            excess=excess,
        )
        self._oddities.look_at(topic, incoming.response_topic)
        if self._phase is Phase.ONLINE:
            self._inbox.put(incoming)
        elif len(self._early) < self._settings.receive_maximum or message.qos:
            self._early.append(incoming)
            self._early_bytes += incoming.size
            if self._early_bytes > EARLY_BYTES_MAX:
                # The SUBACK stands behind what the broker kept for us, so it must be read on. A session that it kept
                # let these in, and what becomes of them is in the journal, whether the SUBACK grants or refuses.
                self._hand_over_early()

    def _hand_over_early(self) -> None:
        for message in self._early:
            self._inbox.put(message)
        self._forget_early()

    def _forget_early(self) -> None:
        self._early.clear()
        self._early_bytes = 0

    def _on_publish(
        self, _client: Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        sent = self._in_flight.pop(mid, None)
        if sent is None:
            return
        message = sent.message
        if reason.is_failure:
            key = message.key if reason.value in _OF_THE_MESSAGE else message.topic
            self._hold(message, key, HoldKind.REFUSED, f"the broker refused it: {reason}")
        elif message.token is None:
            self._held_states.release(message.topic)
        else:
            for listener in self._listeners:
                listener.published(message.token)

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.value == _TAKEN_OVER:
            self._yield_to_takeover()
        elif self._complaint is None and not self._farewell:
            self._complaint = f"disconnected: {reason}"

    def _yield_to_takeover(self) -> None:
        self._complaint = (
            f"another client has taken the session {self._client_id}: is a second bridge running "
            "with this bridge_id? Give each its own"
        )
        self._yielding = True

    # -- losing a connection -----------------------------------------------------------------------------

    def _lost(self, why: str) -> None:
        complaint, how = self._complaint or why, self._how_it_ended()
        lasted_s = self._clock.monotonic() - self._online_since if self._phase is Phase.ONLINE else 0.0
        cut = self._phase is Phase.ONLINE and how is ConnectionEnd.LOST and self._complaint is not None
        ours = self._presence.topic  # it is in flight on every young connection
        in_flight = [sent.message for sent in self._in_flight.values() if sent.message.topic != ours]
        self._drop()
        if self._farewell:
            return
        if cut:
            self._look_for_the_cause(in_flight, young=lasted_s <= STABLE_S)
        for holds in (self.holds, self._held_states):
            holds.link_down()
        self._dial_later(how, complaint, lasted_s)

    def _how_it_ended(self) -> ConnectionEnd:
        if self._yielding:
            return ConnectionEnd.TAKEN_OVER
        if self._ending is not None:
            return self._ending
        return ConnectionEnd.SILENT if self._phase is Phase.CONNECTING else ConnectionEnd.LOST

    def _look_for_the_cause(self, in_flight: list[Publication], *, young: bool) -> None:
        """What was on its way at several cuts in a row, or is suspected already, is held back."""
        tried = {message.key for message in in_flight if self._holds_of(message).is_trying(message.key, HoldKind.CUT)}
        parked = list(tried)
        if not young:
            self._suspects = Suspects()
        elif not tried:
            self._suspects, parked = self._suspects.cut(message.key for message in in_flight)
        for message in in_flight:
            if message.key in parked:
                why = "the broker cuts the connection when it is published"
                self._hold(message, message.key, HoldKind.CUT, why)

    def _drop(self) -> None:
        client, self._client = self._client, None
        was_online = self._phase is Phase.ONLINE
        self._phase = Phase.AWAY
        self._in_flight.clear()
        self._owed_since = None
        self._outgoing.clear()
        self._states.clear()
        self._forget_early()
        self._refused_subscriptions = ()
        if client is not None:
            _let_go(client)
        if was_online:
            for listener in self._listeners:
                listener.link_down()

    def _dial_later(self, how: ConnectionEnd, complaint: str, lasted_s: float = 0.0) -> None:
        now = self._clock.monotonic()
        self._redial = self._redial.ended(how, now, lasted_s=lasted_s)
        wait_s = (self._redial.not_before - now) * self._rng.uniform(0.8, 1.2)
        self._redial = replace(self._redial, not_before=now + wait_s)
        self._last_complaint = complaint
        log.warning("the broker is away: %s; next attempt in about %.1f s", complaint, wait_s)


def _let_go(client: SessionClient) -> None:
    """Close the socket without a word. Left to paho's destructor, what still waits would go out at some later time."""
    if (sock := client.buffer()) is not None:
        sock.close()


def _together(first: Occurrences, second: Occurrences) -> Occurrences:
    return Occurrences(first.count + second.count, first.example or second.example)

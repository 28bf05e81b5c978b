"""The bridge's MQTT session: the one owner of the paho client.

Everything that touches paho happens in the thread that calls `step`; other threads put into queues and wake it. Each
connection gets a client of its own, so nothing of an old one (packet ids, paho's queues, in-flight counts) can reach
into a new one: PUBACKs carry the epoch of their connection, and stale ones are dropped. What must survive a lost
connection is in the journal's outbox, not here.

When to connect next and with which version of MQTT is decided in `redial.py`; what the broker refuses is kept back by
`refused_publications.py`.
"""

import enum
import logging
import select
import socket
from collections import deque
from collections.abc import Callable, Iterable
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
from kkt_bridge.mqtt.inbox import AckToken, Inbox, Incoming
from kkt_bridge.mqtt.messages import Publication, SessionStatus
from kkt_bridge.mqtt.paho_client import (
    BufferedSocket,
    Dial,
    SessionClient,
    connect,
    dial_tcp,
    publish_properties,
    session_client,
    subscriptions,
)
from kkt_bridge.mqtt.redial import PLANNED_ENDS, STABLE_S, ConnectionEnd, MqttVersion, Redial
from kkt_bridge.mqtt.refused_publications import HoldKey, HoldKind, Holds, Occurrences, Suspects
from kkt_bridge.settings import MqttSettings
from kkt_bridge.wire.messages import ID_SOUGHT_BYTES, REQUEST_BYTES_MAX
from kkt_bridge.wire.topics import Route, Topics

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""Seconds until the CONNACK, then without a byte until the SUBACK: what the broker kept for us comes before that."""

PUBACK_TIMEOUT_S: Final = 20.0
"""Seconds that the broker may owe a PUBACK while it answers nothing but pings.

A PUBACK comes behind what the broker had sent before: while messages come, it may still be on its way.
"""

PUBACK_TIMEOUT_MAX_S: Final = 300.0
"""Seconds that it may owe one while we read, whatever else comes."""

BIRTH_INTERVAL_S: Final = 1.0
"""Seconds between two births, at least, where others overwrite the retained one."""

WINDOW_MAX: Final = 200
"""Messages of ours that may wait for the broker's PUBACK at once, if the broker allows so many."""

BEFORE_SUBACK_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of messages that wait for the SUBACK; beyond that they go to the inbox, and reading stops when it is full."""

READS_PER_STEP: Final = 64
"""Packets read before the session writes again."""

SELECT_TIMEOUT_S: Final = 1.0
FULL_INBOX_WAIT_S: Final = 0.005

WARN_AGAIN_S: Final = 3600.0
"""Seconds before the same topic is warned of again."""

WARNED_MAX: Final = 1000
"""Topics remembered as warned of; beyond that all are forgotten, and warned of once more."""

_SESSION_TAKEN_OVER: Final = 0x8E
_UNSUPPORTED_PROTOCOL_VERSION: Final = 0x84
_FAILURE: Final = 0x80
"""Reason codes from here on are failures (MQTT 5.0 section 2.4)."""
_OF_THE_MESSAGE: Final = frozenset({0x95, 0x99})
"""PUBACK reasons that lie in the message and not in its topic: packet too large, payload format invalid."""

_PAHO: Final = {MqttVersion.V5: MQTTProtocolVersion.MQTTv5, MqttVersion.V311: MQTTProtocolVersion.MQTTv311}

log = logging.getLogger(__name__)


class Phase(enum.Enum):
    """The state of a connection."""

    AWAY = "away"
    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"
    ONLINE = "online"


class _InFlight(NamedTuple):
    """A message that waits for its PUBACK."""

    message: Publication
    sent_at: float


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
        self._listeners: list[Callable[[], None]] = []
        self._wakeup_out, self._wakeup_in = socket.socketpair()
        self._wakeup_in.setblocking(False)
        self._wakeup_out.setblocking(False)
        self._outgoing: deque[Publication] = deque()
        self._states: dict[str, Publication] = {}
        """Retained messages that wait: the latest of each topic."""
        self._before_suback: list[Incoming] = []
        """Messages received before the broker has granted the subscriptions."""
        self._before_suback_bytes = 0
        self._pubacks: deque[AckToken] = deque()
        """To be sent, in this order."""
        self._client: SessionClient | None = None
        self._phase = Phase.AWAY
        self._epoch = 0
        self._redial = Redial.from_setting(settings.protocol)
        self._end: ConnectionEnd | None = None
        """The end of this connection, where it is known before it."""
        self._window = WINDOW_MAX
        self._packet_max: int | None = None
        """The broker's Maximum Packet Size in bytes; None where it has not set one."""
        self._in_flight: dict[int, _InFlight] = {}
        self._not_reading_until = float("-inf")
        self._received_at = float("-inf")
        """The time of the last PUBLISH from the broker."""
        self._owed_since: float | None = None
        """Since when the broker owes the oldest PUBACK, as of the last step."""
        self._suspects = Suspects()
        self._refused_subscriptions: tuple[str, ...] = ()
        self._warnings = MessageWarnings(topics, clock)
        self.holds = Holds()
        """Of messages with an owner, who tries them again."""
        self._held_states = Holds()
        """Of all other messages, by their topic: the session tries them again."""
        self._deadline = self._online_since = 0.0
        self._birth_at, self._birth_wanted = float("-inf"), False
        self._takeover_detector = SessionTakeoverDetector(presence.boot_id, presence.since)
        self._taken_over = False
        self._complaint: str | None = None
        """Of this attempt or connection."""
        self._last_complaint: str | None = None
        self._going_offline = False
        self._offline_published = False

    # -- for other threads -------------------------------------------------------------------------

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` in the session's thread when it has come online: retained state and the outbox may go out."""
        self._listeners.append(listener)

    @property
    def online(self) -> bool:
        """True while messages go out."""
        return self._phase is Phase.ONLINE

    @property
    def complaint(self) -> str | None:
        """The reason why the broker is away, for `state/health`; None while it is not."""
        return None if self.online else (self._complaint or self._last_complaint or "not yet connected")

    @property
    def status(self) -> SessionStatus:
        """The state of the session; from any thread."""
        owed_since = self._owed_since
        return SessionStatus(
            online=self.online,
            complaint=self.complaint,
            rival=(self._complaint or self._last_complaint) if self._taken_over else None,
            protocol=self._redial.version.value,
            refused_subscriptions=self._refused_subscriptions,
            refused_topics=self.holds.refused + self._held_states.refused,
            parked=self.holds.parked + self._held_states.parked,
            unroutable=self._warnings.unroutable,
            last_puback_age_s=None if owed_since is None else max(0.0, self._clock.monotonic() - owed_since),
        )

    def publish(self, message: Publication) -> None:
        """Queue a message for this connection. Without one, or when it is lost first, so is the message."""
        if self._phase is not Phase.ONLINE:
            return
        if message.retain and message.owner is None:
            self._states[message.topic] = message
        else:
            self._outgoing.append(message)
        self.wake()

    def unsubscribe(self, filters: Iterable[str]) -> None:
        """Remove subscriptions that the broker may remember; in the session's thread, while online."""
        if self._client is not None:
            self._client.unsubscribe(list(filters))

    def acknowledge(self, tokens: Iterable[AckToken]) -> None:
        """Send PUBACKs, in this order; those of an earlier connection are dropped."""
        self._pubacks.extend(tokens)
        self.wake()

    def wake(self) -> None:
        """Wake the session's thread."""
        with suppress(OSError):  # a byte waits there already, or the session is closed
            self._wakeup_in.send(b"!")

    def publish_offline(self) -> None:
        """Have the session send what is queued, publish that the bridge is offline, and disconnect."""
        self._going_offline = True
        self.wake()

    @property
    def gone(self) -> bool:
        """True once the session has ended after `publish_offline`."""
        return self._going_offline and self._phase is Phase.AWAY

    # -- in the session's thread ---------------------------------------------------------------------

    def step(self, timeout_s: float = SELECT_TIMEOUT_S) -> None:
        """Do one bounded piece of work: an attempt to connect, or one round of reading and writing."""
        client = self._client
        if client is None:
            self._redial_when_due(timeout_s)
            return
        self._send_queued(client)
        self._write(client)
        sock = client.buffered
        if client.socket() is None:
            self._connection_lost("the connection closed")
            return
        reading = [] if self._inbox.is_full() else [sock]
        if not reading:
            self._not_reading_until = self._clock.monotonic()
        if not reading or sock.has_input:
            # Nothing wakes the session when a full inbox has room again: look soon.
            timeout_s = 0 if reading else FULL_INBOX_WAIT_S
        readable = self._wait(reading, [sock] if sock.unsent else [], timeout_s)
        if sock in readable or (reading and sock.has_input):
            self._read(client, sock)
            if self._phase is Phase.SUBSCRIBING:
                self._deadline = self._clock.monotonic() + HANDSHAKE_TIMEOUT_S
        self._write(client)
        client.loop_misc()
        if client.socket() is None or self._taken_over or self._end is not None:
            self._connection_lost("the connection closed")
        else:
            self._check_timeouts(client)

    def close(self) -> None:
        """Close everything without a DISCONNECT."""
        self._drop()
        self._wakeup_in.close()
        self._wakeup_out.close()

    def _redial_when_due(self, timeout_s: float) -> None:
        now = self._clock.monotonic()
        if self._going_offline:
            return
        if (wait_s := self._redial.not_before - now) > 0:
            self._wait([], [], min(wait_s, timeout_s))
            return
        self._epoch += 1
        self._redial = self._redial.on_connect(now)
        self._complaint = self._end = None
        client = self._new_client()
        try:
            connect(client, self._settings)
        except (OSError, ValueError) as error:
            _close_socket(client)
            self._schedule_redial(ConnectionEnd.UNREACHABLE, f"{self._settings.host}:{self._settings.port}: {error}")
            return
        self._client = client
        self._taken_over = False
        self._phase = Phase.CONNECTING
        self._deadline = now + HANDSHAKE_TIMEOUT_S

    def _new_client(self) -> SessionClient:
        client = session_client(
            self._settings, self._presence, self._client_id, _PAHO[self._redial.version], self._dial
        )
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        return client

    def _check_timeouts(self, client: SessionClient) -> None:
        now = self._clock.monotonic()
        if self._phase is not Phase.ONLINE:
            if now > max(self._deadline, self._not_reading_until + HANDSHAKE_TIMEOUT_S):
                self._connection_lost("the broker does not answer the handshake")
            return
        if not self._in_flight:
            self._owed_since = None
        else:
            # While we do not read, whether the PUBACK is late cannot be told; while messages come, only in the end.
            sent_at = next(iter(self._in_flight.values())).sent_at
            self._owed_since = max(sent_at, self._not_reading_until)
            silent_since = max(self._owed_since, self._received_at)
            if now - silent_since > PUBACK_TIMEOUT_S or now - self._owed_since > PUBACK_TIMEOUT_MAX_S:
                why = f"the broker acknowledges nothing: a message waits for its PUBACK for {now - sent_at:.0f} s"
                self._connection_lost(why)
                return
        if (planned := PLANNED_ENDS.get(self._redial.state)) and now - self._online_since > planned.after_s:
            busy = self._in_flight or self._outgoing or self._states or self._pubacks or len(self._inbox)
            if not (planned.only_idle and busy):
                self._end = planned.end
                client.disconnect()
                self._connection_lost(planned.reason)

    def _wait(self, reading: list[Any], writing: list[Any], timeout_s: float) -> list[Any]:
        """Wait for a socket, or until the session is woken; return what can be read."""
        try:
            readable, _, _ = select.select([self._wakeup_out, *reading], writing, [], timeout_s)
        except (OSError, ValueError):  # the socket was closed under us
            return []
        if self._wakeup_out in readable:
            with suppress(BlockingIOError):
                self._wakeup_out.recv(4096)
        return readable

    def _read(self, client: SessionClient, sock: BufferedSocket) -> None:
        for _ in range(READS_PER_STEP):
            result = client.loop_read()
            if result == MQTTErrorCode.MQTT_ERR_PROTOCOL and self._phase is not Phase.CONNECTING:
                self._end, self._complaint = ConnectionEnd.UNREADABLE, "the broker sent a packet that cannot be read"
            if result != 0 or client.socket() is None or self._inbox.is_full() or not sock.has_input:
                return

    def _write(self, client: SessionClient) -> None:
        if client.want_write():
            client.loop_write()
        client.buffered.flush()

    def _send_queued(self, client: SessionClient) -> None:
        while self._pubacks:
            token = self._pubacks.popleft()
            if token.epoch == self._epoch and token.qos > 0:
                client.ack(token.mid, token.qos)
        if self._phase is not Phase.ONLINE:
            return
        now = self._clock.monotonic()
        birth_age_s = now - self._birth_at
        birth_due = self._birth_wanted or birth_age_s >= self._presence.repeat_s
        if birth_due and birth_age_s >= BIRTH_INTERVAL_S and not self._going_offline:
            self._publish_birth(client, now)
        while len(self._in_flight) < self._window:
            if self._states:
                topic, message = self._states.popitem()
                if topic in self._held_states and not self._tries_held_state(topic, now):
                    continue  # its publisher repeats it soon
            elif self._outgoing:
                message = self._outgoing.popleft()
            else:
                break
            self._publish_now(client, message)
        if self._going_offline and not self._outgoing and not self._states and not self._in_flight:
            self._disconnect(client)

    def _tries_held_state(self, topic: str, now: float) -> bool:
        if self._held_states.is_trying(topic) or topic not in self._held_states.due(now):
            return False
        self._held_states.try_again(topic)
        return True

    def _publish_birth(self, client: Client, now: float) -> None:
        self._birth_at, self._birth_wanted = now, False
        self._publish_now(client, Publication(self._presence.topic, self._presence.online, retain=True))

    def _disconnect(self, client: Client) -> None:
        """Publish what the will would say, as a DISCONNECT drops the will; disconnect once that is acknowledged."""
        if self._offline_published:
            client.disconnect()
        else:
            self._publish_now(client, Publication(self._presence.topic, self._presence.offline, retain=True))
            self._offline_published = True

    def _publish_now(self, client: Client, message: Publication) -> None:
        properties = None
        if message.correlation is not None and self._redial.version is MqttVersion.V5:
            properties = publish_properties(message.correlation)
        if self._packet_max is not None and message.size > self._packet_max:
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
        return self._held_states if message.owner is None else self.holds

    def _hold(self, message: Publication, key: HoldKey, kind: HoldKind, why: str) -> None:
        """Hold a message back that the broker refuses, so that the rest goes on."""
        if self._holds_of(message).hold(key, kind, f"{message.topic[:200]}: {why}", self._clock.monotonic()):
            log.error(
                "a message on %.200s is not taken (%s): it is kept and tried again; "
                "check the broker's access list and limits",
                message.topic,
                why,
            )
        if message.owner is not None:
            message.owner.refused(message.token)

    # -- paho's callbacks: in the session's thread, inside loop_read or loop_misc ------------------------

    def _on_connect(
        self, client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._complaint = f"the broker refused the connection: {reason}"
            unsupported = reason.value == _UNSUPPORTED_PROTOCOL_VERSION
            self._end = ConnectionEnd.UNSUPPORTED if unsupported else ConnectionEnd.REFUSED
            return
        self._redial = self._redial.on_connack()
        # A limit of 0 is none (MQTT 5.0 section 3.2.2.3).
        self._window = min(getattr(properties, "ReceiveMaximum", 0) or WINDOW_MAX, WINDOW_MAX)
        self._packet_max = getattr(properties, "MaximumPacketSize", 0) or None
        self._phase = Phase.SUBSCRIBING
        # Also when the session is present: a broker that lost half of its database would not tell.
        client.subscribe(subscriptions(self._topics.subscriptions(), self._presence.topic, self._redial.version))
        log.info(
            "connected to the broker %s:%d with MQTT %s, session %s",
            self._settings.host,
            self._settings.port,
            self._redial.version.value,
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
            self._end = ConnectionEnd.REFUSED
            return
        # The bridge's own presence only shows rivals and forgeries: an access list need not let it read that.
        self._refused_subscriptions = tuple(name for name in refused if name != self._presence.topic)
        for name, why in refused.items():
            log.error(
                "the broker refuses the subscription to %s (%s), the rest is served: check its access list", name, why
            )
        self._phase = Phase.ONLINE
        self._online_since = self._clock.monotonic()
        self._release_before_suback()
        self._takeover_detector.note_birth()
        self._publish_birth(client, self._online_since)
        for listener in self._listeners:
            listener()

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._received_at = self._clock.monotonic()
        payload = bytes(message.payload)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # nobody's
        if topic == self._presence.topic:
            if self._takeover_detector.is_taken_over(payload, retained=bool(message.retain)):
                self._yield_to_takeover()
            elif payload != self._presence.online:
                self._birth_wanted = True  # a will that came late, or somebody's forgery: ours must be the last
            return
        properties = message.properties
        incoming = Incoming(
            token=AckToken(self._epoch, message.mid, message.qos),
            topic=topic,
            payload=payload,
            redelivered=bool(message.dup or message.retain),
            retained=bool(message.retain),
            response_topic=getattr(properties, "ResponseTopic", None),
            correlation=getattr(properties, "CorrelationData", None),
        )
        if len(payload) > REQUEST_BYTES_MAX:
            incoming = incoming.cut_to(ID_SOUGHT_BYTES)
        route = self._topics.route(topic)
        if route is None or incoming.response_topic is not None:
            self._warnings.check(topic, route, incoming.response_topic)
        if self._phase is Phase.ONLINE:
            self._inbox.put(incoming)
        elif len(self._before_suback) < self._settings.receive_maximum or message.qos:
            self._before_suback.append(incoming)
            self._before_suback_bytes += incoming.size
            if self._before_suback_bytes > BEFORE_SUBACK_BYTES_MAX:
                # The SUBACK comes behind what the broker kept for us, so it must be read on. A session that it kept
                # let these in, and what becomes of them is in the journal, whether the SUBACK grants or refuses.
                self._release_before_suback()

    def _release_before_suback(self) -> None:
        for message in self._before_suback:
            self._inbox.put(message)
        self._forget_before_suback()

    def _forget_before_suback(self) -> None:
        self._before_suback.clear()
        self._before_suback_bytes = 0

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
        elif message.owner is None:
            self._held_states.release(message.topic)
        else:
            message.owner.published(message.token)

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.value == _SESSION_TAKEN_OVER:
            self._yield_to_takeover()
        elif self._complaint is None and not self._going_offline:
            self._complaint = f"disconnected: {reason}"

    def _yield_to_takeover(self) -> None:
        self._complaint = (
            f"another client has taken the session {self._client_id}: is a second bridge running "
            "with this bridge_id? Give each its own"
        )
        self._taken_over = True

    # -- losing a connection -----------------------------------------------------------------------------

    def _connection_lost(self, why: str) -> None:
        complaint, end = self._complaint or why, self._end
        if self._taken_over:
            end = ConnectionEnd.TAKEN_OVER
        elif end is None:
            end = ConnectionEnd.SILENT if self._phase is Phase.CONNECTING else ConnectionEnd.LOST
        lasted_s = self._clock.monotonic() - self._online_since if self._phase is Phase.ONLINE else 0.0
        cut = self._phase is Phase.ONLINE and end is ConnectionEnd.LOST and self._complaint is not None
        birth = self._presence.topic  # it is in flight on every young connection
        in_flight = [sent.message for sent in self._in_flight.values() if sent.message.topic != birth]
        self._drop()
        if self._going_offline:
            return
        if cut:
            self._hold_suspects(in_flight, young=lasted_s <= STABLE_S)
        for holds in (self.holds, self._held_states):
            holds.link_down()
        self._schedule_redial(end, complaint, lasted_s)

    def _hold_suspects(self, in_flight: list[Publication], *, young: bool) -> None:
        """Hold back what was in flight when several connections in a row were cut, or is suspected already."""
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
        self._phase = Phase.AWAY
        self._in_flight.clear()
        self._owed_since = None
        self._outgoing.clear()
        self._states.clear()
        self._forget_before_suback()
        self._refused_subscriptions = ()
        if client is not None:
            _close_socket(client)

    def _schedule_redial(self, end: ConnectionEnd, complaint: str, lasted_s: float = 0.0) -> None:
        now = self._clock.monotonic()
        self._redial = self._redial.on_end(end, now, lasted_s=lasted_s)
        wait_s = (self._redial.not_before - now) * self._rng.uniform(0.8, 1.2)
        self._redial = replace(self._redial, not_before=now + wait_s)
        self._last_complaint = complaint
        log.warning("the broker is away: %s; next attempt in about %.1f s", complaint, wait_s)


def _close_socket(client: SessionClient) -> None:
    """Close at once. Left to paho's destructor, what still waits would go out at some later time."""
    if client.socket() is not None:
        client.buffered.close()


class MessageWarnings:
    """Warns of messages on foreign topics, and of response topics outside of the sender's branch; none too often."""

    def __init__(self, topics: Topics, clock: Clock) -> None:
        self._topics = topics
        self._clock = clock
        self._warned_at: dict[tuple[str, str], float] = {}
        self.unroutable = Occurrences()
        """Messages on topics that are none of the bridge's own."""

    def check(self, topic: str, route: Route | None, response_topic: str | None) -> None:
        """Check a message that was received on a foreign topic, or with a response topic."""
        if route is None:
            self.unroutable = Occurrences(self.unroutable.count + 1, topic[:200])
            if self._is_news("topic", topic):
                log.warning(
                    "a message came on %.200r, which is no topic of this bridge: nobody is served or answered by it. "
                    "Does the broker change topics (RabbitMQ makes slashes of dots), or is the bridge's name another?",
                    topic,
                )
            return
        if not response_topic or (answered_on := self._topics.answer_topic(route, response_topic)) == response_topic:
            return
        if self._is_news("response topic", topic):
            log.warning(
                "%.200s asks for its answers on %.200r, outside of its own branch: they go to %.200s",
                topic,
                response_topic,
                answered_on,
            )

    def _is_news(self, kind: str, topic: str) -> bool:
        now, key = self._clock.monotonic(), (kind, topic[:200])
        last = self._warned_at.get(key)
        if last is not None and now - last < WARN_AGAIN_S:
            return False
        if len(self._warned_at) >= WARNED_MAX:
            self._warned_at.clear()
        self._warned_at[key] = now
        return True

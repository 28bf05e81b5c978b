"""The bridge's MQTT session: the one owner of the paho client.

Everything that touches paho happens in the thread that calls `step`; other threads put into queues and
ring a bell. Each connection gets a client of its own, so nothing of an old one (packet ids, paho's
queues, in-flight counts) can reach into a new one: acknowledgements carry the epoch they belong to, and
stale ones are dropped. What is to survive a lost connection is in the journal's outbox, not here.

MQTT 5 is tried first, then 3.1.1 (OASIS MQTT 5.0 section 4.13, MQTT 3.1.1 section 3.2.2.3).
"""

import enum
import logging
import random
import select
import socket
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from kkt_bridge.broker.buffering import BufferedSocket
from kkt_bridge.broker.inbox import AckToken, Inbox, Incoming
from kkt_bridge.broker.link import Listener, Outgoing, SessionView
from kkt_bridge.broker.packets import SessionClient, connect, correlated, session_client, subscriptions, topic_of
from kkt_bridge.broker.presence import Presence, RivalWatch
from kkt_bridge.clock import Clock
from kkt_bridge.settings import MqttSettings
from kkt_bridge.wire.topics import Topics

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""Until the broker's CONNACK and SUBACK."""

RECONNECT_INITIAL_S: Final = 0.2
RECONNECT_MAX_S: Final = 5.0
STABLE_S: Final = 5.0
"""A connection that lasted less is no success: whoever cuts it, a second bridge perhaps, is not to be raced."""

TAKEN_OVER_WAIT_S: Final = 30.0
"""When another client has taken the session: two of a kind must not fight for it several times a second."""

WINDOW_MAX: Final = 200
"""Messages of ours that may wait for the broker's PUBACK at once, if the broker allows so many."""

PACKET_MAX: Final = 256 * 1024 * 1024
"""What MQTT can carry; a broker may allow less."""

READS_PER_STEP: Final = 64
"""Packets read before others get their turn."""

SELECT_TIMEOUT_S: Final = 1.0
FULL_INBOX_WAIT_S: Final = 0.005

_TAKEN_OVER: Final = 0x8E
_FAILURE: Final = 0x80

log = logging.getLogger(__name__)


class Phase(enum.Enum):
    """Where a connection stands."""

    AWAY = "away"
    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"
    ONLINE = "online"


class Session:
    """The bridge's one connection to the broker, kept up for ever."""

    def __init__(self, settings: MqttSettings, topics: Topics, presence: Presence, inbox: Inbox, clock: Clock) -> None:
        self._settings = settings
        self._topics = topics
        self._client_id = f"kkt-bridge-{topics.bridge}"
        self._presence = presence
        self._inbox = inbox
        self._clock = clock
        self._listeners: list[Listener] = []
        self._bell_out, self._bell_in = socket.socketpair()
        self._bell_in.setblocking(False)
        self._bell_out.setblocking(False)
        self._outgoing: deque[Outgoing] = deque()
        self._acks: deque[AckToken] = deque()
        self._client: SessionClient | None = None
        self._phase = Phase.AWAY
        self._epoch = 0
        self._protocol = MQTTProtocolVersion.MQTTv5
        self._window = WINDOW_MAX
        self._packet_max = PACKET_MAX
        self._in_flight: dict[int, Outgoing] = {}
        self._deadline = 0.0
        self._online_since = 0.0
        self._rivals = RivalWatch(presence.boot_id, presence.since)
        self._yielding = False
        self._next_attempt = 0.0
        self._backoff_s = RECONNECT_INITIAL_S
        self._complaint: str | None = None
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
        return None if self.online else (self._complaint or "not yet connected")

    @property
    def rival(self) -> str | None:
        """Why another client with our id is suspected; None while none is, and from the next attempt on."""
        return self._complaint if self._yielding else None

    @property
    def view(self) -> SessionView:
        """How it stands between the bridge and the broker; from any thread."""
        return SessionView(online=self.online, complaint=self.complaint, rival=self.rival)

    def publish(self, message: Outgoing) -> None:
        """Queue a message for this connection. Without one, or when it is lost first, so is the message."""
        if self.online:
            self._outgoing.append(message)
            self.ring()

    def acknowledge(self, tokens: Iterable[AckToken]) -> None:
        """Acknowledge messages, in this order; those of an earlier connection are dropped."""
        self._acks.extend(tokens)
        self.ring()

    def ring(self) -> None:
        """Wake the session's thread."""
        with suppress(OSError):  # it is ringing already, or the session is closed
            self._bell_in.send(b"!")

    def say_farewell(self) -> None:
        """Have the session send what is queued, say that it goes offline, and disconnect."""
        self._farewell = True
        self.ring()

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
        elif (wait := self._next_attempt - self._clock.monotonic()) > 0:
            self._wait([], [], min(wait, timeout_s))
        else:
            self._connect()

    def close(self) -> None:
        """Let go of everything, without a word to the broker."""
        self._drop()
        self._bell_in.close()
        self._bell_out.close()

    def _connect(self) -> None:
        self._epoch += 1
        client = self._new_client()
        try:
            connect(client, self._settings)
        except (OSError, ValueError) as error:
            self._protocol = MQTTProtocolVersion.MQTTv5
            self._retry_later(f"{self._settings.host}:{self._settings.port}: {error}")
            return
        self._client = client
        self._yielding = False
        self._phase = Phase.CONNECTING
        self._deadline = self._clock.monotonic() + HANDSHAKE_TIMEOUT_S

    def _new_client(self) -> SessionClient:
        client = session_client(self._settings, self._presence, self._client_id, self._protocol)
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
        if not reading or sock.has_input:
            # A full inbox empties without ringing here: look again soon.
            timeout_s = 0 if reading else FULL_INBOX_WAIT_S
        readable, _, _ = self._wait(reading, [sock] if sock.has_output else [], timeout_s)
        if sock in readable or (reading and sock.has_input):
            self._read(client, sock)
        self._write(client)
        client.loop_misc()
        if client.socket() is None or self._yielding:
            self._lost("the connection closed")
        elif self._phase is not Phase.ONLINE and self._clock.monotonic() > self._deadline:
            self._lost("the broker does not answer the handshake")

    def _wait(self, reading: list[Any], writing: list[Any], timeout: float) -> tuple[list[Any], list[Any], list[Any]]:
        try:
            ready = select.select([self._bell_out, *reading], writing, [], timeout)
        except (OSError, ValueError):  # the socket was closed under us
            return [], [], []
        if self._bell_out in ready[0]:
            with suppress(BlockingIOError):
                self._bell_out.recv(4096)
        return ready

    def _read(self, client: SessionClient, sock: BufferedSocket) -> None:
        for _ in range(READS_PER_STEP):
            if client.loop_read() != 0 or client.socket() is None or self._inbox.is_full() or not sock.has_input:
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
        while self._outgoing and len(self._in_flight) < self._window:
            self._publish_now(client, self._outgoing.popleft())
        if self._farewell and not self._outgoing and not self._in_flight:
            self._say_goodbye(client)

    def _say_goodbye(self, client: Client) -> None:
        """The will is not sent at a clean end: say it ourselves, and go when the broker has it."""
        if self._goodbye_said:
            client.disconnect()
        else:
            self._publish_now(client, Outgoing(self._presence.topic, self._presence.offline, retain=True))
            self._goodbye_said = True

    def _publish_now(self, client: Client, message: Outgoing) -> None:
        modern = self._protocol is MQTTProtocolVersion.MQTTv5
        properties = correlated(message.correlation) if modern and message.correlation is not None else None
        if message.size > self._packet_max:
            self._give_up(message, f"{message.size} bytes are more than the broker takes ({self._packet_max})")
            return
        try:
            info = client.publish(message.topic, message.payload, qos=1, retain=message.retain, properties=properties)
        except ValueError as error:
            self._give_up(message, str(error))
        else:
            self._in_flight[info.mid] = message

    def _give_up(self, message: Outgoing, why: str) -> None:
        """The broker would cut the connection; kept in the outbox, it would come first again at the next one."""
        log.error("a message on %.100s cannot be published: %s", message.topic, why)
        self._report_published(message)

    def _report_published(self, message: Outgoing) -> None:
        if message.token is not None:
            for listener in self._listeners:
                listener.published(message.token)

    # -- paho's callbacks: in the session's thread, inside loop_read or loop_misc ------------------------

    def _on_connect(
        self, client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._complaint = f"the broker refused the connection: {reason}"
            return
        # A limit of 0 is none (MQTT 5.0 section 3.2.2.3), and one above what MQTT can carry is legal.
        self._window = min(getattr(properties, "ReceiveMaximum", 0) or WINDOW_MAX, WINDOW_MAX)
        self._packet_max = min(getattr(properties, "MaximumPacketSize", 0) or PACKET_MAX, PACKET_MAX)
        self._phase = Phase.SUBSCRIBING
        # Also when the session is present: a broker that lost half of its database would not tell.
        modern = self._protocol is MQTTProtocolVersion.MQTTv5
        client.subscribe(subscriptions(self._topics.subscriptions(), self._presence.topic, modern=modern))
        log.info(
            "connected to the broker %s:%d with MQTT %s, session %s",
            self._settings.host,
            self._settings.port,
            "5" if self._protocol is MQTTProtocolVersion.MQTTv5 else "3.1.1",
            "resumed" if flags.session_present else "new",
        )

    def _on_subscribe(
        self, client: Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        if refused := [str(reason) for reason in reasons if reason.value >= _FAILURE]:
            self._complaint = f"the broker refused a subscription ({refused[0]}): check its access list"
            return
        self._phase = Phase.ONLINE
        self._complaint = None
        self._online_since = self._clock.monotonic()
        self._rivals.born()
        self._publish_now(client, Outgoing(self._presence.topic, self._presence.online, retain=True))
        for listener in self._listeners:
            listener.link_up()

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        if (topic := topic_of(message)) == self._presence.topic:
            if self._rivals.is_rival(bytes(message.payload), retained=bool(message.retain)):
                self._yield_to_rival()
            return
        properties = message.properties
        self._inbox.put(
            Incoming(
                token=AckToken(self._epoch, message.mid, message.qos),
                topic=topic,
                payload=bytes(message.payload),
                redelivered=bool(message.dup or message.retain),
                retained=bool(message.retain),
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
            )
        )

    def _on_publish(
        self, _client: Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        message = self._in_flight.pop(mid, None)
        if message is None:
            return
        if reason.is_failure:
            # Trying again would change nothing: the broker forbids the topic.
            log.error("the broker refused a message on %s (%s): check its access list", message.topic, reason)
        self._report_published(message)

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.value == _TAKEN_OVER:
            self._yield_to_rival()
        elif self._complaint is None and not self._farewell:
            self._complaint = f"disconnected: {reason}"

    def _yield_to_rival(self) -> None:
        self._complaint = (
            f"another client has taken the session {self._client_id}: is a second bridge running "
            "with this bridge_id? Give each its own"
        )
        self._yielding = True

    # -- losing a connection -----------------------------------------------------------------------------

    def _lost(self, why: str) -> None:
        was_handshake, was_online = self._phase is Phase.CONNECTING, self._phase is Phase.ONLINE
        complaint, yielding = self._complaint or why, self._yielding
        self._drop()
        if self._farewell:
            return
        if was_handshake and self._protocol is MQTTProtocolVersion.MQTTv5:
            # Refused, closed or silent before the CONNACK: an MQTT 3.1.1 broker's ways to meet an MQTT 5 client.
            self._protocol = MQTTProtocolVersion.MQTTv311
            return
        self._protocol = MQTTProtocolVersion.MQTTv5
        if yielding:
            self._backoff_s = TAKEN_OVER_WAIT_S
        elif was_online and self._clock.monotonic() - self._online_since > STABLE_S:
            self._backoff_s = RECONNECT_INITIAL_S
        self._retry_later(complaint)

    def _drop(self) -> None:
        client, self._client = self._client, None
        was_online = self._phase is Phase.ONLINE
        self._phase = Phase.AWAY
        self._in_flight.clear()
        self._outgoing.clear()
        if client is not None and (sock := client.socket()) is not None:
            sock.close()
        if was_online:
            for listener in self._listeners:
                listener.link_down()

    def _retry_later(self, complaint: str) -> None:
        log.warning("the broker is away: %s; next attempt in about %.1f s", complaint, self._backoff_s)
        self._complaint = complaint
        self._next_attempt = self._clock.monotonic() + self._backoff_s * random.uniform(0.8, 1.2)  # noqa: S311 (jitter)
        self._backoff_s = min(self._backoff_s * 2, max(RECONNECT_MAX_S, self._backoff_s))

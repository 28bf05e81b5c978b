"""An MQTT client for everybody but the bridge: operators' commands, simulated POS terminals, the demo.

Unlike the bridge's session it keeps nothing over a lost connection: its caller gets an error, and may `connect` again.
MQTT 5 is tried first, then 3.1.1.
"""

import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final, Self

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from kkt_bridge.errors import BrokerAway
from kkt_bridge.mqtt.paho_client import publish_properties, set_nodelay
from kkt_bridge.wire.topics import Topics

ANSWER_TIMEOUT_S: Final = 10.0
"""Seconds for the broker's SUBACK or PUBACK."""

KEEPALIVE_S: Final = 30
CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds for what is in flight and the DISCONNECT; a broker that takes neither is left without."""

WINDOW: Final = 20
"""Messages that may wait for their PUBACK at once: what Mosquitto allows; more wait in memory."""

_FAILURE: Final = 0x80

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker."""

    topic: str
    payload: bytes
    retain: bool
    """True if the broker had stored it before the subscription."""
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class BridgeAddress:
    """A bridge, and the broker that it is found at."""

    host: str
    port: int
    topics: Topics
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def client(self) -> "BrokerClient":
        """Return a client of the broker, not yet connected."""
        return BrokerClient(self.host, self.port, username=self.username, password=self.password)


class BrokerClient:
    """One connection to a broker. Its methods wait for the broker's answer.

    Messages go to `on_message`, in a thread of the client's, where that is set, else into `received`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        username: str | None = None,
        password: str | None = None,
        client_id: str | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.received: SimpleQueue[Received] = SimpleQueue()
        self.on_message: Callable[[Received], None] | None = None
        self._username = username
        self._password = password
        self._client_id = client_id or f"kkt-client-{secrets.token_hex(6)}"
        self._protocol = MQTTProtocolVersion.MQTTv5
        self._client: Client | None = None
        self._changed = threading.Condition()
        self._connected = False
        self._lost_because: str | None = "not connected"
        self._granted: dict[int, Sequence[ReasonCode]] = {}
        self._refused: dict[int, str] = {}

    @property
    def protocol(self) -> int:
        """The protocol version of the connection: 5 (MQTT 5) or 4 (MQTT 3.1.1)."""
        return int(self._protocol)

    @property
    def connected(self) -> bool:
        """True while the connection is up, as far as this side knows."""
        return self._lost_because is None

    def connect(self, timeout_s: float = 5.0) -> None:
        """Connect with MQTT 5, or else 3.1.1; a connection that was lost begins anew, without subscriptions.

        Raises:
            BrokerAway: Nobody there, no answer in time, or not let in.
        """
        self.close()
        for protocol in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311):
            self._protocol = protocol
            # An MQTT 3.1.1 broker may meet an MQTT 5 client with silence: half of the time is for the second attempt.
            if self._try_connect(timeout_s / 2):
                return
            reason = self._lost_because
            self.close()
        raise BrokerAway(f"{self.host}:{self.port}: the MQTT broker does not let us in: {reason}")

    def subscribe(self, filters: Iterable[str]) -> None:
        """Subscribe at QoS 1; return when the broker has granted every filter.

        Raises:
            BrokerAway: It refused one, or the connection is lost.
        """
        wanted = list(filters)
        code, mid = self._require_connected().subscribe([(topic, 1) for topic in wanted])
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise self._away("cannot subscribe")
        self._wait(lambda: mid in self._granted, ANSWER_TIMEOUT_S)
        answers = self._granted.pop(mid, None)
        if answers is None:
            raise self._away("no answer to a subscription")
        for topic, answer in zip(wanted, answers, strict=True):
            if answer.value >= _FAILURE:
                raise BrokerAway(f"{self.host}:{self.port}: the broker refuses to let us read {topic}: {answer}")

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Publish, and return when the broker has it. MQTT 3.1.1 does not carry the last two arguments.

        Raises:
            BrokerAway: It refused the message, or the connection is lost and whether the broker has it is unknown.
        """
        modern = self._protocol is MQTTProtocolVersion.MQTTv5
        properties = publish_properties(correlation, response_topic) if modern else None
        info = self._require_connected().publish(topic, payload, qos, retain, properties)
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_QUEUE_SIZE):
            raise self._away(f"cannot publish on {topic}")
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not info.is_published() and self._lost_because is None and time.monotonic() < deadline:
            info.wait_for_publish(0.1)
        if refusal := self._refused.pop(info.mid, None):
            raise BrokerAway(f"{self.host}:{self.port}: the broker refuses a message on {topic}: {refusal}")
        if not info.is_published():
            raise self._away(f"no acknowledgement for a message on {topic}")

    def get(self, timeout_s: float) -> Received | None:
        """Return the next message, or None if none comes in time."""
        try:
            return self.received.get(timeout=max(0.0, timeout_s))
        except Empty:
            return None

    def close(self) -> None:
        """Send what is in flight and disconnect; within about a second, also if the broker is gone."""
        client, self._client = self._client, None
        if client is None:
            return
        client.disconnect()
        self._wait(lambda: False, CLOSE_TIMEOUT_S)
        sock: Any = client.socket()
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        client.loop_stop()
        _forget_callbacks(client)
        self._lost_because = self._lost_because or "closed"

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- connecting ------------------------------------------------------------------------------------------

    def _try_connect(self, timeout_s: float) -> bool:
        """Return True if the broker accepts a CONNECT of this version; BrokerAway if nobody listens."""
        client = self._new_client()
        client.connect_timeout = timeout_s
        self._connected, self._lost_because = False, None
        self._granted.clear()
        self._refused.clear()
        try:
            client.connect(self.host, self.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            self._lost_because = "not connected"
            reason = getattr(error, "strerror", None) or error
            raise BrokerAway(f"{self.host}:{self.port}: no MQTT broker there: {reason}") from None
        self._client = client
        client.loop_start()
        self._wait(lambda: self._connected, timeout_s)
        if not self._connected and self._lost_because is None:
            self._lost_because = f"no answer within {timeout_s:g} s"
        return self._connected

    def _new_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=self._protocol,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages = WINDOW
        if self._username is not None:
            client.username_pw_set(self._username, self._password)
        client.on_socket_open = set_nodelay
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _require_connected(self) -> Client:
        client = self._client
        if client is None or self._lost_because is not None:
            raise self._away("no connection")
        return client

    def _away(self, what: str) -> BrokerAway:
        return BrokerAway(f"{self.host}:{self.port}: {what}: {self._lost_because or 'the MQTT broker does not answer'}")

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: done() or self._lost_because is not None, timeout_s)

    # -- paho's callbacks, in its thread -----------------------------------------------------------------------

    def _on_connect(
        self, _client: Client, _userdata: Any, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        with self._changed:
            if reason.is_failure:
                self._lost_because = str(reason)
            else:
                self._connected = True
            self._changed.notify_all()

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._changed:
            self._lost_because = self._lost_because or _disconnect_reason(reason)
            self._changed.notify_all()

    def _on_subscribe(
        self, _client: Client, _userdata: Any, mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        with self._changed:
            self._granted[mid] = reasons
            self._changed.notify_all()

    def _on_publish(
        self, _client: Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refused[mid] = str(reason)

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        correlation = getattr(message.properties, "CorrelationData", None)
        received = Received(topic, bytes(message.payload), bool(message.retain), correlation)
        if self.on_message is None:
            self.received.put(received)
            return
        try:
            self.on_message(received)
        except Exception:
            log.exception("a message on %s could not be handled; the connection goes on", topic)


def _disconnect_reason(reason: ReasonCode) -> str:
    if not reason.is_failure:
        return "closed"
    # paho's own word for a connection that ended without one from the broker.
    return "the connection broke" if reason.value == _FAILURE else f"disconnected by the broker: {reason}"


def _forget_callbacks(client: Client) -> None:
    """Break the reference cycles, so that the client and its sockets are freed at once."""
    client.on_connect = client.on_disconnect = client.on_subscribe = client.on_publish = client.on_message = None

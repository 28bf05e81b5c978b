"""An MQTT client of a test: remembers everything that comes, and can wait for what has not come yet."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

CONNECT_TIMEOUT_S = 10.0
SOON_S = 20.0
"""For whatever should come at once: an idle machine needs milliseconds, a busy one may need seconds."""
POLL_S = 0.1
RECONNECT_S = 0.1
SHOWN_MAX = 20
SHOWN_CHARS = 300


@dataclass(frozen=True)
class Message:
    """A message as it came."""

    topic: str
    payload: bytes
    retain: bool
    correlation: bytes | None
    at: float
    """By the monotonic clock."""

    @cached_property
    def content(self) -> Any:
        """The payload, which must be JSON."""
        return json.loads(self.payload)

    def __str__(self) -> str:
        text = self.payload[:SHOWN_CHARS].decode(errors="replace")
        return f"{self.at:.3f} {self.topic}{' (retained)' if self.retain else ''} {text}"


class MqttClient:
    """A client with MQTT 5, or with 3.1.1 where the broker speaks nothing else. Comes back after a lost connection."""

    def __init__(self, host: str, port: int, subscribe: Iterable[str] = (), *, client_id: str = "") -> None:
        self._address = host, port
        self._filters = [(name, 1) for name in subscribe]
        self._client_id = client_id
        self._changed = threading.Condition()
        self._client: mqtt.Client | None = None
        self._ready = False
        self._refused = False
        self.messages: list[Message] = []
        """Everything that came, in order; only ever appended to."""
        self.protocol = MQTTProtocolVersion.MQTTv5

    def connect(self) -> None:
        """Return when the broker has granted what is subscribed to."""
        for protocol in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311):
            self.protocol = protocol
            client = self._client = self._new_client(protocol)
            self._refused = False
            client.connect(*self._address)
            client.loop_start()
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._refused, CONNECT_TIMEOUT_S)
            if self._ready:
                return
            client.loop_stop()
        raise TimeoutError(f"no broker lets us in at {self._address}")

    def _new_client(self, protocol: MQTTProtocolVersion) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            self._client_id,
            protocol=protocol,
            clean_session=None if protocol is MQTTProtocolVersion.MQTTv5 else True,
        )
        client.max_inflight_messages_set(1000)
        client.reconnect_delay_set(RECONNECT_S, RECONNECT_S)  # type: ignore[arg-type]  # it takes fractions all the same
        client.on_socket_open = _set_nodelay
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = lambda *_: self._now_ready()
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._note_refused()
        elif self._filters:
            client.subscribe(self._filters)
        else:
            self._now_ready()

    def _on_disconnect(self, *_: Any) -> None:
        if not self._ready:
            self._note_refused()
        self._ready = False

    def _note_refused(self) -> None:
        with self._changed:
            self._refused = True
            self._changed.notify_all()

    def _now_ready(self) -> None:
        with self._changed:
            self._ready = True
            self._changed.notify_all()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        with self._changed:
            self.messages.append(
                Message(message.topic, bytes(message.payload), bool(message.retain), correlation, time.monotonic())
            )
            self._changed.notify_all()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        timeout_s: float = SOON_S,
    ) -> None:
        """Return when the broker has it (at QoS 0: when it is on its way)."""
        properties = _properties(response_topic, correlation)
        self.publish_all([(topic, payload)], qos, retain=retain, properties=properties, timeout_s=timeout_s)

    def publish_all(
        self,
        messages: Iterable[tuple[str, bytes]],
        qos: int = 1,
        *,
        retain: bool = False,
        properties: Properties | None = None,
        timeout_s: float = SOON_S,
    ) -> None:
        """Hand over all of them without waiting in between; return when the broker has them."""
        assert self._client is not None, "not connected"
        sent = [self._client.publish(topic, payload, qos, retain, properties) for topic, payload in messages]
        for info in sent:
            info.wait_for_publish(timeout_s)
            assert info.is_published(), "the broker does not acknowledge"

    def post(self, topic: str, payload: bytes, properties: Properties | None = None) -> None:
        """Hand over at QoS 1 what the broker may refuse, and do not wait for its word; `close` sends it on its way."""
        assert self._client is not None, "not connected"
        self._client.publish(topic, payload, 1, properties=properties)

    def wait(
        self,
        wanted: Callable[[Message], bool],
        what: str,
        *,
        timeout_s: float = SOON_S,
        since: int = 0,
        watch: Callable[[], object] = lambda: None,
        explain: Callable[[], str] = str,
    ) -> Message:
        """The first message wanted, from number `since`; TimeoutError says what came instead.

        `watch` is called now and then and may raise; `explain` adds to what a failure says.
        """
        deadline = time.monotonic() + timeout_s
        number = since
        while True:
            watch()
            for message in self.messages[number:]:
                number += 1
                if wanted(message):
                    return message
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout_s} s: {what}\n{self.shown(since)}\n{explain()}")
            with self._changed:
                self._changed.wait_for(lambda: len(self.messages) > number, POLL_S)  # noqa: B023 (waited for here)

    def shown(self, since: int = 0) -> str:
        """Return for people what came: the last messages from number `since`."""
        came = self.messages[since:]
        lines = [f"-- {len(came)} messages came, the last of them:", *map(str, came[-SHOWN_MAX:])]
        return "\n".join(lines)

    def is_ready(self) -> bool:
        """Return whether it is connected, and its subscriptions are granted."""
        return self._ready

    def close(self) -> None:
        """Leave in good order; does nothing where it never connected."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _set_nodelay(_client: mqtt.Client, _data: Any, sock: Any) -> None:
    """Without it each request waits some 40 ms for the acknowledgement of the one before."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _properties(response_topic: str | None, correlation: bytes | None) -> Properties | None:
    if response_topic is None and correlation is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if response_topic is not None:
        properties.ResponseTopic = response_topic
    if correlation is not None:
        properties.CorrelationData = correlation
    return properties

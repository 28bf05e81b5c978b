"""An MQTT client of a test: remembers everything that comes, and can wait for what has not come yet."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Final, Self

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
MQTT_5_OR_3_1_1: Final = (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311)
MQTT_3_1_1: Final = (MQTTProtocolVersion.MQTTv311,)


@dataclass(frozen=True)
class Message:
    """A message as it came."""

    topic: str
    payload: bytes
    retain: bool
    correlation: bytes | None
    at: float
    """By the monotonic clock."""
    qos: int = 0
    mid: int = 0
    dup: bool = False

    @cached_property
    def content(self) -> Any:
        """The payload, which must be JSON."""
        return json.loads(self.payload)

    def __str__(self) -> str:
        text = self.payload[:SHOWN_CHARS].decode(errors="replace")
        return f"{self.at:.3f} {self.topic}{' (retained)' if self.retain else ''} {text}"


class MqttClient:
    """A client with MQTT 5, or with 3.1.1 where the broker speaks nothing else. Comes back after a lost connection."""

    def __init__(
        self,
        host: str,
        port: int,
        subscribe: Iterable[str] = (),
        *,
        client_id: str = "",
        protocols: Sequence[MQTTProtocolVersion] = MQTT_5_OR_3_1_1,
        clean: bool = True,
        will: tuple[Any, ...] | None = None,
        **options: Any,
    ) -> None:
        """`clean` is for MQTT 3.1.1, `will` for paho's `will_set`, more options for its client."""
        self._address = host, port
        self._filters = [(name, 1) for name in subscribe]
        self._client_id = client_id
        self._protocols = protocols
        self._clean = clean
        self._will = will
        self._options = options
        self._changed = threading.Condition()
        self._client: mqtt.Client | None = None
        self._ready = False
        self._refused = False
        self._granted: dict[int | None, list[int]] = {}
        self.messages: list[Message] = []
        """Everything that came, in order; only ever appended to."""
        self.losses = 0
        """How often a connection ended."""
        self.session_present = False
        """True if the broker knew the session of the last connection."""
        self.protocol = protocols[0]

    def connect(self) -> None:
        """Return when the broker has granted what is subscribed to."""
        for protocol in self._protocols:
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
            clean_session=None if protocol is MQTTProtocolVersion.MQTTv5 else self._clean,
            **self._options,
        )
        if self._will is not None:
            client.will_set(*self._will)
        client.max_inflight_messages_set(1000)
        client.reconnect_delay_set(RECONNECT_S, RECONNECT_S)  # type: ignore[arg-type]  # it takes fractions all the same
        client.on_socket_open = _set_nodelay
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    @property
    def paho(self) -> mqtt.Client:
        """The client underneath, for what is done to it past this one."""
        assert self._client is not None, "not connected"
        return self._client

    def _on_connect(self, client: mqtt.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        self.session_present = flags.session_present
        if reason.is_failure:
            self._note_refused()
        elif self._filters:
            client.subscribe(self._filters)
        else:
            self._now_ready()

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        self._granted[mid] = [reason.value for reason in reasons]
        self._now_ready()

    def _on_disconnect(self, *_: Any) -> None:
        self.losses += 1
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
                Message(
                    message.topic,
                    bytes(message.payload),
                    bool(message.retain),
                    correlation,
                    time.monotonic(),
                    message.qos,
                    message.mid,
                    message.dup,
                )
            )
            self._changed.notify_all()

    def subscribe(self, topic_filter: str, qos: int = 1) -> list[int]:
        """Subscribe to one more filter for this connection; return what the broker has granted."""
        _, mid = self.paho.subscribe(topic_filter, qos)
        with self._changed:
            assert self._changed.wait_for(lambda: mid in self._granted, SOON_S), f"no SUBACK for {topic_filter}"
        granted = self._granted.pop(mid)
        assert max(granted) <= qos, f"{topic_filter}: {granted}"
        return granted

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
        sent = [self.paho.publish(topic, payload, qos, retain, properties) for topic, payload in messages]
        for info in sent:
            info.wait_for_publish(timeout_s)
            assert info.is_published(), "the broker does not acknowledge"

    def post(self, topic: str, payload: bytes, properties: Properties | None = None) -> None:
        """Hand over at QoS 1 what the broker may refuse, and do not wait for its word; `close` sends it on its way."""
        self.paho.publish(topic, payload, 1, properties=properties)

    def acknowledge(self, message: Message) -> None:
        """Send the PUBACK of a message, where the option `manual_ack` leaves it to the test."""
        self.paho.ack(message.mid, message.qos)

    def payloads(self, count: int) -> list[bytes]:
        """Return everything that came, once it is as many messages as that."""
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self.messages) >= count, SOON_S)
        assert enough, f"{count} messages are wanted\n{self.shown()}"
        return [message.payload for message in self.messages]

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
    getattr(sock, "_socket", sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _properties(response_topic: str | None, correlation: bytes | None) -> Properties | None:
    if response_topic is None and correlation is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if response_topic is not None:
        properties.ResponseTopic = response_topic
    if correlation is not None:
        properties.CorrelationData = correlation
    return properties

"""What our MQTT clients ask of paho in the same way: the socket, the properties of packets, odd topics."""

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import ceil
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from kkt_bridge.mqtt.birth_and_will import Presence
from kkt_bridge.mqtt.buffered_socket import BufferedSocket
from kkt_bridge.mqtt.properties import read_properties
from kkt_bridge.settings import MqttSettings

CONNECT_TIMEOUT_S: Final = 5.0
"""For the TCP connection."""

Dial = Callable[[str, int], socket.socket]
"""Opens a connection to this host and port; OSError where there is none."""


def dial_tcp(host: str, port: int) -> socket.socket:
    """Open a TCP connection. OSError if there is no broker."""
    return socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)


def _unpack(made: Properties, data: bytes | bytearray) -> tuple[Properties, int]:
    """Stands in for paho's own, for every packet of every client of this process: see `properties.py`."""
    block = read_properties(data)
    vars(made).update(block.found)
    return made, block.size


Properties.unpack = _unpack  # type: ignore[method-assign]

_TABLES: Final = vars(Properties(PacketTypes.PUBLISH))  # type: ignore[no-untyped-call]


def _of_type(made: Properties, packet_type: int) -> None:
    """Stands in for paho's own, which makes the tables of all properties anew for every packet: half of its cost."""
    vars(made).update(_TABLES, packetType=packet_type)


Properties.__init__ = _of_type  # type: ignore[method-assign]


def set_nodelay(_client: Any, _userdata: Any, sock: Any) -> None:
    """For `on_socket_open`: without it a request and its reply take 40 ms and more (Nagle against delayed ACKs)."""
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class SessionClient(Client):
    """paho's client over a socket that buffers; whoever turns it flushes that."""

    def __init__(self, dial: Dial, **options: Any) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, **options)
        self._dial = dial

    def _create_socket(self) -> Any:
        sock = self._dial(self._host, self._port)
        set_nodelay(self, None, sock)
        return BufferedSocket(sock)

    def buffer(self) -> BufferedSocket | None:
        """The socket; None while there is no connection."""
        sock = self.socket()
        assert sock is None or isinstance(sock, BufferedSocket)
        return sock


def say_last_words(_client: Any, _userdata: Any, sock: Any) -> None:
    """For `on_socket_close`: a DISCONNECT is still to go out."""
    sock.flush()


def leave_writing_to_us(_client: Any, _userdata: Any, _sock: Any) -> None:
    """For `on_socket_register_write`: being set, it keeps paho from writing in the middle of a callback."""


def session_client(
    settings: MqttSettings, presence: Presence, client_id: str, protocol: MQTTProtocolVersion, dial: Dial
) -> SessionClient:
    """A client for the bridge's session: it acknowledges, retries and writes nothing by itself; callbacks are unset."""
    client = SessionClient(
        dial,
        client_id=client_id,
        clean_session=None if protocol is MQTTProtocolVersion.MQTTv5 else False,
        protocol=protocol,
        manual_ack=True,
        reconnect_on_failure=False,
    )
    client.max_inflight_messages = 0  # the session keeps the window: it knows the broker's limit
    if settings.username is not None:
        secret = settings.password
        client.username_pw_set(settings.username, secret.get_secret_value() if secret else None)
    client.will_set(presence.topic, presence.offline, qos=1, retain=True)
    client.on_socket_register_write = leave_writing_to_us
    client.on_socket_close = say_last_words
    return client


def connect(client: Client, settings: MqttSettings) -> None:
    """Open the connection and send a CONNECT that keeps its session. OSError or ValueError if there is no broker."""
    arguments: dict[str, Any] = {}
    if client.protocol is MQTTProtocolVersion.MQTTv5:
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.SessionExpiryInterval = ceil(settings.session_expiry_s)
        wishes.ReceiveMaximum = settings.receive_maximum
        arguments = {"clean_start": False, "properties": wishes}
    client.connect(settings.host, settings.port, ceil(settings.keepalive_s), **arguments)


def subscriptions(requests: Iterable[str], presence: str, *, modern: bool) -> list[Any]:
    """What the bridge subscribes to: requests at QoS 1, its own presence at QoS 0.

    The presence shows a rival, and wants no acknowledgement among those of receipts. With MQTT 5, a request
    that somebody published as retained is not sent again at every new connection.
    """
    if not modern:
        return [*((topic, 1) for topic in requests), (presence, 0)]
    once = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
    return [*((topic, once) for topic in requests), (presence, SubscribeOptions(qos=0))]


def correlated(correlation: bytes) -> Properties:
    """Of a PUBLISH that answers a request."""
    answer = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    answer.CorrelationData = correlation
    return answer


def topic_of(message: MQTTMessage) -> str:
    """The topic; empty, so nobody's, if it is not UTF-8."""
    try:
        return message.topic
    except UnicodeDecodeError:
        return ""

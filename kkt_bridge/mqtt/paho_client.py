"""paho's client as this program uses it: a buffered socket, lenient properties, packets with the right options.

paho reads a packet in three pieces and writes each with a call of its own. A call gives the interpreter to another
thread, which costs more than the packet. So `BufferedSocket` reads at once what has arrived, and gathers what is to be
sent until `flush`: many packets in one system call, in both directions.
"""

import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import ceil
from typing import Any, Final, Protocol

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from kkt_bridge.mqtt.birth_and_will import Presence
from kkt_bridge.mqtt.properties import read_properties
from kkt_bridge.mqtt.redial import MqttVersion
from kkt_bridge.settings import MqttSettings

CONNECT_TIMEOUT_S: Final = 5.0
"""Seconds for the TCP connection."""

READ_BYTES: Final = 64 * 1024
"""Bytes that one system call reads at most."""

Dial = Callable[[str, int], socket.socket]
"""Opens a connection to this host and port; OSError where there is none."""


def dial_tcp(host: str, port: int) -> socket.socket:
    """Open a TCP connection. OSError if there is no broker."""
    return socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)


def _unpack(made: Properties, data: bytes | bytearray) -> tuple[Properties, int]:
    """Replace paho's method, for every packet of every client of this process: see `properties.py`."""
    if data[:1] == b"\0":  # most packets have none
        return made, 1
    block = read_properties(data)
    vars(made).update(block.found)
    return made, block.size


Properties.unpack = _unpack  # type: ignore[method-assign]


def set_nodelay(_client: Any, _userdata: Any, sock: Any) -> None:
    """Switch Nagle's algorithm off, as `on_socket_open`: with it a request and its reply take 40 ms and more."""
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class ByteStream(Protocol):
    """The methods of the system's socket that are needed."""

    def recv(self, size: int, /) -> bytes: ...  # noqa: D102 (the socket's own, as those below)
    def send(self, data: bytes | bytearray, /) -> int: ...  # noqa: D102
    def fileno(self) -> int: ...  # noqa: D102
    def setblocking(self, flag: bool, /) -> None: ...  # noqa: D102, FBT001
    def close(self) -> None: ...  # noqa: D102


class BufferedSocket:
    """A non-blocking socket for paho, in one thread: reads ahead, and gathers what is sent until `flush`."""

    def __init__(self, line: ByteStream) -> None:
        self._line = line
        self.fileno = line.fileno
        self.setblocking = line.setblocking
        self._received = b""
        self._read = 0
        """Bytes of what was received that paho has read."""
        self.unsent = bytearray()
        self._broken: OSError | None = None
        """The error after which nothing more can be sent."""

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes; the errors are the socket's own, also that of an earlier `flush`."""
        if self._read == len(self._received):
            try:
                self._received, self._read = self._line.recv(READ_BYTES), 0
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if self._broken is not None:
                    raise self._broken from None
                raise
        start = self._read
        self._read = min(start + size, len(self._received))
        return self._received[start : self._read]

    def send(self, data: bytes | bytearray) -> int:
        """Take all of it, for the next `flush`."""
        self.unsent += data
        return len(data)

    def flush(self) -> None:
        """Hand over as much of what was sent as the system takes now; its errors are raised by `recv`."""
        if self._broken is not None:
            self.unsent.clear()
        if not self.unsent:
            return
        try:
            del self.unsent[: self._line.send(self.unsent)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            # Raised by reading, behind what the broker may have sent last.
            self._broken = error
            self.unsent.clear()

    @property
    def has_input(self) -> bool:
        """True if there is something to read that `select` does not see."""
        if self._read < len(self._received) or self._broken is not None:
            return True
        return isinstance(self._line, ssl.SSLSocket) and self._line.pending() > 0

    def close(self) -> None:
        """Close the socket and drop what was not flushed; a later `flush` finds nothing to send."""
        self.unsent.clear()
        self._line.close()


class SessionClient(Client):
    """paho's client over a `BufferedSocket`, which whoever drives the client flushes."""

    buffered: BufferedSocket
    """The socket of the last connection."""

    def __init__(self, dial: Dial, **options: Any) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, **options)
        self._dial = dial

    def _create_socket(self) -> Any:
        sock = self._dial(self._host, self._port)
        set_nodelay(self, None, sock)
        self.buffered = BufferedSocket(sock)
        return self.buffered


def _flush_disconnect(_client: Any, _userdata: Any, sock: Any) -> None:
    """Flush, as `on_socket_close`: a DISCONNECT is still to go out."""
    sock.flush()


def session_client(
    settings: MqttSettings, presence: Presence, client_id: str, protocol: MQTTProtocolVersion, dial: Dial
) -> SessionClient:
    """Return a client for the bridge's session: it acknowledges, retries and writes nothing by itself."""
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
    # Being set, it keeps paho from writing in the middle of a callback.
    client.on_socket_register_write = lambda *_: None
    client.on_socket_close = _flush_disconnect
    return client


def connect(client: Client, settings: MqttSettings) -> None:
    """Open the connection and send a CONNECT that resumes the session. OSError or ValueError if there is no broker."""
    arguments: dict[str, Any] = {}
    if client.protocol is MQTTProtocolVersion.MQTTv5:
        connect_properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        connect_properties.SessionExpiryInterval = ceil(settings.session_expiry_s)
        connect_properties.ReceiveMaximum = settings.receive_maximum
        arguments = {"clean_start": False, "properties": connect_properties}
    client.connect(settings.host, settings.port, ceil(settings.keepalive_s), **arguments)


def subscriptions(requests: Iterable[str], presence: str, version: MqttVersion) -> list[Any]:
    """Return the subscriptions of the bridge: requests at QoS 1, its own presence at QoS 0.

    The presence shows a session takeover, and needs no PUBACK among those of receipts. With MQTT 5, a request that
    somebody published as retained is not sent again at every new connection.
    """
    if version is MqttVersion.V311:
        return [*((topic, 1) for topic in requests), (presence, 0)]
    once = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
    return [*((topic, once) for topic in requests), (presence, SubscribeOptions(qos=0))]


def publish_properties(correlation: bytes | None, response_topic: str | None = None) -> Properties | None:
    """Return the properties of a PUBLISH with MQTT 5: of an answer, or of a request with its response topic."""
    if correlation is None and response_topic is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if correlation is not None:
        properties.CorrelationData = correlation
    if response_topic is not None:
        properties.ResponseTopic = response_topic
    return properties

"""The embedded MQTT 3.1.1 broker: amqtt in a thread of its own, for trying out and for tests, not for a shop.

As released (0.12.1), amqtt loses messages that a receipt's way depends on: those in flight when a client leaves,
those of anonymous clients while they are away, and those acknowledged just before their sender leaves.
``BrokerConnection`` and ``SessionBroker`` mend exactly that; each override says what it replaces.
"""

import asyncio
import io
import logging
import math
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from amqtt.adapters import BufferReader, WebSocketsReader, WebSocketsWriter
from amqtt.broker import Broker
from amqtt.codecs_amqtt import read_or_raise
from amqtt.contexts import ListenerType
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError, ProtocolHandlerError
from amqtt.mqtt.connack import UNACCEPTABLE_PROTOCOL_VERSION, ConnackPacket
from amqtt.mqtt.constants import QOS_0, QOS_1, QOS_2
from amqtt.mqtt.packet import CONNECT, MQTTFixedHeader
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.session import INCOMING, OutgoingApplicationMessage
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

LOG = logging.getLogger(__name__)

IN_FLIGHT_LIMIT = 1000
"""Deliveries to one client that may wait for its PUBACK; MQTT has 65,535 packet ids, amqtt loses what exceeds them."""
QUEUE_LIMIT = 100_000
"""Messages kept for one absent client; past it the newest is dropped, as Mosquitto does."""
SESSION_EXPIRY_S = 86_400
"""Life of a persistent session without its client: a broker for trying out need not remember longer than a day."""
CONNECT_TIMEOUT_S = 10
"""Time a new connection has for its whole CONNECT packet."""
CONNECT_SIZE_LIMIT = 512 * 1024
"""Bytes of a CONNECT packet, whose will may be as long as any message."""
KEEP_ALIVE_FACTOR = 1.5
"""Silence, in keep-alive intervals, after which a client counts as gone [MQTT-3.1.2-24]."""
START_TIMEOUT_S = 10
SHUTDOWN_TIMEOUT_S = 5
MQTT_3_1_1 = b"\x00\x04MQTT\x04"
"""The beginning of the body of every CONNECT of MQTT 3.1.1: the protocol's name and its level."""
UNREADABLE = (AMQTTError, MQTTError, NoDataError, CodecError, struct.error, ValueError, OSError)
"""Errors of reading a first packet."""


class BrokerStartError(Exception):
    """The broker cannot listen where it was told to."""


class WebSocketReader(WebSocketsReader):  # type: ignore[misc]  # amqtt is not typed strictly
    """amqtt's reader, but a packet cut short by the client's death stays short.

    amqtt repeats the last frame until the packet has its length, and passes the invented payload on.
    """

    _stream: io.BytesIO

    async def _feed_buffer(self, n: int = 1) -> None:
        buffer = bytearray(self._stream.read())
        with suppress(ConnectionClosed):
            while len(buffer) < n:
                frame = await self._protocol.recv()
                buffer.extend(frame.encode() if isinstance(frame, str) else frame)
        self._stream = io.BytesIO(buffer)


class WebSocketWriter(WebSocketsWriter):  # type: ignore[misc]
    """amqtt's writer, with a closed connection told the way a TCP one tells it."""

    async def drain(self) -> None:
        """Send what was written; raises ConnectionResetError when the client is gone."""
        try:
            await super().drain()
        except ConnectionClosed as error:
            raise ConnectionResetError(str(error)) from error


async def read_connect(reader: Any, writer: Any) -> BufferReader:
    """Read the CONNECT packet as a whole; raise MQTTError, after return code 1, for any level but MQTT 3.1.1.

    Given the stream itself, amqtt takes the properties of an MQTT 5 CONNECT for a string's length and waits for ever.
    """
    header = await MQTTFixedHeader.from_stream(reader)
    if header is None or header.packet_type != CONNECT or header.remaining_length > CONNECT_SIZE_LIMIT:
        raise MQTTError("closed: its first packet is not CONNECT")
    body = await read_or_raise(reader, header.remaining_length)
    if not body.startswith(MQTT_3_1_1):
        await ConnackPacket.build(0, UNACCEPTABLE_PROTOCOL_VERSION).to_stream(writer)
        raise MQTTError("refused with return code 1: this broker speaks MQTT 3.1.1 only")
    return BufferReader(header.to_bytes() + body)


def enqueue(session: Any, topic: str, data: bytes, *, retain: bool) -> None:
    """Add a QoS 1 message to what waits for the session's client."""
    if session.retained_messages.qsize() >= QUEUE_LIMIT:
        LOG.warning("queue of %s is full (%d messages): %s dropped", session.client_id, QUEUE_LIMIT, topic)
        return
    session.retained_messages.put_nowait(OutgoingApplicationMessage(None, topic, QOS_1, data, retain))


class BrokerConnection(BrokerProtocolHandler):  # type: ignore[misc]
    """amqtt's handler of one connection, with QoS 1 deliveries that belong to the session.

    A message is queued, sent within a window, and forgotten on its PUBACK only; amqtt forgets it after 5 s or with the
    connection. QoS 2 is granted as QoS 1: nothing here uses it.
    """

    route: Callable[[Any, Any, Any], Awaitable[bool]]
    _resumed = False
    _ended = False

    async def _retry_deliveries(self) -> None:
        """Leave it to ``resume``: amqtt calls this before it notices a client that leaves."""

    async def resume(self) -> None:
        """Send again what was never acknowledged, in order, then what has waited."""
        for message in list(self.session.inflight_out.values()):
            await self._send_packet(message.build_publish_packet(dup=True))
        self._resumed = True
        await self._send_waiting()

    async def _send_waiting(self) -> None:
        waiting, in_flight = self.session.retained_messages, self.session.inflight_out
        while self._resumed and not self._ended and len(in_flight) < IN_FLIGHT_LIMIT and not waiting.empty():
            message = waiting.get_nowait()
            message.packet_id = self.session.next_packet_id
            in_flight[message.packet_id] = message
            await self._send_packet(message.build_publish_packet())

    async def mqtt_publish(
        self,
        topic: str,
        data: bytes,
        qos: int,
        retain: bool,  # noqa: FBT001  # amqtt's signature
        ack_timeout: int | None = None,
    ) -> None:
        """Deliver one message: at once at QoS 0, through the session's queue otherwise."""
        if qos == QOS_0:
            await super().mqtt_publish(topic, data, qos, retain, ack_timeout)
        else:
            enqueue(self.session, topic, data, retain=retain)
            await self._send_waiting()

    async def handle_puback(self, puback: Any) -> None:
        """Forget the delivery, and use the place it leaves in the window."""
        self.session.inflight_out.pop(puback.variable_header.packet_id, None)
        await self._send_waiting()

    async def _handle_message_flow(self, app_message: Any) -> None:
        """Route first, acknowledge then: amqtt's other order loses what its sender has seen acknowledged."""
        if app_message.direction != INCOMING or app_message.qos == QOS_2:
            await super()._handle_message_flow(app_message)
        elif not await self.route(self.session, self, app_message):
            await self.handle_connection_closed()
        elif app_message.qos == QOS_1:
            await self._send_packet(PubackPacket.build(app_message.packet_id))

    async def _send_packet(self, packet: Any) -> None:
        """Send, and be cancelled as a task is; amqtt makes an error of it that nobody awaits."""
        try:
            await super()._send_packet(packet)
        except ProtocolHandlerError as error:
            raise asyncio.CancelledError from error

    async def handle_disconnect(self, disconnect: Any) -> None:
        """End the deliveries with the connection: what comes now waits for the next one."""
        self._ended = True
        await super().handle_disconnect(disconnect)

    def handle_read_timeout(self) -> None:
        """Drop the silent client, so that its will is published; amqtt would keep it."""
        self._dropping = asyncio.ensure_future(self.handle_connection_closed())


class SessionBroker(Broker):  # type: ignore[misc]
    """amqtt's broker on sockets that listen already, with sessions that survive their connections."""

    def __init__(self, listeners: dict[str, socket.socket]) -> None:
        kinds = {"default": "tcp", "ws": "ws"}
        config = {
            name: {"type": kinds[name], "bind": "{}:{}".format(*listeners[name].getsockname())} for name in listeners
        }
        # No plugin at all: no $SYS topics, and every client may do everything.
        super().__init__({"listeners": config, "plugins": {}, "session_expiry_interval": SESSION_EXPIRY_S})
        self._listeners = listeners

    async def _create_server_instance(self, listener_name: str, listener_type: Any, *_: Any) -> Any:
        listener = self._listeners[listener_name]
        if listener_type == ListenerType.TCP:
            return await asyncio.start_server(
                partial(self.stream_connected, listener_name=listener_name), sock=listener
            )
        silent = logging.getLogger("amqtt.websockets")
        silent.setLevel(logging.CRITICAL)  # it reports each look at the open port as an error, with a traceback
        connected = partial(self.ws_connected, listener_name=listener_name)
        return await serve(
            connected, sock=listener, subprotocols=[Subprotocol("mqtt")], compression=None, logger=silent
        )

    async def ws_connected(self, websocket: Any, listener_name: str) -> None:
        """Serve one WebSocket client."""
        await self._client_connected(listener_name, WebSocketReader(websocket), WebSocketWriter(websocket))

    async def _authenticate(self, *_: Any) -> bool:
        """Let everybody in; amqtt's plugin for it marks the session as not worth keeping."""
        return True

    async def _initialize_client_session(
        self, reader: Any, writer: Any, address: str, port: int
    ) -> tuple[BrokerConnection, Any]:
        """Return a connection and its session, which continues the client's former one unless that was a clean one.

        amqtt reuses the former ``Session`` object: when the former connection ends, the new one counts as absent.
        """
        try:
            connect = await asyncio.wait_for(read_connect(reader, writer), CONNECT_TIMEOUT_S)
            connection, session = await BrokerConnection.init_from_connect(connect, writer, self.plugins_manager)
        except UNREADABLE as error:
            with suppress(OSError):
                await writer.close()
            raise AMQTTError(f"{address}:{port} {str(error) or 'sent no CONNECT'}") from error
        session.keep_alive = math.ceil(session.keep_alive * KEEP_ALIVE_FACTOR)
        connection.route = self._route
        if session.client_id in self._sessions:
            former, handler = self._sessions[session.client_id]
            await self._take_over(former, handler, session)
        return connection, session

    async def _take_over(self, former: Any, connection: BrokerConnection, session: Any) -> None:
        if former.transitions.state == "connected":
            await connection.handle_connection_closed()  # [MQTT-3.1.4-2]
        if session.clean_session or former.clean_session:
            await self._delete_session(session.client_id)
            return
        session.parent = 1
        session.inflight_in, session.inflight_out = former.inflight_in, former.inflight_out
        session.retained_messages = former.retained_messages
        for subscribers in self._subscriptions.values():
            subscribers[:] = [(session if known is former else known, qos) for known, qos in subscribers]

    async def _publish_session_retained_messages(self, session: Any) -> None:
        """Resume beside the connection's own loop; amqtt blocks it, and sends every message as a retained one."""
        connection = self._get_handler(session)
        if connection is not None and connection.session is session:
            self._tasks_queue.append(asyncio.ensure_future(connection.resume()))

    async def _retain_broadcast_message(self, broadcast: dict[str, Any], _: int, target_session: Any) -> None:
        enqueue(target_session, broadcast["topic"], broadcast["data"], retain=False)

    async def add_subscription(self, subscription: tuple[str, int], session: Any) -> int:
        """Grant at most QoS 1."""
        topic_filter, qos = subscription
        return int(await super().add_subscription((topic_filter, min(qos, QOS_1)), session))

    async def _handle_subscription(self, client_session: Any, handler: Any, subscribe_waiter: Any) -> None:
        await super()._handle_subscription(client_session, handler, subscribe_waiter)
        for subscription in subscribe_waiter.result().topics:
            await super()._publish_retained_messages_for_subscription(subscription, client_session)

    async def _publish_retained_messages_for_subscription(self, subscription: Any, session: Any) -> None:
        """Nothing: amqtt calls this for each new client with the subscriptions of all the others."""

    async def _route(self, session: Any, connection: BrokerConnection, message: Any) -> bool:
        """Pass the message on to its subscribers; return False if it is not valid."""
        arrived = asyncio.get_running_loop().create_future()
        arrived.set_result(message)
        return bool(await self._handle_message_delivery(session, connection, arrived))


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a TCP socket that listens, made in the caller's thread, so that a taken port is the caller's error."""
    # asyncio sets TCP_NODELAY on an accepted socket only if the listening one names its protocol.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise BrokerStartError(
            f"cannot listen on {host}:{port}: {error.strerror}; free the port or choose another"
        ) from error
    return listener


class EmbeddedBroker:
    """MQTT 3.1.1 over TCP and WebSockets, for anybody who connects; port 0 means any free one, None no WebSockets.

    Sessions and retained messages live in memory and end with it.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 1883, ws_port: int | None = 9001) -> None:
        self.host = host
        self.port = port
        self.ws_port = ws_port
        self._thread: threading.Thread | None = None
        self._leave: Callable[[], Any] | None = None

    def start(self) -> None:
        """Return when both ports are open; raises BrokerStartError when one cannot be."""
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.WARNING)
        listeners = self._listen()
        started: Future[Callable[[], Any]] = Future()
        self._thread = threading.Thread(target=self._run, args=(listeners, started), name="mqtt-broker", daemon=True)
        self._thread.start()
        self._leave = started.result(START_TIMEOUT_S)
        LOG.warning("the embedded broker is for trying out and for tests, not for a shop: its sessions live in memory")

    def stop(self) -> None:
        """Close every connection and both ports; does nothing when it is not running."""
        if self._thread is None or self._leave is None:
            return
        self._leave()
        self._thread.join(2 * SHUTDOWN_TIMEOUT_S)
        self._thread = self._leave = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _listen(self) -> dict[str, socket.socket]:
        listeners = {"default": listening_socket(self.host, self.port)}
        self.port = listeners["default"].getsockname()[1]
        if self.ws_port is not None:
            try:
                listeners["ws"] = listening_socket(self.host, self.ws_port)
            except BrokerStartError:
                listeners["default"].close()
                raise
            self.ws_port = listeners["ws"].getsockname()[1]
        return listeners

    def _run(self, listeners: dict[str, socket.socket], started: Future[Callable[[], Any]]) -> None:
        try:
            asyncio.run(self._serve(listeners, started))
        except Exception as error:
            LOG.exception("the embedded broker ended")
            if not started.done():
                started.set_exception(BrokerStartError(str(error)))

    async def _serve(self, listeners: dict[str, socket.socket], started: Future[Callable[[], Any]]) -> None:
        broker, leave, loop = SessionBroker(listeners), asyncio.Event(), asyncio.get_running_loop()
        await broker.start()
        started.set_result(partial(loop.call_soon_threadsafe, leave.set))
        await leave.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(broker.shutdown(), SHUTDOWN_TIMEOUT_S)

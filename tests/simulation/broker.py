"""The MQTT broker: one bridge's session over a socket pair, terminals and operators without one.

It keeps what a broker with `persistence true` keeps, until it is told to lose it.
"""

import select
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from simulation import packets
from simulation.effects import Effects
from simulation.packets import Packet, Publish

MID_MAX = 65_535
PACKET_MAX = 8192
"""Over a larger one the broker cuts the connection, and does not tell of the limit before."""

NOT_AUTHORIZED = 0x87
ODD_PROPERTIES = (
    b"\x01\x02",  # a payload format indicator of 2
    b"\x01\x00\x01\x01",  # the same property twice
    b"\x23\x00\x00",  # a topic alias of 0
    b"\x26\x00\x03\xef\xbb\xbf\x00\x01\xff",  # U+FEFF, and what is no text
    b"\x0b\x01\x0b\x02",  # two subscriptions
)
"""Properties that brokers forward although no client should send them."""

WINDOW_FOR_THE_BRIDGE = 50


@dataclass(slots=True, eq=False)
class QueuedMessage:
    """A message to the bridge, as the broker holds it. `about` is the sender's own note."""

    topic: str
    payload: bytes
    properties: dict[int, Any] = field(default_factory=dict)
    about: Any = None
    mid: int = 0
    times: int = 0
    """How often it was sent."""
    acknowledged: bool = False
    lost: bool = False
    """The broker forgot it."""
    odd: bytes = b""
    """Properties that make no sense."""
    retained: bool = False
    """It was published as retained, and comes again at each subscription."""


class BridgeSocket(socket.socket):
    """The bridge's end of the connection: what it sends is an effect."""

    broker: "Broker"
    number: int

    def send(self, data: bytearray, *flags: int) -> int:  # type: ignore[override]
        """Many packets in one call: a crash may come before or after any of them, as a line may take a part of it."""
        broker, taken = self.broker, 0
        for packet in packets.cut(bytes(data)):
            kind = packet[0] >> 4
            broker.effects.at(f"send {packets.NAMES[kind]}: before")
            try:
                taken += super().send(packet, *flags)
            except BlockingIOError:
                if taken:
                    return taken  # the rest waits; what has gone is not to be sent again
                raise
            if kind == packets.PUBACK and self.number == broker.connection_number:
                broker.puback_leaves(int.from_bytes(packet[2:4]))
            broker.unread += len(packet)
            broker.effects.at(f"send {packets.NAMES[kind]}: after")
        return taken


class Broker:
    """A broker that can be slow, cut connections, restart, and forget."""

    def __init__(self, effects: Effects, receive_maximum: int) -> None:
        self.effects = effects
        self.receive_maximum = receive_maximum
        self.up = True
        self.connection_number = 0
        self.retained: dict[str, bytes] = {}
        self.unread = 0
        """Bytes from the bridge that are still on the line."""
        self.wrote = False
        """Something for the bridge is on the line."""
        self.told: Callable[[Publish], None] = lambda _message: None
        """Somebody who hears every message of the bridge."""
        self.puback: Callable[[QueuedMessage | None], None] = lambda *_: None
        """Somebody who sees every PUBACK leave the bridge; None for one that acknowledges nothing."""
        self.refused: set[str] = set()
        """Topics on which the bridge may not publish."""
        self.mute = False
        """On this connection it answers pings alone: nothing is taken, nothing acknowledged."""
        self.odd: Callable[[], bytes] = bytes
        """Properties that the senders' programs add."""
        self.kept: dict[str, QueuedMessage] = {}
        """Requests that somebody published as retained, by topic, before the bridge was there."""
        self._queue: deque[QueuedMessage] = deque()
        self._in_flight: dict[int, QueuedMessage] = {}
        self._has_session = False
        self._next_mid = 1
        self._socket: socket.socket | None = None
        self._stream = bytearray()
        self._leaving = bytearray()
        """Not yet taken by the line: the bridge reads slower than the broker writes."""
        self._will: Publish | None = None
        self._subscribed = False
        self._modern = True

    # -- terminals and operators ------------------------------------------------------------------------

    def take(self, queued: QueuedMessage) -> bool:
        """A client publishes to the bridge; False if the broker is not there."""
        if self.up:
            queued.odd = self.odd()
            self._queue.append(queued)
        return self.up

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is left to hand over, in either direction."""
        return not self.unread and not self._queue and not self._in_flight

    def waiting(self) -> list[QueuedMessage]:
        """Return what the bridge has not acknowledged."""
        return [*self._in_flight.values(), *self._queue]

    # -- the bridge -------------------------------------------------------------------------------------

    def dial(self, _host: str = "", _port: int = 0) -> BridgeSocket:
        """A new connection of the bridge; the old one, if there is any, ends."""
        if not self.up:
            raise ConnectionRefusedError("Connection refused")
        self.cut()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        bridge = BridgeSocket(fileno=theirs.detach())
        self.connection_number += 1
        bridge.broker, bridge.number = self, self.connection_number
        self._socket = ours
        return bridge

    def cut(self) -> None:
        """End the connection without a word: what was on the line is lost, in both directions."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            if self._will is not None:
                self._publish(self._will)
        self._will, self._subscribed, self.mute = None, False, False
        self._stream.clear()
        self._leaving.clear()
        self.unread = 0
        self.wrote = True  # the bridge will notice

    def stop(self) -> None:
        """The broker's process ends."""
        self.up = False
        self._will = None  # nobody is there to hear it
        self.cut()

    def start(self, *, forgetful: bool = False) -> None:
        """It starts again; forgetful: without its database."""
        self.up = True
        if forgetful:
            for queued in self.waiting():
                queued.lost = True
            self._queue.clear()
            self._in_flight.clear()
            self.retained.clear()
            self.kept.clear()
            self._has_session, self._next_mid = False, 1

    def puback_leaves(self, mid: int) -> None:
        """The bridge acknowledges; it may be that nobody ever hears it."""
        self.puback(self._in_flight.get(mid))

    def hear(self) -> None:
        """Take what the bridge sent."""
        if self._socket is None:
            self.unread = 0
            return
        with suppress(BlockingIOError, ConnectionError):
            while chunk := self._socket.recv(65_536):
                self._stream += chunk
                if len(chunk) < 65_536:
                    break
        self.unread = 0
        for packet in packets.split(self._stream):
            if self._socket is None:
                return
            _HANDLERS[packet.kind](self, packet)

    def speak(self, limit: int) -> None:
        """Hand messages to the bridge, as many as it lets."""
        if self._socket is None or not self._subscribed:
            return
        while self._queue and limit and len(self._in_flight) < self.receive_maximum:
            queued = self._queue.popleft()
            while self._next_mid in self._in_flight:
                self._next_mid = self._next_mid % MID_MAX + 1
            queued.mid, self._next_mid = self._next_mid, self._next_mid % MID_MAX + 1
            self._in_flight[queued.mid] = queued
            self._send_queued(queued)
            limit -= 1

    @property
    def can_speak(self) -> bool:
        """Return whether `speak` would do anything."""
        return self._subscribed and bool(self._queue) and len(self._in_flight) < self.receive_maximum

    @property
    def connected(self) -> bool:
        """Return whether the bridge is online."""
        return self._subscribed

    def _send_queued(self, queued: QueuedMessage) -> None:
        queued.times += 1
        self._send_publish(
            Publish(
                queued.topic,
                queued.payload,
                dup=queued.times > 1,
                mid=queued.mid,
                properties=queued.properties,
                odd=queued.odd,
                retain=queued.retained,
            )
        )

    def _send_publish(self, message: Publish) -> None:
        self._send(message.encode(modern=self._modern))

    def _send(self, data: bytes) -> None:
        self._leaving += data
        self.push()

    def push(self) -> None:
        """Put on the line as much of what waits as it takes."""
        if self._socket is None:
            self._leaving.clear()
            return
        self.wrote = True
        try:
            del self._leaving[: self._socket.send(self._leaving)]
        except BlockingIOError:
            return
        except OSError:
            self.cut()

    @property
    def can_push(self) -> bool:
        """Return whether something waits that the line would take now."""
        if not self._leaving or self._socket is None:
            return False
        return bool(select.select([], [self._socket], [], 0)[1])

    def _connected(self, packet: Packet) -> None:
        self._modern, self._will = packets.read_connect(packet)
        self._send(
            packets.connack(
                session_present=self._has_session, receive_maximum=WINDOW_FOR_THE_BRIDGE, modern=self._modern
            )
        )
        self._has_session = True
        for queued in list(self._in_flight.values()):
            self._send_queued(queued)

    def _subscribe(self, packet: Packet) -> None:
        self._subscribed = True
        self._send(packets.suback(packet, modern=self._modern))
        # At each subscription, as MQTT 3.1.1 has it.
        self._queue.extend(
            QueuedMessage(kept.topic, kept.payload, {}, kept.about, retained=True) for kept in self.kept.values()
        )

    def _published(self, packet: Packet) -> None:
        message = packets.read_publish(packet, modern=self._modern)
        if self.mute:
            return
        if len(packet.body) > PACKET_MAX:
            self.cut()
            return
        if message.topic in self.refused and self._modern:
            self._send(packets.packet(packets.PUBACK, 0, message.mid.to_bytes(2) + bytes([NOT_AUTHORIZED])))
            return
        self._publish(message)
        if message.qos:
            self._send(packets.packet(packets.PUBACK, 0, message.mid.to_bytes(2)))
        if message.topic.endswith("/state/online"):
            self._send_publish(Publish(message.topic, message.payload, qos=0))

    def _publish(self, message: Publish) -> None:
        if message.retain:
            self.retained[message.topic] = message.payload
        self.told(message)

    def _acknowledged(self, packet: Packet) -> None:
        queued = self._in_flight.pop(int.from_bytes(packet.body[:2]), None)
        if queued is not None:
            queued.acknowledged = True

    def _ping(self, _packet: Packet) -> None:
        self._send(packets.packet(packets.PINGRESP, 0, b""))

    def _disconnected(self, _packet: Packet) -> None:
        self._will = None
        self.cut()


_HANDLERS = {
    packets.CONNECT: Broker._connected,
    packets.SUBSCRIBE: Broker._subscribe,
    packets.PUBLISH: Broker._published,
    packets.PUBACK: Broker._acknowledged,
    packets.PINGREQ: Broker._ping,
    packets.DISCONNECT: Broker._disconnected,
}

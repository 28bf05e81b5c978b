"""A bad line to a broker: passes packets on, until it is told to swallow acknowledgements, or to break."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import BinaryIO, Self

from support.brokers import HOST

PUBACK = 4
CHUNK = 65536


class LossyLine:
    """Listens on a port of its own and connects each client to the broker."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._closing = False
        self.swallow_pubacks = False
        """Whether PUBACKs of the client get lost."""
        self.swallowed = 0
        self.is_cut = False
        """Whether nobody gets through who comes now."""
        threading.Thread(target=self._accept, daemon=True).start()

    def break_connections(self) -> None:
        """Cut what is connected now; a client may come back at once."""
        pairs, self._open = self._open, []
        for side in pairs:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                continue
            try:
                if self.is_cut:
                    raise ConnectionError
                broker = socket.create_connection((HOST, self._broker_port))
            except OSError:
                client.close()
                continue
            for side in (client, broker):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [client, broker]
            threading.Thread(target=self._pass_packets, args=(client, broker), daemon=True).start()
            threading.Thread(target=self._pass_bytes, args=(broker, client), daemon=True).start()

    def _pass_bytes(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(CHUNK):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def _pass_packets(self, client: socket.socket, broker: socket.socket) -> None:
        with contextlib.suppress(OSError):
            stream = client.makefile("rb")
            while packet := read_packet(stream):
                if self.swallow_pubacks and packet[0] >> 4 == PUBACK:
                    self.swallowed += 1
                else:
                    broker.sendall(packet)
        with contextlib.suppress(OSError):
            broker.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._listener.close()
        self.break_connections()


def read_packet(stream: BinaryIO) -> bytes:
    """One MQTT control packet, whole; empty at the end of the stream."""
    head = stream.read(1)
    length = shift = 0
    while head:
        byte = stream.read(1)
        if not byte:
            return b""
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            body = stream.read(length)
            return head + body if len(body) == length else b""
    return b""

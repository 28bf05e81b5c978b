"""A bad line to a broker: it passes packets on, until it is told to lose them, to break, or to let nobody through."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, Self

from support.brokers import HOST

PUBACK = 4
CHUNK = 65536


class LossyLine:
    """Listens on a port of its own and connects each client to the broker, two threads for each."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_dark = False
        self.swallow_pubacks = False
        """True while PUBACKs of the client get lost."""
        self.swallowed = 0
        self.refuses = False
        """True while new connections get nowhere."""
        self._acceptor = threading.Thread(target=self._accept, name="line", daemon=True)
        self._acceptor.start()

    def cut(self) -> None:
        """Break what is connected now; a client may come back at once."""
        with self._lock:
            for side in self._open:
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
        self._is_dark = False

    def go_dark(self) -> None:
        """Lose whatever is sent from now on, either way, until the line is cut; nobody is told."""
        self._is_dark = True

    def close(self) -> None:
        """Take no more clients, and cut those that are there."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.refuses:
                    raise ConnectionError
                broker = socket.create_connection((HOST, self._broker_port))
            except OSError:
                client.close()
                continue
            for side in (client, broker):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, broker}
            threading.Thread(target=self._carry, args=(client, broker), name="line", daemon=True).start()

    def _carry(self, client: socket.socket, broker: socket.socket) -> None:
        from_client = threading.Thread(target=self._pass_packets, args=(client, broker), name="line", daemon=True)
        from_client.start()
        with suppress(OSError):
            while data := broker.recv(CHUNK):
                if not self._is_dark:
                    client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        from_client.join()
        with self._lock:
            self._open -= {client, broker}
        client.close()
        broker.close()

    def _pass_packets(self, client: socket.socket, broker: socket.socket) -> None:
        with suppress(OSError), client.makefile("rb") as stream:
            while packet := read_packet(stream):
                if self.swallow_pubacks and packet[0] >> 4 == PUBACK:
                    self.swallowed += 1
                elif not self._is_dark:
                    broker.sendall(packet)
        with suppress(OSError):
            broker.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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

"""The line between bridge and broker: it can be cut, and it can go dark first, so that what was sent is lost."""

import select
import socket
import threading
from contextlib import suppress
from typing import Final

from support.brokers import HOST

CHUNK: Final = 65536


class Line:
    """Listens on a port of its own and connects each client to the broker, a thread for each."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._live: set[socket.socket] = set()
        self._dark = False
        self._acceptor = threading.Thread(target=self._accept, name="line", daemon=True)
        self._acceptor.start()

    def go_dark(self) -> None:
        """Lose whatever is sent from now on, either way, until the line is cut; nobody is told."""
        self._dark = True

    def cut(self) -> None:
        """Break what is connected now; a client may come back at once."""
        with self._lock:
            for side in self._live:
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
        self._dark = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection((HOST, self._broker_port))
            except OSError:
                client.close()
                continue
            threading.Thread(target=self._carry, args=(client, broker), name="line", daemon=True).start()

    def _carry(self, client: socket.socket, broker: socket.socket) -> None:
        other = {client: broker, broker: client}
        for side in other:
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._live |= other.keys()
        with suppress(OSError):
            while all(self._pass_on(side, other[side]) for side in select.select([*other], [], [])[0]):
                pass
        with self._lock:
            self._live -= other.keys()
        client.close()
        broker.close()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> bool:
        """False when the connection ends."""
        data = source.recv(CHUNK)
        if not self._dark:
            target.sendall(data)
        return bool(data)

    def close(self) -> None:
        """Take no more clients, and cut those that are there."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        self.cut()

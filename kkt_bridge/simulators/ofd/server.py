"""The simulated OFD as a server: a thread that accepts, and one for each connection."""

import contextlib
import socket
import socketserver
import ssl
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kkt_bridge.simulators.ofd.connection import OfdConnection
from kkt_bridge.simulators.ofd.ledger import Ledger
from kkt_bridge.simulators.ofd.service import OfdService

STOP_POLL_S = 0.05
STOP_WAIT_S = 5.0


class OfdServer(socketserver.TCPServer):
    """A listener that knows its live connections, so that stopping can end them."""

    allow_reuse_address = True  # a restart on the same port must not wait for old connections to time out
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], service: OfdService, tls: ssl.SSLContext | None) -> None:
        self.service = service
        self._tls = tls
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._live: dict[socket.socket, threading.Thread] = {}
        super().__init__(address, OfdConnection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection in a thread of its own."""
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="ofd-connection", daemon=True
        )
        with self._lock:
            self._live[request] = thread
        thread.start()

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            if self._tls is not None:
                request = self._secured(request, self._tls)
            self.finish_request(request, client_address)
        except OSError:
            return  # no TLS, or none that suits both: the client is told by its own side
        finally:
            with self._lock:
                del self._live[request]
            self.shutdown_request(request)

    def _secured(self, request: socket.socket, tls: ssl.SSLContext) -> socket.socket:
        with self._lock:  # the plain one is an empty shell from now on
            # The handshake is made by the first read.
            secured = tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            self._live[secured] = self._live.pop(request)
        return secured

    def end_connections(self) -> None:
        """Cut every live connection and wait, at most `STOP_WAIT_S`, until its thread has ended."""
        with self._lock:  # under the lock no thread can close its socket and free the number for another
            threads = list(self._live.values())
            for connection in self._live:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + STOP_WAIT_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


class OfdSimulator:
    """An OFD on this machine: `start` and `stop` as often as needed, or a `with` block.

    Port 0 takes a free port at the first start and keeps it. With `state` the received documents outlive the
    process; without, they live as long as this object. A start heals all faults. With a `token` only who shows it is
    served; `tls` are the PEM files of a certificate and its key.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        state: Path | None = None,
        *,
        token: str | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        """OSError: the files of `tls` cannot be used."""
        self._host = host
        self._port = port
        self._ledger = Ledger(state)
        self._token = token
        self._tls: ssl.SSLContext | None = None
        if tls is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*tls)
        self._server: OfdServer | None = None
        self._acceptor: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port listened on; before the first start, the one asked for."""
        return self._port

    @property
    def url(self) -> str:
        """The base address, without a slash at the end."""
        return f"{'http' if self._tls is None else 'https'}://{self._host}:{self._port}"

    def start(self) -> None:
        """Read the state file and listen; on return, requests are answered.

        Raises:
            OSError: The address cannot be listened on.
            StateFileError: The state file cannot be used.
        """
        if self._server is not None:
            raise RuntimeError("the simulated OFD is running already")
        self._ledger.open()
        try:
            self._server = OfdServer((self._host, self._port), OfdService(self._ledger, self._token), self._tls)
        except BaseException:
            self._ledger.close()
            raise
        self._port = self._server.server_address[1]
        self._acceptor = threading.Thread(
            target=self._server.serve_forever, args=(STOP_POLL_S,), name="ofd-acceptor", daemon=True
        )
        self._acceptor.start()

    def stop(self) -> None:
        """Stop listening and end all connections, answered or not; without effect where not running."""
        server, acceptor = self._server, self._acceptor
        if server is None or acceptor is None:
            return
        server.stopping.set()
        server.shutdown()
        acceptor.join()
        server.server_close()
        server.end_connections()
        self._ledger.close()
        self._server = self._acceptor = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

"""The simulated OFD as a server: a thread that accepts, and one for each keep-alive connection.

The request head is parsed here and not by `http.server`, whose e-mail parser costs more time than all else
that is done for a document: what is measured against this OFD shall be the bridge, not the OFD.
"""

import contextlib
import itertools
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from kkt_bridge.simulators.ofd.faults import Drip
from kkt_bridge.simulators.ofd.ledger import Ledger
from kkt_bridge.simulators.ofd.service import HttpRequest, HttpResponse, OfdService, refusal

BODY_MAX = 4 * 1024 * 1024
DRAIN_MAX = 64 * 1024 * 1024  # a sender of more than this may find the connection reset instead of a 413
DRAIN_CHUNK = 64 * 1024
LINE_MAX = 16 * 1024
HEADERS_MAX = 100
VERSIONS = ("HTTP/1.1", "HTTP/1.0")

GARBAGE = b"\x16\x03\x01SSH-2.0-OpenSSH_9.2\r\n\x00\xff<html>\r\n"
"""Bytes that are not HTTP."""

REASONS = {status.value: status.phrase for status in HTTPStatus}

STOP_POLL_S = 0.05
STOP_WAIT_S = 5.0


class UnreadableRequestError(Exception):
    """A request after which nothing on this connection can be trusted: answer and close."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


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


class OfdConnection(socketserver.StreamRequestHandler):
    """One client, request by request, until either side closes."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Serve the client; a client that goes away is no error."""
        host = cast("OfdServer", self.server)
        self._served = 0
        try:
            while not host.stopping.is_set() and self._exchange(host):
                self._served += 1
        except OSError:
            return

    def _exchange(self, host: OfdServer) -> bool:
        """Serve one request; False if it was the last one."""
        try:
            request = self._read_request()
        except UnreadableRequestError as error:
            self._send(refusal(error.status, error.message), host, keep_alive=False)
            return False
        answer = host.service.answer(request)
        if answer.delay_s and host.stopping.wait(answer.delay_s):
            return False
        if answer.dropped:
            return False
        keep_alive = request.headers.get("connection", "").lower() != "close"
        self._send(answer, host, keep_alive=keep_alive, with_body=request.method != "HEAD")
        return keep_alive and not answer.garbage

    def _send(self, answer: HttpResponse, host: OfdServer, *, keep_alive: bool, with_body: bool = True) -> None:
        """Write the whole answer at once: two small writes would wait for each other's acknowledgement."""
        if answer.garbage:
            self.wfile.write(GARBAGE)
            return
        body = answer.encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        head = (
            f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Unknown')}\r\n"
            f"Content-Type: {answer.content_type}\r\nContent-Length: {len(body)}\r\n{extra}"
            f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
        ).encode("ascii")
        body = body if with_body else b""
        if answer.drip is None:
            self.wfile.write(head + body)
        else:
            self._drip(answer.drip, head, body, answer.drip_s, host.stopping)

    def _drip(self, part: Drip, head: bytes, body: bytes, pause_s: float, stopping: threading.Event) -> None:
        """Write it piece by piece, until it is whole, the client has had enough, or the OFD ends."""
        for piece in _pieces(part, head, body):
            self.wfile.write(piece)
            if stopping.wait(pause_s):
                return

    def _read_request(self) -> HttpRequest:
        """Read one whole request.

        Raises:
            UnreadableRequestError: It is not HTTP as spoken here.
            ConnectionAbortedError: The client closed before it was complete.
        """
        line = self._read_line()
        if line == b"\r\n":  # left over after a body: to be ignored, RFC 9112 section 2.2
            line = self._read_line()
        words = line.decode("latin-1").split()
        if len(words) != 3 or words[2] not in VERSIONS:
            raise UnreadableRequestError(400, "the request line is not HTTP/1.1")
        headers = self._read_headers()
        if words[2] == "HTTP/1.0":
            headers["connection"] = "close"
        length = self._body_length(headers)
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if length > BODY_MAX:
            self._drain(min(length, DRAIN_MAX))
            raise UnreadableRequestError(413, f"the body has {length} bytes, at most {BODY_MAX} are taken")
        body = self.rfile.read(length) if length else b""
        if len(body) != length:
            raise ConnectionAbortedError("the client left in the middle of a body")
        return HttpRequest(words[0], words[1], headers, body, kept=self._served > 0)

    def _read_line(self) -> bytes:
        line = self.rfile.readline(LINE_MAX + 1)
        if len(line) > LINE_MAX:
            raise UnreadableRequestError(431, f"a line of the head is longer than {LINE_MAX} bytes")
        if not line.endswith(b"\n"):
            raise ConnectionAbortedError("the client left in the middle of a head")
        return line

    def _read_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(HEADERS_MAX + 1):
            line = self._read_line()
            if line in (b"\r\n", b"\n"):
                return headers
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not name or name != name.strip():
                raise UnreadableRequestError(400, f"{name[:100]!r} is not a header")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        raise UnreadableRequestError(431, f"the head has more than {HEADERS_MAX} headers")

    @staticmethod
    def _body_length(headers: dict[str, str]) -> int:
        if "transfer-encoding" in headers:
            raise UnreadableRequestError(411, "send the body with Content-Length, not Transfer-Encoding")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            raise UnreadableRequestError(400, f"Content-Length {length[:100]!r} is not a number of bytes")
        return int(length)

    def _drain(self, size: int) -> None:
        """Read a body away: closing on unread bytes would reset the connection and lose the answer."""
        while size > 0 and (chunk := self.rfile.read(min(size, DRAIN_CHUNK))):
            size -= len(chunk)


def _pieces(part: Drip, head: bytes, body: bytes) -> Iterator[bytes]:
    """An answer of which one part comes byte by byte; `continue`: interim answers for ever, and no other."""
    match part:
        case "continue":
            return itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n")
        case "head":
            return (bytes([byte]) for byte in head + body)
        case "body":
            return itertools.chain([head], (bytes([byte]) for byte in body))


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

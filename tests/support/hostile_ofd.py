"""OFDs written by hand, byte by byte: what no well-behaved server would send, and when it would not."""

import itertools
import json
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kkt_bridge.ofd.exchange import OfdRequest

ACCEPTED = b'{"accepted": true, "server_time": 1795345381}'


_fd_numbers = itertools.count(2)


def a_document(pos: str = "pos-1", fn_number: str = "9999078900000001") -> OfdRequest:
    """A document as the simulated OFD takes it, each with the next number."""
    fd_number = next(_fd_numbers)
    receipt_id = str(uuid.uuid4())
    body = {
        "receipt": {"pos_id": pos, "receipt_id": receipt_id},
        "fiscal": {"kkt": "kkt-1", "fn_number": fn_number, "fd_number": fd_number},
        "hlc": {},
        "ffd": {},
    }
    return OfdRequest("receipt", f"{pos}:{receipt_id}", json.dumps(body).encode())


def answer_of(status: int, body: bytes = ACCEPTED, *, close: bool = False, **headers: str) -> bytes:
    """A whole answer."""
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    last = "Connection: close\r\n" if close else ""
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{head}{last}\r\n".encode() + body


@dataclass
class HostileOfd:
    """A listener that gives each connection to a function, in a thread of its own."""

    serve: Callable[["HostileOfd", socket.socket, int], None]
    """Given this, the connection, and how many there were before."""
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    stopping: threading.Event = field(default_factory=threading.Event)
    heard: list[bytes] = field(default_factory=list)
    """The requests, in the order in which they came."""
    connections: list[socket.socket] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection, len(self.connections)), daemon=True)
                self.connections.append(connection)
                self.threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, suppress(OSError):
            self.serve(self, connection, number)

    def hear(self, connection: socket.socket) -> bytes:
        """One whole request; empty where the client has gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(65536)):
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            if not (more := connection.recv(65536)):
                return b""
            body += more
        self.heard.append(head + b"\r\n\r\n" + body)
        return self.heard[-1]

    def drip(self, connection: socket.socket, pieces: Iterator[bytes], pause_s: float) -> None:
        """Send piece after piece, until the client has had enough."""
        for piece in pieces:
            connection.sendall(piece)
            if self.stopping.wait(pause_s):
                return


@contextmanager
def hostile_ofd(serve: Callable[[HostileOfd, socket.socket, int], None]) -> Iterator[HostileOfd]:
    """Such a listener, running."""
    ofd = HostileOfd(serve)
    acceptor = threading.Thread(target=ofd.accept, daemon=True)
    acceptor.start()
    try:
        yield ofd
    finally:
        ofd.stopping.set()
        with suppress(OSError):
            ofd.listener.shutdown(socket.SHUT_RDWR)
        ofd.listener.close()
        for connection in ofd.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in (acceptor, *ofd.threads):
            thread.join(5)


@contextmanager
def answering(*answers: bytes) -> Iterator[HostileOfd]:
    """An OFD that gives these answers, one to each request; each connection may hold several. The last one repeats."""
    left = list(answers)

    def serve(ofd: HostileOfd, connection: socket.socket, _number: int) -> None:
        while ofd.hear(connection):
            answer = left.pop(0) if len(left) > 1 else left[0]
            connection.sendall(answer)
            if b"Connection: close" in answer:
                return

    with hostile_ofd(serve) as ofd:
        yield ofd


@dataclass(frozen=True)
class Authority:
    """A private certificate authority, a server's certificate for 127.0.0.1, and a client's."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def pair(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of `server` or `client`."""
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def context(self, *, wants_client: bool = False) -> ssl.SSLContext:
        """For a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.pair("server"))
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context


def make_authority(folder: Path, days: int = 30) -> Authority:
    """Make one with the openssl command."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder, timeout=60)

    def new_key(name: str) -> tuple[str, ...]:
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", name)

    openssl("req", "-x509", *new_key("ca.key"), "-out", "ca.pem", "-days", "3650", "-subj", "/CN=Test Authority")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("server", "client"):
        openssl("req", *new_key(f"{name}.key"), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", f"{name}.pem", "-days", str(days), "-extfile", "names")  # fmt: skip
        (folder / f"{name}.key").chmod(0o600)
    return Authority(folder)

"""HTTP/1.1 on one keep-alive connection: requests off the wire, answers onto it.

The request head is parsed here and not by `http.server`, whose e-mail parser costs more time than all else
that is done for a document: what is measured against this OFD shall be the bridge, not the OFD.
"""

import itertools
import socketserver
import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import Protocol, cast

from kkt_bridge.simulators.ofd.faults import Drip
from kkt_bridge.simulators.ofd.service import HttpRequest, HttpResponse, OfdService, refusal

BODY_MAX = 4 * 1024 * 1024
DRAIN_MAX = 64 * 1024 * 1024  # a sender of more than this may find the connection reset instead of a 413
DRAIN_CHUNK = 64 * 1024
LINE_MAX = 16 * 1024
HEADERS_MAX = 100
VERSIONS = ("HTTP/1.1", "HTTP/1.0")

GARBAGE = b"\x16\x03\x01SSH-2.0-OpenSSH_9.2\r\n\x00\xff<html>\r\n"
"""What is not HTTP."""

REASONS = {status.value: status.phrase for status in HTTPStatus}


class UnreadableRequestError(Exception):
    """A request after which nothing on this connection can be trusted: answer and close."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Host(Protocol):
    """What a connection needs of the server it belongs to."""

    service: OfdService
    stopping: threading.Event


class OfdConnection(socketserver.StreamRequestHandler):
    """One client, request by request, until either side closes."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Serve the client; a client that goes away is no error."""
        host = cast("Host", self.server)
        self._served = 0
        try:
            while not host.stopping.is_set() and self._exchange(host):
                self._served += 1
        except OSError:
            return

    def _exchange(self, host: Host) -> bool:
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

    def _send(self, answer: HttpResponse, host: Host, *, keep_alive: bool, with_body: bool = True) -> None:
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

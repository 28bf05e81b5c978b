"""HTTP/1.1 to the OFD over asyncio and h11: keep-alive, TLS, a proxy, and a deadline for every exchange.

The only importer of h11. Redirects, cookies, compression and the environment are left out: a document needs none of
them. Nothing here imports more than the standard library, h11 and certifi, see `kkt_bridge.ofd.child`.
"""

import asyncio
import contextlib
import os
import ssl
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import h11

from kkt_bridge.ofd.classify import ANSWER_BYTES_MAX, classify, line_failed, one_line
from kkt_bridge.ofd.exchange import RECEIPT_PATH, AnswerKind, OfdAnswer, OfdOptions, OfdRequest

HEAD_BYTES_MAX: Final = 64 * 1024
"""Bytes of an answer's head."""

INTERIM_MAX: Final = 16
"""Interim answers (100 Continue and its like) before an exchange is given up: none is ever asked for."""

IDLE_MAX_S: Final = 30.0
"""Seconds after which an unused connection is not used again: a router on the way may have forgotten it."""

SECRET_MIN: Final = 8
"""Characters below which a token is not looked for in answers: it would be found where it is none."""

READ_BYTES: Final = 64 * 1024
"""Bytes that wait to be parsed before the other side is not listened to for a while."""

TOKEN_MAX: Final = 8192
"""Characters of a token; servers refuse longer headers anyway."""

_DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}


class LineError(Exception):
    """There is no usable answer, for the reason in the message."""


class ClosedEarlyError(LineError):
    """The connection ended before a byte of the answer: where it was kept alive, the other side let go of it."""


class ProxyRefusedError(Exception):
    """The proxy does not let us through; the message says its status."""


@dataclass(frozen=True, slots=True)
class OfdAddress:
    """An address taken apart."""

    scheme: str
    host: str
    port: int
    path: str
    """Without a slash at its end."""
    authorization: str | None
    """The header made of the name and the password in the address (RFC 7617)."""

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the parts of this address; ValueError if it is none."""
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError("the address names no host")
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
        return cls(
            parts.scheme,
            host,
            parts.port or _DEFAULT_PORTS[parts.scheme],
            parts.path.rstrip("/"),
            _basic(parts.netloc.rpartition("@")[0]),
        )

    @property
    def authority(self) -> str:
        """Host and port as a request names them (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def host_and_port(self) -> str:
        """The same with the port always named, as CONNECT wants it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _basic(userinfo: str) -> str | None:
    if not userinfo:
        return None
    # A name alone has an empty password; a colon that is part of a name or a password stands there encoded.
    pair = userinfo if ":" in userinfo else userinfo + ":"
    return f"Basic {b64encode(unquote(pair).encode()).decode()}"


def tls_context(options: OfdOptions) -> ssl.SSLContext:
    """Return the context with authorities and own certificate. OSError, ssl.SSLError: a file cannot be used."""
    context = ssl.create_default_context(cafile=options.ca or _public_authorities())
    if options.cert:
        context.load_cert_chain(options.cert, options.key)
    return context


def _public_authorities() -> str:
    """Return the path of certifi's file: the same on every machine, whatever its environment says."""
    import certifi  # noqa: PLC0415 (it costs the small process a megabyte that plain HTTP does not need)

    return certifi.where()


def tls_text(error: ssl.SSLError) -> str:
    """Return the cause of a TLS failure in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the OFD's certificate is not trusted: {error.verify_message}"
    return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"


def read_token(path: str) -> str:
    """Return the bearer token in this file. OSError: it cannot be read; ValueError: what stands there is none."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 (pathlib costs the small process a megabyte)
        token = file.read(TOKEN_MAX + 1).strip()
    if not token or len(token) > TOKEN_MAX or not all("!" <= char <= "~" for char in token):
        raise ValueError("expected one token of printable ASCII characters, without spaces")
    return token


class _ReceiveBuffer(asyncio.Protocol):
    """The bytes that a connection brought, read piece by piece; asyncio's streams would forget them at a reset."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self.ended = False
        """No more comes."""
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > READ_BYTES and not self._is_paused and self._transport is not None:
            self._transport.pause_reading()
            self._is_paused = True
        self._wake()

    def eof_received(self) -> bool:
        self.ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.error = self.error or exc
        self._wake()

    @property
    def is_usable(self) -> bool:
        """True while nothing came unasked, and the other side has not closed."""
        return not self.ended and not self._data

    async def read(self) -> bytes:
        """Return the next bytes, none at the end. OSError: the connection broke, and there is nothing left of it."""
        while not self._data:
            if self.ended:
                if self.error is not None:
                    raise self.error
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._data)
        self._data.clear()
        if self._is_paused and self._transport is not None and not self.ended:
            self._transport.resume_reading()
            self._is_paused = False
        return data

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(slots=True)
class _HttpResponse:
    """An answer as it came, not classified yet."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool


@dataclass(slots=True)
class _Connection:
    """One connection, over which one exchange after the other goes."""

    transport: asyncio.Transport
    received: _ReceiveBuffer
    http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT, HEAD_BYTES_MAX))
    served: int = 0
    """Exchanges that are done."""
    idle_since: float = 0.0
    """Seconds on the loop's clock."""

    def send(self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> None:
        """Hand over a whole request; it is on its way while its answer is waited for."""
        data = self.http.send(h11.Request(method=method, target=target, headers=list(headers))) or b""
        if body:
            data += self.http.send(h11.Data(data=body)) or b""
        self.transport.write(data + (self.http.send(h11.EndOfMessage()) or b""))

    async def receive(self, step_s: float) -> _HttpResponse:
        """Return the final answer, its body up to `ANSWER_BYTES_MAX`. LineError: there is none."""
        head = await self.head(step_s)
        headers: dict[str, str] = {}
        for name, value in head.headers:
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        body = bytearray()
        while len(body) <= ANSWER_BYTES_MAX and isinstance(event := await self._event(step_s), h11.Data):
            body += event.data
        whole = len(body) <= ANSWER_BYTES_MAX
        return _HttpResponse(head.status_code, headers, bytes(body[:ANSWER_BYTES_MAX]), whole)

    async def head(self, step_s: float) -> h11.Response:
        """Return the head of the final answer. LineError: there is none."""
        for _ in range(INTERIM_MAX):
            event = await self._event(step_s)
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise LineError("what came is no answer")
        raise LineError(f"more than {INTERIM_MAX} interim answers, and no final one")

    async def _event(self, step_s: float) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """Return the next part of the answer."""
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                return event
            try:
                async with asyncio.timeout(step_s):
                    data = await self.received.read()
            except TimeoutError:
                raise LineError(f"no answer in time: nothing came for {step_s:g} s") from None
            except ssl.SSLError:
                raise
            except OSError as error:
                raise self._ended(error.strerror or str(error)) from error
            if not data and not self._has_begun:
                raise self._ended("the connection was closed without an answer")
            self.http.receive_data(data)

    @property
    def _has_begun(self) -> bool:
        return self.http.their_state is not h11.SEND_RESPONSE or bool(self.http.trailing_data[0])

    def _ended(self, text: str) -> LineError:
        return LineError(text) if self._has_begun else ClosedEarlyError(text)

    def recycle(self, now: float) -> bool:
        """Make ready for the next exchange; False if there can be none over this connection."""
        if self.http.trailing_data[0]:
            return False  # what was said unasked would pass for the next answer
        try:
            self.http.start_next_cycle()
        except h11.ProtocolError:
            return False
        self.served += 1
        self.idle_since = now
        return self.received.is_usable


class OfdHttp:
    """Exchanges with one OFD; as many connections as exchanges are under way at the same time.

    To be used on one event loop.
    """

    def __init__(self, options: OfdOptions) -> None:
        """OSError, ssl.SSLError, ValueError: the options cannot be used."""
        self._options = options
        self._address = OfdAddress.of(options.url)
        self._proxy = OfdAddress.of(options.proxy) if options.proxy else None
        self._tls = tls_context(options) if self._address.scheme == "https" else None
        self._idle: list[_Connection] = []
        self._token = read_token(options.token_file) if options.token_file else None
        self.last_peer_certificate: Mapping[str, object] | None = None
        """The certificate that the OFD showed last, in the form of `ssl.SSLSocket.getpeercert`."""
        self.last_headers: Mapping[str, str] = {}
        """Of the last answer, names in lower case."""

    async def exchange(self, request: OfdRequest) -> OfdAnswer:
        """Carry out one request and return its answer; whatever goes wrong is an answer."""
        try:
            async with asyncio.timeout(self._options.deadline_s):
                answer = await self._exchange(request)
                if answer.status == 401 and self._has_another_token():
                    answer = await self._exchange(request)
                return answer
        except TimeoutError:
            return line_failed(f"no answer in time: the exchange took longer than {self._options.deadline_s:g} s")
        except ProxyRefusedError as error:
            return OfdAnswer(AnswerKind.BRIDGE_REFUSED, one_line(str(error)), status=407)
        except (LineError, h11.RemoteProtocolError, OSError) as error:
            return line_failed(self._cause(error))

    def close(self) -> None:
        """Close every connection."""
        for connection in self._idle:
            connection.transport.abort()
        self._idle.clear()

    def _cause(self, error: Exception) -> str:
        """Return in words why there is no answer."""
        match error:
            case ssl.SSLError():
                return tls_text(error)
            case h11.RemoteProtocolError():
                return f"what came is not HTTP: {error}"
            case OSError():
                via = f" by way of the proxy {self._proxy.host_and_port}" if self._proxy else ""
                # asyncio words it in its own way; a resolver's numbers are negative, and no errno.
                number = error.errno or 0
                text = os.strerror(number) if number > 0 else error.strerror or str(error)
                return f"{self._address.host_and_port}{via}: {text}"
            case _:
                return str(error)

    def _has_another_token(self) -> bool:
        """Read the token again: it may have been replaced since. False: there is none, or it is the refused one."""
        if self._options.token_file is None:
            return False
        refused = self._token
        with contextlib.suppress(OSError, ValueError):  # the one that we have may become right again
            self._token = read_token(self._options.token_file)
        return self._token != refused

    async def _exchange(self, request: OfdRequest) -> OfdAnswer:
        connection = self._idle_connection()
        if connection is not None:
            try:
                return await self._exchange_over(connection, request)
            except ClosedEarlyError:
                pass  # it was closed as the request went out, as servers do after a while: nobody's failure
        return await self._exchange_over(await self._connect(), request)

    async def _exchange_over(self, connection: _Connection, request: OfdRequest) -> OfdAnswer:
        is_kept = False
        try:
            if request.target == "receipt":
                target = self._address.path + RECEIPT_PATH
                connection.send("POST", self._target(target), self._headers(request), request.body)
            else:
                target = self._address.path + self._options.health_path
                connection.send("GET", self._target(target), self._headers(request))
            response = await connection.receive(self._options.timeout_s)
            is_kept = response.whole and connection.recycle(asyncio.get_running_loop().time())
        finally:
            if is_kept:
                self._idle.append(connection)
            else:
                connection.transport.abort()
        self.last_headers = response.headers
        # The beginning of an answer goes to logs and onto the broker, and some servers repeat what they refuse.
        body, headers = response.body, dict(response.headers)
        for secret in self._secrets():
            body = body.replace(secret.encode(), b"***")
            if "location" in headers:
                headers["location"] = headers["location"].replace(secret, "***")
        return classify(response.status, headers, body, whole=response.whole, now_s=time.time())

    def _secrets(self) -> list[str]:
        """Return the confidential words of a request, as they stand there."""
        values = [self._token, self._address.authorization, self._proxy.authorization if self._proxy else None]
        words = [value.removeprefix("Basic ") for value in values if value is not None]
        return [word for word in words if len(word) >= SECRET_MIN]

    def _target(self, path: str) -> str:
        """Return the request target (RFC 9112 section 3.2): a proxy is told the whole address."""
        if self._proxy is not None and self._tls is None:
            return f"http://{self._address.authority}{path or '/'}"
        return path or "/"

    def _headers(self, request: OfdRequest) -> list[tuple[str, str]]:
        headers = [("Host", self._address.authority), ("User-Agent", "kkt-bridge"), ("Accept-Encoding", "identity")]
        if self._token is not None:
            headers.append(("Authorization", f"Bearer {self._token}"))
        elif self._address.authorization is not None:
            headers.append(("Authorization", self._address.authorization))
        if self._proxy is not None and self._tls is None and self._proxy.authorization is not None:
            headers.append(("Proxy-Authorization", self._proxy.authorization))
        if request.target == "receipt":
            headers += [
                ("Idempotency-Key", request.key),
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(request.body))),
            ]
        return headers

    def _idle_connection(self) -> _Connection | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.received.is_usable and now - connection.idle_since < IDLE_MAX_S:
                return connection
            connection.transport.abort()
        return None

    async def _connect(self) -> _Connection:
        first = self._proxy or self._address
        step_s = self._options.timeout_s
        try:
            async with asyncio.timeout(step_s):
                tls = self._tls if self._proxy is None else None
                transport, received = await asyncio.get_running_loop().create_connection(
                    _ReceiveBuffer, first.host, first.port, ssl=tls, server_hostname=first.host if tls else None
                )
        except TimeoutError:
            raise LineError(f"no connection to {first.host_and_port} within {step_s:g} s") from None
        if self._proxy is not None and self._tls is not None:
            try:
                transport = await self._through_the_proxy(_Connection(transport, received), self._tls)
            except BaseException:
                transport.abort()
                raise
        self.last_peer_certificate = transport.get_extra_info("peercert")
        return _Connection(transport, received)

    async def _through_the_proxy(self, connection: _Connection, tls: ssl.SSLContext) -> asyncio.Transport:
        """Open a tunnel (RFC 9110 section 9.3.6), and TLS inside it."""
        assert self._proxy is not None
        step_s = self._options.timeout_s
        headers = [("Host", self._address.host_and_port), ("User-Agent", "kkt-bridge")]
        if self._proxy.authorization is not None:
            headers.append(("Proxy-Authorization", self._proxy.authorization))
        connection.send("CONNECT", self._address.host_and_port, headers)
        try:
            head = await connection.head(step_s)
        except ClosedEarlyError as error:
            raise LineError(f"the proxy {self._proxy.host_and_port}: {error}") from error
        if not 200 <= head.status_code < 300:
            text = f"the proxy {self._proxy.host_and_port} answers {head.status_code} {head.reason.decode('latin-1')}"
            if head.status_code >= 500:
                raise LineError(text)
            raise ProxyRefusedError(text)
        try:
            async with asyncio.timeout(step_s):
                transport = await asyncio.get_running_loop().start_tls(
                    connection.transport, connection.received, tls, server_hostname=self._address.host
                )
        except TimeoutError:
            raise LineError(f"no TLS with {self._address.host_and_port} within {step_s:g} s") from None
        assert transport is not None
        connection.received.connection_made(transport)
        return transport

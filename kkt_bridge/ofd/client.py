"""The OFD over HTTP: the only importer of httpx, whose errors end here."""

import contextlib
import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote

import httpx

from kkt_bridge.clock import Clock
from kkt_bridge.errors import DocumentRefused, OfdUnavailable, OfdUnreachable
from kkt_bridge.settings import OfdSettings

RECEIPT_PATH: Final = "/ofd/v1/receipt"

ANSWER_BYTES_MAX: Final = 64 * 1024
"""An answer is a few dozen bytes; more is not read."""

RETRY_AFTER_MAX_S: Final = 24 * 3600.0
SERVER_TIME_MAX: Final = 2**40

_RETRYABLE_4XX: Final = frozenset({408, 425, 429})
_NO_HEALTH_CHECK: Final = frozenset({404, 405})


class OfdClient:
    """Sends documents over connections that are kept alive, one for each thread that sends.

    httpx's transport is used without the client around it: redirects, cookies, credentials from the environment and
    merging of addresses are nothing that a document needs, and half of what a request costs.
    """

    def __init__(self, settings: OfdSettings, clock: Clock) -> None:
        base = settings.url.rstrip("/")
        self._receipt_url = httpx.URL(base + RECEIPT_PATH)
        self._health_url = httpx.URL(base + settings.health_path) if settings.health_path else None
        self._headers = [("User-Agent", "kkt-bridge"), *_credentials(self._receipt_url)]
        self._timeout_s = settings.timeout_s
        self._extensions = {"timeout": httpx.Timeout(settings.timeout_s).as_dict()}
        self._clock = clock
        self._http = httpx.HTTPTransport(
            # Without TLS there is nothing to verify, and reading the list of authorities takes long.
            verify=self._receipt_url.scheme == "https",
            trust_env=False,  # what is trusted is said in the configuration, nowhere else
        )

    def deliver(self, key: str, body: bytes) -> int | None:
        """Send a document under its idempotency key; return the OFD's time (Unix seconds), if it tells.

        Errors: DocumentRefused (it never will be taken), OfdUnavailable, OfdUnreachable (try again).
        """
        headers = [*self._headers, ("Idempotency-Key", key), ("Content-Type", "application/json")]
        response, answer = self._exchange("POST", self._receipt_url, headers, body)
        if response.is_success:
            return _server_time(answer)
        message = f"{response.status_code} {answer[:200].decode(errors='replace')}".strip()
        if response.is_client_error and response.status_code not in _RETRYABLE_4XX:
            raise DocumentRefused(message)
        raise OfdUnavailable(message, self._retry_after_s(response.headers))

    def ask_health(self) -> bool:
        """Ask the OFD how it is. True: it is well; False: it has no health check.

        Errors: OfdUnavailable (it answers that it is not well), OfdUnreachable (it does not answer).
        """
        if self._health_url is None:
            return False
        response, _ = self._exchange("GET", self._health_url, self._headers)
        if response.status_code in _NO_HEALTH_CHECK:
            return False
        if not response.is_success:
            raise OfdUnavailable(f"its health check says {response.status_code}")
        return True

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def _exchange(
        self, method: str, url: httpx.URL, headers: list[tuple[str, str]], body: bytes | None = None
    ) -> tuple[httpx.Response, bytes]:
        """One request and its answer, read only as far as an answer of the OFD may be long."""
        deadline = self._clock.monotonic() + self._timeout_s
        with _translated():
            request = httpx.Request(method, url, headers=headers, content=body, extensions=self._extensions)
            response = self._http.handle_request(request)
            try:
                answer = b""
                for chunk in response.iter_bytes():
                    answer += chunk
                    # httpx limits each read; a server that drips must not hold the queue beyond the time-out.
                    if len(answer) > ANSWER_BYTES_MAX or self._clock.monotonic() > deadline:
                        raise OfdUnreachable("the answer does not end")
            finally:
                response.close()
        return response, answer

    def _retry_after_s(self, headers: httpx.Headers) -> float | None:
        """The header in seconds: it may be a number of them or a date (RFC 9110 section 10.2.3)."""
        value = headers.get("Retry-After")
        if value is None:
            return None
        try:
            seconds = float(value) if value.isdigit() else _date_s(value) - self._now_s(headers)
        except (ValueError, OverflowError):
            return None
        return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)

    def _now_s(self, headers: httpx.Headers) -> float:
        """The time by the clock that the answer's dates are written by: ours may be wrong by years."""
        with contextlib.suppress(KeyError, ValueError, OverflowError):
            return _date_s(headers["Date"])
        return self._clock.now_ms() / 1000


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise OfdUnreachable(f"no answer in time ({type(error).__name__})") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise OfdUnreachable(f"{type(error).__name__}: {error}") from error


def _credentials(url: httpx.URL) -> list[tuple[str, str]]:
    """The header of a name and a password that the address holds (RFC 7617), if it does."""
    if not url.userinfo:
        return []
    # A name alone has an empty password; a colon that is part of a name or a password stands there encoded.
    userinfo = url.userinfo if b":" in url.userinfo else url.userinfo + b":"
    return [("Authorization", f"Basic {b64encode(unquote(userinfo).encode()).decode()}")]


def _date_s(text: str) -> float:
    """An HTTP date (RFC 9110 section 5.6.7) in Unix seconds; it is always one of GMT, whether it says so or not."""
    date = parsedate_to_datetime(text)
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp()


def _server_time(answer: bytes) -> int | None:
    try:
        value = json.loads(answer)["server_time"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # accepted all the same; it only does not tell the time
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < SERVER_TIME_MAX:
        return None
    return int(value)

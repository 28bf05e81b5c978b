"""The OFD over HTTP: the only importer of httpx, whose errors end here."""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

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
    """Sends one document at a time over a connection that is kept alive."""

    def __init__(self, settings: OfdSettings, clock: Clock) -> None:
        self._health_path = settings.health_path
        self._timeout_s = settings.timeout_s
        self._clock = clock
        self._http = httpx.Client(
            base_url=settings.url.rstrip("/"),
            timeout=settings.timeout_s,
            trust_env=False,  # where documents go is said in the configuration, nowhere else
            follow_redirects=False,
        )

    def deliver(self, key: str, body: bytes) -> int | None:
        """Send a document under its idempotency key; return the OFD's time (Unix seconds), if it tells.

        Errors: DocumentRefused (it never will be taken), OfdUnavailable, OfdUnreachable (try again).
        """
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        with _translated():
            response, answer = self._exchange("POST", RECEIPT_PATH, body, headers)
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
        if not self._health_path:
            return False
        with _translated():
            response, _ = self._exchange("GET", self._health_path, None, {})
        if response.status_code in _NO_HEALTH_CHECK:
            return False
        if not response.is_success:
            raise OfdUnavailable(f"its health check says {response.status_code}")
        return True

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[httpx.Response, bytes]:
        """One request and its answer, read only as far as an answer of the OFD may be long."""
        deadline = self._clock.monotonic() + self._timeout_s
        with self._http.stream(method, path, content=body, headers=headers) as response:
            answer = b""
            for chunk in response.iter_bytes():
                answer += chunk
                # httpx limits each read; a server that drips must not hold the queue beyond the time-out.
                if len(answer) > ANSWER_BYTES_MAX or self._clock.monotonic() > deadline:
                    raise OfdUnreachable("the answer does not end")
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


def _date_s(text: str) -> float:
    """An HTTP date (RFC 9110 section 5.6.7) in Unix seconds; it is always one of GMT, whether it says so or not."""
    date = parsedate_to_datetime(text)
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp()


def _server_time(answer: bytes) -> int | None:
    try:
        value = json.loads(answer)["server_time"]
    except (ValueError, KeyError, TypeError):
        return None  # accepted all the same; it only does not tell the time
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < SERVER_TIME_MAX:
        return None
    return int(value)

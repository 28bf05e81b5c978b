"""The answers of the simulated OFD: a request in, an answer out, no sockets."""

import dataclasses
import hmac
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from kkt_bridge.simulators.ofd.faults import HEALTHY, Drip, FaultBoard, InvalidOfdFaults, OfdFaults, parse_faults
from kkt_bridge.simulators.ofd.ledger import Ledger, TakeResult
from kkt_bridge.simulators.ofd.submission import (
    Submission,
    SubmissionRefusedError,
    parse_object,
    read_submission,
)

RECEIPT_PATH = "/ofd/v1/receipt"
HEALTH_PATH = "/ofd/v1/health"
OPERATOR_PREFIX = "/_"  # what belongs to the person at the simulator never fails

LOGIN_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>Wi-Fi login</title></head>"
    b"<body><form>Your phone number: <input name=phone></form></body></html>\n"
)
"""The answer of a captive portal to everything."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    kept: bool = False
    """True if the connection served another request before."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One HTTP answer: wait `delay_s`, then send it, or close the connection without it if `dropped`."""

    status: int
    payload: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    dropped: bool = False
    body: bytes | None = None
    """Instead of the payload."""
    content_type: str = "application/json"
    drip: Drip | None = None
    """Which part of it is sent byte by byte."""
    drip_s: float = 0.0
    """Seconds between two bytes."""
    garbage: bool = False
    """True if something is sent in its place that is not HTTP."""

    def encode(self) -> bytes:
        """The body as bytes; empty where HTTP allows none."""
        if self.status == 304:
            return b""
        return json.dumps(self.payload).encode() if self.body is None else self.body


def refusal(status: int, message: str) -> HttpResponse:
    """Return an error answer that says why."""
    return HttpResponse(status, {"error": message})


class RateLimit:
    """So many requests a second, a second's worth of them at once."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._left = 0.0
        self._at = 0.0

    def allows(self, per_s: float) -> bool:
        """Take one; False if there is none left to take."""
        with self._lock:
            now = self._now()
            self._left = min(max(per_s, 1.0), self._left + max(0.0, now - self._at) * per_s)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


class OfdService:
    """The OFD itself: its ledger behind its faults. With a `token`, only who shows it is served.

    `now` is its clock: Unix seconds.
    """

    def __init__(self, ledger: Ledger, token: str | None = None, now: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._token = token
        self._now = now
        self._rate = RateLimit(now)
        self._faults = FaultBoard()
        self._routes: dict[str, dict[str, Callable[[HttpRequest], HttpResponse]]] = {
            RECEIPT_PATH: {"POST": self._take},
            HEALTH_PATH: {"GET": lambda _request: HttpResponse(200, {"status": "ok"})},
            "/_received": {"GET": self._received},
            "/_faults": {
                "GET": lambda _request: HttpResponse(200, self._faults.current.as_json()),
                "PUT": self._set_faults,
            },
        }

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer one request as an OFD with these faults would."""
        path = request.path
        if path.startswith(OPERATOR_PREFIX):
            return self._route(path, request)
        if path == RECEIPT_PATH and request.method == "POST":
            self._ledger.count_request()
        faults = self._faults.current
        if request.kept and self._faults.spend("close_kept_next"):
            return HttpResponse(503, {}, dropped=True)
        answer = self._instead(path, faults) or self._unauthorized(request) or self._route(path, request)
        return _as_sent(answer, faults)

    def _instead(self, path: str, faults: OfdFaults) -> HttpResponse | None:
        """Return the answer of a fault that keeps the request from being looked at, if one is in force."""
        if faults.outage:
            return refusal(faults.status or 503, "outage")
        if faults.login_page:
            return HttpResponse(200, {}, body=LOGIN_PAGE, content_type="text/html; charset=utf-8")
        if faults.deep_json:
            return HttpResponse(200, {}, body=b"[" * faults.deep_json)
        if path == HEALTH_PATH and faults.health_status is not None:
            return refusal(faults.health_status, "health_status")
        return self._instead_of_taking(faults) if path == RECEIPT_PATH else None

    def _instead_of_taking(self, faults: OfdFaults) -> HttpResponse | None:
        if faults.post_status is not None:
            return refusal(faults.post_status, "post_status")
        if faults.rate_limit_per_s and not self._rate.allows(faults.rate_limit_per_s):
            return refusal(429, f"more than {faults.rate_limit_per_s:g} documents a second")
        return None

    def _unauthorized(self, request: HttpRequest) -> HttpResponse | None:
        if self._token is None:
            return None
        shown = request.headers.get("authorization", "")
        if hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode()):
            return None
        return dataclasses.replace(
            refusal(401, "send the token as Authorization: Bearer"), headers={"WWW-Authenticate": "Bearer"}
        )

    def _route(self, path: str, request: HttpRequest) -> HttpResponse:
        methods = self._routes.get(path)
        if methods is None:
            return refusal(404, f"{path[:200]}: no such path; known are {', '.join(self._routes)}")
        handler = methods.get(request.method)
        if handler is None:
            allowed = ", ".join(methods)
            return dataclasses.replace(
                refusal(405, f"{path} takes {allowed}, not {request.method[:20]}"), headers={"Allow": allowed}
            )
        return handler(request)

    def _take(self, request: HttpRequest) -> HttpResponse:
        faults = self._faults.current
        if self._faults.spend("fail_next"):
            return refusal(faults.status or 500, "fail_next")
        try:
            submission = read_submission(request.headers.get("idempotency-key"), request.body)
        except SubmissionRefusedError as error:
            return refusal(error.status, error.message)
        if submission.key in faults.refuse_keys:
            return refusal(422, "this document is refused (refuse_keys)")
        if submission.key in faults.error_keys:
            return refusal(500, "this document fails (error_keys)")
        return self._enter(submission)

    def _enter(self, submission: Submission) -> HttpResponse:
        now = self._now()
        try:
            verdict = self._ledger.take(now, submission)
        except OSError as error:
            return refusal(503, f"the document could not be stored: {error}")
        if verdict is TakeResult.CONFLICT:
            return refusal(409, f"{submission.key} was accepted with another fiscal document")
        if verdict is TakeResult.TAKEN:
            return refusal(
                409,
                f"document {submission.fd_number} of fiscal storage {submission.fn_number} was accepted from another "
                "receipt: no two registers have the same storage",
            )
        return HttpResponse(
            200,
            {"accepted": True, "duplicate": verdict is TakeResult.REPEAT, "server_time": int(now)},
            dropped=self._faults.spend("drop_answers_next"),
        )

    def _received(self, request: HttpRequest) -> HttpResponse:
        query = parse_qs(request.target.partition("?")[2])
        return HttpResponse(200, self._ledger.as_json(full=query.get("full", ["0"])[-1] not in ("0", "false")))

    def _set_faults(self, request: HttpRequest) -> HttpResponse:
        try:
            faults = parse_faults(parse_object(request.body))
        except SubmissionRefusedError as error:
            return refusal(error.status, error.message)
        except InvalidOfdFaults as error:
            return refusal(400, str(error))
        self._faults.replace(faults)
        return HttpResponse(200, faults.as_json())


def _as_sent(answer: HttpResponse, faults: OfdFaults) -> HttpResponse:
    """Return the answer with the faults that change every answer."""
    if faults == HEALTHY:
        return answer
    headers = dict(answer.headers)
    if faults.retry_after_s is not None and answer.status >= 400:
        headers["Retry-After"] = str(faults.retry_after_s)
    if 300 <= answer.status < 400:
        headers["Location"] = faults.location
    payload = answer.payload
    if faults.body_bytes:
        payload = {**payload, "padding": "x" * faults.body_bytes}
    return dataclasses.replace(
        answer,
        payload=payload,
        headers=headers,
        delay_s=faults.latency_s,
        drip=faults.drip,
        drip_s=faults.drip_s,
        garbage=faults.garbage,
    )

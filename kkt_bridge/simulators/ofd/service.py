"""What the simulated OFD answers: a request in, an answer out, no sockets."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from kkt_bridge.simulators.ofd.faults import FaultBoard, InvalidFaultsError, parse_faults
from kkt_bridge.simulators.ofd.ledger import Ledger, Verdict
from kkt_bridge.simulators.ofd.submission import (
    Submission,
    SubmissionRefusedError,
    parse_object,
    read_submission,
)

RECEIPT_PATH = "/ofd/v1/receipt"
HEALTH_PATH = "/ofd/v1/health"
OPERATOR_PREFIX = "/_"  # what belongs to the person at the simulator never fails


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer: wait `delay_s`, then send it, or close the connection without it if `dropped`."""

    status: int
    payload: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    dropped: bool = False

    def encode(self) -> bytes:
        """The payload as JSON bytes; empty where HTTP allows none."""
        return b"" if self.status == 304 else json.dumps(self.payload).encode()


def refusal(status: int, message: str) -> Answer:
    """An error answer that says why."""
    return Answer(status, {"error": message})


class OfdService:
    """The OFD itself: its ledger behind its faults."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._faults = FaultBoard()
        self._routes: dict[str, dict[str, Callable[[Request], Answer]]] = {
            RECEIPT_PATH: {"POST": self._take},
            HEALTH_PATH: {"GET": self._health},
            "/_received": {"GET": self._received},
            "/_faults": {"GET": self._show_faults, "PUT": self._set_faults},
        }

    def answer(self, request: Request) -> Answer:
        """Answer one request as an OFD with these faults would."""
        path = request.path
        if path.startswith(OPERATOR_PREFIX):
            return self._route(path, request)
        if path == RECEIPT_PATH and request.method == "POST":
            self._ledger.count_request()
        faults = self._faults.current
        answer = refusal(faults.status or 503, "outage") if faults.outage else self._route(path, request)
        if faults.retry_after_s is not None and answer.status >= 400:
            answer = dataclasses.replace(answer, headers={**answer.headers, "Retry-After": str(faults.retry_after_s)})
        return dataclasses.replace(answer, delay_s=faults.latency_s) if faults.latency_s else answer

    def _route(self, path: str, request: Request) -> Answer:
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

    def _take(self, request: Request) -> Answer:
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

    def _enter(self, submission: Submission) -> Answer:
        now = time.time()
        try:
            verdict = self._ledger.take(now, submission)
        except OSError as error:
            return refusal(503, f"the document could not be stored: {error}")
        if verdict is Verdict.CONFLICT:
            return refusal(409, f"{submission.key} was accepted with another fiscal document")
        return Answer(
            200,
            {"accepted": True, "duplicate": verdict is Verdict.REPEAT, "server_time": int(now)},
            dropped=self._faults.spend("drop_answers_next"),
        )

    def _health(self, _request: Request) -> Answer:
        return Answer(200, {"status": "ok"})

    def _received(self, request: Request) -> Answer:
        query = parse_qs(request.target.partition("?")[2])
        return Answer(200, self._ledger.as_json(full=query.get("full", ["0"])[-1] not in ("0", "false")))

    def _show_faults(self, _request: Request) -> Answer:
        return Answer(200, self._faults.current.as_json())

    def _set_faults(self, request: Request) -> Answer:
        try:
            faults = parse_faults(parse_object(request.body))
        except SubmissionRefusedError as error:
            return refusal(error.status, error.message)
        except InvalidFaultsError as error:
            return refusal(400, str(error))
        self._faults.replace(faults)
        return Answer(200, faults.as_json())

"""The OFD: the simulator's own service and ledger, at the far end of a bad line."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from support.clocks import ManualClock

from kkt_bridge.ofd.classify import classify, line_failed
from kkt_bridge.ofd.exchange import RECEIPT_PATH, AnswerKind, OfdAnswer, OfdRequest
from kkt_bridge.simulators.ofd.faults import OfdFaults
from kkt_bridge.simulators.ofd.ledger import Ledger, TakeResult
from kkt_bridge.simulators.ofd.service import HttpRequest, OfdService
from kkt_bridge.simulators.ofd.submission import Submission
from simulation.effects import Effects

HEALTH_PATH: Final = "/ofd/v1/health"

FAILURES: Final = frozenset({AnswerKind.SERVICE_FAILED, AnswerKind.LINE_FAILED})
"""Answers after which nobody knows whose fault it was."""


class ObservedLedger(Ledger):
    """The simulator's own, which tells whenever it has a document that it had not."""

    def __init__(self, arrived: Callable[[str], None]) -> None:
        super().__init__(None)
        self._arrived = arrived

    def take(self, at: float, submission: Submission) -> TakeResult:
        """See `Ledger`."""
        verdict = super().take(at, submission)
        if verdict is TakeResult.NEW:
            self._arrived(submission.key)
        return verdict


class Ofd:
    """The OFD that the bridge's exchange talks to instead of a socket."""

    def __init__(self, effects: Effects, rng: random.Random, clock: ManualClock) -> None:
        self._effects = effects
        self._rng = rng
        self.clock = clock
        self._ledger = ObservedLedger(lambda key: self.arrivals.append((key, len(self.log))))
        self._service = OfdService(self._ledger, now=self.time)
        self.unreachable = False
        self.timeout_rate = 0.0
        self.answer_lost_rate = 0.0
        self.health_is_broken = False
        """True if its health check fails for good, although it takes documents: nobody heals that."""
        self.swallow_next = 0
        """Batches of which nothing ever comes."""
        self.told: defaultdict[str, list[AnswerKind]] = defaultdict(list)
        """The answers to each document, in order; a line that failed is an answer too."""
        self.log: list[tuple[str, AnswerKind]] = []
        """The same of all together."""
        self.unheard: set[int] = set()
        """Places in the log of failures that a bridge which died never wrote down."""
        self.arrivals: list[tuple[str, int]] = []
        """The documents in the order in which they arrived, each with the length of the log by then."""
        self.health_answers: list[tuple[bool, int]] = []
        """The answers of the health check, each with the length of the log by then."""
        self.own_failures: Counter[str] = Counter()
        """How often each document failed while the OFD was there for the others."""

    def time(self) -> float:
        """The OFD's own clock, which is right."""
        return 1_795_000_000 + self.clock.monotonic()

    def put_faults(self, **faults: Any) -> None:
        """Put these faults in force instead of all others."""
        self._service._faults.replace(OfdFaults(**faults))

    def heal(self) -> None:
        """Nothing is wrong any more."""
        self.unreachable = False
        self.timeout_rate = self.answer_lost_rate = 0.0
        self.put_faults()

    def documents(self) -> dict[str, dict[str, Any]]:
        """Return the documents that it has, by key."""
        return {entry["key"]: entry for entry in self.received()["documents"]}

    def received(self) -> dict[str, Any]:
        """Return what `/_received` shows."""
        return self._ledger.as_json(full=False)

    def exchange(self, request: OfdRequest) -> OfdAnswer:
        """One exchange, as the bridge's child process carries it out; what came of it is kept for the invariants."""
        answer = self._exchange(request)
        if request.target == "health":
            self.health_answers.append((answer.kind is AnswerKind.ACCEPTED, len(self.log)))
        else:
            self._keep(request.key, answer)
        return answer

    def _exchange(self, request: OfdRequest) -> OfdAnswer:
        method, path = ("POST", RECEIPT_PATH) if request.target == "receipt" else ("GET", HEALTH_PATH)
        self._effects.trace(f"ofd {path} {request.key}")
        self._effects.at(f"ofd {path}: before")
        if self.unreachable:
            return line_failed("Connection refused")
        if self._rng.random() < self.timeout_rate:
            return line_failed("no answer in time")
        if self.health_is_broken and request.target == "health":
            return classify(500, {}, b"", whole=True, now_s=self.time())
        headers = {"idempotency-key": request.key, "content-type": "application/json"}
        answer = self._service.answer(HttpRequest(method, path, headers, request.body))
        self._effects.at(f"ofd {path}: after")
        if answer.dropped or self._rng.random() < self.answer_lost_rate:
            return line_failed("Server disconnected")
        headers = {name.lower(): value for name, value in dict(answer.headers).items()}
        return classify(answer.status, headers, answer.encode(), whole=True, now_s=self.time())

    def bridge_died(self, attempts: Mapping[str, int]) -> None:
        """Note that answers beyond these attempts on its disk, by key, are known to nobody any more."""
        for key, written in attempts.items():
            places = [
                n
                for n, (other, kind) in enumerate(self.log)
                if other == key and kind is not AnswerKind.ACCEPTED and n not in self.unheard
            ]
            self.unheard.update(places[written:])

    def _keep(self, key: str, answer: OfdAnswer) -> None:
        self.told[key].append(answer.kind)
        self.log.append((key, answer.kind))
        is_there = not self.unreachable and not self._service._faults.current.outage
        if answer.kind in FAILURES and is_there:
            self.own_failures[key] += 1

"""The OFD: the simulator's own service and books, at the far end of a bad line."""

import random
from collections import Counter, defaultdict
from typing import Any, Final

from support.clocks import ManualClock

from kkt_bridge.ofd.classify import classify, line_failed
from kkt_bridge.ofd.exchange import Answer, AnswerKind, Request
from kkt_bridge.ofd.options import RECEIPT_PATH
from kkt_bridge.simulators.ofd.faults import Faults
from kkt_bridge.simulators.ofd.ledger import Ledger
from kkt_bridge.simulators.ofd.service import OfdService
from kkt_bridge.simulators.ofd.service import Request as HttpRequest
from simulation.effects import Effects

HEALTH_PATH: Final = "/ofd/v1/health"

FAILURES: Final = frozenset({AnswerKind.SERVICE_FAILED, AnswerKind.LINE_FAILED})
"""Answers after which nobody knows whose fault it was."""

MAY_BE_TRIED_BY_TURNS: Final = FAILURES | {AnswerKind.BRIDGE_REFUSED, AnswerKind.NOT_THE_OFD}

BY_TURNS_FROM: Final = 4
"""Attempts in vain of one document: three open the breaker, and one trial with it alone comes before turns."""


class Ofd:
    """What the bridge's exchange talks to instead of a socket."""

    def __init__(self, effects: Effects, chance: random.Random, clock: ManualClock) -> None:
        self._effects = effects
        self._chance = chance
        self.clock = clock
        self._ledger = Ledger(None)
        self._service = OfdService(self._ledger)
        self.unreachable = False
        self.timeout_rate = 0.0
        self.answer_lost_rate = 0.0
        self.health_is_broken = False
        """Whether its health check fails for good, although it takes documents: nobody heals that."""
        self.swallow_next = 0
        """Batches of which nothing ever comes."""
        self.told: defaultdict[str, list[AnswerKind]] = defaultdict(list)
        """What each document was answered, in order; a line that failed is an answer too."""
        self.log: list[tuple[str, AnswerKind]] = []
        """The same of all together."""
        self.failing: set[str] = set()
        """Documents whose last answer was a failure."""
        self.arrived_by_turns: set[str] = set()
        """Documents that arrived while documents were tried by turns: in no order."""
        self.failed_keys: set[str] = set()
        """Documents that failed while the OFD was there: they wait out back-offs of their own, and may be overtaken."""
        self.own_failures: Counter[str] = Counter()
        """How often each document failed while the OFD was there for the others."""

    def time(self) -> float:
        """The OFD's own clock, which is right."""
        return 1_795_000_000 + self.clock.monotonic()

    def put_faults(self, **faults: Any) -> None:
        """Put these faults in force instead of all others."""
        self._service._faults.replace(Faults(**faults))

    def heal(self) -> None:
        """Nothing is wrong any more."""
        self.unreachable = False
        self.timeout_rate = self.answer_lost_rate = 0.0
        self.put_faults()

    def documents(self) -> dict[str, dict[str, Any]]:
        """What it has, by key."""
        return {entry["key"]: entry for entry in self.books()["documents"]}

    def books(self) -> dict[str, Any]:
        """What `/_received` shows."""
        return self._ledger.as_json(full=False)

    def exchange(self, request: Request) -> Answer:
        """One exchange, as the bridge's child process carries it out; what came of it is kept for the invariants."""
        answer = self._exchange(request)
        if request.target == "health":
            self._hear_health(answer)
        else:
            self._keep(request.key, answer)
        return answer

    def _exchange(self, request: Request) -> Answer:
        method, path = ("POST", RECEIPT_PATH) if request.target == "receipt" else ("GET", HEALTH_PATH)
        self._effects.trace(f"ofd {path} {request.key}")
        self._effects.at(f"ofd {path}: before")
        if self.unreachable:
            return line_failed("Connection refused")
        if self._chance.random() < self.timeout_rate:
            return line_failed("no answer in time")
        if self.health_is_broken and request.target == "health":
            return classify(500, {}, b"", whole=True, now_s=self.time())
        headers = {"idempotency-key": request.key, "content-type": "application/json"}
        answer = self._service.answer(HttpRequest(method, path, headers, request.body))
        self._effects.at(f"ofd {path}: after")
        if answer.dropped or self._chance.random() < self.answer_lost_rate:
            return line_failed("Server disconnected")
        headers = {name.lower(): value for name, value in dict(answer.headers).items()}
        return classify(answer.status, headers, answer.encode(), whole=True, now_s=self.time())

    def _hear_health(self, answer: Answer) -> None:
        """What said that it was well while documents failed has made their failures their own."""
        if answer.kind is AnswerKind.ACCEPTED:
            for key in self.failing:
                self.failed_keys.add(key)

    def _keep(self, key: str, answer: Answer) -> None:
        self.told[key].append(answer.kind)
        self.log.append((key, answer.kind))
        if answer.kind is AnswerKind.ACCEPTED:
            self.failing.discard(key)
            self.arrived_by_turns |= {key} if self.is_by_turns else set()
            return
        if answer.kind is AnswerKind.DOCUMENT_REFUSED:
            self.failed_keys.add(key)  # a dead letter: requeued, it comes behind those that went on
        if answer.kind in FAILURES:
            self.failing.add(key)
            if not self.unreachable and not self._service._faults.current.outage:
                self.failed_keys.add(key)
                self.own_failures[key] += 1

    @property
    def is_by_turns(self) -> bool:
        """Whether a document has failed so often that others are tried in turn: then it may be overtaken, by any."""
        return any(
            sum(kind in MAY_BE_TRIED_BY_TURNS for kind in kinds) >= BY_TURNS_FROM for kinds in self.told.values()
        )

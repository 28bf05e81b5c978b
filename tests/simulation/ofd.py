"""The OFD: the simulator's own service and books, at the far end of a bad line."""

import random
from collections import Counter
from typing import Any

import httpx
from support.clocks import ManualClock

from kkt_bridge.simulators.ofd.faults import Faults
from kkt_bridge.simulators.ofd.ledger import Ledger
from kkt_bridge.simulators.ofd.service import OfdService, Request
from simulation.effects import Effects


class Ofd(httpx.BaseTransport):
    """What the bridge's HTTP client talks to instead of a socket."""

    def __init__(self, effects: Effects, chance: random.Random, clock: ManualClock) -> None:
        self._effects = effects
        self._chance = chance
        self.clock = clock
        self._ledger = Ledger(None)
        self._service = OfdService(self._ledger)
        self.unreachable = False
        self.timeout_rate = 0.0
        self.answer_lost_rate = 0.0
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

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange, or none."""
        key = request.headers.get("idempotency-key", "")
        self._effects.trace(f"ofd {request.url.path} {key}")
        self._effects.at(f"ofd {request.url.path}: before", may_switch=True)
        body = request.read()
        if self.unreachable:
            raise self._failed(key, httpx.ConnectError("Connection refused"))
        if self._chance.random() < self.timeout_rate:
            raise self._failed(key, httpx.ReadTimeout("timed out"))
        headers = {name.lower(): value for name, value in request.headers.items()}
        answer = self._service.answer(Request(request.method, str(request.url.path), headers, body))
        self._effects.at(f"ofd {request.url.path}: after", may_switch=True)
        if answer.dropped or self._chance.random() < self.answer_lost_rate:
            raise self._failed(key, httpx.RemoteProtocolError("Server disconnected"))
        if answer.status >= 400 and key and not self._service._faults.current.outage:
            self._note_failure(key)
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.encode())

    def _failed(self, key: str, error: httpx.TransportError) -> httpx.TransportError:
        if key and not self.unreachable:
            self._note_failure(key)
        return error

    def _note_failure(self, key: str) -> None:
        self.failed_keys.add(key)
        self.own_failures[key] += 1

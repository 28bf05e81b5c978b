"""Who is hit next, when, and when it comes back: random numbers and a schedule, no threads.

A fault comes at a random moment while the shop works; now and then upon a bridge that has hardly begun, upon
one that is just settling what the last fault left, or upon two processes at once.
"""

import heapq
import http.client
import itertools
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, get_args

from chaos.plan import BRIDGE, BROKER, LINE, OFD, REGISTER, Plan
from chaos.site import START_S, Site

from kkt_bridge.registers.virtual.faults import Step

FAULTS: Final[dict[str, tuple[tuple[str, ...], int]]] = {
    "bridge": ((BRIDGE,), 40),
    "broker": ((BROKER,), 14),
    "ofd": ((OFD,), 12),
    "register": ((REGISTER,), 20),
    "line": ((LINE,), 10),
    "burst": ((BRIDGE,), 6),
    "bridge and broker": ((BRIDGE, BROKER), 6),
    "everything": ((BRIDGE, BROKER, OFD), 2),
}
"""Who is hit, and how often in comparison."""

AT_ONCE_SHARE: Final = 0.6
"""Restarts without a pause, as a supervisor would."""

PAUSE_S, PAUSE_MAX_S = 0.4, 2.0
BURST: Final = (1, 3)
BURST_WITHIN_S: Final = 0.1
POLL_S: Final = 0.02
REGISTER_FAULT_S: Final = (0.3, 1.5)
"""How long something is wrong with a register."""

DARK_MAX_S: Final = 0.3
DROPPED_ANSWERS: Final = 3


class Killer:
    """Keeps a schedule of what is due; `step` does it."""

    def __init__(self, plan: Plan, site: Site) -> None:
        self._plan = plan
        self._site = site
        self._rng = plan.rng_for("killer")
        self._schedule: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._burst = 0
        self._deadline = time.monotonic() + plan.minutes * 60
        self._fault_table = {name: fault for name, fault in FAULTS.items() if set(fault[0]) <= set(plan.victims)}
        self._first_round = self._rng.sample(list(self._fault_table), len(self._fault_table))
        """Each fault comes once before any comes at random."""
        self.faults: Counter[str] = Counter()
        """Faults of registers and of the line, by kind."""
        self._plan_next()

    @property
    def kills(self) -> int:
        """Processes ended by SIGKILL so far."""
        return self._site.kills.total()

    @property
    def is_late(self) -> bool:
        """Return whether the time for killing is over."""
        return time.monotonic() > self._deadline

    def allow(self, seconds: float) -> None:
        """So long nothing was to be killed: the time for killing ends that much later."""
        self._deadline += seconds

    def spare(self, name: str) -> None:
        """Do not hit it any more."""
        self._fault_table = {
            fault: (victims, weight) for fault, (victims, weight) in self._fault_table.items() if name not in victims
        }

    def step(self) -> float:
        """Do what is due; return the seconds until the next entry."""
        while self._schedule and self._schedule[0][0] <= time.monotonic():
            heapq.heappop(self._schedule)[2]()
        return max(0.0, self._schedule[0][0] - time.monotonic()) if self._schedule else POLL_S

    def _run_later(self, in_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._schedule, (time.monotonic() + in_s, next(self._number), action))

    # -- when ------------------------------------------------------------------------------------------------

    def _plan_next(self) -> None:
        if self._burst:
            self._plan_burst()
            return
        gap_s = self._rng.expovariate(1 / self._plan.gap_s)
        if self._rng.random() < self._plan.unready_share:
            self._run_later(gap_s, self._inject)
        else:
            self._when(self._site.bridge.is_ready, gap_s, self._inject)

    def _plan_burst(self) -> None:
        """The bridge once more, as soon as it has begun, or as soon as it is up."""
        within_s = self._rng.uniform(0, BURST_WITHIN_S)
        if self._rng.random() < 0.5:
            self._when(lambda: self._site.bridge.is_started, within_s, self._kill_again)
        else:
            self._when(self._site.bridge.is_ready, within_s, self._kill_again)

    def _when(self, condition: Callable[[], bool], in_s: float, action: Callable[[], None]) -> None:
        """Do it so long after the condition holds; what never comes up is noted, and waited for no longer."""
        deadline = time.monotonic() + START_S

        def look() -> None:
            if condition():
                self._run_later(in_s, action)
            elif time.monotonic() > deadline:
                self._site.deaths.append(f"a process that was started again was not ready within {START_S:g} s")
                action()
            else:
                self._run_later(POLL_S, look)

        look()

    # -- whom ------------------------------------------------------------------------------------------------

    def _inject(self) -> None:
        name = self._draw()
        self._burst = self._rng.randint(*BURST) if name == "burst" else 0
        for victim in self._fault_table[name][0]:
            self._inject_into(victim)
        self._plan_next()

    def _draw(self) -> str:
        if self._first_round and (name := self._first_round.pop()) in self._fault_table:
            return name
        return self._rng.choices(list(self._fault_table), [weight for _, weight in self._fault_table.values()])[0]

    def _inject_into(self, victim: str) -> None:
        if victim == REGISTER:
            self._inject_register_fault()
        elif victim == LINE:
            self._lose_packets()
        else:
            self._kill_process(victim)

    def _kill_again(self) -> None:
        self._burst -= 1
        self._kill_process(BRIDGE)
        self._plan_next()

    def _kill_process(self, name: str) -> None:
        if not self._site.kill(name):
            return
        at_once = self._burst > 0 or self._rng.random() < AT_ONCE_SHARE
        pause_s = 0.0 if at_once else min(self._rng.expovariate(1 / PAUSE_S), PAUSE_MAX_S)
        self._run_later(pause_s, lambda: self._revive(name))

    def _revive(self, name: str) -> None:
        self._site.revive(name)
        if name == OFD and self._rng.random() < 0.3:
            self._when(lambda: not self._site.ofd.is_started or self._site.ofd.answers(), 0, self._drop_answers)

    def _drop_answers(self) -> None:
        """Documents that the OFD takes while its answers get lost; unless it is dead again already."""
        with suppress(OSError, http.client.HTTPException):
            self._site.ofd.set_faults(drop_answers_next=DROPPED_ANSWERS)

    def _lose_packets(self) -> None:
        """Messages and acknowledgements on their way are lost, though both ends live."""
        self._site.line.go_dark()
        self._run_later(self._rng.uniform(0, DARK_MAX_S), self._site.line.cut)
        self.faults["line cut"] += 1

    def _inject_register_fault(self) -> None:
        kkt = self._rng.choice(sorted(self._site.registers))
        kind = self._rng.choices(("power_cut", "lose_answer_next", "offline"), (60, 25, 15))[0]
        times = self._rng.randint(1, 2)
        faults: dict[str, dict[str, Any]] = {
            "power_cut": {"power_cut": {"at": self._rng.choice(get_args(Step)), "times": times}},
            "lose_answer_next": {"lose_answer_next": times},
            "offline": {"offline": True},
        }
        self._site.fault(kkt, faults[kind])
        self.faults[kind] += 1
        self._run_later(self._rng.uniform(*REGISTER_FAULT_S), lambda: self._site.repair(kkt))

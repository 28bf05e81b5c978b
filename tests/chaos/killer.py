"""Who is hit next, when, and when it comes back: dice and a diary, no threads.

A blow falls at a random moment while the shop works; now and then upon a bridge that has hardly begun, upon
one that is just settling what the last blow left, or upon two processes at once.
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

BLOWS: Final[dict[str, tuple[tuple[str, ...], int]]] = {
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
ILL_S: Final = (0.3, 1.5)
"""How long something is wrong with a register."""

DARK_MAX_S: Final = 0.3
DROPPED_ANSWERS: Final = 3


class Killer:
    """Keeps a diary of what is due; `step` does it."""

    def __init__(self, plan: Plan, site: Site) -> None:
        self._plan = plan
        self._site = site
        self._chance = plan.chance("killer")
        self._diary: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._burst = 0
        self._deadline = time.monotonic() + plan.minutes * 60
        self._blows = {name: blow for name, blow in BLOWS.items() if set(blow[0]) <= set(plan.victims)}
        self._deck = self._chance.sample(list(self._blows), len(self._blows))
        """Each blow falls once before any falls by chance."""
        self.faults: Counter[str] = Counter()
        """What was done to registers and to the line, by kind."""
        self._plan_blow()

    @property
    def kills(self) -> int:
        """Processes ended by SIGKILL so far."""
        return self._site.kills.total()

    @property
    def is_late(self) -> bool:
        """Whether the time for killing is over."""
        return time.monotonic() > self._deadline

    def allow(self, seconds: float) -> None:
        """So long nothing was to be killed: the time for killing ends that much later."""
        self._deadline += seconds

    def spare(self, name: str) -> None:
        """Do not hit it any more."""
        self._blows = {
            blow: (victims, weight) for blow, (victims, weight) in self._blows.items() if name not in victims
        }

    def step(self) -> float:
        """Do what is due; return the seconds until the next entry."""
        while self._diary and self._diary[0][0] <= time.monotonic():
            heapq.heappop(self._diary)[2]()
        return max(0.0, self._diary[0][0] - time.monotonic()) if self._diary else POLL_S

    def _note(self, in_s: float, deed: Callable[[], None]) -> None:
        heapq.heappush(self._diary, (time.monotonic() + in_s, next(self._number), deed))

    # -- when ------------------------------------------------------------------------------------------------

    def _plan_blow(self) -> None:
        if self._burst:
            self._plan_burst()
            return
        gap_s = self._chance.expovariate(1 / self._plan.gap_s)
        if self._chance.random() < self._plan.unready_share:
            self._note(gap_s, self._strike)
        else:
            self._when(self._site.bridge.is_ready, gap_s, self._strike)

    def _plan_burst(self) -> None:
        """The bridge once more, as soon as it has begun, or as soon as it is up."""
        within_s = self._chance.uniform(0, BURST_WITHIN_S)
        if self._chance.random() < 0.5:
            self._when(lambda: self._site.bridge.is_started, within_s, self._strike_again)
        else:
            self._when(self._site.bridge.is_ready, within_s, self._strike_again)

    def _when(self, condition: Callable[[], bool], in_s: float, deed: Callable[[], None]) -> None:
        """Do it so long after the condition holds; what never comes up is noted, and waited for no longer."""
        deadline = time.monotonic() + START_S

        def look() -> None:
            if condition():
                self._note(in_s, deed)
            elif time.monotonic() > deadline:
                self._site.deaths.append(f"a process that was started again was not ready within {START_S:g} s")
                deed()
            else:
                self._note(POLL_S, look)

        look()

    # -- whom ------------------------------------------------------------------------------------------------

    def _strike(self) -> None:
        name = self._draw()
        self._burst = self._chance.randint(*BURST) if name == "burst" else 0
        for victim in self._blows[name][0]:
            self._strike_one(victim)
        self._plan_blow()

    def _draw(self) -> str:
        if self._deck and (name := self._deck.pop()) in self._blows:
            return name
        return self._chance.choices(list(self._blows), [weight for _, weight in self._blows.values()])[0]

    def _strike_one(self, victim: str) -> None:
        if victim == REGISTER:
            self._strike_register()
        elif victim == LINE:
            self._strike_line()
        else:
            self._strike_process(victim)

    def _strike_again(self) -> None:
        self._burst -= 1
        self._strike_process(BRIDGE)
        self._plan_blow()

    def _strike_process(self, name: str) -> None:
        if not self._site.kill(name):
            return
        at_once = self._burst > 0 or self._chance.random() < AT_ONCE_SHARE
        pause_s = 0.0 if at_once else min(self._chance.expovariate(1 / PAUSE_S), PAUSE_MAX_S)
        self._note(pause_s, lambda: self._revive(name))

    def _revive(self, name: str) -> None:
        self._site.revive(name)
        if name == OFD and self._chance.random() < 0.3:
            self._when(lambda: not self._site.ofd.is_started or self._site.ofd.answers(), 0, self._drop_answers)

    def _drop_answers(self) -> None:
        """Documents that the OFD takes while its answers get lost; unless it is dead again already."""
        with suppress(OSError, http.client.HTTPException):
            self._site.ofd.set_faults(drop_answers_next=DROPPED_ANSWERS)

    def _strike_line(self) -> None:
        """Messages and acknowledgements on their way are lost, though both ends live."""
        self._site.line.go_dark()
        self._note(self._chance.uniform(0, DARK_MAX_S), self._site.line.cut)
        self.faults["line cut"] += 1

    def _strike_register(self) -> None:
        kkt = self._chance.choice(sorted(self._site.registers))
        kind = self._chance.choices(("power_cut", "lose_answer_next", "offline"), (60, 25, 15))[0]
        times = self._chance.randint(1, 2)
        faults: dict[str, dict[str, Any]] = {
            "power_cut": {"power_cut": {"at": self._chance.choice(get_args(Step)), "times": times}},
            "lose_answer_next": {"lose_answer_next": times},
            "offline": {"offline": True},
        }
        self._site.fault(kkt, faults[kind])
        self.faults[kind] += 1
        self._note(self._chance.uniform(*ILL_S), lambda: self._site.cure(kkt))

"""The course of the demo, scene by scene: trade, an outage of the OFD, sales that go on, recovery."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from kkt_bridge.demo.dashboard import Dashboard
from kkt_bridge.demo.site import OfdControl
from kkt_bridge.simulators.pos import Tally, Trade

BEFORE: Final = 0.2
DURING: Final = 0.6
"""Parts of a limited number of receipts that are sold before and during the outage."""

PATIENCE_S: Final = 60.0
"""A scene that does not come to its end is left after so long, and the counts show what went wrong."""

TRADE_S: Final = 8.0
FULL_ENOUGH_PERCENT: Final = 70.0
"""An endless story's outage ends here: until the breaker asks again, the buffer goes on filling."""
DRAINED_PERCENT: Final = 10.0
"""Below this an endless story's delivery is over."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene: its begin, its end, and how long it lasts at least and at most, in seconds."""

    name: str
    begin: Callable[[], None]
    is_over: Callable[[], bool]
    at_least_s: float = 0.0
    at_most_s: float = PATIENCE_S


class Story:
    """The scenes, played by `step`."""

    def __init__(self, dashboard: Dashboard, ofd_control: OfdControl, trade: Trade, tally: Tally) -> None:
        self._dashboard = dashboard
        self._ofd_control = ofd_control
        self._trade = trade
        self._tally = tally
        self._scenes: Iterator[Scene] = iter(())
        self._scene: Scene | None = None
        self._began = 0.0
        self.over = False

    @property
    def scene(self) -> str:
        """The name of the current scene."""
        return self._scene.name if self._scene is not None else ""

    def choose(self, receipts: int | None, *, receipt_s: float, watched: bool) -> None:
        """Choose the story: that of so many receipts, each taking so long; None: the endless one.

        For who watches, the outage lasts until it can be seen what it did.
        """
        self._scenes = self._endless() if receipts is None else self._limited(receipts, receipt_s, watched=watched)

    def step(self, now: float) -> None:
        """Go on to the next scene if this one is over."""
        scene, lasted = self._scene, now - self._began
        if scene is not None and lasted < scene.at_most_s and (lasted < scene.at_least_s or not scene.is_over()):
            return
        self._scene, self._began = next(self._scenes, None), now
        if self._scene is None:
            self.over = True
        else:
            self._scene.begin()

    # -- the two stories --------------------------------------------------------------------------------------

    def _limited(self, receipts: int, receipt_s: float, *, watched: bool) -> Iterator[Scene]:
        before, during = int(receipts * BEFORE), math.ceil(receipts * DURING)

        def sold(customers: int) -> Callable[[], bool]:
            return lambda: self._tally.answered >= customers

        def patience(customers: int) -> float:
            return PATIENCE_S + customers * receipt_s

        def outage_is_seen() -> bool:
            probe_in_s = self._dashboard.seconds_to_probe(time.monotonic()) or 0.0
            seen = self._dashboard.buffer("pending") >= 0.9 * during and probe_in_s > 1.0
            return sold(before + during)() and self._dashboard.breaker == "open" and (seen or not watched)

        def everything_is_delivered() -> bool:
            synced = self._dashboard.buffer("synced")
            return self._dashboard.buffer("pending") == 0 and synced >= len(self._tally.printed)

        def sales_before_are_delivered() -> bool:
            # The buffer holds the sales of the outage, not also those of before that are still on their way to the OFD.
            return sold(before)() and everything_is_delivered()

        yield Scene("trade", lambda: self._open_shop(before), sales_before_are_delivered, 0.0, patience(before))
        yield Scene("outage", lambda: self._begin_outage(during), outage_is_seen, 1.0, patience(during))
        yield Scene("recovery", self._end_outage, lambda: self._dashboard.breaker == "closed")
        last = receipts - before - during
        yield Scene("trade goes on", lambda: self._trade.let_in(last), sold(receipts), at_most_s=patience(last))
        yield Scene("delivery", self._trade.close_the_door, everything_is_delivered)

    def _endless(self) -> Iterator[Scene]:
        yield Scene("opening", lambda: self._open_shop(math.inf), lambda: True)
        while True:
            yield Scene("trade", lambda: None, lambda: True, TRADE_S)
            yield Scene("outage", lambda: self._begin_outage(0), self._is_full_enough, TRADE_S, 3 * TRADE_S)
            yield Scene("recovery", self._end_outage, lambda: self._dashboard.breaker == "closed")
            yield Scene("delivery", lambda: None, lambda: self._dashboard.fill_percent < DRAINED_PERCENT)
            yield Scene("relief", self._sum_up, lambda: True, TRADE_S / 2)

    # -- the events in them -----------------------------------------------------------------------------------

    def _open_shop(self, customers: float) -> None:
        self._dashboard.add_caption("The shop opens")
        self._trade.let_in(customers)

    def _begin_outage(self, customers: float) -> None:
        self._ofd_control.begin_outage()
        self._dashboard.add_caption("The demo takes the OFD away")
        self._trade.let_in(customers)

    def _end_outage(self) -> None:
        self._ofd_control.end_outage()
        self._dashboard.add_caption("The demo gives the OFD back")

    def _sum_up(self) -> None:
        self._dashboard.add_caption(f"All {self._dashboard.buffer('synced')} documents are at the OFD")

    def _is_full_enough(self) -> bool:
        return self._dashboard.fill_percent >= FULL_ENOUGH_PERCENT

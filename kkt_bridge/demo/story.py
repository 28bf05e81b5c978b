"""The story that the demo tells, scene by scene: trade, an outage of the OFD, sales that go on, recovery."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from kkt_bridge.demo.captions import story
from kkt_bridge.demo.ofd_control import OfdControl
from kkt_bridge.demo.picture import Picture
from kkt_bridge.simulators.pos import Tally, Trade

BEFORE: Final = 0.2
DURING: Final = 0.6
"""Parts of a limited number of receipts that are sold before and during the outage."""

PATIENCE_S: Final = 60.0
"""A scene that does not come to its end is left after so long, and the counts show what went wrong."""

TRADE_S: Final = 8.0
FULL_ENOUGH_PERCENT: Final = 70.0
"""An endless story's outage ends here: until the breaker asks again, the buffer goes on filling."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene: what begins it, when it is over, and how long it lasts at least and at most, in seconds."""

    name: str
    begin: Callable[[], None]
    is_over: Callable[[], bool]
    at_least_s: float = 0.0
    at_most_s: float = PATIENCE_S


class Story:
    """The scenes, played by `step`."""

    def __init__(self, picture: Picture, ofd_control: OfdControl, trade: Trade, tally: Tally) -> None:
        self._picture = picture
        self._ofd_control = ofd_control
        self._trade = trade
        self._tally = tally
        self._scenes: Iterator[Scene] = iter(())
        self._scene: Scene | None = None
        self._began = 0.0
        self.over = False

    @property
    def scene(self) -> str:
        """The name of the scene that is being played."""
        return self._scene.name if self._scene is not None else ""

    def tell(self, receipts: int | None, *, receipt_s: float, watched: bool) -> None:
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

        def outage_is_felt() -> bool:
            seen = self._pending() >= 0.9 * during and (self._picture.seconds_to_probe(time.monotonic()) or 0.0) > 1.0
            return sold(before + during)() and self._picture.breaker == "open" and (seen or not watched)

        def everything_is_delivered() -> bool:
            return self._pending() == 0 and self._picture.buffer("synced") >= len(self._tally.printed)

        # The buffer holds the sales of the outage, not also those of before that are still on their way to the OFD.
        settled = lambda: sold(before)() and everything_is_delivered()  # noqa: E731 (a line as short as its neighbours)
        yield Scene("trade", lambda: self._open_shop(before), settled, at_most_s=patience(before))
        yield Scene("outage", lambda: self._begin_outage(during), outage_is_felt, 1.0, patience(during))
        yield Scene("recovery", lambda: self._end_outage(0), lambda: self._picture.breaker == "closed")
        last = receipts - before - during
        yield Scene("trade goes on", lambda: self._let_the_last_in(last), sold(receipts), at_most_s=patience(last))
        yield Scene("delivery", self._trade.close_the_door, everything_is_delivered)

    def _endless(self) -> Iterator[Scene]:
        yield Scene("opening", lambda: self._open_shop(math.inf), lambda: True)
        while True:
            yield Scene("trade", lambda: None, lambda: True, TRADE_S)
            yield Scene("outage", lambda: self._begin_outage(0), self._buffer_is_filling, TRADE_S, 3 * TRADE_S)
            yield Scene("recovery", lambda: self._end_outage(0), lambda: self._picture.breaker == "closed")
            yield Scene("delivery", lambda: None, self._is_drained)
            yield Scene("relief", self._sum_up, lambda: True, TRADE_S / 2)

    # -- what happens in them -----------------------------------------------------------------------------------

    def _open_shop(self, customers: float) -> None:
        self._picture.tell(story("The shop opens"))
        self._trade.let_in(customers)

    def _begin_outage(self, customers: float) -> None:
        self._ofd_control.begin_outage()
        self._picture.tell(story("The demo takes the OFD away"))
        self._trade.let_in(customers)

    def _end_outage(self, customers: float) -> None:
        self._ofd_control.end_outage()
        self._picture.tell(story("The demo gives the OFD back"))
        self._trade.let_in(customers)

    def _let_the_last_in(self, customers: float) -> None:
        self._trade.let_in(customers)

    def _sum_up(self) -> None:
        self._picture.tell(story(f"All {self._picture.buffer('synced')} documents are at the OFD"))

    def _pending(self) -> int:
        return self._picture.buffer("pending")

    def _buffer_is_filling(self) -> bool:
        return self._picture.fill_percent >= FULL_ENOUGH_PERCENT

    def _is_drained(self) -> bool:
        return self._picture.fill_percent < 10

"""8. Order does not depend on the wall clock: the hybrid logical clock is persisted and never goes back."""

from typing import Any

from simulation.invariants.invariant import Invariant


class OrderWithoutTheClock(Invariant):
    """Each receipt keeps its place in the order, and no two share one; later ones come later."""

    name = "order without the clock"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._places: dict[tuple[int, int], tuple[str, str]] = {}

    def told(self, topic: list[str], content: dict[str, Any]) -> None:
        if topic[0] != "pos" or content["hlc"] is None:
            return
        place = (content["hlc"]["wall_ms"], content["hlc"]["counter"])
        owner = (content["pos_id"], content["receipt_id"])
        if self._places.setdefault(place, owner) != owner:
            self.fail(f"{owner} and {self._places[place]} share {place}")

    def finish(self) -> None:
        places = self.world.rows("SELECT hlc_wall_ms, hlc_counter FROM receipts ORDER BY id")
        if places != sorted(set(places)):
            self.fail(f"the order of taking is not that of the hybrid clock: {places}")

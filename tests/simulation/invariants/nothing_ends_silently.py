"""5. Nothing ends silently: each step of each receipt is told, and the steps make a life."""

from typing import Any

from support.invariants import check_lives

from simulation.invariants.invariant import Invariant


class NothingEndsSilently(Invariant):
    """The events alone tell the whole life of every receipt that was taken."""

    name = "nothing ends silently"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._steps: list[dict[str, Any]] = []

    def told(self, topic: list[str], content: dict[str, Any]) -> None:
        if topic == ["event", "receipt"]:
            self._steps += content["steps"]

    def finish(self) -> None:
        try:
            check_lives(self._steps)
        except AssertionError as error:
            self.fail(f"the events do not make a life: {error}")
        lives = [step for step in self._steps if step["from"] or step["to"] == "buffered"]
        ends = {(step["pos_id"], step["receipt_id"]): step["to"] for step in lives}
        stored = self.world.rows("SELECT pos_id, receipt_id, status FROM receipts")
        for pos_id, receipt_id, status in stored:
            told = ends.get((pos_id, receipt_id))
            if told != status:
                self.fail(f"{pos_id}:{receipt_id} is {status}, and the last event told {told}")

"""9. What is wrong is seen: dead letters that nobody has decided on show in the health and among the alerts."""

from typing import Any

from simulation.invariants.invariant import Invariant

SEEN_WITHIN_S = 3.0
"""The bridge looks every second; the rest is for a broker and a scheduler that take their time."""

TOLD_WITHIN_S = 30.0
"""At the end of a day that came to rest: a change is written with a commit first, and told at the look behind it."""


class WrongIsSeen(Invariant):
    """Whoever reads the retained state learns of dead letters, while they are there and no longer.

    The states are told one by one, and an older one of the count may be heard beside a newer one of the alerts: what
    seems to be hidden is held against the bridge where it still is a while later.
    """

    name = "what is wrong is seen"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._dead = 0
        self._alerts: set[str] = set()
        self._dead_since_s: float | None = None
        self._hidden: dict[str, tuple[float, str]] = {}
        """Since when the state on each topic does not show dead letters that are there, and what it says."""

    def told(self, topic: list[str], content: dict[str, Any]) -> None:
        match topic:
            case ["state", "online"]:
                self._well()  # what stands there is of an earlier connection, and is said again now
            case ["state", "buffer"]:
                self._dead = content["dlq_size"]
                if not self._dead:
                    self._well()
                elif self._dead_since_s is None:
                    self._dead_since_s = self.world.clock.monotonic()
            case ["state", "health"]:
                self._shown("health", "the health says healthy", is_shown=content["status"] != "healthy")
            case ["state", "alerts"]:
                self._alerts = {alert["code"] for alert in content["alerts"]}
                self._shown("alerts", f"the alerts are {sorted(self._alerts)}", is_shown="dead_letters" in self._alerts)
        for since_s, what in self._hidden.values():
            if self.world.clock.monotonic() - since_s > SEEN_WITHIN_S:
                self.fail(f"{self._dead} dead letters, and {what}")

    def _well(self) -> None:
        self._dead_since_s = None
        self._hidden.clear()

    def _shown(self, where: str, what: str, *, is_shown: bool) -> None:
        since_s, now = self._dead_since_s, self.world.clock.monotonic()
        if is_shown or since_s is None or now - since_s <= SEEN_WITHIN_S:
            self._hidden.pop(where, None)
        else:
            self._hidden.setdefault(where, (now, what))

    def finish(self) -> None:
        if self._is_told_wrong():
            self.world.let_pass(TOLD_WITHIN_S)
        if self._is_told_wrong():
            self.fail(f"{self._dead_letters()} dead letters are left, and the alerts are {sorted(self._alerts)}")

    def _is_told_wrong(self) -> bool:
        return (self._dead_letters() > 0) != ("dead_letters" in self._alerts)

    def _dead_letters(self) -> int:
        ((dead,),) = self.world.rows("SELECT count(*) FROM documents WHERE delivery = 'dead'")
        return int(dead)

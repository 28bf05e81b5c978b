"""9. What is wrong is seen: dead letters that nobody has decided on show in the health and among the alerts."""

from typing import Any

from simulation.invariants.invariant import Invariant

SEEN_WITHIN_S = 3.0
"""The bridge looks every second; the rest is for a broker and a scheduler that take their time."""


class WrongIsSeen(Invariant):
    """Whoever reads the retained state learns of dead letters, while they are there and no longer."""

    name = "what is wrong is seen"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._health = ""
        self._alerts: set[str] = set()
        self._dead_since_s: float | None = None

    def told(self, topic: list[str], content: dict[str, Any]) -> None:
        match topic:
            case ["state", "online"]:
                self._dead_since_s = None  # what stands there is of an earlier connection, and is said again now
            case ["state", "health"]:
                self._health = content["status"]
            case ["state", "alerts"]:
                self._alerts = {alert["code"] for alert in content["alerts"]}
            case ["state", "buffer"]:
                self._look(content["dlq_size"])

    def _look(self, dead: int) -> None:
        now_s = self.world.clock.monotonic()
        if not dead:
            self._dead_since_s = None
        elif self._dead_since_s is None:
            self._dead_since_s = now_s
        elif now_s - self._dead_since_s > SEEN_WITHIN_S:
            if self._health == "healthy":
                self.fail(f"{dead} dead letters, and the health says healthy")
            if "dead_letters" not in self._alerts:
                self.fail(f"{dead} dead letters, and the alerts are {sorted(self._alerts)}")

    def finish(self) -> None:
        ((dead,),) = self.world.rows("SELECT count(*) FROM documents WHERE delivery = 'dead'")
        if (dead > 0) != ("dead_letters" in self._alerts):
            self.fail(f"{dead} dead letters are left, and the alerts are {sorted(self._alerts)}")

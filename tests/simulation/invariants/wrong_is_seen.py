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
        self._dead = 0
        self._alerts: set[str] = set()
        self._dead_since_s: float | None = None

    def told(self, topic: list[str], content: dict[str, Any]) -> None:
        match topic:
            case ["state", "online"]:
                self._dead_since_s = None  # what stands there is of an earlier connection, and is said again now
            case ["state", "buffer"]:
                self._dead = content["dlq_size"]
                if not self._dead:
                    self._dead_since_s = None
                elif self._dead_since_s is None:
                    self._dead_since_s = self.world.clock.monotonic()
            case ["state", "health"]:
                if self._should_be_seen() and content["status"] == "healthy":
                    self.fail(f"{self._dead} dead letters, and the health says healthy")
            case ["state", "alerts"]:
                self._alerts = {alert["code"] for alert in content["alerts"]}
                if self._should_be_seen() and "dead_letters" not in self._alerts:
                    self.fail(f"{self._dead} dead letters, and the alerts are {sorted(self._alerts)}")

    def _should_be_seen(self) -> bool:
        """Whether what is said now was composed when dead letters had been there for long enough."""
        since_s = self._dead_since_s
        return since_s is not None and self.world.clock.monotonic() - since_s > SEEN_WITHIN_S

    def finish(self) -> None:
        ((dead,),) = self.world.rows("SELECT count(*) FROM documents WHERE delivery = 'dead'")
        if (dead > 0) != ("dead_letters" in self._alerts):
            self.fail(f"{dead} dead letters are left, and the alerts are {sorted(self._alerts)}")

"""The bridge's state as messages: one loop that looks at each component and lets none of them silence another."""

import threading
from collections.abc import Sequence
from typing import Final

from kkt_bridge.operations.alerts import Alerts
from kkt_bridge.operations.components import Component, ComponentReport, ShopTime
from kkt_bridge.operations.facts import Broken, Observation
from kkt_bridge.operations.guard import Guard
from kkt_bridge.operations.health import part, whole
from kkt_bridge.operations.retained_state import RetainedState
from kkt_bridge.wire.messages import ComponentHealth, Online

INTERVAL_S: Final = 1.0
"""How late a change may be noticed."""


class Telemetry:
    """Looks at the components and puts what it sees on the board."""

    def __init__(
        self,
        *,
        retained_state: RetainedState,
        components: Sequence[Component],
        alerts: Alerts,
        online: Online,
        time: ShopTime,
    ) -> None:
        self._retained_state = retained_state
        self._components = components
        self._alerts = alerts
        self._online = online
        self._time = time
        self._guard = Guard()
        self._next_look = 0.0
        self._looking = threading.Lock()  # the board's thread looks, and so does an operator's `status`

    def step(self) -> float | None:
        """Look at everything once."""
        now = self._time.clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + INTERVAL_S
            self.look()
        # What changed while its topic had to be silent is said in between, before the next change hides it.
        self._retained_state.step()
        return max(0.0, min(INTERVAL_S / 2, self._next_look - now))

    def look(self) -> None:
        """Put the present state of every component on the board, health and alerts first."""
        with self._looking:
            reports = {each.name: self._guard.run(each.name, each.look) for each in self._components}
            self._retained_state.put("health", whole(self._health(reports), self._time.now()))
            self._guard.run("alerts", lambda: self._look_for_alerts(reports))
            for name, report in reports.items():
                if report is not None:
                    self._guard.run(f"state of {name}", lambda report=report: self._show(report))  # type: ignore[misc]

    def status(self) -> dict[str, object]:
        """Every state message in one answer."""
        self.look()
        messages = {name: message.model_dump(mode="json") for name, message in self._retained_state.snapshot().items()}
        registers = {
            name.removeprefix("kkt/"): messages.pop(name) for name in list(messages) if name.startswith("kkt/")
        }
        return {"online": self._online.model_dump(mode="json"), **messages, "kkt": registers}

    def _health(self, reports: dict[str, ComponentReport | None]) -> dict[str, ComponentHealth]:
        broken = self._guard.broken
        return {
            name: report.health if report is not None else part("unhealthy", f"cannot be looked at: {broken[name]}")
            for name, report in reports.items()
        }

    def _look_for_alerts(self, reports: dict[str, ComponentReport | None]) -> None:
        facts = [fact for report in reports.values() if report is not None for fact in report.facts]
        broken = self._guard.broken | self._alerts.broken
        self._alerts.look(Observation([*facts, *(Broken(name, reason) for name, reason in broken.items())]))
        self._retained_state.put("alerts", self._alerts.state())

    def _show(self, report: ComponentReport) -> None:
        for name, message in report.states.items():
            self._retained_state.put(name, message)

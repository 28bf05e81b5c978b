"""Telemetry: one loop collects the reports of all components, and publishes state, health and alerts."""

import threading
from collections.abc import Mapping
from functools import partial
from typing import Final

from kkt_bridge.operations.alerts import Alerts
from kkt_bridge.operations.component_report import BrokenParts, ComponentReport, Report
from kkt_bridge.operations.components import ShopTime
from kkt_bridge.operations.health import Guard, part, whole
from kkt_bridge.operations.retained_state import RetainedState
from kkt_bridge.wire.messages import ComponentHealth, Online, Outgoing

INTERVAL_S: Final = 1.0
"""Seconds between two collections: how late a change may be noticed."""


class Telemetry:
    """Collects the components' reports into the retained state."""

    def __init__(
        self,
        *,
        retained_state: RetainedState,
        components: Mapping[str, Report],
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
        self._next_at = 0.0
        self._collecting = threading.Lock()  # the telemetry's thread collects, and so does an operator's `status`

    def step(self) -> float | None:
        """Collect when it is due, and publish what is due."""
        now = self._time.clock.monotonic()
        if now >= self._next_at:
            self._next_at = now + INTERVAL_S
            self.collect()
        # What changed while its topic had to be silent is published in between, before the next change hides it.
        self._retained_state.step()
        return max(0.0, min(INTERVAL_S / 2, self._next_at - now))

    def collect(self) -> None:
        """Put the present state of every component into the retained state, health and alerts first."""
        with self._collecting:
            reports = {name: self._guard.run(name, report) for name, report in self._components.items()}
            self._retained_state.put("health", whole(self._health(reports), self._time.now()))
            self._guard.run("alerts", partial(self._update_alerts, reports))
            for name, report in reports.items():
                if report is not None:
                    self._guard.run(f"state of {name}", partial(self._put, report.states))

    def status(self) -> dict[str, object]:
        """Return every state message in one answer."""
        self.collect()
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

    def _update_alerts(self, reports: dict[str, ComponentReport | None]) -> None:
        facts = [fact for report in reports.values() if report is not None for fact in report.facts]
        self._alerts.update([*facts, BrokenParts(self._guard.broken | self._alerts.broken)])
        self._retained_state.put("alerts", self._alerts.state())

    def _put(self, states: Mapping[str, Outgoing]) -> None:
        for name, message in states.items():
            self._retained_state.put(name, message)

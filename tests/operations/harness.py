"""Telemetry, alerts and commands of a shop whose stages are stepped by hand."""

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.stages import TOPICS, ZONE, InProcessBridge

from kkt_bridge.mqtt.messages import SessionStatus
from kkt_bridge.operations.components import OfdComponent, ShopTime
from kkt_bridge.operations.retained_state import RetainedState
from kkt_bridge.runtime.wiring import build_command_worker, build_telemetry, components
from kkt_bridge.stages.delivery.delivery import DeliveryStatus
from kkt_bridge.wire.messages import Online

ROUNDS_MAX = 20


class OperationsHarness:
    """Retained state, telemetry and the command worker over a `InProcessBridge`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.shop = InProcessBridge(folder, **settings)
        self.session = SessionStatus(online=True)
        self.evidence: dict[str, Any] = {}
        """Fields of the delivery's status that differ from its own."""
        self._open()

    def _open(self) -> None:
        shop = self.shop
        online = Online(online=True, since="2026-11-22T12:03:00.000+03:00", version="0.1.0", boot_id="boot")
        self.retained_state = RetainedState(
            link=shop.line, topics=TOPICS, interval_s=shop.settings.telemetry.interval_s, clock=shop.clock
        )
        ofd = OfdComponent(self._delivery_view, shop.sync.breaker, ShopTime(shop.clock, ZONE))
        self.components = components(shop.base, shop.admission, shop.lanes, lambda: self.session, ofd)
        self.telemetry = build_telemetry(shop.base, self.retained_state, self.components, online)
        self.woken: list[str] = []
        self.command_worker = build_command_worker(
            shop.base,
            self.telemetry,
            shop.admission,
            shop.sync.delivery,
            shop.lanes,
            wake_delivery=lambda: self.woken.append("delivery"),
            wake_lane=self.woken.append,
            wake_commands=lambda: self.woken.append("commands"),
        )
        self.table = self.command_worker._handlers

    def _delivery_view(self) -> DeliveryStatus:
        sync = self.shop.sync
        view = DeliveryStatus(
            network=sync.network.state,
            in_progress=sync.delivery.in_progress,
            sent_total=sync.delivery.outcomes.sent_total,
            failed_total=sync.delivery.outcomes.failed_total,
            last_success_ms=sync.delivery.outcomes.last_success_ms,
        )
        return replace(view, **self.evidence)

    @property
    def rival(self) -> str | None:
        """Why another bridge of our name is suspected at the broker."""
        return self.session.rival

    @rival.setter
    def rival(self, why: str | None) -> None:
        self.session = replace(self.session, rival=why)

    def close(self) -> None:
        """End the process."""
        self.shop.kill()

    def restart(self) -> None:
        """Kill the process and start the next one."""
        self.shop.restart()
        self._open()

    def order(self, name: str, command_id: str | None = None, **args: Any) -> dict[str, Any]:
        """Have a command carried out; its result."""
        command_id = command_id or str(uuid.uuid4())
        self.shop.command(name, command_id, **args)
        self.work()
        return self.results(name, command_id)[-1]

    def order_without_work(self, name: str, **args: Any) -> Any:
        """Have a command carried out while the stages stand still; what it returns."""
        command_id = str(uuid.uuid4())
        self.shop.command(name, command_id, **args)
        self.command_worker.step()
        return self.results(name, command_id)[-1]["result"]

    def results(self, name: str, command_id: str) -> list[dict[str, Any]]:
        """The results published for a command."""
        return [
            result for result in self.shop.sent_to(TOPICS.command_result(name)) if result["command_id"] == command_id
        ]

    def work(self) -> None:
        """Step the command worker, and whatever a command set in motion, until nothing moves."""
        for _ in range(ROUNDS_MAX):
            self.command_worker.step()
            self.shop.print_all()
            self.shop.sync.run()
            if not self.woken:
                return
            self.woken.clear()
        raise AssertionError("the stages do not come to rest")

    def state(self, name: str) -> dict[str, Any]:
        """Return the telemetry's present message."""
        self.telemetry.collect()
        shown: dict[str, Any] = json.loads(self.retained_state.snapshot()[name].payload())
        return shown

    def states_sent(self) -> list[tuple[str, dict[str, Any]]]:
        """The state messages sent since the last time: topic behind `state/`, content."""
        prefix = TOPICS.state("")
        return [
            (message.topic.removeprefix(prefix), json.loads(message.payload))
            for message in self.shop.line.take()
            if message.topic.startswith(prefix)
        ]

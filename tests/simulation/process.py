"""One life of the bridge's process: its loops, turned one at a time by whoever schedules them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.runtime.service import Loop, Service, Step
from simulation.exchange import SimulatedExchange

if TYPE_CHECKING:
    from simulation.world import World

SESSION = "mqtt"
SESSION_POLL_S = 1.0
"""Seconds after which the session takes a turn without being woken."""


class Process:
    """A bridge between its start and its end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._on_the_stack: list[str] = []
        self.exchange = SimulatedExchange(world.ofd, world.rng_for("exchange"))
        self.service = Service(world.settings, world.ports(self.exchange))
        self._loops: dict[str, Loop] = {loop.name: loop for loop in self.service.loops}
        now = world.clock.monotonic()
        self._due: dict[str, float | None] = {SESSION: now, **dict.fromkeys(self._loops, now)}
        self._woken = True
        session = self.service.session
        session.wake = self._wake  # type: ignore[method-assign]
        acknowledge = session.acknowledge

        def acknowledge_and_perhaps_talk(tokens: Any) -> None:
            acknowledge(tokens)
            world.effects.at("acknowledge", may_switch=True)

        session.acknowledge = acknowledge_and_perhaps_talk  # type: ignore[method-assign]

    def start(self) -> None:
        """Open the journal. Errors: as `Service.open`."""
        with self._world.effects.of_the_bridge():
            self.service.open()
        driver: Any = self.service.journal._database.writer.connection.driver_connection
        self._world.disk.writer = driver
        self._world.disk.set(self._world.disk.state)

    # -- turning ------------------------------------------------------------------------------------------

    def ready(self) -> list[str]:
        """The loops that have something to do now."""
        now = self._world.clock.monotonic()
        return [name for name in self._due if name not in self._on_the_stack and self._is_ready(name, now)]

    def _is_ready(self, name: str, now: float) -> bool:
        due = self._due[name]
        if due is not None and due <= now:
            return True
        if name == SESSION:
            return self._woken or self._world.broker.wrote
        return self._loops[name].wakeup.is_set()

    def next_due(self) -> float | None:
        """Return when the next loop has something to do if nothing happens until then."""
        return min((due for due in self._due.values() if due is not None), default=None)

    def turn(self, name: str) -> None:
        """Let one loop take its steps."""
        self._on_the_stack.append(name)
        try:
            with self._world.effects.of_the_bridge():
                wait = self._turn_session() if name == SESSION else self._loops[name].turn(self._take)
        finally:
            self._on_the_stack.pop()
        self._due[name] = None if wait is None else self._world.clock.monotonic() + wait

    def _take(self, step: Step) -> float | None:
        try:
            return step()
        except Exception as error:  # noqa: BLE001 (whatever it is, it must not happen)
            self._world.fail("no input ends a loop", f"{step} raised {error!r}", error)

    def _turn_session(self) -> float | None:
        self._woken = self._world.broker.wrote = False
        try:
            self.service.talk(0)
        except Exception as error:  # noqa: BLE001 (the same)
            self._world.fail("no input ends a loop", f"the session raised {error!r}", error)
        return 0.05 if self.service.publisher._steps_wait_since is not None else SESSION_POLL_S

    def carry(self) -> None:
        """Let the exchange carry out one request; the bridge may be killed meanwhile."""
        with self._world.effects.of_the_bridge():
            self.exchange.carry()

    def switch(self) -> None:
        """Another thread gets a turn in the middle of this one's."""
        if len(self._on_the_stack) == 1 and (ready := self.ready()):
            name = self._world.rng.choice(ready)
            self._world.trace(f"  meanwhile {name}")
            self.turn(name)

    def _wake(self) -> None:
        self._woken = True

    # -- its end --------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """A stop in good order, as `Bridge.stop` makes it."""
        with self._world.effects.of_the_bridge():
            self.service.write_down_what_was_sent()
            for lane in self.service.lanes.values():
                with suppress(KktBridgeError):
                    lane.close()
            session = self.service.session
            session.publish_offline()
            for _ in range(20):
                self.service.talk(0)
                self._world.broker.hear()
                if session.gone:
                    break
        self.end()

    def end(self) -> None:
        """Let the operating system have everything back; the program does nothing more."""
        self._world.disk.writer = None
        session = self.service.session
        session._drop = lambda: None  # type: ignore[method-assign]
        if (client := session._client) is not None and (sock := client.socket()) is not None:
            sock.close()
        session._wakeup_in.close()
        session._wakeup_out.close()
        self.service.journal._database.close()
        self._world.broker.cut()


def journal_rows(connection: sqlite3.Connection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query, read from the journal's file past the program."""
    return connection.execute(query, values).fetchall()


def content_of(payload: bytes) -> dict[str, Any]:
    """A message as JSON."""
    found: dict[str, Any] = json.loads(payload)
    return found

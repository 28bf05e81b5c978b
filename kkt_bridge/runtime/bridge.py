"""A running bridge: its threads, and how it stops after SIGTERM or SIGINT (see `stop_signals.py`)."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.runtime.ports import SYSTEM, Ports
from kkt_bridge.runtime.service import Loop, Service, Step
from kkt_bridge.settings import Settings
from kkt_bridge.stages.printing.lane import PrintLane

STOP_LANES_S: Final = 5.5
"""Seconds that a stop waits for documents being printed."""

STOP_OTHERS_S: Final = 1.0
"""Seconds that it waits for the rest: what is cut off there, a request to the OFD say, is repeated without harm."""

OFFLINE_S: Final = 1.2
"""Seconds that it waits for the broker to acknowledge the last messages."""

CLOSE_S: Final = 0.5
"""Seconds that it waits for each of the last writes to the disk; the next start does without."""

AFTER_A_BUG_S: Final = 1.0
"""Seconds before the next step of a loop that failed unexpectedly."""

log = logging.getLogger(__name__)


class Worker:
    """A thread that turns a loop, and sleeps as long as its steps say or until it is woken."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=loop.name, daemon=True)

    @property
    def name(self) -> str:
        """The thread's name."""
        return self._thread.name

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let it end after the present step."""
        self._stopping = True
        self._loop.wakeup.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; return False if it does not end in time."""
        if self._thread.ident is None:
            return True
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            wait = self._loop.turn(self._take)
            # A stop whose wake-up was cleared by the turn is seen here.
            if (wait is None or wait > 0) and not self._stopping:
                self._loop.wakeup.wait(wait)

    def _take(self, step: Step) -> float | None:
        try:
            return step()
        except Exception:
            # No input, and no bug that one brings to light, ends a loop.
            log.exception("%s failed; it goes on", self.name)
            return AFTER_A_BUG_S


class Bridge:
    """A whole bridge, from `start` to `stop`."""

    def __init__(self, settings: Settings, ports: Ports = SYSTEM) -> None:
        self._clock = ports.clock
        self._service = Service(settings, ports)
        workers = {loop: Worker(loop) for loop in self._service.loops}
        self._workers = tuple(workers.values())
        self._lanes = {kkt: workers[loop] for kkt, loop in self._service.lane_loops.items()}
        self._session_thread = threading.Thread(target=self._talk, name="mqtt", daemon=True)
        self._bridge_id = settings.bridge_id
        self._silent = False

    def start(self) -> None:
        """Open the journal and start every thread. Errors: see `Database.open`."""
        self._service.open()
        for worker in self._workers:
            worker.start()
        self._session_thread.start()
        registers = "1 register" if len(self._lanes) == 1 else f"{len(self._lanes)} registers"
        log.info("bridge %s is up, %s", self._bridge_id, registers)

    def stop(self) -> None:
        """Take nothing more, finish what is being printed, publish that we are offline, close; within 10 s."""
        if self._session_thread.is_alive():
            self._stop_workers()
            self._publish_offline()
            log.info("bridge %s is down", self._bridge_id)
        _within(CLOSE_S, "closing the journal", self._service.close)

    def _talk(self) -> None:
        while not self._silent:
            try:
                self._service.talk()
            except Exception:
                log.exception("the MQTT session failed; it goes on")
                time.sleep(AFTER_A_BUG_S)

    # -- stopping -----------------------------------------------------------------------------------------

    def _stop_workers(self) -> None:
        for worker in self._workers:
            worker.stop()
        stuck = self._join(self._lanes.values(), STOP_LANES_S) + self._join(self._workers, STOP_OTHERS_S)
        if stuck:
            log.warning("did not end in time, and is settled at the next start: %s", ", ".join(sorted(set(stuck))))
        if self._service.delivery_loop.name not in stuck:
            _within(CLOSE_S, "writing down what was sent", self._service.write_down_what_was_sent)
        idle = [lane for kkt, lane in self._service.lanes.items() if self._lanes[kkt].name not in stuck]
        _within(CLOSE_S, "closing the registers", lambda: _close_lanes(idle))

    def _join(self, workers: Iterable[Worker], within_s: float) -> list[str]:
        """Wait for these together; return the names of those that did not end."""
        deadline = self._clock.monotonic() + within_s
        return [worker.name for worker in workers if not worker.join(deadline - self._clock.monotonic())]

    def _publish_offline(self) -> None:
        self._service.session.publish_offline()
        deadline = self._clock.monotonic() + OFFLINE_S
        while not self._service.session.gone and self._clock.monotonic() < deadline:
            self._session_thread.join(0.02)
        self._silent = True
        self._service.session.wake()
        self._session_thread.join(CLOSE_S)


def _within(seconds: float, what: str, work: Callable[[], None]) -> None:
    """Do it, but wait no longer: another program may hold the journal's file for ever."""
    thread = threading.Thread(target=work, name=what, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        log.warning("%s did not end in time; the next start does without it", what)


def _close_lanes(lanes: Iterable[PrintLane]) -> None:
    for lane in lanes:
        try:
            lane.close()
        except KktBridgeError as error:
            log.warning("register %s: %s; it is settled at the next start", lane.view.kkt, error)

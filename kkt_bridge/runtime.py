"""The composition root: builds every part once, turns steps into threads, stops in reverse order."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Final

from kkt_bridge import __version__
from kkt_bridge.broker.inbox import Inbox
from kkt_bridge.broker.link import Presence
from kkt_bridge.broker.session import Session
from kkt_bridge.clock import Clock, SystemClock
from kkt_bridge.errors import KktBridgeError
from kkt_bridge.journal.database import Database
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.transaction import Touched
from kkt_bridge.ofd.breaker import Breaker, BreakerChange
from kkt_bridge.ofd.client import OfdClient
from kkt_bridge.ofd.network import Network
from kkt_bridge.registers.base import FiscalRegister
from kkt_bridge.registers.virtual import VirtualRegister
from kkt_bridge.settings import Settings, VirtualKktSettings
from kkt_bridge.stages.admission import Admission
from kkt_bridge.stages.courier import Courier
from kkt_bridge.stages.delivery import Delivery
from kkt_bridge.stages.document import DocumentBuilder
from kkt_bridge.stages.housekeeping import Housekeeping
from kkt_bridge.stages.intake import Intake
from kkt_bridge.stages.notices import Notices
from kkt_bridge.stages.printing import LaneSettings, PrintLane
from kkt_bridge.stages.publishing import Publisher
from kkt_bridge.steering.board import Board
from kkt_bridge.steering.commands import Commands
from kkt_bridge.steering.desk import Desk
from kkt_bridge.steering.telemetry import Telemetry
from kkt_bridge.wire.commands import COMMANDS
from kkt_bridge.wire.messages import Online
from kkt_bridge.wire.times import rfc3339
from kkt_bridge.wire.topics import Topics

INBOX_MAX: Final = 2000
"""Messages read and not yet decided on; beyond that the socket is left unread."""

STOP_LANES_S: Final = 7.0
"""How long a stop waits for documents on the line."""

STOP_OTHERS_S: Final = 1.0
FAREWELL_S: Final = 1.5
AFTER_A_BUG_S: Final = 1.0
"""How long a part that failed unexpectedly rests before its next step."""

DAY_S: Final = 86_400.0

log = logging.getLogger(__name__)


class Worker:
    """A thread that takes steps, and sleeps as long as they say or until it is woken."""

    def __init__(self, name: str, *steps: Callable[[], float | None], bell: threading.Event | None = None) -> None:
        self._steps = steps
        self._bell = bell or threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def wake(self) -> None:
        """Have it step again at once."""
        self._bell.set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Have it end after the step that it is in."""
        self._stopping = True
        self._bell.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; False if it did not come."""
        if self._thread.ident is None:
            return True
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            self._bell.clear()
            waits = [wait for step in self._steps if (wait := self._take(step)) is not None]
            wait = min(waits, default=None)
            if wait is None or wait > 0:
                self._bell.wait(wait)

    def _take(self, step: Callable[[], float | None]) -> float | None:
        try:
            return step()
        except Exception:
            # No input, and no bug that one brings to light, ends a loop.
            log.exception("%s failed; it goes on", self._thread.name)
            return AFTER_A_BUG_S


class Bridge:
    """A whole bridge."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock = clock or SystemClock()
        self._zone = zone = settings.zone
        self._topics = topics = Topics(settings.mqtt.topic_root, settings.bridge_id)
        online = Online(
            online=True, since=rfc3339(clock.now_ms(), zone), version=__version__, boot_id=str(uuid.uuid4())
        )

        self._journal = journal = Journal(Database(settings.journal.url), clock)
        self._inbox = Inbox(INBOX_MAX)
        self._session = Session(settings.mqtt, topics, _presence(topics, online), self._inbox, clock)
        self._lanes = {kkt.id: self._build_lane(kkt) for kkt in settings.kkt}
        lanes = list(self._lanes.values())
        self._admission = Admission(settings.buffer.capacity, self._storage_exhausted)
        self._ofd = OfdClient(settings.ofd, clock)
        network = Network(settings.sync.network_hold_s)
        breaker = Breaker(settings.breaker, clock, self._breaker_changed)
        self._courier = Courier(
            ofd=self._ofd,
            breaker=breaker,
            network=network,
            builder=DocumentBuilder({kkt.id: kkt.tax_system for kkt in settings.kkt}),
            clock=clock,
        )
        self._delivery = Delivery(
            settings=settings.sync,
            journal=journal,
            courier=self._courier,
            breaker=breaker,
            topics=topics,
            zone=zone,
            clock=clock,
        )
        self._publisher = Publisher(
            journal=journal,
            link=self._session,
            topics=topics,
            zone=zone,
            events_max_age_s=settings.retention.events_days * DAY_S,
            clock=clock,
        )
        board = Board(link=self._session, topics=topics, interval_s=settings.telemetry.interval_s, clock=clock)
        self._telemetry = Telemetry(
            board=board,
            journal=journal,
            admission=self._admission,
            lanes=lanes,
            delivery=self._delivery,
            breaker=breaker,
            network=network,
            online=online,
            zone=zone,
            clock=clock,
        )
        intake = Intake(
            settings=settings,
            topics=topics,
            journal=journal,
            inbox=self._inbox,
            link=self._session,
            admission=self._admission,
            command_names=COMMANDS,
            clock=clock,
        )
        commands = Commands(
            journal=journal,
            telemetry=self._telemetry,
            admission=self._admission,
            delivery=self._delivery,
            lanes=lanes,
            wake_delivery=self._wake_delivery,
            wake_lane=self._wake_lane,
            zone=zone,
        )
        desk = Desk(journal=journal, handlers=commands.table(), topics=topics, zone=zone, wake=self._wake_desk)
        notices = Notices(journal=journal, buffered_after_s=settings.reply.buffered_after_s, zone=zone)
        housekeeping = Housekeeping(settings=settings.retention, journal=journal, clock=clock)

        self._session.listen(self._publisher)
        self._session.listen(board)
        journal.listen(self._committed)

        self._printing = {kkt: Worker(f"print-{kkt}", lane.step) for kkt, lane in self._lanes.items()}
        self._delivering = Worker("deliver", self._delivery.step)
        self._commanding = Worker("command", desk.step)
        self._taking = Worker("intake", intake.step, bell=self._inbox.arrived)
        self._keeping = Worker("keep", notices.step, self._telemetry.step, housekeeping.step)
        self._talking = threading.Thread(target=self._talk, name="mqtt", daemon=True)
        self._silent = False

    def start(self) -> None:
        """Open the journal and start every thread. Errors: see `Database.open`."""
        self._journal.open()
        self._admission.recall(self._journal)
        for worker in self._workers().values():
            worker.start()
        self._talking.start()
        log.info("bridge %s is up, %d registers", self._settings.bridge_id, len(self._lanes))

    def stop(self) -> None:
        """Take nothing more, finish what is on the line, tell the broker, close; within 10 s."""
        if not self._talking.is_alive():
            self._journal.close()
            return
        workers = self._workers()
        for worker in workers.values():
            worker.stop()
        deadline = self._clock.monotonic() + STOP_LANES_S
        ended = {name: worker.join(deadline - self._clock.monotonic()) for name, worker in workers.items()}
        for kkt, lane in self._lanes.items():
            if ended[f"print-{kkt}"]:
                self._close_lane(lane)
        if stuck := [name for name, done in ended.items() if not done]:
            log.warning("did not end in time, and is settled at the next start: %s", ", ".join(stuck))
        self._say_farewell()
        self._ofd.close()
        self._journal.close()
        log.info("bridge %s is down", self._settings.bridge_id)

    @staticmethod
    def _close_lane(lane: PrintLane) -> None:
        try:
            lane.close()
        except KktBridgeError as error:
            log.warning("register %s: %s; it is settled at the next start", lane.view.kkt, error)

    # -- building ---------------------------------------------------------------------------------------

    def _build_lane(self, kkt: VirtualKktSettings) -> PrintLane:
        settings = self._settings
        return PrintLane(
            LaneSettings(
                kkt=kkt.id,
                driver=kkt.driver,
                tax_system=kkt.tax_system,
                shift_close_after_s=settings.shift.close_after_s,
                max_age_s=settings.print.max_age_s,
                status_interval_s=settings.telemetry.interval_s,
                zone=self._zone,
            ),
            register=self._build_register(kkt),
            journal=self._journal,
            topics=self._topics,
            clock=self._clock,
        )

    def _build_register(self, kkt: VirtualKktSettings) -> FiscalRegister:
        return VirtualRegister(kkt.id, kkt.state, self._zone, self._clock, kkt.print_time_s)

    def _workers(self) -> Mapping[str, Worker]:
        lanes = {f"print-{kkt}": worker for kkt, worker in self._printing.items()}
        return {
            "intake": self._taking,
            **lanes,
            "deliver": self._delivering,
            "command": self._commanding,
            "keep": self._keeping,
        }

    # -- who is told of what ------------------------------------------------------------------------------

    def _committed(self, touched: Touched) -> None:
        """A commit happened: wake those whom it concerns. Runs in whichever thread committed."""
        for kkt in touched.queues:
            self._printing[kkt].wake()
        if touched.documents:
            self._delivery.documents_arrived()
            self._delivering.wake()
        if touched.commands:
            self._commanding.wake()
        if touched.outbox or touched.steps:
            self._publisher.committed(touched)
            self._session.ring()

    # The parts are built before the threads that run them: these find the thread when it is needed.

    def _wake_delivery(self) -> None:
        self._delivering.wake()

    def _wake_desk(self) -> None:
        self._commanding.wake()

    def _wake_lane(self, kkt: str) -> None:
        self._printing[kkt].wake()

    def _breaker_changed(self, change: BreakerChange) -> None:
        self._courier.note_breaker(change)
        self._telemetry.look_at_breaker()

    def _storage_exhausted(self, kkt: str) -> bool:
        return self._lanes[kkt].view.problem == "fn_exhausted"

    # -- the broker's thread --------------------------------------------------------------------------------

    def _talk(self) -> None:
        """Publisher and session share a thread: what is committed goes out without another hand-over."""
        while not self._silent:
            try:
                wait = self._publisher.step()
                self._session.step(1.0 if wait is None else min(wait, 1.0))
            except Exception:
                log.exception("the MQTT session failed; it goes on")
                time.sleep(AFTER_A_BUG_S)

    def _say_farewell(self) -> None:
        self._session.say_farewell()
        deadline = self._clock.monotonic() + FAREWELL_S
        while not self._session.gone and self._clock.monotonic() < deadline:
            self._talking.join(0.02)
        self._silent = True
        self._session.ring()
        self._talking.join(STOP_OTHERS_S)
        self._session.close()


def _presence(topics: Topics, online: Online) -> Presence:
    return Presence(
        topic=topics.state("online"),
        online=online.payload(),
        offline=online.model_copy(update={"online": False}).payload(),
    )

"""A bridge without threads: its parts wired together, the loops that step them, and the wake-ups after a commit."""

import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kkt_bridge import __version__
from kkt_bridge.errors import KktBridgeError
from kkt_bridge.journal.database import Database
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.transaction import Committed
from kkt_bridge.mqtt.inbox import Inbox
from kkt_bridge.operations.components import OfdComponent, ShopTime
from kkt_bridge.operations.retained_state import RetainedState
from kkt_bridge.runtime.ports import Ports
from kkt_bridge.runtime.wiring import (
    Foundation,
    build_admission,
    build_command_worker,
    build_delivery,
    build_intake,
    build_lane,
    build_publisher,
    build_session,
    build_telemetry,
    components,
)
from kkt_bridge.settings import Settings
from kkt_bridge.stages.buffered_replies import BufferedReplies
from kkt_bridge.stages.housekeeping import Housekeeping
from kkt_bridge.stages.printing.stale_journal import StartBarrier
from kkt_bridge.stages.stale_topics import StaleTopics
from kkt_bridge.wire.messages import Online, rfc3339
from kkt_bridge.wire.topics import Topics

INBOX_MAX: Final = 30_000
"""Messages read and not yet decided on; beyond that the socket is left unread."""

SESSION_STEP_S: Final = 1.0
"""Seconds that the session waits for the broker in one step, at most."""

LAST_BATCH_S: Final = 0.4
"""Seconds that a stop waits for the batch under way to the OFD: what is not answered then is sent again."""

Step = Callable[[], float | None]
"""One bounded piece of work; returns after how many seconds to take it again, None for when it is woken."""


class Loop:
    """Steps taken one after the other, again and again: by a thread of their own, or by a scheduler of all loops."""

    def __init__(self, name: str, *steps: Step, wakeup: threading.Event | None = None) -> None:
        self.name = name
        self.steps = steps
        self.wakeup = wakeup or threading.Event()
        """Set it to have the steps taken again at once."""

    def turn(self, take: Callable[[Step], float | None]) -> float | None:
        """Take every step once; return the seconds until the next turn. `take` runs a step and handles its errors."""
        self.wakeup.clear()
        waits = [wait for step in self.steps if (wait := take(step)) is not None]
        return min(waits, default=None)


class Service:
    """A whole bridge as loops to be turned; nothing runs by itself."""

    def __init__(self, settings: Settings, ports: Ports) -> None:
        clock, registers = ports.clock, [kkt.id for kkt in settings.kkt]
        database = Database(settings.journal.url, bridge=settings.bridge_id, new_engine=ports.new_engine)
        self.journal = journal = Journal(database, clock)
        topics = Topics(settings.mqtt.topic_root, settings.bridge_id)
        base = Foundation(settings, ports, topics, journal)
        boot_id = uuid.UUID(int=ports.rng_for("boot id").getrandbits(128), version=4)
        since = rfc3339(clock.now_ms(), settings.zone)
        online = Online(online=True, since=since, version=__version__, boot_id=str(boot_id))
        inbox = Inbox(INBOX_MAX)
        self.session = session = build_session(base, online, inbox)
        barrier = StartBarrier(registers)
        self.lanes = {kkt.id: build_lane(base, kkt, barrier) for kkt in settings.kkt}
        self._admission = build_admission(base, self.lanes)
        intake = build_intake(base, inbox, session, self._admission)
        self.publisher = build_publisher(base, session)
        stale_topics = StaleTopics(journal=journal, link=session, topics=topics, registers=registers)
        retained_state = RetainedState(
            link=session, topics=topics, interval_s=settings.telemetry.interval_s, clock=clock
        )
        # The breaker is built before what shows it: this finds it when a change comes.
        self.delivery = build_delivery(base, lambda _change: retained_state.put("breaker", ofd.breaker_state()))
        breaker = self.delivery.uplink.breaker
        ofd = OfdComponent(lambda: self.delivery.status, breaker, ShopTime(clock, settings.zone))
        self.components = components(base, self._admission, self.lanes, lambda: session.status, ofd)
        telemetry = build_telemetry(base, retained_state, self.components, online)
        replies = BufferedReplies(journal=journal, buffered_after_s=settings.reply.buffered_after_s, zone=settings.zone)
        housekeeping = Housekeeping(settings=settings.retention, journal=journal, clock=clock)
        self.lane_loops = {kkt: Loop(f"print-{kkt}", lane.step) for kkt, lane in self.lanes.items()}
        self.delivery_loop = Loop("deliver", self.delivery.step, wakeup=self.delivery.exchange.wakeup)
        commands_wakeup = threading.Event()
        command_worker = build_command_worker(
            base,
            telemetry,
            self._admission,
            self.delivery,
            self.lanes,
            wake_delivery=self.delivery_loop.wakeup.set,
            wake_lane=lambda kkt: self.lane_loops[kkt].wakeup.set(),
            wake_commands=commands_wakeup.set,
        )
        self._command_loop = Loop("command", command_worker.step, wakeup=commands_wakeup)
        self.loops = (
            Loop("intake", intake.step, wakeup=inbox.arrived),
            *self.lane_loops.values(),
            self.delivery_loop,
            self._command_loop,
            Loop("keep", replies.step, housekeeping.step),
            # Apart from whatever writes: a disk that keeps those waiting must be shown.
            Loop("show", telemetry.step),
        )
        """Every loop but the session's, which waits for its socket."""
        for part in (self.publisher, stale_topics, retained_state):
            session.listen(part.link_up)
        journal.listen(self._committed)

    def open(self) -> None:
        """Open the journal, and load what outlives the process. Errors: see `Database.open`."""
        self.journal.open()
        self._admission.recall(self.journal)

    def talk(self, timeout_s: float = SESSION_STEP_S) -> None:
        """Publish what is committed and take a step of the session, which waits up to `timeout_s` for the broker.

        Publisher and session share a thread: what is committed goes out without another hand-over.
        """
        wait = self.publisher.step()
        self.session.step(timeout_s if wait is None else min(wait, timeout_s))

    def write_down_what_was_sent(self) -> None:
        """Record the exchange's answers after delivery has stopped; without that the documents are sent again."""
        with suppress(KktBridgeError):
            delivery, wakeup = self.delivery, self.delivery.exchange.wakeup
            wakeup.clear()  # it was set for the stop
            delivery.take_in()
            if delivery.in_progress:
                wakeup.wait(LAST_BATCH_S)
                delivery.take_in()

    def close(self) -> None:
        """Close everything."""
        self.session.close()
        self.delivery.exchange.close()
        self.journal.close()

    def _committed(self, touched: Committed) -> None:
        """Wake the loops that a commit concerns. Runs in whichever thread committed."""
        for kkt in touched.queues:
            if (loop := self.lane_loops.get(kkt)) is not None:
                loop.wakeup.set()
        if touched.documents:
            self.delivery_loop.wakeup.set()
        if touched.commands:
            self._command_loop.wakeup.set()
        if touched.messages or touched.steps:
            self.publisher.committed(touched)
            self.session.wake()

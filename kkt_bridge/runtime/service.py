"""A bridge without threads: its parts, the loops that step them, and the wake-ups after a commit."""

from collections.abc import Iterator
from contextlib import suppress

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.journal.transaction import Committed
from kkt_bridge.runtime.ports import Ports
from kkt_bridge.runtime.wiring import build
from kkt_bridge.runtime.worker import Loop
from kkt_bridge.settings import Settings

SESSION_STEP_S = 1.0
"""Seconds that the session waits for the broker in one step, at most."""

LAST_BATCH_S = 0.4
"""Seconds that a stop waits for the batch under way to the OFD: what is not answered then is sent again."""


class Service:
    """A whole bridge as loops to be turned; nothing runs by itself."""

    def __init__(self, settings: Settings, ports: Ports) -> None:
        self.settings = settings
        self.parts = parts = build(settings, ports)
        self.intake = Loop("intake", parts.intake.step, wakeup=parts.inbox.arrived)
        self.lanes, self.delivery, self.command_worker = parts.lane_loops, parts.delivery_loop, parts.command_loop
        self.keep = Loop("keep", parts.notices.step, parts.housekeeping.step)
        # Apart from whatever writes: a disk that keeps those waiting must be shown.
        self.show = Loop("show", parts.telemetry.step)
        for part in (parts.publisher, parts.retained_topics, parts.retained_state):
            parts.session.listen(part.link_up)
        parts.base.journal.listen(self._committed)

    def loops(self) -> Iterator[Loop]:
        """Yield every loop but the session's, which waits for its socket."""
        yield self.intake
        yield from self.lanes.values()
        yield self.delivery
        yield self.command_worker
        yield self.keep
        yield self.show

    def open(self) -> None:
        """Open the journal, and load what outlives the process. Errors: see `Database.open`."""
        self.parts.base.journal.open()
        self.parts.admission.recall(self.parts.base.journal)

    def talk(self, timeout_s: float = SESSION_STEP_S) -> None:
        """Publish what is committed and take a step of the session, which waits up to `timeout_s` for the broker.

        Publisher and session share a thread: what is committed goes out without another hand-over.
        """
        wait = self.parts.publisher.step()
        self.parts.session.step(timeout_s if wait is None else min(wait, timeout_s))

    def write_down_what_was_sent(self) -> None:
        """Record the exchange's answers after delivery has stopped; without that the documents are sent again."""
        with suppress(KktBridgeError):
            delivery, wakeup = self.parts.ofd.delivery, self.parts.ofd.exchange.wakeup
            wakeup.clear()  # it was set for the stop
            delivery.take_in()
            if delivery.in_progress:
                wakeup.wait(LAST_BATCH_S)
                delivery.take_in()

    def close(self) -> None:
        """Close everything."""
        self.parts.session.close()
        self.parts.ofd.exchange.close()
        self.parts.base.journal.close()

    def _committed(self, touched: Committed) -> None:
        """Wake the loops that a commit concerns. Runs in whichever thread committed."""
        for kkt in touched.queues:
            if (lane := self.lanes.get(kkt)) is not None:
                lane.wakeup.set()
        if touched.documents:
            self.delivery.wakeup.set()
        if touched.commands:
            self.command_worker.wakeup.set()
        if touched.messages or touched.steps:
            self.parts.publisher.committed(touched)
            self.parts.session.wake()

"""A bridge without threads: its parts, the loops that move them, and who wakes whom."""

from collections.abc import Iterator
from contextlib import suppress

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.journal.transaction import Touched
from kkt_bridge.runtime.ports import Ports
from kkt_bridge.runtime.wiring import build
from kkt_bridge.runtime.worker import Loop
from kkt_bridge.settings import Settings

SESSION_STEP_S = 1.0
"""The longest that the session waits for the broker in one step."""

LAST_BATCH_S = 0.4
"""How long a stop waits for the batch that is under way to the OFD: what does not come back is sent again."""


class Service:
    """Everything that a bridge does, as loops to be turned; nothing runs by itself."""

    def __init__(self, settings: Settings, ports: Ports) -> None:
        self.settings = settings
        self.parts = parts = build(settings, ports, self)
        self.intake = Loop("intake", parts.intake.step, wakeup=parts.inbox.arrived)
        self.lanes = {kkt: Loop(f"print-{kkt}", lane.step) for kkt, lane in parts.lanes.items()}
        self.delivery = Loop("deliver", parts.ofd.delivery.step, wakeup=parts.ofd.exchange.wakeup)
        self.command_worker = Loop("command", parts.command_worker.step)
        self.keep = Loop("keep", parts.notices.step, parts.housekeeping.step)
        # Apart from whatever writes: a disk that keeps those waiting must be shown.
        self.show = Loop("show", parts.telemetry.step)
        parts.session.listen(parts.publisher)
        parts.session.listen(parts.retained_topics)
        parts.session.listen(parts.retained_state)
        parts.base.journal.listen(self._committed)

    def loops(self) -> Iterator[Loop]:
        """Every loop but the session's, which waits for its socket and not for a bell."""
        yield self.intake
        yield from self.lanes.values()
        yield self.delivery
        yield self.command_worker
        yield self.keep
        yield self.show

    def open(self) -> None:
        """Open the journal, and recall what outlives the process. Errors: see `Database.open`."""
        self.parts.base.journal.open()
        self.parts.admission.recall(self.parts.base.journal)

    def talk(self, timeout_s: float = SESSION_STEP_S) -> None:
        """One turn with the broker, which waits up to so long for something to happen.

        Publisher and session share a thread: what is committed goes out without another hand-over.
        """
        wait = self.parts.publisher.step()
        self.parts.session.step(timeout_s if wait is None else min(wait, timeout_s))

    def write_down_what_was_sent(self) -> None:
        """Record what the exchange brings back when delivery has stopped already; else it is sent again."""
        with suppress(KktBridgeError):
            delivery, wakeup = self.parts.ofd.delivery, self.parts.ofd.exchange.wakeup
            wakeup.clear()  # it rang for the stop
            delivery.take_in()
            if delivery.in_progress:
                wakeup.wait(LAST_BATCH_S)
                delivery.take_in()

    def close(self) -> None:
        """Let go of everything that is open."""
        self.parts.session.close()
        self.parts.ofd.exchange.close()
        self.parts.base.journal.close()

    # -- who wakes whom -----------------------------------------------------------------------------------

    def wake_delivery(self) -> None:
        """See `Wakers`."""
        self.delivery.wake()

    def wake_commands(self) -> None:
        """See `Wakers`."""
        self.command_worker.wake()

    def wake_lane(self, kkt: str) -> None:
        """See `Wakers`."""
        if kkt in self.lanes:
            self.lanes[kkt].wake()

    def _committed(self, touched: Touched) -> None:
        """Wake those whom a commit concerns. Runs in whichever thread committed."""
        for kkt in touched.queues:
            self.wake_lane(kkt)
        if touched.documents:
            self.wake_delivery()
        if touched.commands:
            self.wake_commands()
        if touched.messages or touched.steps:
            self.parts.publisher.committed(touched)
            self.parts.session.wake()

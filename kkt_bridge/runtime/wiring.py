"""Every part of a bridge, built once and wired together; nothing is opened or started here."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from kkt_bridge import __version__
from kkt_bridge.clock import Clock
from kkt_bridge.journal.database import Database
from kkt_bridge.journal.journal import Journal
from kkt_bridge.mqtt.birth_and_will import Presence
from kkt_bridge.mqtt.inbox import Inbox
from kkt_bridge.mqtt.messages import SessionStatus
from kkt_bridge.mqtt.session import Session
from kkt_bridge.ofd.breaker import Breaker, BreakerChange
from kkt_bridge.ofd.exchange import Exchange
from kkt_bridge.ofd.network import Network
from kkt_bridge.ofd.process_exchange import ProcessExchange
from kkt_bridge.operations.alerts import Alerts
from kkt_bridge.operations.clock_watch import ClockWatch
from kkt_bridge.operations.command_worker import CommandWorker
from kkt_bridge.operations.commands import Commands
from kkt_bridge.operations.components import (
    BrokerComponent,
    BufferComponent,
    ClockComponent,
    Component,
    DeadLettersComponent,
    IntakeComponent,
    JournalComponent,
    OfdComponent,
    RegisterComponent,
    ShopTime,
)
from kkt_bridge.operations.retained_state import RetainedState
from kkt_bridge.operations.telemetry import Telemetry
from kkt_bridge.registers.base import FiscalRegister
from kkt_bridge.registers.virtual.driver import VirtualRegister
from kkt_bridge.settings import OfdSettings, Settings, VirtualKktSettings
from kkt_bridge.stages.buffered_replies import BufferedReplies
from kkt_bridge.stages.delivery.coordinator import Delivery
from kkt_bridge.stages.delivery.document import RegisterRequisites
from kkt_bridge.stages.delivery.uplink import Uplink
from kkt_bridge.stages.housekeeping import Housekeeping
from kkt_bridge.stages.intake.admission import Admission
from kkt_bridge.stages.intake.decide import Decider
from kkt_bridge.stages.intake.intake import Intake
from kkt_bridge.stages.intake.record import Recorder
from kkt_bridge.stages.printing.lane import PrintLane
from kkt_bridge.stages.printing.start_barrier import StartBarrier
from kkt_bridge.stages.printing.status import LaneSettings, LaneStatus
from kkt_bridge.stages.publishing import Publisher
from kkt_bridge.stages.retained_topics import RetainedTopics
from kkt_bridge.wire.commands import COMMANDS
from kkt_bridge.wire.messages import Online, rfc3339
from kkt_bridge.wire.topics import Topics

INBOX_MAX: Final = 30_000
"""Messages read and not yet decided on; beyond that the socket is left unread."""

DAY_S: Final = 86_400.0

REPEATS_COME_FOR_S: Final = 30 * DAY_S
"""For how long a receipt can be expected to come again, at least: the law gives a document as long to reach the OFD."""


class Wakers(Protocol):
    """Who wakes the threads of parts that another part has work for."""

    def wake_delivery(self) -> None:
        """There is something to send."""
        ...

    def wake_commands(self) -> None:
        """A command's result is in."""
        ...

    def wake_lane(self, kkt: str) -> None:
        """There is something to print, or to do, on this register."""
        ...


@dataclass(frozen=True, slots=True)
class Foundation:
    """What every part is built on."""

    settings: Settings
    clock: Clock
    topics: Topics
    journal: Journal


@dataclass(frozen=True, slots=True)
class DeliveryParts:
    """The way to the OFD."""

    exchange: Exchange
    breaker: Breaker
    network: Network
    delivery: Delivery


NewExchange = Callable[[OfdSettings, Clock], Exchange]
"""What makes the exchange with the OFD: in a process of its own, unless somebody plays the OFD in this one."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A whole bridge, not yet started."""

    base: Foundation
    inbox: Inbox
    session: Session
    publisher: Publisher
    retained_topics: RetainedTopics
    retained_state: RetainedState
    admission: Admission
    intake: Intake
    lanes: Mapping[str, PrintLane]
    notices: BufferedReplies
    ofd: DeliveryParts
    housekeeping: Housekeeping
    telemetry: Telemetry
    command_worker: CommandWorker


def build(settings: Settings, clock: Clock, wakers: Wakers, new_exchange: NewExchange = ProcessExchange) -> Parts:
    """Build every part of the bridge that these settings describe."""
    zone = settings.zone
    base = Foundation(
        settings,
        clock,
        Topics(settings.mqtt.topic_root, settings.bridge_id),
        Journal(Database(settings.journal.url, bridge=settings.bridge_id), clock),
    )
    online = Online(online=True, since=rfc3339(clock.now_ms(), zone), version=__version__, boot_id=str(uuid.uuid4()))
    inbox = Inbox(INBOX_MAX)
    session = Session(settings.mqtt, base.topics, _presence(base, online), inbox, clock)
    retained_state = RetainedState(
        link=session, topics=base.topics, interval_s=settings.telemetry.interval_s, clock=clock
    )
    barrier = StartBarrier(kkt.id for kkt in settings.kkt)
    lanes = {kkt.id: _lane(base, kkt, barrier) for kkt in settings.kkt}
    admission = Admission(
        settings.buffer.capacity, storage_exhausted=lambda kkt: lanes[kkt].view.problem == "fn_exhausted", clock=clock
    )
    time = ShopTime(clock, zone)
    # The breaker is built before what shows it: this finds it when a change comes.
    way = _delivery_parts(base, new_exchange, lambda: retained_state.put("breaker", ofd.breaker_state()))
    ofd = OfdComponent(lambda: way.delivery.view, way.breaker, time)
    telemetry = Telemetry(
        retained_state=retained_state,
        components=components(base, admission, lanes, lambda: session.view, ofd),
        alerts=Alerts(journal=base.journal, topics=base.topics, registers=list(lanes), zone=zone, clock=clock),
        online=online,
        time=time,
    )
    return Parts(
        base=base,
        inbox=inbox,
        session=session,
        publisher=_publisher(base, session),
        retained_topics=RetainedTopics(
            journal=base.journal, link=session, topics=base.topics, registers=[kkt.id for kkt in settings.kkt]
        ),
        retained_state=retained_state,
        admission=admission,
        intake=_intake(base, inbox, session, admission),
        lanes=lanes,
        notices=BufferedReplies(journal=base.journal, buffered_after_s=settings.reply.buffered_after_s, zone=zone),
        ofd=way,
        housekeeping=Housekeeping(settings=settings.retention, journal=base.journal, clock=clock),
        telemetry=telemetry,
        command_worker=_command_worker(base, telemetry, admission, way.delivery, lanes, wakers),
    )


def components(
    base: Foundation,
    admission: Admission,
    lanes: Mapping[str, PrintLane],
    session: Callable[[], SessionStatus],
    ofd: OfdComponent,
) -> Sequence[Component]:
    """What the bridge consists of, as the telemetry sees it."""
    time, journal = ShopTime(base.clock, base.settings.zone), base.journal
    return (
        JournalComponent(journal, list(lanes)),
        BufferComponent(journal, admission, time),
        IntakeComponent(admission),
        BrokerComponent(session),
        ofd,
        DeadLettersComponent(journal),
        ClockComponent(
            ClockWatch(base.clock, base.settings.zone), journal, lambda: [lane.view for lane in lanes.values()]
        ),
        *(RegisterComponent(kkt, partial(_view, lane), journal, time) for kkt, lane in lanes.items()),
    )


def _view(lane: PrintLane) -> LaneStatus:
    return lane.view


def _presence(base: Foundation, online: Online) -> Presence:
    return Presence(
        topic=base.topics.state("online"),
        online=online.payload(),
        offline=online.model_copy(update={"online": False}).payload(),
        boot_id=online.boot_id,
        since=online.since,
        repeat_s=base.settings.telemetry.interval_s,
    )


def _requisites(kkt: VirtualKktSettings) -> RegisterRequisites:
    return RegisterRequisites(kkt.tax_system, kkt.sender_email)


def _lane(base: Foundation, kkt: VirtualKktSettings, barrier: StartBarrier) -> PrintLane:
    settings = base.settings
    return PrintLane(
        LaneSettings(
            kkt=kkt.id,
            driver=kkt.driver,
            requisites=_requisites(kkt),
            shift_close_after_s=settings.shift.close_after_s,
            max_age_s=settings.print.max_age_s,
            status_interval_s=settings.telemetry.interval_s,
            zone=settings.zone,
            # POS terminals repeat by themselves, however short the broker's memory is.
            repeats_come_for_s=max(REPEATS_COME_FOR_S, settings.mqtt.session_expiry_s),
        ),
        register=_register(base, kkt),
        journal=base.journal,
        topics=base.topics,
        barrier=barrier,
        clock=base.clock,
    )


def _register(base: Foundation, kkt: VirtualKktSettings) -> FiscalRegister:
    shop = base.settings.bridge_id
    return VirtualRegister(kkt.id, kkt.state, base.settings.zone, base.clock, kkt.print_time_s, shop=shop)


def _delivery_parts(
    base: Foundation, new_exchange: NewExchange, on_breaker_change: Callable[[], None]
) -> DeliveryParts:
    settings, clock = base.settings, base.clock

    def breaker_changed(change: BreakerChange) -> None:
        uplink.note_breaker(change)
        on_breaker_change()

    exchange = new_exchange(settings.ofd, clock)
    network = Network(settings.sync.network_hold_s)
    breaker = Breaker(settings.breaker, clock, breaker_changed)
    uplink = Uplink(breaker=breaker, network=network, settings=settings.sync, clock=clock)
    delivery = Delivery(
        settings=settings.sync,
        ofd=settings.ofd,
        requisites={kkt.id: _requisites(kkt) for kkt in settings.kkt},
        journal=base.journal,
        exchange=exchange,
        uplink=uplink,
        topics=base.topics,
        zone=settings.zone,
        clock=clock,
    )
    return DeliveryParts(exchange, breaker, network, delivery)


def _publisher(base: Foundation, session: Session) -> Publisher:
    return Publisher(
        journal=base.journal,
        link=session,
        topics=base.topics,
        zone=base.settings.zone,
        events_max_age_s=base.settings.retention.events_days * DAY_S,
        clock=base.clock,
    )


def _intake(base: Foundation, inbox: Inbox, session: Session, admission: Admission) -> Intake:
    settings = base.settings
    return Intake(
        decider=Decider(
            registers=frozenset(kkt.id for kkt in settings.kkt),
            register_of_pos=settings.kkt_for,
            command_names=COMMANDS,
            zone=settings.zone,
        ),
        recorder=Recorder(topics=base.topics, zone=settings.zone),
        admission=admission,
        topics=base.topics,
        journal=base.journal,
        inbox=inbox,
        link=session,
        clock=base.clock,
    )


def _command_worker(
    base: Foundation,
    telemetry: Telemetry,
    admission: Admission,
    delivery: Delivery,
    lanes: Mapping[str, PrintLane],
    wakers: Wakers,
) -> CommandWorker:
    commands = Commands(
        journal=base.journal,
        telemetry=telemetry,
        admission=admission,
        delivery=delivery,
        lanes=list(lanes.values()),
        wake_delivery=wakers.wake_delivery,
        wake_lane=wakers.wake_lane,
        zone=base.settings.zone,
    )
    return CommandWorker(
        journal=base.journal,
        handlers=commands.table(),
        taken_handlers=commands.taken_table(),
        topics=base.topics,
        zone=base.settings.zone,
        wake=wakers.wake_commands,
    )

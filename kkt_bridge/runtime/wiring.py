"""The parts of a bridge as its settings want them; nothing is opened or started here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from kkt_bridge.journal.journal import Journal
from kkt_bridge.mqtt.birth_and_will import Presence
from kkt_bridge.mqtt.inbox import Inbox
from kkt_bridge.mqtt.messages import BrokerSession, SessionStatus
from kkt_bridge.mqtt.session import Session
from kkt_bridge.ofd.breaker import Breaker, BreakerChange
from kkt_bridge.operations.alerts import Alerts
from kkt_bridge.operations.clock_watch import ClockWatch
from kkt_bridge.operations.command_worker import CommandWorker
from kkt_bridge.operations.commands import Commands
from kkt_bridge.operations.component_report import Report
from kkt_bridge.operations.components import (
    BrokerComponent,
    BufferComponent,
    OfdComponent,
    ShopTime,
    clock_report,
    dead_letters_report,
    intake_report,
    journal_report,
    register_report,
)
from kkt_bridge.operations.health import BUFFER, JOURNAL, REGISTER
from kkt_bridge.operations.retained_state import RetainedState
from kkt_bridge.operations.telemetry import Telemetry
from kkt_bridge.runtime.ports import Ports
from kkt_bridge.settings import Settings, VirtualKktSettings
from kkt_bridge.stages.delivery.delivery import Delivery
from kkt_bridge.stages.delivery.document_body import RegisterRequisites
from kkt_bridge.stages.delivery.uplink import Network, Uplink
from kkt_bridge.stages.intake.admission import Admission
from kkt_bridge.stages.intake.decide import Rules
from kkt_bridge.stages.intake.intake import Intake
from kkt_bridge.stages.printing.lane import PrintLane
from kkt_bridge.stages.printing.stale_journal import StartBarrier
from kkt_bridge.stages.printing.status import LaneSettings
from kkt_bridge.stages.publishing import Publisher
from kkt_bridge.wire.commands import COMMANDS
from kkt_bridge.wire.messages import Online
from kkt_bridge.wire.topics import Topics

DAY_S: Final = 86_400.0

REPEATS_COME_FOR_S: Final = 30 * DAY_S
"""For how long a receipt can be expected to come again, at least: the law gives a document as long to reach the OFD."""


@dataclass(frozen=True, slots=True)
class Foundation:
    """The base of every part."""

    settings: Settings
    ports: Ports
    topics: Topics
    journal: Journal


def components(
    base: Foundation,
    admission: Admission,
    lanes: Mapping[str, PrintLane],
    session: Callable[[], SessionStatus],
    ofd: OfdComponent,
) -> dict[str, Report]:
    """Return the components that the telemetry collects reports of, by their names in `state/health`."""
    clock, journal = base.ports.clock, base.journal
    time, watch = ShopTime(clock, base.settings.zone), ClockWatch(clock, base.settings.zone)
    return {
        JOURNAL: partial(journal_report, journal, lanes.keys()),
        BUFFER: BufferComponent(journal, admission, time).report,
        "intake": partial(intake_report, admission),
        "broker": BrokerComponent(session).report,
        "ofd": ofd.report,
        "dead_letters": partial(dead_letters_report, journal),
        "clock": lambda: clock_report(watch, journal, [lane.view for lane in lanes.values()]),
        **{
            REGISTER + kkt: lambda lane=lane: register_report(lane.view, journal, time)  # type: ignore[misc]
            for kkt, lane in lanes.items()
        },
    }


def build_session(base: Foundation, online: Online, inbox: Inbox) -> Session:
    """Build the session at the broker, which fills this inbox; `online` is its birth message."""
    presence = Presence(
        topic=base.topics.state("online"),
        online=online.payload(),
        offline=online.model_copy(update={"online": False}).payload(),
        boot_id=online.boot_id,
        since=online.since,
        repeat_s=base.settings.telemetry.interval_s,
    )
    ports = base.ports
    rng = ports.rng_for("session")
    return Session(base.settings.mqtt, base.topics, presence, inbox, ports.clock, dial=ports.dial, rng=rng)


def _requisites(kkt: VirtualKktSettings) -> RegisterRequisites:
    return RegisterRequisites(kkt.tax_system, kkt.sender_email)


def build_admission(base: Foundation, lanes: Mapping[str, PrintLane]) -> Admission:
    """Build what limits how much is taken."""
    return Admission(
        base.settings.buffer.capacity,
        storage_exhausted=lambda kkt: lanes[kkt].view.problem == "fn_exhausted",
        clock=base.ports.clock,
    )


def build_lane(base: Foundation, kkt: VirtualKktSettings, barrier: StartBarrier) -> PrintLane:
    """Build the print lane of a register."""
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
        register=base.ports.new_register(settings, kkt, base.ports.clock),
        journal=base.journal,
        topics=base.topics,
        barrier=barrier,
        clock=base.ports.clock,
    )


def build_delivery(base: Foundation, on_breaker_change: Callable[[BreakerChange], None]) -> Delivery:
    """Build the way to the OFD."""
    settings, clock = base.settings, base.ports.clock

    def breaker_changed(change: BreakerChange) -> None:
        uplink.note_breaker(change)
        on_breaker_change(change)

    breaker, network = Breaker(settings.breaker, clock, breaker_changed), Network(settings.sync.network_hold_s)
    uplink = Uplink(breaker=breaker, network=network, settings=settings.sync, clock=clock)
    return Delivery(
        settings=settings.sync,
        ofd=settings.ofd,
        requisites={kkt.id: _requisites(kkt) for kkt in settings.kkt},
        journal=base.journal,
        exchange=base.ports.new_exchange(settings.ofd, clock),
        uplink=uplink,
        topics=base.topics,
        zone=settings.zone,
        clock=clock,
        rng=base.ports.rng_for("delivery"),
    )


def build_publisher(base: Foundation, session: Session) -> Publisher:
    """Build what publishes committed messages over this session."""
    return Publisher(
        journal=base.journal,
        link=session,
        topics=base.topics,
        zone=base.settings.zone,
        events_max_age_s=base.settings.retention.events_days * DAY_S,
        clock=base.ports.clock,
    )


def build_intake(base: Foundation, inbox: Inbox, link: BrokerSession, admission: Admission) -> Intake:
    """Build the intake, which reads this inbox and acknowledges over this link."""
    settings = base.settings
    return Intake(
        rules=Rules(
            registers=frozenset(kkt.id for kkt in settings.kkt),
            register_of_pos=settings.pos,
            only_register=settings.only_kkt,
            command_names=COMMANDS,
            zone=settings.zone,
        ),
        admission=admission,
        topics=base.topics,
        journal=base.journal,
        inbox=inbox,
        link=link,
        clock=base.ports.clock,
    )


def build_telemetry(
    base: Foundation, retained_state: RetainedState, reports: Mapping[str, Report], online: Online
) -> Telemetry:
    """Build what looks at these components, and raises alerts."""
    settings, clock = base.settings, base.ports.clock
    return Telemetry(
        retained_state=retained_state,
        components=reports,
        alerts=Alerts(
            journal=base.journal,
            topics=base.topics,
            registers=[kkt.id for kkt in settings.kkt],
            zone=settings.zone,
            clock=clock,
        ),
        online=online,
        time=ShopTime(clock, settings.zone),
    )


def build_command_worker(
    base: Foundation,
    telemetry: Telemetry,
    admission: Admission,
    delivery: Delivery,
    lanes: Mapping[str, PrintLane],
    *,
    wake_delivery: Callable[[], None],
    wake_lane: Callable[[str], None],
    wake_commands: Callable[[], None],
) -> CommandWorker:
    """Build what carries out operators' commands."""
    commands = Commands(
        journal=base.journal,
        telemetry=telemetry,
        admission=admission,
        delivery=delivery,
        lanes=list(lanes.values()),
        wake_delivery=wake_delivery,
        wake_lane=wake_lane,
        zone=base.settings.zone,
    )
    return CommandWorker(
        journal=base.journal,
        handlers=commands.table(),
        topics=base.topics,
        zone=base.settings.zone,
        wake=wake_commands,
    )

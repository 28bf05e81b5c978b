"""The table of faults, each with its kind; a seed chooses which kinds its day has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from simulation.broker import ODD_PROPERTIES

if TYPE_CHECKING:
    from simulation.world import World

DAY_S: Final = 86_400.0
YEAR_S: Final = 365.25 * DAY_S

Action = Callable[["World"], None]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong. `repair` undoes it after a while; None where there is nothing to undo."""

    kind: str
    weight: float
    inject: Action
    repair: Action | None = None
    lasts_s: float = 10.0
    """At most."""

    @property
    def name(self) -> str:
        """Its name in the trace."""
        return self.inject.__name__


def kill(world: World) -> None:
    world.kill()


def stop(world: World) -> None:
    world.stop()


def cut_the_connection(world: World) -> None:
    world.broker.cut()


def stop_the_broker(world: World) -> None:
    world.broker.stop()


def start_the_broker(world: World) -> None:
    if not world.broker.up:
        world.broker.start()


def start_the_broker_without_its_database(world: World) -> None:
    world.broker.stop()
    world.broker.start(forgetful=True)


def register_offline(world: World) -> None:
    world.any_register().switch.put(offline=True)


def register_busy(world: World) -> None:
    world.any_register().switch.put(busy=True)


def paper_out(world: World) -> None:
    world.any_register().switch.put(paper_out=True)


def paper_out_soon(world: World) -> None:
    world.any_register().switch.put(paper_out_after=world.rng.randint(0, 2))


def storage_full(world: World) -> None:
    world.any_register().switch.put(fn_exhausted=True)


def refuse_receipts(world: World) -> None:
    world.any_register().switch.put(refuse_next=world.rng.randint(1, 2))


def heal_registers(world: World) -> None:
    for register in world.registers.values():
        register.switch.put()


def switch_a_register_off(world: World) -> None:
    world.any_register().switch_off()


def another_program_sells(world: World) -> None:
    sales = world.sales()
    total = world.rng.choice(sales).total if sales else 1000
    requisite = world.rng.choice([None, "another-program"])
    world.any_register().sell_past_the_bridge(total, requisite)


def another_program_dies(world: World) -> None:
    world.any_register().leave_a_document_open()


def swap_the_storage(world: World) -> None:
    if not world.journal.was_lost:  # without its journal the bridge cannot know what a storage that is gone holds
        world.any_register().swap_storage()


def registers_slow(world: World) -> None:
    for register in world.registers.values():
        register.late_rate = 0.3


def registers_quick(world: World) -> None:
    for register in world.registers.values():
        register.late_rate = 0.0


def another_program_joins_in(world: World) -> None:
    world.any_register().mixed_rate = 0.3


def another_program_keeps_out(world: World) -> None:
    for register in world.registers.values():
        register.mixed_rate = 0.0


def copy_the_journal(world: World) -> None:
    world.journal.copy()


def put_an_old_journal_back(world: World) -> None:
    if world.journal.may_be_put_back:
        world.kill()
    if world.journal.may_be_put_back:  # still: things happen while the bridge is down
        world.journal.put_back()


def lose_the_journal(world: World) -> None:
    if world.journal.may_be_lost:
        world.kill()
    if world.journal.may_be_lost:  # still: things happen while the bridge is down
        world.journal.lose()


def ofd_unreachable(world: World) -> None:
    world.ofd.unreachable = True


def ofd_outage(world: World) -> None:
    world.ofd.put_faults(outage=True, status=world.rng.choice([500, 503, 429]))


def ofd_stumbles(world: World) -> None:
    world.ofd.put_faults(fail_next=world.rng.randint(1, 4))


def ofd_slow(world: World) -> None:
    world.ofd.timeout_rate = 0.5


def ofd_loses_answers(world: World) -> None:
    world.ofd.answer_lost_rate = 0.5


def ofd_refuses_one(world: World) -> None:
    if sales := world.sales():
        key = world.rng.choice(sales).key
        world.ofd.put_faults(**{world.rng.choice(["refuse_keys", "error_keys"]): (key,)})


def ofd_answers(world: World) -> None:
    """As a misdirected bridge, a busy service, a broken ingest and a captive portal are answered."""
    status = world.rng.choice([301, 401, 403, 404, 405, 408, 413, 425, 429, 429, 500, 500, 502])
    patience = {"retry_after_s": world.rng.choice([0, 1, 120])} if world.rng.random() < 0.3 else {}
    world.ofd.put_faults(post_status=status, **patience)


def ofd_is_a_portal(world: World) -> None:
    world.ofd.put_faults(login_page=True)


def ofd_takes_few(world: World) -> None:
    world.ofd.put_faults(rate_limit_per_s=world.rng.choice([0.1, 1]))


def break_the_health_check(world: World) -> None:
    """For good: documents are taken all the same."""
    world.ofd.health_is_broken = True


def exchange_loses_batches(world: World) -> None:
    world.ofd.swallow_next = world.rng.randint(1, 3)


def heal_the_ofd(world: World) -> None:
    world.ofd.heal()


def fill_the_disk(world: World) -> None:
    world.disk.set("full")


def make_the_disk_readonly(world: World) -> None:
    world.disk.set("readonly")


def fail_commits(world: World) -> None:
    world.disk.failing_commits = world.rng.randint(1, 3)


def heal_the_disk(world: World) -> None:
    world.disk.heal()


def jump_the_clock(world: World) -> None:
    world.jump_the_clock(world.rng.choice([-DAY_S, DAY_S, -10 * YEAR_S, 10 * YEAR_S, -60.0, 60.0]))


def empty_the_battery(world: World) -> None:
    world.set_the_clock(world.rng.randrange(0, 10**9))


def set_the_clock_right(world: World) -> None:
    world.set_the_clock(world.true_ms())


def let_a_week_pass(world: World) -> None:
    if world.journal.awaits_a_register:
        return
    world.let_pass(8 * DAY_S)
    for terminal in world.terminals.values():
        terminal.repeat_an_old_one()


def let_an_hour_pass(world: World) -> None:
    if not world.journal.awaits_a_register:
        world.let_pass(3600)


def pause(world: World) -> None:
    world.operator.order("pause")


def resume(world: World) -> None:
    world.operator.order("resume")


def sync_by_force(world: World) -> None:
    world.operator.order("sync", {"force": True})


def requeue_dead_letters(world: World) -> None:
    world.operator.order("dlq-requeue", {"all": True})


def close_a_shift(world: World) -> None:
    world.operator.order("shift-close", {"kkt": world.any_register().kkt})


def ask_for_status(world: World) -> None:
    world.operator.order("status")


FAULTS: Final = (
    Fault("bridge", 3, kill),
    Fault("bridge", 1, stop),
    Fault("line", 4, cut_the_connection),
    Fault("broker", 2, stop_the_broker, start_the_broker),
    Fault("forgetful broker", 1, start_the_broker_without_its_database),
    Fault("register", 2, register_offline, heal_registers),
    Fault("register", 1, register_busy, heal_registers),
    Fault("register", 1, switch_a_register_off),
    Fault("paper", 1, paper_out, heal_registers),
    Fault("paper", 1, paper_out_soon, heal_registers),
    Fault("verdicts", 2, refuse_receipts, heal_registers),
    Fault("verdicts", 1, storage_full, heal_registers),
    Fault("others", 2, another_program_sells),
    Fault("others", 1, another_program_dies),
    Fault("swap", 1, swap_the_storage),
    Fault("late", 2, registers_slow, registers_quick, 60),
    Fault("mixed", 2, another_program_joins_in, another_program_keeps_out, 60),
    Fault("memory", 3, copy_the_journal),
    Fault("memory", 1, put_an_old_journal_back),
    Fault("memory", 1, lose_the_journal),
    Fault("ofd", 1, ofd_unreachable, heal_the_ofd, 60),
    Fault("ofd", 1, ofd_outage, heal_the_ofd, 60),
    Fault("ofd", 1, ofd_stumbles, heal_the_ofd),
    Fault("ofd", 1, ofd_slow, heal_the_ofd, 60),
    Fault("ofd answers", 1, ofd_loses_answers, heal_the_ofd, 60),
    Fault("ofd table", 4, ofd_answers, heal_the_ofd, 300),
    Fault("ofd table", 1, ofd_is_a_portal, heal_the_ofd, 120),
    Fault("ofd table", 1, ofd_takes_few, heal_the_ofd, 60),
    Fault("ofd health", 2, break_the_health_check),
    Fault("ofd health", 2, ofd_unreachable, heal_the_ofd, 60),
    Fault("exchange", 1, exchange_loses_batches),
    Fault("poison", 1, ofd_refuses_one, heal_the_ofd, 120),
    Fault("disk", 1, fill_the_disk, heal_the_disk),
    Fault("disk", 1, make_the_disk_readonly, heal_the_disk),
    Fault("disk", 2, fail_commits, heal_the_disk),
    Fault("clock", 3, jump_the_clock, set_the_clock_right, 60),
    Fault("clock", 1, empty_the_battery, set_the_clock_right, 60),
    Fault("time", 1, let_a_week_pass),
    Fault("time", 1, let_an_hour_pass),
    Fault("operator", 3, pause, resume),
    Fault("operator", 1, sync_by_force),
    Fault("operator", 1, requeue_dead_letters),
    Fault("operator", 1, close_a_shift),
    Fault("operator", 1, ask_for_status),
)
"""Every fault, weighted by how often it comes among those of the day."""


def refuse_a_topic(world: World) -> None:
    topics = [world.topics.reply(name) for name in world.terminals]
    topics += [world.topics.event("receipt"), world.topics.state("health"), world.topics.command_result("status")]
    world.broker.refused.add(world.quirk_rng.choice(topics))


def allow_all_topics(world: World) -> None:
    world.broker.refused.clear()


def take_nothing_more(world: World) -> None:
    world.broker.mute = True


def add_odd_properties(world: World) -> None:
    world.broker.odd = lambda: world.quirk_rng.choice([b"", *ODD_PROPERTIES])


def add_no_properties(world: World) -> None:
    world.broker.odd = bytes


BROKER_QUIRKS: Final = (
    Fault("whims", 2, refuse_a_topic, allow_all_topics, 60),
    Fault("whims", 1, take_nothing_more),
    Fault("whims", 1, add_odd_properties, add_no_properties, 60),
)
"""Quirks that only some brokers have, besides the other faults of the day. No new connection repairs them."""

BROKER_QUIRK_DAYS: Final = 0.3
"""The share of days with such a broker."""


def flood(world: World) -> None:
    world.first_terminal().flood(FLOOD)


def flood_a_full_disk(world: World) -> None:
    fill_the_disk(world)
    for terminal in world.terminals.values():
        terminal.flood(FLOOD)


def publish_as_retained(world: World) -> None:
    world.first_terminal().retain_one()
    world.broker.cut()


FLOOD: Final = 80
"""Messages at once: more than the bridge takes into one commit."""

TERMINAL_ABUSES: Final = (
    Fault("abuses", 1, flood),
    Fault("abuses", 1, flood_a_full_disk, heal_the_disk, 20),
    Fault("abuses", 1, publish_as_retained),
)
"""Misbehaviour of some terminals' programs, besides what else the day has."""

TERMINAL_ABUSE_DAYS: Final = 0.15
"""The share of days with such a terminal."""


def ofd_takes_nothing_for_long(world: World) -> None:
    """Its health check is well all the time, and everybody goes on selling."""
    world.ofd.put_faults(post_status=500)
    sell_on(world, each=2)


def ofd_asks_for_patience_for_long(world: World) -> None:
    """Too few documents fail for it to be the OFD by their number."""
    world.ofd.put_faults(post_status=429)
    sell_on(world, each=1)


def sell_on(world: World, each: int) -> None:
    """Sell, and live on while the fault lasts; then it is over."""
    for terminal in world.terminals.values():
        terminal.sell_at_once(each)
    world.live_on_for(LONG_FAULT_S)
    heal_the_ofd(world)


LONG_FAULT_S: Final = 300.0
"""Long enough for every attempt that a document has."""

LONG_FAULTS: Final = (
    Fault("long faults", 1, ofd_takes_nothing_for_long),
    Fault("long faults", 1, ofd_asks_for_patience_for_long),
)
"""Outages so long that a bridge that gives up would do so then; besides what else the day has."""

LONG_FAULT_DAYS: Final = 0.15
"""The share of days with such a fault."""


def put_a_copy_from_before_an_exchange_back(world: World) -> None:
    """Print what waits in the copy, and take the storage out; where the copy may not come back, that is all."""
    for register in world.registers.values():
        register.switch.put(offline=True)
    for terminal in world.terminals.values():
        terminal.sell_at_once(1)
    world.live_on_for(20)
    world.journal.copy()
    heal_registers(world)
    world.live_on_for(30)
    if world.journal.was_lost:
        return
    world.kill()
    world.any_register().swap_storage()
    if world.journal.may_be_put_back:
        world.journal.put_back()


def lose_the_journal_and_map_anew(world: World) -> None:
    """The register that the terminals sold on is switched on later than the new machine."""
    names = list(world.registers)
    others_may_stand_in_the_way = "others" in world.day.kinds
    if len(names) == 1 or others_may_stand_in_the_way or not world.journal.may_be_lost:
        return
    world.settings.pos.update(dict.fromkeys(world.terminals, names[0]))
    for terminal in world.terminals.values():
        terminal.sell_by_the_map()
    world.live_on_for(20)
    world.kill()
    if not world.journal.may_be_lost:
        return
    world.journal.lose()
    world.settings.pos.update(dict.fromkeys(world.terminals, names[1]))
    world.registers[names[0]].switch.put(offline=True)
    world.journal.awaits_a_register = True
    for terminal in world.terminals.values():
        terminal.repeat_all()


def switch_the_first_register_on(world: World) -> None:
    heal_registers(world)
    world.journal.awaits_a_register = False


OLD_JOURNALS: Final = (
    Fault("old memories", 2, put_a_copy_from_before_an_exchange_back),
    Fault("old memories", 1, lose_the_journal_and_map_anew, switch_the_first_register_on, 30),
)
"""Ways to wake up with less than was known while a register or a storage is away; besides what else there is."""

OLD_JOURNAL_DAYS: Final = 0.08
"""The share of days with such a start."""

WORST_WHILE_DOWN: Final = {"swap": swap_the_storage, "others": another_program_sells}
"""Faults that do the most harm between a crash and the look at what it left."""

KINDS: Final = tuple(dict.fromkeys(fault.kind for fault in FAULTS))

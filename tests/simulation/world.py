"""One shop on one bad day, from a seed: built, lived through, healed, brought to rest, and judged."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from support.clocks import NOON_MS, ManualClock

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.ofd.exchange import Exchange
from kkt_bridge.runtime.ports import Ports
from kkt_bridge.settings import Settings
from kkt_bridge.wire.topics import Topics
from simulation.broker import Broker, QueuedMessage
from simulation.disk import Disk
from simulation.effects import Crash, Effects
from simulation.faults import (
    BROKER_QUIRK_DAYS,
    BROKER_QUIRKS,
    FAULTS,
    KINDS,
    LONG_FAULT_DAYS,
    LONG_FAULTS,
    OLD_JOURNAL_DAYS,
    OLD_JOURNALS,
    TERMINAL_ABUSE_DAYS,
    TERMINAL_ABUSES,
    WORST_WHILE_DOWN,
    Action,
    Fault,
    add_no_properties,
    allow_all_topics,
)
from simulation.invariants import INVARIANTS
from simulation.invariants.invariant import Invariant
from simulation.journal_file import JournalFile
from simulation.ofd import Ofd
from simulation.packets import CORRELATION_DATA, Publish
from simulation.process import Process, content_of, journal_rows
from simulation.registers import Register
from simulation.terminals import Operator, Sale, Terminal

BRIDGE = "store-017"
POLLING_LOOPS = frozenset({"keep", "mqtt", "show"})
"""Loops that look around several times a second: while nothing else happens, time need not stop for them."""

IDLE_STEP_MAX_S = 10.0
ATTEMPTS = "SELECT r.pos_id || ':' || r.receipt_id, d.attempts FROM receipts r JOIN documents d ON d.id = r.document"
PENDING = "SELECT pos_id, receipt_id, kkt, status FROM receipts WHERE status IN ('buffered', 'printing', 'printed')"
LIVE_ON_TURNS_MAX = 3000
TURNS_TO_REST_MAX = 20_000
REST_S_MAX = 4 * 3600.0


class Violation(AssertionError):
    """Something happened that never may."""


@dataclass(frozen=True)
class Day:
    """The parameters of a seed's day."""

    terminals: int
    registers: int
    sales: int
    print_time_s: float
    capacity: int
    crash_rate: float
    switch_rate: float
    fault_rate: float
    power_cut_rate: float
    answer_lost_rate: float
    registers_apart: bool
    registers_follow_our_clock: bool
    receive_maximum: int
    kinds: frozenset[str]

    @classmethod
    def of(cls, rng: random.Random) -> Day:
        """Draw a day."""
        trouble = rng.random() < 0.7
        return cls(
            terminals=rng.randint(1, 3),
            registers=rng.randint(1, 2),
            sales=rng.randint(1, 4),
            print_time_s=rng.choice([0, 0, 0.01, 1.5]),
            capacity=rng.choice([3, 6, 200, 200]),
            crash_rate=rng.choice([0, 0, 0.002, 0.01]),
            switch_rate=rng.choice([0, 0.1, 0.4]),
            fault_rate=rng.choice([0.01, 0.03, 0.06]),
            power_cut_rate=rng.choice([0, 0, 0.01, 0.05]) if trouble else 0,
            answer_lost_rate=rng.choice([0, 0, 0.01, 0.05]) if trouble else 0,
            registers_apart=rng.random() < 0.6,
            registers_follow_our_clock=rng.random() < 0.5,
            receive_maximum=rng.choice([1, 5, 512]),
            kinds=frozenset(rng.sample(KINDS, rng.randint(1, 5))),
        )


@dataclass(order=True)
class ScheduledAction:
    """Something to be done later."""

    due: float
    number: int
    action: Action = field(compare=False)


class World:
    """Everything, in one thread."""

    def __init__(self, seed: int, folder: Path, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.folder = folder
        self._tell = trace
        self._session_rng, self._boot_id_rng = random.Random(seed), random.Random(seed)
        self.rng = self.rng_for("world")
        self.day = Day.of(self.rng_for("day"))
        self.quirk_rng = self.rng_for("whims")
        self.clock = ManualClock()
        self.register_clock = self.clock if self.day.registers_follow_our_clock else ManualClock()
        self.began_s = self.clock.monotonic_s
        self.effects = Effects(self.rng_for("effects"))
        self.effects.trace = self.trace
        self.effects.switch = lambda: self.process.switch() if self.process else None
        self.settings = self._settings()
        self.topics = Topics(self.settings.mqtt.topic_root, BRIDGE)
        self.broker = Broker(self.effects, self.day.receive_maximum)
        self.broker.told = self._told
        self.broker.puback = self._puback
        self.disk = Disk(self.effects)
        self.ofd = Ofd(self.effects, self.rng_for("ofd"), self.register_clock)
        self.registers = {kkt.id: self._register(kkt.id) for kkt in self.settings.kkt}
        names = [f"pos-{number}" for number in range(1, self.day.terminals + 1)]
        self.terminals = {name: self._terminal(name) for name in names}
        self.operator = Operator(topics=self.topics, broker=self.broker, rng=self.rng_for("operator"))
        self.process: Process | None = None
        self.faults: Counter[str] = Counter()
        self._scheduled: list[ScheduledAction] = []
        self._schedule_number = 0
        self.doubts: dict[str, list[dict[str, Any]]] = {}
        """Receipts that a person must settle, by each register's state."""
        self._settle_at = 0.0
        self._journal_reader: sqlite3.Connection | None = None
        self.journal = JournalFile(self)
        self.invariants: list[Invariant] = [kind(self) for kind in INVARIANTS]

    def _settings(self) -> Settings:
        registers = [f"kkt-{number}" for number in range(1, self.day.registers + 1)]
        return Settings.model_validate(
            {
                "bridge_id": BRIDGE,
                "mqtt": {"receive_maximum": self.day.receive_maximum},
                "journal": {"url": f"sqlite:///{self.folder / 'journal.db'}"},
                "buffer": {"capacity": self.day.capacity},
                "kkt": [
                    {
                        "id": kkt,
                        "driver": "virtual",
                        "state": str(self.folder / f"{kkt}.fn"),
                        "print_time_s": self.day.print_time_s,
                    }
                    for kkt in registers
                ],
                "ofd": {"url": "http://ofd.invalid"},
                "sync": {"max_attempts": 4, "interval_s": 5, "backoff_initial_s": 1, "backoff_max_s": 20},
                "breaker": {"reset_timeout_s": 10, "fail_max": 3},
                "retention": {"events_days": 36_500},
            }
        )

    def _register(self, kkt: str) -> Register:
        register = Register(
            kkt,
            self.folder,
            bridge=BRIDGE,
            clock=self.register_clock,
            effects=self.effects,
            rng=self.rng_for(kkt),
            print_time_s=self.day.print_time_s,
            wait=self._wait_for_paper,
            apart=self.day.registers_apart,
        )
        register.power_cut_rate = self.day.power_cut_rate
        register.answer_lost_rate = self.day.answer_lost_rate
        return register

    def _terminal(self, name: str) -> Terminal:
        terminal = Terminal(
            name,
            topics=self.topics,
            broker=self.broker,
            clock=self.clock,
            rng=self.rng_for(name),
            kkt=[kkt.id for kkt in self.settings.kkt],
        )
        terminal.to_sell = self.day.sales
        return terminal

    def rng_for(self, what: str) -> random.Random:
        """Return a random stream of its own for a part: what one part draws does not change what the others get."""
        return random.Random(f"{self.seed}/{what}")

    def ports(self, exchange: Exchange) -> Ports:
        """The doors of a bridge that lives in this world; this process of it has such an exchange."""
        lasting = {"session": self._session_rng, "boot id": self._boot_id_rng}
        return Ports(
            clock=self.clock,
            dial=self.broker.dial,
            new_engine=self.disk.new_engine,
            new_register=lambda _settings, kkt, _clock: self.registers[kkt.id].drive(),
            new_exchange=lambda _settings, _clock: exchange,
            rng_for=lambda part: lasting.get(part) or self.rng_for(part),
        )

    # -- a day ----------------------------------------------------------------------------------------------

    def live(self) -> None:
        """The whole story. Violation where something happened that never may."""
        self.trace(f"seed {self.seed}: {self.day}")
        try:
            self._start()
            self._plan_rare_faults()
            self._go_through_the_day()
            self._heal()
            self._come_to_rest()
            self.operator.order("dlq-requeue", {"all": True})
            self._come_to_rest()
            if self.journal.was_lost:
                self._repeat_everything()
            for invariant in self._invariants_that_apply():
                invariant.finish()
        finally:
            if self.process is not None:
                self.process.end()
            self.close_journal_reader()
            for register in self.registers.values():
                register.switch_off()

    def _repeat_everything(self) -> None:
        """Have each POS repeat everything it ever sent, as a shop does after its bridge lost the journal."""
        for terminal in self.terminals.values():
            terminal.repeat_all()
        self._come_to_rest()
        for terminal in self.terminals.values():  # after the sales, which are so none the worse for it
            terminal.repeat_contradictions()
        self._come_to_rest()
        self.operator.order("dlq-requeue", {"all": True})
        self._come_to_rest()

    def _invariants_that_apply(self) -> list[Invariant]:
        """The invariants that apply: some do not, once the journal was lost."""
        return [each for each in self.invariants if each.outlives_journal or not self.journal.was_lost]

    def close_journal_reader(self) -> None:
        """Let go of the journal's file."""
        if self._journal_reader is not None:
            self._journal_reader.close()
            self._journal_reader = None

    def _go_through_the_day(self) -> None:
        self.effects.crash_rate, self.effects.switch_rate = self.day.crash_rate, self.day.switch_rate
        faults = [fault for fault in FAULTS if fault.kind in self.day.kinds]
        weights = [fault.weight for fault in faults]
        turns = 0
        while turns < 75 or any(terminal.to_sell for terminal in self.terminals.values()):
            turns += 1
            if self.rng.random() < self.day.fault_rate:
                self._inject(self.rng.choices(faults, weights)[0])
            elif self.rng.random() < 0.08:
                terminal = self.rng.choice(list(self.terminals.values()))
                terminal.act()
            else:
                self._turn()
            if turns > 5000:
                self.fail("no input ends a loop", "the day does not end")

    def _plan_rare_faults(self) -> None:
        """Schedule the faults that only some days have: of the broker, of a terminal, long ones, old journals."""
        for rng, quirk_rng, share in (
            (self.quirk_rng, BROKER_QUIRKS, BROKER_QUIRK_DAYS),
            (self.rng_for("abuses"), TERMINAL_ABUSES, TERMINAL_ABUSE_DAYS),
            (self.rng_for("long faults"), LONG_FAULTS, LONG_FAULT_DAYS),
            (self.rng_for("old memories"), OLD_JOURNALS, OLD_JOURNAL_DAYS),
        ):
            if rng.random() < share:
                for fault in rng.choices(quirk_rng, [fault.weight for fault in quirk_rng], k=rng.randint(1, 3)):
                    inject = partial(World._inject_for_a_while, fault=fault, rng=rng)
                    self._schedule(rng.uniform(0, 10), inject)

    def _inject_for_a_while(self, fault: Fault, rng: random.Random) -> None:
        self.faults[fault.name] += 1
        fault.inject(self)
        if fault.repair is not None:
            self._schedule(rng.uniform(0.1, fault.lasts_s), fault.repair)

    def _inject(self, fault: Fault) -> None:
        self.trace(f"FAULT {fault.name}")
        self.faults[fault.name] += 1
        fault.inject(self)
        if fault.repair is not None:
            self._schedule(self.rng.uniform(0.1, fault.lasts_s), fault.repair)

    def _turn(self) -> None:
        """Run one action that is ready; where none is, let time pass."""
        actions = self._actions()
        if not actions:
            self._pass_to_the_next_due()
        elif self.rng.random() < 0.03:
            self.advance(self.rng.uniform(0, 1))
        else:
            self.rng.choice(actions)()

    def _actions(self) -> list[Callable[[], Any]]:
        actions: list[Callable[[], Any]] = []
        if self.process is not None:
            actions += [lambda name=name: self._turn_loop(name) for name in self.process.ready()]  # type: ignore[misc]
            if self.process.exchange.is_busy:
                actions.append(self._carry)
        if self.broker.unread:
            actions.append(self.broker.hear)
        if self.broker.can_push:
            actions.append(self.broker.push)
        if self.broker.can_speak:
            actions.append(lambda: self.broker.speak(self.rng.randint(1, 5)))
        now = self.clock.monotonic()
        if self._scheduled and self._scheduled[0].due <= now:
            actions.append(self._run_scheduled)
        if any(self.doubts.values()) and self._settle_at <= now and self.broker.up:
            actions.append(self._settle_by_hand)
        for terminal in self.terminals.values():
            if terminal.next_due is not None and terminal.next_due <= now and self.broker.up:
                actions.append(terminal.repeat_what_is_due)
        return actions

    def _turn_loop(self, name: str) -> None:
        assert self.process is not None
        self.trace(name)
        try:
            self.process.turn(name)
        except Crash:
            self._die()

    def _carry(self) -> None:
        assert self.process is not None
        try:
            self.process.carry()
        except Crash:
            self._die()

    def _pass_to_the_next_due(self) -> None:
        now = self.clock.monotonic()
        dues = [terminal.next_due for terminal in self.terminals.values()] if self.broker.up else []
        dues += [scheduled.due for scheduled in self._scheduled[:1]]
        if any(self.doubts.values()):
            dues.append(self._settle_at)
        if self.process is not None:
            dues += [due for name, due in self.process._due.items() if name not in POLLING_LOOPS]
        soonest = min((due for due in dues if due is not None), default=now + IDLE_STEP_MAX_S)
        self.advance(min(max(soonest - now, 0.05), IDLE_STEP_MAX_S))

    def _settle_by_hand(self) -> None:
        """Have an operator look at all documents, and say what became of the receipts in doubt."""
        self._settle_at = self.clock.monotonic() + 5
        for kkt, doubts in self.doubts.items():
            register = self.registers[kkt]
            for doubt in doubts:
                sale = self.terminals[doubt["pos_id"]].sales[doubt["receipt_id"]]
                order = self.operator.settle(sale, doubt, register.documents())
                if self.rng.random() < 0.5:  # somebody else has seen the same documents, and comes late
                    self._schedule(self.rng.uniform(0, 20), lambda world, order=order: world.operator.order(*order))

    def _schedule(self, in_s: float, action: Action) -> None:
        self._schedule_number += 1
        self._scheduled.append(ScheduledAction(self.clock.monotonic() + in_s, self._schedule_number, action))
        self._scheduled.sort()

    def _run_scheduled(self) -> None:
        scheduled = self._scheduled.pop(0)
        self.trace(f"REPAIR {getattr(scheduled.action, '__name__', '')}")
        scheduled.action(self)

    # -- the bridge's process ---------------------------------------------------------------------------------

    def _start(self) -> None:
        if self.process is not None:
            return
        self.trace("START")
        self.process = Process(self)
        try:
            self.process.start()
        except (Crash, KktBridgeError) as end:
            self.trace(f"did not start: {end!r}")
            self._die()

    def _die(self) -> None:
        assert self.process is not None
        self.process.end()
        self.process = None
        if self.ofd.log and not self.journal.was_lost:
            self.ofd.bridge_died(dict(self.rows(ATTEMPTS)))
        for kind, action in WORST_WHILE_DOWN.items():
            if kind in self.day.kinds and self.rng.random() < 0.3:
                self.trace(f"FAULT {action.__name__}, while the bridge is down")
                action(self)
        self._schedule(self.rng.uniform(0, 3), World._start)

    def kill(self) -> None:
        """SIGKILL, between two effects."""
        if self.process is not None:
            self._die()

    def stop(self) -> None:
        """SIGTERM."""
        if self.process is None:
            return
        try:
            self.process.stop()
        except Crash:
            self._die()
            return
        self.process = None
        self._schedule(self.rng.uniform(0, 3), World._start)

    # -- time ---------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass for everybody."""
        self.clock.advance(seconds)
        if self.register_clock is not self.clock:
            self.register_clock.advance(seconds)

    def let_pass(self, seconds: float) -> None:
        """Let a long time pass, in which the bridge gets a turn now and then."""
        for _ in range(4):
            self.advance(seconds / 4)
            for _ in range(10):
                self._turn()

    def live_on_for(self, seconds: float) -> None:
        """Let everybody do what there is to do until so much time has passed."""
        end = self.clock.monotonic() + seconds
        for _ in range(LIVE_ON_TURNS_MAX):
            if self.clock.monotonic() >= end:
                return
            self._turn()

    def jump_the_clock(self, seconds: float) -> None:
        """Set the bridge's system clock; no time passes."""
        self.set_the_clock(self.clock.wall_ms + round(seconds * 1000))

    def set_the_clock(self, wall_ms: int) -> None:
        """Set the bridge's system clock to this."""
        self.clock.wall_ms = max(0, wall_ms)

    def true_ms(self) -> int:
        """Return what a right clock shows."""
        return NOON_MS + round((self.clock.monotonic_s - self.began_s) * 1000)

    def _wait_for_paper(self, seconds: float) -> None:
        self.advance(seconds / 2)
        self.effects.at("paper", may_switch=True)
        self.advance(seconds / 2)

    # -- the end of the day ---------------------------------------------------------------------------------------

    def _heal(self) -> None:
        self.trace("HEAL")
        self.effects.crash_rate = 0
        self._scheduled = [each for each in self._scheduled if each.action is World._start]
        for register in self.registers.values():
            register.power_cut_rate = register.answer_lost_rate = register.late_rate = register.mixed_rate = 0
            register.switch.put()
        self.ofd.heal()
        self.disk.heal()
        allow_all_topics(self)
        add_no_properties(self)
        self.set_the_clock(self.true_ms())
        if not self.broker.up:
            self.broker.start()
        self.operator.order("resume")

    def _come_to_rest(self) -> None:
        end = self.clock.monotonic() + REST_S_MAX
        for _ in range(TURNS_TO_REST_MAX):
            if not self._actions() and not self._unfinished():
                return
            if self.clock.monotonic() > end:
                break
            self._turn()
        self.fail("no input ends a loop", f"does not come to rest: {self._unfinished()}")

    def _unfinished(self) -> str:
        """Say what is not finished yet; empty if everything is."""
        return next(filter(None, self._everything_unfinished()), "")

    def _everything_unfinished(self) -> Iterator[str]:
        if self.process is None or not self.broker.connected:
            yield "the bridge is not online"
            return
        if not self.broker.is_idle:
            yield f"the broker waits: {[(queued.topic, queued.payload[:200]) for queued in self.broker.waiting()]}"
        yield _named("receipts without a final reply", [sale.key for sale in self.sales() if sale.is_due])
        yield _named("in the outbox", self.rows("SELECT topic, payload FROM outbox"))
        yield _named("pending", self.rows(PENDING))
        yield _named("commands without an answer", self.rows("SELECT name FROM commands WHERE result IS NULL"))
        ((last,),) = self.rows("SELECT max(id) FROM steps")
        published = self.rows("SELECT value FROM settings WHERE name = 'steps_published'")
        if last is not None and (not published or int(published[0][0]) < last):
            yield "steps are not published"

    # -- looking ------------------------------------------------------------------------------------------------

    def trace(self, what: str) -> None:
        """Write a line of the trace."""
        if self._tell is not None:
            self._tell(f"{self.clock.monotonic_s - self.began_s:10.3f} {what}")

    def fail(self, invariant: str, what: str, cause: BaseException | None = None) -> NoReturn:
        """Raise Violation: this must never happen."""
        raise Violation(f"seed {self.seed}: {invariant}: {what}") from cause

    def first_terminal(self) -> Terminal:
        """The terminal whose program is at fault, where one is."""
        return next(iter(self.terminals.values()))

    def any_register(self) -> Register:
        """One of the registers."""
        return self.rng.choice(list(self.registers.values()))

    def sales(self) -> list[Sale]:
        """Every receipt that a terminal has made."""
        return [sale for terminal in self.terminals.values() for sale in terminal.sales.values()]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query, read from the journal's file past the program."""
        if self._journal_reader is None:
            self._journal_reader = sqlite3.connect(f"file:{self.folder / 'journal.db'}?mode=ro", uri=True)
        return journal_rows(self._journal_reader, query, *values)

    def _puback(self, queued: QueuedMessage | None) -> None:
        for invariant in self._invariants_that_apply():
            invariant.acknowledged(queued)

    def _told(self, message: Publish) -> None:
        topic, content = message.topic, content_of(message.payload)
        inside = topic.removeprefix(self.topics.branch + "/").split("/")
        match inside:
            case ["pos", pos, *_]:
                code = (content["error"] or {}).get("code", "")
                self.trace(f"  told {pos}: {content['receipt_id']} {content['status']} {code}")
                if pos in self.terminals:
                    self.terminals[pos].hear(content)
            case ["command", *_]:
                self.operator.hear(content)
            case ["state", "kkt", kkt]:
                self.doubts[kkt] = content["doubts"]
        correlation = message.properties.get(CORRELATION_DATA)
        for invariant in self._invariants_that_apply():
            invariant.told(inside, content)
            if correlation is not None:
                invariant.answered(correlation, content)


def _named(what: str, found: list[Any]) -> str:
    return f"{what}: {found[:3]}" if found else ""

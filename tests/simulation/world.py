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
from simulation.broker import Broker, Letter
from simulation.disk import Disk
from simulation.effects import Crash, Effects
from simulation.invariants import INVARIANTS
from simulation.invariants.invariant import Invariant
from simulation.memory import Memory
from simulation.ofd import Ofd
from simulation.packets import CORRELATION_DATA, Publish
from simulation.process import Process, content_of, journal_rows
from simulation.registers import Register
from simulation.terminals import Operator, Sale, Terminal
from simulation.weather import (
    ABUSES,
    ABUSIVE_DAYS,
    BLOWS,
    KINDS,
    LONG_FAULT_DAYS,
    LONG_FAULTS,
    OLD_MEMORIES,
    OLD_MEMORY_DAYS,
    WHIMS,
    WHIMSICAL_DAYS,
    WORST_WHILE_DOWN,
    Blow,
    Deed,
    add_no_properties,
    allow_all_topics,
)

BRIDGE = "store-017"
LAZY = frozenset({"keep", "mqtt", "show"})
"""Loops that look around several times a second: while nothing else happens, time need not stop for them."""

LONGEST_NAP_S = 10.0
ATTEMPTS = "SELECT r.pos_id || ':' || r.receipt_id, d.attempts FROM receipts r JOIN documents d ON d.id = r.document"
PENDING = "SELECT pos_id, receipt_id, kkt, status FROM receipts WHERE status IN ('buffered', 'printing', 'printed')"
LIVE_ON_TURNS_MAX = 3000
TURNS_TO_REST_MAX = 20_000
REST_S_MAX = 4 * 3600.0


class Violation(AssertionError):
    """Something happened that never may."""


@dataclass(frozen=True)
class Day:
    """What a seed's day is like."""

    terminals: int
    registers: int
    sales: int
    print_time_s: float
    capacity: int
    crash_rate: float
    switch_rate: float
    blow_rate: float
    power_cut_rate: float
    answer_lost_rate: float
    registers_apart: bool
    registers_follow_our_clock: bool
    receive_maximum: int
    kinds: frozenset[str]

    @classmethod
    def of(cls, chance: random.Random) -> Day:
        """The day of these dice."""
        trouble = chance.random() < 0.7
        return cls(
            terminals=chance.randint(1, 3),
            registers=chance.randint(1, 2),
            sales=chance.randint(1, 4),
            print_time_s=chance.choice([0, 0, 0.01, 1.5]),
            capacity=chance.choice([3, 6, 200, 200]),
            crash_rate=chance.choice([0, 0, 0.002, 0.01]),
            switch_rate=chance.choice([0, 0.1, 0.4]),
            blow_rate=chance.choice([0.01, 0.03, 0.06]),
            power_cut_rate=chance.choice([0, 0, 0.01, 0.05]) if trouble else 0,
            answer_lost_rate=chance.choice([0, 0, 0.01, 0.05]) if trouble else 0,
            registers_apart=chance.random() < 0.6,
            registers_follow_our_clock=chance.random() < 0.5,
            receive_maximum=chance.choice([1, 5, 512]),
            kinds=frozenset(chance.sample(KINDS, chance.randint(1, 5))),
        )


@dataclass(order=True)
class Appointment:
    """Something to be done later."""

    due: float
    number: int
    deed: Deed = field(compare=False)


class World:
    """Everything, in one thread."""

    def __init__(self, seed: int, folder: Path, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.folder = folder
        self._tell = trace
        self._session_rng, self._boot_id_rng = random.Random(seed), random.Random(seed)
        self.chance = self.chance_of("world")
        self.day = Day.of(self.chance_of("day"))
        self.whims = self.chance_of("whims")
        self.clock = ManualClock()
        self.register_clock = self.clock if self.day.registers_follow_our_clock else ManualClock()
        self.began_s = self.clock.monotonic_s
        self.effects = Effects(self.chance_of("effects"))
        self.effects.trace = self.trace
        self.effects.switch = lambda: self.process.switch() if self.process else None
        self.settings = self._settings()
        self.topics = Topics(self.settings.mqtt.topic_root, BRIDGE)
        self.broker = Broker(self.effects, self.day.receive_maximum)
        self.broker.told = self._told
        self.broker.puback = self._puback
        self.disk = Disk(self.effects)
        self.ofd = Ofd(self.effects, self.chance_of("ofd"), self.register_clock)
        self.registers = {kkt.id: self._register(kkt.id) for kkt in self.settings.kkt}
        names = [f"pos-{number}" for number in range(1, self.day.terminals + 1)]
        self.terminals = {name: self._terminal(name) for name in names}
        self.operator = Operator(topics=self.topics, broker=self.broker, chance=self.chance_of("operator"))
        self.process: Process | None = None
        self.blows: Counter[str] = Counter()
        self._appointments: list[Appointment] = []
        self._appointment_number = 0
        self.doubts: dict[str, list[dict[str, Any]]] = {}
        """What each register's state says that a person must settle."""
        self._settle_at = 0.0
        self._books: sqlite3.Connection | None = None
        self.memory = Memory(self)
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
            chance=self.chance_of(kkt),
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
            chance=self.chance_of(name),
            kkt=[kkt.id for kkt in self.settings.kkt],
        )
        terminal.to_sell = self.day.sales
        return terminal

    def chance_of(self, what: str) -> random.Random:
        """Dice of one's own: what one part throws does not change what the others get."""
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
            rng_for=lambda part: lasting.get(part) or self.chance_of(part),
        )

    # -- a day ----------------------------------------------------------------------------------------------

    def live(self) -> None:
        """The whole story. Violation where something happened that never may."""
        self.trace(f"seed {self.seed}: {self.day}")
        try:
            self._start()
            self._plan_the_whims()
            self._go_through_the_day()
            self._heal()
            self._come_to_rest()
            self.operator.order("dlq-requeue", {"all": True})
            self._come_to_rest()
            if self.memory.was_lost:
                self._repeat_everything()
            for invariant in self._judges():
                invariant.finish()
        finally:
            if self.process is not None:
                self.process.end()
            self.close_books()
            for register in self.registers.values():
                register.switch_off()

    def _repeat_everything(self) -> None:
        """Whoever lost a memory is told again what was sold: each POS repeats what it ever sent."""
        for terminal in self.terminals.values():
            terminal.repeat_all()
        self._come_to_rest()
        for terminal in self.terminals.values():  # after the sales, which are so none the worse for it
            terminal.repeat_contradictions()
        self._come_to_rest()
        self.operator.order("dlq-requeue", {"all": True})
        self._come_to_rest()

    def _judges(self) -> list[Invariant]:
        """The invariants that hold: some are about what a bridge remembers that has lost its memory."""
        return [each for each in self.invariants if each.outlives_memory or not self.memory.was_lost]

    def close_books(self) -> None:
        """Let go of the journal's file."""
        if self._books is not None:
            self._books.close()
            self._books = None

    def _go_through_the_day(self) -> None:
        self.effects.crash_rate, self.effects.switch_rate = self.day.crash_rate, self.day.switch_rate
        blows = [blow for blow in BLOWS if blow.kind in self.day.kinds]
        weights = [blow.weight for blow in blows]
        turns = 0
        while turns < 75 or any(terminal.to_sell for terminal in self.terminals.values()):
            turns += 1
            if self.chance.random() < self.day.blow_rate:
                self._fall(self.chance.choices(blows, weights)[0])
            elif self.chance.random() < 0.08:
                terminal = self.chance.choice(list(self.terminals.values()))
                terminal.act()
            else:
                self._turn()
            if turns > 5000:
                self.fail("no input ends a loop", "the day does not end")

    def _plan_the_whims(self) -> None:
        """The broker of this day, or a terminal, may be one of a kind: when it does what is settled in the morning."""
        for chance, whims, share in (
            (self.whims, WHIMS, WHIMSICAL_DAYS),
            (self.chance_of("abuses"), ABUSES, ABUSIVE_DAYS),
            (self.chance_of("long faults"), LONG_FAULTS, LONG_FAULT_DAYS),
            (self.chance_of("old memories"), OLD_MEMORIES, OLD_MEMORY_DAYS),
        ):
            if chance.random() < share:
                for whim in chance.choices(whims, [whim.weight for whim in whims], k=chance.randint(1, 3)):
                    strike = partial(World._strike_with, whim=whim, chance=chance)
                    self._appoint(chance.uniform(0, 10), strike)

    def _strike_with(self, whim: Blow, chance: random.Random) -> None:
        self.blows[whim.name] += 1
        whim.strike(self)
        if whim.mend is not None:
            self._appoint(chance.uniform(0.1, whim.lasts_s), whim.mend)

    def _fall(self, blow: Blow) -> None:
        self.trace(f"BLOW {blow.name}")
        self.blows[blow.name] += 1
        blow.strike(self)
        if blow.mend is not None:
            self._appoint(self.chance.uniform(0.1, blow.lasts_s), blow.mend)

    def _turn(self) -> None:
        """Let somebody who has something to do do it; where nobody has, time passes."""
        deeds = self._deeds()
        if not deeds:
            self._pass_to_the_next_due()
        elif self.chance.random() < 0.03:
            self.advance(self.chance.uniform(0, 1))
        else:
            self.chance.choice(deeds)()

    def _deeds(self) -> list[Callable[[], Any]]:
        deeds: list[Callable[[], Any]] = []
        if self.process is not None:
            deeds += [lambda name=name: self._turn_loop(name) for name in self.process.ready()]  # type: ignore[misc]
            if self.process.exchange.is_busy:
                deeds.append(self._carry)
        if self.broker.unread:
            deeds.append(self.broker.hear)
        if self.broker.can_push:
            deeds.append(self.broker.push)
        if self.broker.can_speak:
            deeds.append(lambda: self.broker.speak(self.chance.randint(1, 5)))
        now = self.clock.monotonic()
        if self._appointments and self._appointments[0].due <= now:
            deeds.append(self._keep_appointment)
        if any(self.doubts.values()) and self._settle_at <= now and self.broker.up:
            deeds.append(self._settle_by_hand)
        for terminal in self.terminals.values():
            if terminal.next_due is not None and terminal.next_due <= now and self.broker.up:
                deeds.append(terminal.repeat_what_is_due)
        return deeds

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
        dues += [appointment.due for appointment in self._appointments[:1]]
        if any(self.doubts.values()):
            dues.append(self._settle_at)
        if self.process is not None:
            dues += [due for name, due in self.process._due.items() if name not in LAZY]
        soonest = min((due for due in dues if due is not None), default=now + LONGEST_NAP_S)
        self.advance(min(max(soonest - now, 0.05), LONGEST_NAP_S))

    def _settle_by_hand(self) -> None:
        """An operator looks at the papers, of the swapped storages too, and says what became of the receipts."""
        self._settle_at = self.clock.monotonic() + 5
        for kkt, doubts in self.doubts.items():
            register = self.registers[kkt]
            for doubt in doubts:
                sale = self.terminals[doubt["pos_id"]].sales[doubt["receipt_id"]]
                order = self.operator.settle(sale, doubt, register.documents())
                if self.chance.random() < 0.5:  # somebody else has seen the same papers, and comes late
                    self._appoint(self.chance.uniform(0, 20), lambda world, order=order: world.operator.order(*order))

    def _appoint(self, in_s: float, deed: Deed) -> None:
        self._appointment_number += 1
        self._appointments.append(Appointment(self.clock.monotonic() + in_s, self._appointment_number, deed))
        self._appointments.sort()

    def _keep_appointment(self) -> None:
        appointment = self._appointments.pop(0)
        self.trace(f"MEND {getattr(appointment.deed, '__name__', '')}")
        appointment.deed(self)

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
        if self.ofd.log and not self.memory.was_lost:
            self.ofd.bridge_died(dict(self.rows(ATTEMPTS)))
        for kind, deed in WORST_WHILE_DOWN.items():
            if kind in self.day.kinds and self.chance.random() < 0.3:
                self.trace(f"BLOW {deed.__name__}, while the bridge is down")
                deed(self)
        self._appoint(self.chance.uniform(0, 3), World._start)

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
        self._appoint(self.chance.uniform(0, 3), World._start)

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
        """What a right clock shows."""
        return NOON_MS + round((self.clock.monotonic_s - self.began_s) * 1000)

    def _wait_for_paper(self, seconds: float) -> None:
        self.advance(seconds / 2)
        self.effects.at("paper", may_switch=True)
        self.advance(seconds / 2)

    # -- the end of the day ---------------------------------------------------------------------------------------

    def _heal(self) -> None:
        self.trace("HEAL")
        self.effects.crash_rate = 0
        self._appointments = [each for each in self._appointments if each.deed is World._start]
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
            if not self._deeds() and not self._unrest():
                return
            if self.clock.monotonic() > end:
                break
            self._turn()
        self.fail("no input ends a loop", f"does not come to rest: {self._unrest()}")

    def _unrest(self) -> str:
        """What is still going on, in words; nothing if nothing is."""
        return next(filter(None, self._unrests()), "")

    def _unrests(self) -> Iterator[str]:
        if self.process is None or not self.broker.connected:
            yield "the bridge is not online"
            return
        if not self.broker.is_idle:
            yield f"the broker waits: {[(letter.topic, letter.payload[:200]) for letter in self.broker.waiting()]}"
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
        """A line of the story."""
        if self._tell is not None:
            self._tell(f"{self.clock.monotonic_s - self.began_s:10.3f} {what}")

    def fail(self, invariant: str, what: str, cause: BaseException | None = None) -> NoReturn:
        """This must never happen."""
        raise Violation(f"seed {self.seed}: {invariant}: {what}") from cause

    def first_terminal(self) -> Terminal:
        """The terminal whose program is at fault, where one is."""
        return next(iter(self.terminals.values()))

    def any_register(self) -> Register:
        """One of the registers."""
        return self.chance.choice(list(self.registers.values()))

    def sales(self) -> list[Sale]:
        """Every receipt that a terminal has made."""
        return [sale for terminal in self.terminals.values() for sale in terminal.sales.values()]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a stranger reads in the journal."""
        if self._books is None:
            self._books = sqlite3.connect(f"file:{self.folder / 'journal.db'}?mode=ro", uri=True)
        return journal_rows(self._books, query, *values)

    def _puback(self, letter: Letter | None) -> None:
        for invariant in self._judges():
            invariant.acknowledged(letter)

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
        for invariant in self._judges():
            invariant.told(inside, content)
            if correlation is not None:
                invariant.answered(correlation, content)


def _named(what: str, found: list[Any]) -> str:
    return f"{what}: {found[:3]}" if found else ""

"""A bridge taken apart: real journal, real registers, real OFD client, and every stage moved by hand.

What the program turns into threads a test calls as `step()`, on a clock of its own. The one stand-in is
`Line`, the stages' end of the MQTT session: it notes what it is told and acknowledges when the test says so.
"""

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from support.clocks import ManualClock
from support.exchange import InlineExchange
from support.receipts import POS, encoded, small_receipt

from kkt_bridge.journal.database import Database
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.outbox import messages_after
from kkt_bridge.journal.receipts import find_receipts
from kkt_bridge.journal.records import Message, NewReceipt, StoredReceipt
from kkt_bridge.mqtt.inbox import AckToken, Inbox, Incoming
from kkt_bridge.mqtt.messages import Publication
from kkt_bridge.mqtt.refused_publications import Holds
from kkt_bridge.ofd.breaker import BreakerChange
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.receipts.lifecycle import PENDING
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.registers.base import FiscalRegister, PrintJob
from kkt_bridge.registers.virtual.driver import VirtualRegister
from kkt_bridge.registers.virtual.faults import clear_faults, write_faults
from kkt_bridge.registers.virtual.fiscal_document import CORRECTION, RECEIPT, FiscalDocument
from kkt_bridge.registers.virtual.storage_file import read_documents
from kkt_bridge.runtime.ports import SYSTEM, Ports
from kkt_bridge.runtime.wiring import Foundation, build_admission, build_delivery, build_intake, build_lane
from kkt_bridge.settings import Settings
from kkt_bridge.stages.buffered_replies import BufferedReplies
from kkt_bridge.stages.delivery.sync_pass import SyncResult
from kkt_bridge.stages.printing.lane import RETRY_S, PrintLane
from kkt_bridge.stages.printing.stale_journal import StartBarrier
from kkt_bridge.wire.topics import Topics

ZONE = ZoneInfo("Europe/Moscow")
TOPICS = Topics("kkt/v1", "store-017")
NOWHERE = "http://127.0.0.1:9"
"""An OFD that nobody has ever reached."""

STEPS_MAX = 500
"""More steps than any scenario here takes: a stage that never rests fails its test."""


def new_journal(folder: Path, clock: ManualClock, kind: type[Journal] = Journal) -> Journal:
    """An open journal in this folder: a new one, or what an earlier one left there."""
    journal = kind(Database(f"sqlite:///{folder / 'journal.db'}"), clock)
    journal.open()
    return journal


def kill(journal: Journal) -> None:
    """End a journal as the end of the process does: nothing more is written, the file is free."""
    journal._database.close()


def break_disk(journal: Journal) -> None:
    """Let no write succeed, as on a file system that was remounted read-only after an error."""
    journal._database.writer.connection.execute("PRAGMA query_only = 1")


def mend_disk(journal: Journal) -> None:
    """Let writes succeed again."""
    journal._database.writer.connection.execute("PRAGMA query_only = 0")


def rows(folder: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query, read from the journal's file past the program."""
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        return connection.execute(query, values).fetchall()


def meddle(folder: Path, *statements: str) -> None:
    """Change the journal's file behind the program's back."""
    with closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


class Line:
    """The stages' end of the MQTT session."""

    def __init__(self) -> None:
        self.online = True
        self.acknowledged: list[int] = []
        self.published: list[Publication] = []
        self.holds = Holds()

    def acknowledge(self, tokens: Iterable[AckToken]) -> None:
        self.acknowledged += [token.mid for token in tokens]

    def publish(self, message: Publication) -> None:
        self.published.append(message)

    def take(self) -> list[Publication]:
        """Return what was published since the last time."""
        taken, self.published = self.published, []
        return taken


def settings_for(folder: Path, registers: Iterable[str], *, print_time_s: float = 0, **sections: Any) -> Settings:
    """The settings of a shop whose files are in this folder."""
    kkt = [
        {"id": name, "driver": "virtual", "state": str(folder / f"{name}.fn"), "print_time_s": print_time_s}
        for name in registers
    ]
    values = {
        "bridge_id": TOPICS.bridge,
        "journal": {"url": f"sqlite:///{folder / 'journal.db'}"},
        "kkt": kkt,
        "ofd": {"url": NOWHERE},
    }
    return Settings.model_validate(values | sections)


class InProcessBridge:
    """One bridge's stages in the test's process, stepped by hand; `restart` is the bridge's next process."""

    def __init__(
        self,
        folder: Path,
        *,
        registers: Iterable[str] = ("kkt-1",),
        clock: ManualClock | None = None,
        journal_kind: type[Journal] = Journal,
        wrap_register: Callable[[FiscalRegister], FiscalRegister] = lambda register: register,
        lanes_wait: bool = False,
        **sections: Any,
    ) -> None:
        self.folder = folder
        self.clock = clock or ManualClock()
        self.settings = settings_for(folder, registers, **sections)
        self.waited_s: list[float] = []
        self._journal_kind = journal_kind
        self._wrap_register = wrap_register
        self._lanes_wait = lanes_wait
        """True if lanes wait for each other at the start, as a bridge's do; most tests turn one alone."""
        self._mid = 0
        self._start()

    def _start(self) -> None:
        self.journal = new_journal(self.folder, self.clock, self._journal_kind)
        self.line = Line()
        self.inbox = Inbox(10_000)
        self.registers = {
            kkt.id: VirtualRegister(
                kkt.id, kkt.state, ZONE, self.clock, kkt.print_time_s, shop=TOPICS.bridge, wait=self._wait
            )
            for kkt in self.settings.kkt
        }
        self.base = Foundation(self.settings, self._ports(), TOPICS, self.journal)
        together = StartBarrier(self.registers)
        self.lanes = {
            kkt.id: build_lane(self.base, kkt, together if self._lanes_wait else StartBarrier([kkt.id]))
            for kkt in self.settings.kkt
        }
        self.admission = build_admission(self.base, self.lanes)
        self.admission.recall(self.journal)
        self.intake = build_intake(self.base, self.inbox, self.line, self.admission)
        self.notices = BufferedReplies(
            journal=self.journal, buffered_after_s=self.settings.reply.buffered_after_s, zone=ZONE
        )

    def _wait(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        self.clock.advance(seconds)

    def _ports(self) -> Ports:
        return replace(
            SYSTEM,
            clock=self.clock,
            new_register=lambda _settings, kkt, _clock: self._wrap_register(self.registers[kkt.id]),
            new_exchange=lambda settings, _clock: InlineExchange(settings),
        )

    # -- the life of the process ---------------------------------------------------------------------

    def kill(self) -> None:
        """End the process as SIGKILL does: memory is gone, files are as they are."""
        kill(self.journal)
        for register in self.registers.values():
            register.close()
        if sync := self.__dict__.pop("sync", None):
            sync.exchange.close()

    def restart(self, **sections: Any) -> None:
        """Kill the process and start the next one, with these settings changed."""
        self.kill()
        if sections:
            self.settings = self.settings.model_copy(
                update={name: getattr(self.settings, name).model_copy(update=keys) for name, keys in sections.items()}
            )
        self._start()

    # -- POS terminals and operators -------------------------------------------------------------------

    def arrive(
        self,
        topic: str,
        payload: bytes | dict[str, Any],
        *,
        redelivered: bool = False,
        retained: bool = False,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> int:
        """Have a message stand in the inbox; return its packet id."""
        self._mid += 1
        self.inbox.put(
            Incoming(
                token=AckToken(1, self._mid, 1),
                topic=topic,
                payload=payload if isinstance(payload, bytes) else encoded(payload),
                redelivered=redelivered or retained,
                retained=retained,
                response_topic=response_topic,
                correlation=correlation,
            )
        )
        return self._mid

    def sell(self, request: bytes | dict[str, Any], pos: str = POS, **how: Any) -> int:
        """Publish a receipt and let the intake decide."""
        mid = self.arrive(TOPICS.receipt(pos), request, **how)
        self.intake.step()
        return mid

    def query(self, receipt_id: str, pos: str = POS, **how: Any) -> int:
        """Ask what became of a receipt."""
        mid = self.arrive(TOPICS.query(pos), {"receipt_id": receipt_id}, **how)
        self.intake.step()
        return mid

    def command(self, name: str, command_id: str, **args: Any) -> int:
        """Publish an operator's command."""
        message = {"command_id": command_id, "issued_by": "ops", "args": args}
        mid = self.arrive(TOPICS.command(name), message)
        self.intake.step()
        return mid

    # -- moving the stages --------------------------------------------------------------------------------

    @property
    def lane(self) -> PrintLane:
        """The first lane."""
        return next(iter(self.lanes.values()))

    def occupy(self) -> None:
        """Have no lane rest: the next receipt waits, and is not leased in the commit that takes it."""
        for lane in self.lanes.values():
            assert lane._leases.collect()
            assert not lane._leases.tasks

    def print_all(self, kkt: str | None = None) -> None:
        """Step a lane, or all, until nothing is left to do at once; time passes only where a lane asks for it."""
        for name, lane in self.lanes.items():
            if kkt in {None, name}:
                run(lane.step)

    def print_patiently(self, attempts: int = 10) -> None:
        """The same, past the pauses in which a lane stands still."""
        for _ in range(attempts):
            self.print_all()
            self.clock.advance(RETRY_S)

    @cached_property
    def sync(self) -> "Sync":
        """The delivery to the OFD, built when it is first asked for."""
        return Sync(self)

    # -- looking ----------------------------------------------------------------------------------------

    def outbox(self) -> list[Message]:
        """Return the messages that wait in the outbox."""
        return self.journal.read(lambda connection: messages_after(connection, 0, 10_000))

    def sent_to(self, topic: str) -> list[dict[str, Any]]:
        """The messages in the outbox for one topic."""
        return [json.loads(message.payload) for message in self.outbox() if message.topic == topic]

    def replies(self, pos: str = POS) -> list[dict[str, Any]]:
        """Return the replies to a POS, as they stand in the outbox."""
        return self.sent_to(TOPICS.reply(pos))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return self.sent_to(TOPICS.event(kind))

    def stored(self, receipt_id: str) -> StoredReceipt:
        """Return what the journal knows of a receipt."""
        (found,) = self.journal.read(lambda connection: find_receipts(connection, receipt_id))
        return found

    def status(self, request: dict[str, Any]) -> str:
        """Return the status of a receipt."""
        return str(self.stored(request["receipt_id"]).status)

    def documents(self, kkt: str = "kkt-1") -> list[FiscalDocument]:
        """The receipts and corrections in a register's fiscal storage, read past the driver."""
        return [
            document
            for document in read_documents(self.folder / f"{kkt}.fn")
            if document.body.form in {RECEIPT, CORRECTION}
        ]

    def break_register(self, kkt: str = "kkt-1", **faults: Any) -> None:
        """Put these faults in force on a register."""
        write_faults(self.folder / f"{kkt}.fn", faults)

    def heal_register(self, kkt: str = "kkt-1") -> None:
        """Put no fault in force."""
        clear_faults(self.folder / f"{kkt}.fn")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query, read from the journal's file past the program."""
        return rows(self.folder, query, *values)

    def steps(self) -> list[tuple[str | None, str | None, str]]:
        """Every recorded step: receipt id, from, to."""
        return self.rows("SELECT receipt_id, from_status, to_status FROM steps ORDER BY id")


class Sync:
    """The way to the OFD: breaker, network, road and delivery over an exchange that needs no process."""

    def __init__(self, shop: InProcessBridge) -> None:
        self.changes: list[BreakerChange] = []
        self.delivery = build_delivery(shop.base, self.changes.append)
        assert isinstance(self.delivery.exchange, InlineExchange)
        self.exchange, self.uplink = self.delivery.exchange, self.delivery.uplink
        self.breaker, self.network = self.uplink.breaker, self.uplink.network
        self._clock = shop.clock

    def step(self) -> float | None:
        """One step; 0 where the exchange has brought something back by then."""
        self.exchange.wakeup.clear()
        wait = self.delivery.step()
        return 0.0 if self.exchange.wakeup.is_set() else wait

    def run(self) -> float | None:
        """Step until delivery wants to rest; return for how long."""
        return run(self.step)

    def order(self, *, force: bool = False) -> SyncResult:
        """An operator's sync, to its end."""
        result = self.delivery.request(force=force)
        self.run()
        return result.result(timeout=0)

    def run_for(self, seconds: float, *, at_once: float = 1.0) -> None:
        """Let time pass a little at a time, stepping whenever something is due."""
        end = self._clock.monotonic() + seconds
        while (left := end - self._clock.monotonic()) > 0:
            self.run()
            self._clock.advance(min(left, at_once))
        self.run()


def run(step: Callable[[], float | None]) -> float | None:
    """Step until the stage wants to rest; return for how long."""
    for _ in range(STEPS_MAX):
        wait = step()
        if wait is None or wait > 0:
            return wait
    raise AssertionError(f"still busy after {STEPS_MAX} steps")


def key_of(request: Mapping[str, Any]) -> ReceiptKey:
    """The key of a request."""
    return ReceiptKey(request["pos_id"], request["receipt_id"])


def a_receipt(**changes: Any) -> NewReceipt:
    """A receipt about to be taken: a sale of 10.00 with a fresh id."""
    key = ReceiptKey(changes.pop("pos_id", POS), changes.pop("receipt_id", None) or str(uuid.uuid4()))
    values: dict[str, Any] = {
        "key": key,
        "kkt": "kkt-1",
        "digest": b"content",
        "type": "sale",
        "total": 1000,
        "original_receipt_id": None,
        "body": "{}",
        "reply_topic": TOPICS.reply(POS),
        "correlation": None,
    }
    return NewReceipt(**(values | changes))


def a_mark(fd_number: int, fn_number: str = "9999078900000001", kkt: str = "kkt-1") -> FiscalMark:
    """Return what a register says of a document that it made."""
    return FiscalMark(
        kkt=kkt,
        kkt_serial="0000000000012345",
        registration_number="0000000001047959",
        fn_number=fn_number,
        fd_number=fd_number,
        fiscal_sign="2819546253",
        datetime="2026-11-22T14:03:00+03:00",
        shift_number=1,
        receipt_number=fd_number,
        type="sale",
        total="10.00",
        change="0.00",
        qr=f"t=20261122T1403&s=10.00&fn={fn_number}&i={fd_number}&fp=2819546253&n=1",
    )


def a_print_job(request: dict[str, Any] | None = None) -> PrintJob:
    """A receipt as a lane hands it to its register; of another program's, if none is given."""
    receipt = Receipt.model_validate_json(encoded(small_receipt() if request is None else request))
    return PrintJob(receipt, requisite_1192(receipt.key), "osn")


def true_counts(folder: Path) -> dict[tuple[str, str], int]:
    """Return what the counters must say, counted anew from the rows."""
    statuses = rows(folder, "SELECT kkt, status, count(*) FROM receipts GROUP BY kkt, status")
    dead = rows(folder, "SELECT kkt, 'dlq', count(*) FROM documents WHERE delivery = 'dead' GROUP BY kkt")
    return {(kkt, kind): n for kkt, kind, n in [*statuses, *dead]}


def kept_counts(journal: Journal) -> dict[tuple[str, str], int]:
    """Return what the counters say."""
    return {key: n for key, n in journal.counts().items() if n}


def check_counts(journal: Journal, folder: Path) -> None:
    """AssertionError unless counters, their rows, and a count of everything agree."""
    counted = true_counts(folder)
    assert kept_counts(journal) == counted
    stored = rows(folder, "SELECT kkt, name, value FROM figures WHERE kkt != '' AND value != 0")
    assert {(kkt, kind): n for kkt, kind, n in stored} == counted
    assert journal.pending() == sum(n for (_, kind), n in counted.items() if kind in PENDING)


def each_step(numbers: Iterable[int]) -> Iterator[int]:
    """Numbers, asserting on the way that each is above the one before."""
    last: int | None = None
    for number in numbers:
        assert last is None or number > last, f"{number} after {last}"
        last = number
        yield number

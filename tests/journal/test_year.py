"""A year of a shop in a few seconds: what is old goes, what is young stays, and the disk does not fill."""

import json
import random
import sqlite3
import uuid
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import pytest
from support.clocks import ManualClock
from support.stages import TOPICS, ZONE, a_mark, a_receipt, check_counts, kill, new_journal, rows

from kkt_bridge.journal.commands import ANSWERS_KEPT_MS, ONLY_ASK, find_command, finish_command, take_command
from kkt_bridge.journal.document_queue import (
    dead_letter,
    dead_letters_of,
    discard,
    ready_documents,
    record_sent,
    requeue,
)
from kkt_bridge.journal.outbox import forget_messages, messages_after, set_steps_published
from kkt_bridge.journal.print_queue import lease, record_printed, record_rejected
from kkt_bridge.journal.receipts import find_receipt, insert_receipt, remember_refusal
from kkt_bridge.journal.retention import space_of
from kkt_bridge.receipts.fiscal_mark import qr_text
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.settings import RetentionSettings
from kkt_bridge.stages import replies
from kkt_bridge.stages.housekeeping import FLUSH_S, FREE_PAGES_MIN, INTERVAL_S, MUCH_FREE, Housekeeping

DAYS = 365
DAY_S = 86_400
DAY_MS = DAY_S * 1000
YEAR_S = 365 * DAY_S
FN = "9999078900000001"
RECEIPTS_A_DAY = 12
BODY, LARGE_BODY = "x" * 1200, "x" * 4000
OUTAGE = range(180, 187)
"""Days on which neither the OFD nor the broker is there."""
RUSH, RUSH_RECEIPTS = 183, 1200
"""The day in the middle of it on which everybody buys glasses."""
JUMPS = {
    20: DAY_S,
    22: -DAY_S,
    40: -DAY_S,
    42: DAY_S,
    60: 10 * YEAR_S,
    63: -10 * YEAR_S,
    182: -10 * YEAR_S,
    185: 10 * YEAR_S,
    220: -56 * YEAR_S,
    224: 56 * YEAR_S,
    300: 10 * YEAR_S,
}
"""What the wall clock does on which day; the last one nobody mends."""
RESTARTS = {50, 130, 184, 260}
SETTLED, RUSH_GONE = 120, 200
"""When what is kept for 90 days has come to its number; when the rush is a fortnight past."""
LATE_MS = 2 * DAY_MS
"""How long after its time something may still be there: housekeeping looks twice a day here."""
PAGE = 4096
LOG_MAX = 16 * 2**20
TOMBSTONE_BYTES_MAX = 150


class Sizes(NamedTuple):
    """Bytes at the end of a day."""

    file: int
    log: int
    free: int
    tombstones: int


@dataclass
class Fate:
    """A receipt that was taken: until when its full record must be there."""

    kept_until_ms: int | None = None
    reply: dict | None = None


class JournalYear:
    """A shop over its journal, a day at a time."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = ManualClock()
        self.random = random.Random(3)
        self.plan = {}
        self.acts = {}
        self.questions = {}
        self.refusals = {}
        self.sizes = []
        self.fd_number = 1
        self.open()

    def open(self):
        self.journal = new_journal(self.folder, self.clock)
        self.journal._database.writer.connection.execute("PRAGMA synchronous = OFF")  # the disk is not what is tested
        self.housekeeping = Housekeeping(settings=RetentionSettings(), journal=self.journal, clock=self.clock)

    def restart(self):
        kill(self.journal)
        self.clock.reboot()
        self.open()

    # -- a day ------------------------------------------------------------------------------------------

    def day(self, number):
        self.clock.jump(JUMPS.get(number, 0))
        if number in RESTARTS:
            self.restart()
        if number == RUSH:
            for _ in range(RUSH_RECEIPTS // 50):
                self.sell(50, LARGE_BODY)
        self.sell(RECEIPTS_A_DAY, BODY)
        self.refuse(3)
        for name in ("status", "dlq-list", "pause"):
            self.order(name)
        self.clock.advance(DAY_S / 2)
        if number not in OUTAGE:
            while self.deliver():
                pass
            self.tell()
        self.keep()
        self.clock.advance(DAY_S / 2)
        self.keep()

    def sell(self, count, body):
        """Receipts to their printing, one of them refused by the register."""
        new = [a_receipt(receipt_id=self.an_id(), digest=self.random.randbytes(16), body=body) for _ in range(count)]
        self.journal.write(lambda tx: [insert_receipt(tx, one) for one in new])
        self.clock.advance(1)
        tasks = self.journal.write(lambda tx: lease(tx, "kkt-1", FN, self.fd_number, count))
        self.plan |= {one.key.receipt_id: Fate() for one in new}

        def print_them(tx):
            for number, task in enumerate(tasks[1:], start=self.fd_number + 1):
                record_printed(tx, task, self.mark(number), (), body=b"{}")
                tx.publish(TOPICS.reply("pos-1"), b"{}")
            record_rejected(tx, tasks[0], "kkt_rejected", "no")

        self.journal.write(print_them)
        self.fd_number += count - 1
        self.ended(tasks[0], 7)

    def mark(self, number):
        mark = a_mark(number, FN)
        qr = qr_text(
            datetime=mark.datetime, total=1000, fn_number=FN, fd_number=number, fiscal_sign=mark.fiscal_sign,
            operation="sale",
        )  # fmt: skip
        return mark.model_copy(update={"qr": qr})

    def deliver(self):
        """Documents to the OFD, which refuses one; what an operator does about that depends on the day."""
        due = self.journal.read(lambda c: ready_documents(c, "kkt-1", 0, 100))
        if not due:
            return False
        refused, *taken = due
        self.journal.write(lambda tx: [record_sent(tx, one, self.clock.now_ms() // 1000) for one in taken])
        for one in taken:
            self.ended(one, 7)
        self.journal.write(lambda tx: dead_letter(tx, refused, reason="refused", error="422"))
        self.ended(refused, 90)
        self.decide(refused)
        return len(due) == 100

    def decide(self, refused):
        (letter,) = self.journal.read(lambda c: dead_letters_of(c, refused.key.receipt_id))
        what = self.random.choice(["requeue", "discard", "nothing"])
        if what == "discard":
            self.journal.write(lambda tx: discard(tx, letter, "a reason"))
        elif what == "requeue":
            self.journal.write(lambda tx: requeue(tx, letter))
            (again,) = self.journal.read(lambda c: ready_documents(c, "kkt-1", letter.document - 1, 1))
            self.journal.write(lambda tx: record_sent(tx, again, None))
            self.ended(refused, 7)

    def ended(self, row, days):
        fate = self.plan[row.key.receipt_id]
        fate.kept_until_ms = self.journal.steady_ms() + days * DAY_MS
        if self.random.random() < 0.05:
            fate.reply = self.reply_to(row.key.receipt_id)

    def refuse(self, count):
        for _ in range(count):
            digest = self.random.randbytes(16)
            self.refusals[digest] = self.journal.steady_ms() + 7 * DAY_MS
            self.journal.write(partial(refuse, digest))

    def order(self, name):
        """An operator's command, carried out at once."""
        command_id = self.an_id()

        def take(tx):
            take_command(
                tx, command_id=command_id, name=name, issued_by="ops", args="{}", reply_topic="topic", correlation=None
            )
            tx.publish(TOPICS.event("command"), b"{}", is_event=True)

        self.journal.write(take)
        taken = self.journal.read(lambda c: find_command(c, command_id))
        self.journal.write(lambda tx: finish_command(tx, taken, "x" * 500))
        now = self.journal.steady_ms()
        if name in ONLY_ASK:
            self.questions[command_id] = now + ANSWERS_KEPT_MS
        else:
            self.acts[command_id] = now + 90 * DAY_MS

    def tell(self):
        """The broker gets everything."""
        (last,) = rows(self.folder, "SELECT max(id) FROM steps")[0]
        self.journal.write(lambda tx: set_steps_published(tx, last))
        while messages := self.journal.read(lambda c: messages_after(c, 0, 500)):
            self.journal.write(lambda tx, messages=messages: forget_messages(tx, [one.id for one in messages]))

    def keep(self):
        """A round of housekeeping, to its end."""
        self.clock.advance(INTERVAL_S)
        for _ in range(5000):
            wait = self.housekeeping.step()
            if wait == FLUSH_S:
                return
            self.clock.advance(wait)
        raise AssertionError("the round does not end")

    # -- looking ----------------------------------------------------------------------------------------

    def an_id(self):
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def found(self, receipt_id):
        return self.journal.read(lambda c: find_receipt(c, ReceiptKey("pos-1", receipt_id)))

    def reply_to(self, receipt_id):
        return json.loads(replies.stored(self.found(receipt_id), ZONE, duplicate=True).payload())

    def check_ages(self, number):
        """Nothing is gone before its time, nothing is there long after it."""
        until = {key: fate.kept_until_ms for key, fate in self.plan.items()}
        # A letter that expires while the broker is away waits until that can be told, or is no news any more.
        self.check_kept("SELECT receipt_id FROM receipts", until, LATE_MS + 7 * DAY_MS * (number in OUTAGE))
        self.check_kept("SELECT command_id FROM commands", self.acts, LATE_MS)
        # They go with the next question, or where none comes with what else is purged after a week.
        self.check_kept("SELECT command_id FROM commands", self.questions, LATE_MS + 7 * DAY_MS)
        self.check_kept("SELECT digest FROM refusals", self.refusals, LATE_MS)
        check_counts(self.journal, self.folder)

    def check_kept(self, query, until, late_ms):
        now, there = self.journal.steady_ms(), {key for (key,) in rows(self.folder, query)}
        assert {key for key, ms in until.items() if ms is None or ms > now} <= there
        assert not there & {key for key, ms in until.items() if ms is not None and ms < now - late_ms}

    def check_answers(self):
        """Every receipt of which the reply was noted is answered with it, however long ago."""
        noted = {key: fate.reply for key, fate in self.plan.items() if fate.reply is not None}
        for receipt_id, reply in noted.items():
            # What the OFD said later is the only thing that a reply gains.
            assert without_server_time(self.reply_to(receipt_id)) == without_server_time(reply)
        return len(noted)

    def note_sizes(self):
        self.journal._database.writer.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        (tombstones,) = rows(self.folder, "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'tombstones%'")[0]
        free, pages = self.journal.read(space_of)
        file, log = ((self.folder / name).stat().st_size for name in ("journal.db", "journal.db-wal"))
        assert file == pages * PAGE
        self.sizes.append(Sizes(file, log, free * PAGE, tombstones))


def refuse(digest, tx):
    remember_refusal(tx, pos_id="pos-1", digest=digest, reply=b"x" * 300)
    tx.step(None, ("pos-1", None), None, None, Status.REJECTED)


def without_server_time(reply):
    return reply | {"hlc": reply["hlc"] | {"server_time": None}}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The shop after its year."""
    opened = JournalYear(tmp_path_factory.mktemp("journal"))
    try:
        for number in range(DAYS):
            opened.day(number)
            opened.note_sizes()
            if number % 15 == 0 or number in JUMPS or number in OUTAGE:
                opened.check_ages(number)
        yield opened
    finally:
        opened.journal.close()


def test_nothing_went_before_its_time_and_nothing_stayed_long_after(shop):
    shop.check_ages(DAYS)
    tombstones = rows(shop.folder, "SELECT count(*), count(mark) FROM tombstones")[0]
    full = rows(shop.folder, "SELECT count(*) FROM receipts")[0][0]
    assert tombstones == (len(shop.plan) - full, 0)
    assert full < len(shop.plan) / 20


def test_every_receipt_of_the_year_is_still_answered_for(shop):
    assert shop.check_answers() > 200
    keys = {str(uuid.UUID(bytes=key)) for (key,) in rows(shop.folder, "SELECT receipt_id FROM tombstones")}
    keys |= {key for (key,) in rows(shop.folder, "SELECT receipt_id FROM receipts")}
    assert keys == shop.plan.keys()


def test_but_for_tombstones_no_more_is_kept_than_at_first(shop):
    kept = [sizes.file - sizes.free - sizes.tombstones for sizes in shop.sizes]
    before = max(kept[SETTLED : OUTAGE.start])
    assert max(kept) > 4 * before, "the rush is to be seen"
    assert max(kept[RUSH_GONE:]) <= before * 1.1


def test_the_file_is_not_much_larger_than_what_it_holds(shop):
    assert all(sizes.free <= max(sizes.file * MUCH_FREE, FREE_PAGES_MIN * PAGE) for sizes in shop.sizes)
    assert shop.sizes[-1].file < max(sizes.file for sizes in shop.sizes) * 0.8, "the rush is over for the disk too"


def test_the_log_stays_within_its_limit(shop):
    assert max(sizes.log for sizes in shop.sizes) <= LOG_MAX


def test_a_tombstone_takes_its_few_bytes_also_after_a_year(shop):
    (count,) = rows(shop.folder, "SELECT count(*) FROM tombstones")[0]
    assert shop.sizes[-1].tombstones / count <= TOMBSTONE_BYTES_MAX


def test_the_file_is_whole(shop):
    with closing(sqlite3.connect(shop.folder / "journal.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

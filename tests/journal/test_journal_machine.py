"""Any order of operations, with restarts and jumping clocks between: the journal's sums always come out right."""

import random
import shutil
import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.clocks import ManualClock
from support.stages import a_mark, a_receipt, check_counts, each_step, kill, new_journal, rows

from kkt_bridge.errors import IllegalTransition
from kkt_bridge.journal.document_queue import (
    dead_letter,
    dead_letters,
    discard,
    end_waiting,
    ready_documents,
    record_failure,
    record_sent,
    requeue,
)
from kkt_bridge.journal.print_queue import lease, record_printed, record_rejected, release, tasks_in_doubt
from kkt_bridge.journal.receipts import find_receipt, insert_receipt, mark_notified
from kkt_bridge.journal.retention import PurgeLimits, aged_receipts, purge_receipts
from kkt_bridge.receipts.lifecycle import TRANSITIONS, Status

REGISTERS = ("kkt-1", "kkt-2")
DAY_S = 86_400
registers = st.sampled_from(REGISTERS)


def fn_of(kkt):
    return f"999907890000000{kkt[-1]}"


class JournalMachine(RuleBasedStateMachine):
    """Every operation of the journal on whatever rows there are; `self.taken` remembers what must never be lost."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="journal-"))
        self.clock = ManualClock()
        self.journal = new_journal(self.folder, self.clock)
        self.taken = {}
        self.fd_number = dict.fromkeys(REGISTERS, 1)
        self.last_steady = 0
        self.random = random.Random(1)

    def teardown(self):
        kill(self.journal)
        shutil.rmtree(self.folder)

    # -- choosing what there is -----------------------------------------------------------------------

    def some(self, query):
        """A row that the query finds on any register."""
        found = [row for kkt in REGISTERS for row in self.journal.read(lambda c, kkt=kkt: query(c, kkt))]
        return self.random.choice(found) if found else None

    def doubtful(self):
        return self.some(tasks_in_doubt)

    def due(self):
        return self.some(lambda c, kkt: ready_documents(c, kkt, 0, 100))

    def letter(self):
        return self.some(lambda c, kkt: dead_letters(c, kkt, 0, 100))

    # -- what happens to a receipt --------------------------------------------------------------------

    @rule(kkt=registers, number=st.integers(min_value=1, max_value=3))
    def accept(self, kkt, number):
        new = [a_receipt(kkt=kkt, digest=bytes([number])) for _ in range(number)]
        self.journal.write(lambda tx: [insert_receipt(tx, one) for one in new])
        for one in new:
            stored = self.journal.read(lambda c, one=one: find_receipt(c, one.key))
            self.taken[one.key.receipt_id] = stored.hlc

    @rule(kkt=registers, limit=st.integers(min_value=1, max_value=3))
    def lease(self, kkt, limit):
        self.journal.write(lambda tx: lease(tx, kkt, fn_of(kkt), self.fd_number[kkt], limit))

    @rule()
    def print(self):
        if task := self.doubtful():
            kkt = task.kkt
            self.fd_number[kkt] += 1
            mark = a_mark(self.fd_number[kkt], fn_of(kkt), kkt)
            self.journal.write(lambda tx: record_printed(tx, task, mark, (), body=b"{}"))

    @rule()
    def reject(self):
        if task := self.doubtful():
            self.journal.write(lambda tx: record_rejected(tx, task, "kkt_rejected", "no"))

    @rule()
    def release(self):
        if task := self.doubtful():
            self.journal.write(lambda tx: release(tx, task))

    @rule()
    def notify(self):
        if task := self.doubtful():
            self.journal.write(lambda tx: mark_notified(tx, task.id))

    @rule()
    def send(self):
        if due := self.due():
            self.journal.write(lambda tx: record_sent(tx, due, 1))

    @rule(strike=st.booleans(), wait_ms=st.sampled_from([0, 5000]))
    def fail(self, strike, wait_ms):
        if due := self.due():
            self.journal.write(lambda tx: record_failure(tx, due, "500", strike=strike, wait_ms=wait_ms))

    @rule(everything=st.booleans())
    def end_waiting(self, everything):
        self.journal.write(lambda tx: end_waiting(tx, everything=everything))

    @rule()
    def dead_letter(self):
        if due := self.due():
            self.journal.write(lambda tx: dead_letter(tx, due, reason="refused", error="422"))

    @rule()
    def requeue(self):
        if letter := self.letter():
            self.journal.write(lambda tx: requeue(tx, letter))

    @rule()
    def discard(self):
        if letter := self.letter():
            self.journal.write(lambda tx: discard(tx, letter, "a reason"))

    @rule(days=st.sampled_from([0, 8, 100]), batch=st.integers(min_value=1, max_value=5))
    def purge(self, days, batch):
        self.clock.advance(days * DAY_S)
        now = self.journal.steady_ms()
        limits = PurgeLimits(now - 7 * DAY_S * 1000, now - 90 * DAY_S * 1000, now - 7 * DAY_S * 1000, 0)
        after = 0
        for _ in range(100):
            page = self.journal.read(lambda c, after=after: aged_receipts(c, limits, after, batch))
            self.journal.write(lambda tx, page=page: purge_receipts(tx, limits, page.aged))
            after = page.after
            if after is None:
                break
        else:
            raise AssertionError("the purge does not end")

    @rule(late=st.sampled_from(["print", "reject", "release"]))
    def come_too_late(self, late):
        """A task that somebody else has moved on meanwhile."""
        if task := self.doubtful():
            self.journal.write(lambda tx: release(tx, task))
            operations = {
                "print": lambda tx: record_printed(tx, task, a_mark(9_999, fn_of(task.kkt), task.kkt), (), body=b"{}"),
                "reject": lambda tx: record_rejected(tx, task, "kkt_rejected", ""),
                "release": lambda tx: release(tx, task),
            }
            before = self.everything()
            with pytest.raises(IllegalTransition):
                self.journal.write(operations[late])
            assert self.everything() == before

    @rule(kkt=registers, taken=st.booleans())
    def sell_through(self, kkt, taken):
        """The common way, in one go: the rarer states need something to come from."""
        self.accept(kkt, 1)
        self.lease(kkt, 10)
        while self.doubtful():
            self.print()
        if taken:
            self.send()
        else:
            self.bury()

    # -- what happens to the bridge -----------------------------------------------------------------------

    @rule(seconds=st.floats(min_value=0, max_value=10_000))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @rule(seconds=st.integers(min_value=-(10**8), max_value=10**8))
    def set_the_wall_clock(self, seconds):
        self.clock.wall_ms = max(0, self.clock.wall_ms + seconds * 1000)

    @rule(beginning=st.floats(min_value=0.1, max_value=1e6))
    def restart(self, beginning):
        kill(self.journal)
        self.clock.reboot(beginning)
        self.journal = new_journal(self.folder, self.clock)

    # -- what must hold ------------------------------------------------------------------------------------

    def everything(self):
        tables = ("receipts", "documents", "steps", "tombstones", "requests")
        return {table: rows(self.folder, f"SELECT * FROM {table}") for table in tables}

    @invariant()
    def counts_are_those_of_the_rows(self):
        check_counts(self.journal, self.folder)

    @invariant()
    def nothing_that_was_taken_is_lost(self):
        known = [receipt_id for (receipt_id,) in rows(self.folder, "SELECT receipt_id FROM receipts")]
        known += [str(uuid.UUID(bytes=packed)) for (packed,) in rows(self.folder, "SELECT receipt_id FROM tombstones")]
        assert sorted(known) == sorted(self.taken)

    @invariant()
    def a_printed_receipt_has_one_document_and_others_have_none(self):
        wrong = rows(
            self.folder,
            "SELECT r.id FROM receipts r LEFT JOIN documents d ON d.receipt = r.id GROUP BY r.id "
            "HAVING count(d.id) != (r.status IN ('printed', 'synced', 'dead')) OR max(d.id) IS NOT r.document",
        )
        assert wrong == []
        assert rows(self.folder, "SELECT 1 FROM documents WHERE receipt NOT IN (SELECT id FROM receipts)") == []

    @invariant()
    def the_document_goes_with_its_receipt(self):
        allowed = {
            "printed": {"ready", "waiting"},
            "synced": {"sent"},
            "dead": {"dead", "discarded", "expired"},
        }
        pairs = rows(self.folder, "SELECT r.status, d.delivery FROM receipts r JOIN documents d ON d.receipt = r.id")
        assert all(delivery in allowed[status] for status, delivery in pairs)

    @invariant()
    def the_steps_tell_the_same_story_as_the_rows(self):
        told = {}
        for receipt, current, target in rows(
            self.folder, "SELECT receipt, from_status, to_status FROM steps WHERE receipt IS NOT NULL ORDER BY id"
        ):
            before = told.get(receipt)
            assert current == before, "each step begins where the last one ended"
            if not (current == target == "dead"):  # discarded or expired: no move
                assert Status(target) in TRANSITIONS[Status(current) if current else None]
            told[receipt] = target
        assert told == dict(rows(self.folder, "SELECT id, status FROM receipts"))

    @invariant()
    def the_order_is_strict_and_that_of_the_ids(self):
        hlcs = rows(self.folder, "SELECT hlc_wall_ms, hlc_counter FROM receipts ORDER BY id")
        assert list(each_step(hlcs)) == hlcs
        assert list(each_step(self.taken.values())) == list(self.taken.values())

    @invariant()
    def the_steady_clock_goes_on(self):
        assert self.journal.steady_ms() >= self.last_steady or self.last_steady == 0
        stored = rows(self.folder, "SELECT value FROM figures WHERE kkt = '' AND name = 'steady_ms'")
        self.last_steady = stored[0][0] if stored else 0

    @invariant()
    def no_bodies_of_strangers_are_kept(self):
        assert rows(self.folder, "SELECT 1 FROM requests WHERE receipt NOT IN (SELECT id FROM receipts)") == []


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, derandomize=True, print_blob=True
)

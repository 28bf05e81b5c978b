"""The hybrid clock with the journal that remembers it: wall clocks, failures and kills in any order."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.clocks import NOON_MS, ManualClock
from support.stages import break_disk, kill, meddle, mend_disk, new_journal, rows

from kkt_bridge.clock import Hlc
from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.journal import Journal

DAY_MS = 86_400_000
YEAR_MS = 365 * DAY_MS
READINGS_MS = (-1, 0, 1, DAY_MS, NOON_MS - 10 * YEAR_MS, NOON_MS - DAY_MS, NOON_MS - 1, NOON_MS, NOON_MS + 1,
               NOON_MS + DAY_MS, NOON_MS + 10 * YEAR_MS)  # fmt: skip
"""What a wall clock may show: a dead battery's 1970, days and years on either side, a millisecond more or less."""

LONG_RUNS = (2**31 - 1, 2**32, 2**53)
"""Counters that others could not hold in 32 bits, or not in a double."""

counts = st.integers(min_value=0, max_value=3)


class Killed(BaseException):
    """The end of the process: no handler in the program may catch it."""


class OwnFaultError(Exception):
    """What an operation raises by itself."""


class DoomedJournal(Journal):
    """A journal whose process may end before a commit, or after it and before anybody knows."""

    ends: str | None = None

    def _commit(self, entries):
        if self.ends == "before":
            raise Killed
        super()._commit(entries)
        if self.ends == "after":
            raise Killed


class HlcMachine(RuleBasedStateMachine):
    """`self.points` is every point that a commit ever kept; `self.highest_ms` the latest wall clock it was told by."""

    @initialize(reading=st.sampled_from(READINGS_MS))
    def begin(self, reading):
        self.folder = Path(tempfile.mkdtemp(prefix="hlc-"))
        self.clock = ManualClock(reading)
        self.journal = new_journal(self.folder, self.clock, DoomedJournal)
        self.points = []
        self.highest_ms = 0

    def teardown(self):
        if hasattr(self, "journal"):
            kill(self.journal)
            shutil.rmtree(self.folder)

    def keep(self, points):
        """Note what a commit has kept, and that each of it stands where it must."""
        for point in points:
            before = self.points[-1] if self.points else Hlc(0, 0)
            self.highest_ms = max(self.highest_ms, self.clock.now_ms())
            assert point > before, "later is later"
            assert point.wall_ms == self.highest_ms, "with a clock that is ahead; else with the last that was"
            assert point.counter == (0 if point.wall_ms > before.wall_ms else before.counter + 1)
            self.points.append(point)

    # -- the machine's clock ---------------------------------------------------------------------------

    @rule(reading=st.sampled_from(READINGS_MS) | st.integers(min_value=0, max_value=2**42))
    def set_the_wall_clock(self, reading):
        self.clock.wall_ms = reading

    @rule(ms=st.integers(min_value=0, max_value=3))
    def go_on(self, ms):
        self.clock.wall_ms += ms

    # -- commits ---------------------------------------------------------------------------------------

    @rule(count=counts)
    def commit(self, count):
        self.keep(self.journal.write(lambda tx: [tx.tick() for _ in range(count)]))

    @rule(count=counts, others=counts)
    def share_a_commit(self, count, others):
        """What was posted goes first, in the same commit."""
        posted = []
        self.journal.post(lambda tx: posted.extend(tx.tick() for _ in range(others)))
        own = self.journal.write(lambda tx: [tx.tick() for _ in range(count)])
        self.keep([*posted, *own])

    # -- commits that fail -----------------------------------------------------------------------------

    @rule(count=counts)
    def fail(self, count):
        with pytest.raises(OwnFaultError):
            self.journal.write(lambda tx: faulty(tx, count))

    @rule(count=counts, others=counts)
    def fail_beside_others(self, count, others):
        """The group is undone, and who did not fail is run again for itself."""
        runs = []
        self.journal.post(lambda tx: runs.append([tx.tick() for _ in range(others)]))
        with pytest.raises(OwnFaultError):
            self.journal.write(lambda tx: faulty(tx, count))
        assert len(runs) == 2
        self.keep(runs[-1])

    @rule(count=counts)
    def fail_for_the_disk(self, count):
        break_disk(self.journal)
        with pytest.raises(StorageUnavailable):
            self.journal.write(lambda tx: [tx.tick() for _ in range(count)])
        mend_disk(self.journal)

    # -- ends of the process ---------------------------------------------------------------------------

    @rule(count=counts, when=st.sampled_from(["between", "before", "inside", "after"]))
    def restart(self, count, when):
        ticked = []

        def operation(tx):
            ticked.extend(tx.tick() for _ in range(count))
            if when == "inside":
                raise Killed

        self.journal.ends = when
        if when != "between":
            with pytest.raises(Killed):
                self.journal.write(operation)
        self.open_anew()
        if when == "after":
            self.keep(ticked)

    @rule(counter=st.sampled_from(LONG_RUNS))
    def find_a_counter_that_ran_for_long(self, counter):
        """Years behind a wall clock that somebody once set far ahead."""
        if self.points and counter > self.points[-1].counter:
            kill(self.journal)
            meddle(self.folder, f"UPDATE figures SET value = {counter} WHERE kkt = '' AND name = 'hlc_counter'")
            self.points.append(Hlc(self.points[-1].wall_ms, counter))
            self.journal = new_journal(self.folder, self.clock, DoomedJournal)

    def open_anew(self):
        kill(self.journal)
        self.clock.reboot()
        self.journal = new_journal(self.folder, self.clock, DoomedJournal)

    # -- what must hold ----------------------------------------------------------------------------------

    @invariant()
    def the_file_remembers_the_last_point(self):
        if getattr(self, "points", None):
            stored = dict(rows(self.folder, "SELECT name, value FROM figures WHERE kkt = ''"))
            assert Hlc(stored["hlc_wall_ms"], stored["hlc_counter"]) == self.points[-1]


def faulty(tx, count):
    for _ in range(count):
        tx.tick()
    raise OwnFaultError


TestHlcMachine = HlcMachine.TestCase
TestHlcMachine.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, derandomize=True, print_blob=True
)

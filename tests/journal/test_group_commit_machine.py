"""Crowds of threads at one journal, in any mixture: what returned is there, what raised is not, listeners hear it."""

import resource
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.clocks import ManualClock
from support.processes import wait_until
from support.stages import each_step, kill, new_journal, rows

from kkt_bridge.errors import JournalError, StorageUnavailable
from kkt_bridge.journal.journal import Journal

SOON_S = 20.0
THREADS_MAX = 6
OWN_FAULTS = {"bug": KeyError, "constraint": JournalError}
"""What an operation of this kind raises, in whatever company."""

plans = st.lists(
    st.lists(
        st.sampled_from(["good", "good", "large", "shy", "posted", "posted bug", *OWN_FAULTS]), min_size=1, max_size=5
    ),
    min_size=1,
    max_size=THREADS_MAX,
)
"""What each thread writes, one after the other."""


@contextmanager
def read_only(journal):
    """As on a file system that was remounted so after an error: the first change fails."""
    connection = journal._database.writer.connection
    connection.execute("PRAGMA query_only = 1")
    try:
        yield
    finally:
        connection.execute("PRAGMA query_only = 0")


@contextmanager
def no_room(_journal):
    """No file may grow: everything works, and then the commit itself fails in the middle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FragileJournal(Journal):
    """A journal whose disk fails at the commits that a test names."""

    def __init__(self, database, clock):
        super().__init__(database, clock)
        self.failures = {}
        self.struck = 0

    def fail_at(self, failures):
        """Let the commits of these numbers fail, counted from the next."""
        self.failures = {self.struck + number: failure for number, failure in failures.items()}

    def _commit(self, entries):
        self.struck += 1
        with self.failures.get(self.struck, nullcontext)(self) if self.failures else nullcontext():
            super()._commit(entries)


class GroupCommitMachine(RuleBasedStateMachine):
    """Each operation leaves messages under its own number; these sets know which must be there, may be, must not."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp(prefix="commit-"))
        self.numbers = count()
        self.returned, self.raised = set(), set()
        self.posted = set()
        """Kept or lost with a process: nobody was promised anything."""
        self.waiting = set()
        """Posted: there after the next flush, whatever the disk did meanwhile."""
        self.told = 0
        self.open()

    def open(self):
        self.journal = new_journal(self.folder, ManualClock(), FragileJournal)
        self.journal.listen(self.hear)

    def hear(self, _touched):
        """Runs in whichever thread commits, and only ever in one of them at once."""
        self.told += 1

    def teardown(self):
        if hasattr(self, "journal"):
            kill(self.journal)
            shutil.rmtree(self.folder)

    # -- what threads do -------------------------------------------------------------------------------

    def operation(self, kind, number):
        def run(tx):
            if kind == "shy" and tx.messages:
                raise KeyError("not in company")
            parts = 20 if kind == "large" else 1
            for _ in range(parts):
                tx.publish(f"{number}/{parts}", bytes(3000))
            if "bug" in kind:
                raise KeyError(number)
            if kind == "constraint":
                for _ in range(2):
                    tx.connection.connection.execute("INSERT INTO settings VALUES (?, '')", (f"{number}",))
            return number

        return run

    def carry_out(self, plan):
        """One thread; returns what it saw that must never be."""
        wrong = []
        for kind in plan:
            number = next(self.numbers)
            operation = self.operation(kind, number)
            if kind.startswith("posted"):
                (self.raised if "bug" in kind else self.waiting).add(number)
                self.journal.post(operation)
                continue
            try:
                result = self.journal.write(operation)
            except Exception as error:  # noqa: BLE001 (judged below)
                self.raised.add(number)
                if not isinstance(error, (StorageUnavailable, OWN_FAULTS.get(kind, StorageUnavailable))):
                    wrong.append((kind, error))
                if type(error) is StorageUnavailable and not self.journal.failures:
                    wrong.append((kind, error))
            else:
                self.returned.add(number)
                if result != number or kind in OWN_FAULTS:
                    wrong.append((kind, result))
        return wrong

    @rule(
        plans=plans,
        failures=st.dictionaries(st.integers(min_value=1, max_value=8), st.sampled_from([read_only, no_room])),
        together=st.booleans(),
    )
    def write_in_a_crowd(self, plans, failures, together):
        self.journal.fail_at(failures)
        with ThreadPoolExecutor(len(plans)) as pool:
            with self.journal._gate if together else nullcontext():
                waiting = len(self.journal._waiting)
                threads = [pool.submit(self.carry_out, plan) for plan in plans]
                if together:
                    wait_until(lambda: len(self.journal._waiting) >= waiting + len(plans), SOON_S, "all to wait")
            wrong = [found for thread in threads for found in thread.result(SOON_S)]
        self.journal.failures = {}
        assert wrong == []

    @rule(kinds=st.lists(st.sampled_from(["posted", "posted bug"]), max_size=3))
    def flush(self, kinds):
        assert self.carry_out(kinds) == []
        self.journal.flush()
        self.returned |= self.waiting
        self.waiting = set()

    # -- what happens to the process -------------------------------------------------------------------

    @rule()
    def close_in_good_order(self):
        self.journal.close()
        self.returned |= self.waiting
        self.waiting = set()
        self.open()

    @rule()
    def end(self):
        kill(self.journal)
        self.posted |= self.waiting
        self.waiting = set()
        self.open()

    # -- what must hold --------------------------------------------------------------------------------

    @invariant()
    def what_returned_is_there_and_what_raised_is_not(self):
        if not hasattr(self, "journal"):
            return
        kept = set()
        for topic, parts in rows(self.folder, "SELECT topic, count(*) FROM outbox GROUP BY topic"):
            number, whole = map(int, topic.split("/"))
            assert parts == whole, "nothing by halves, and nothing twice"
            kept.add(number)
        assert self.returned <= kept
        assert kept <= self.returned | self.posted | self.waiting
        assert not kept & self.raised

    @invariant()
    def the_order_is_strict(self):
        if hasattr(self, "journal"):
            ids = [message for (message,) in rows(self.folder, "SELECT id FROM outbox ORDER BY rowid")]
            assert list(each_step(ids)) == ids

    @invariant()
    def each_commit_is_told_once(self):
        if hasattr(self, "journal"):
            stored = rows(self.folder, "SELECT value FROM figures WHERE kkt = '' AND name = 'commit_no'")
            assert [(self.told,)] == stored or (self.told, stored) == (0, [])


TestGroupCommitMachine = GroupCommitMachine.TestCase
TestGroupCommitMachine.settings = settings(
    max_examples=20, stateful_step_count=12, deadline=None, derandomize=True, print_blob=True
)

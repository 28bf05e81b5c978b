"""The journal's file and its log: what a burst has left empty is given back, a little at a time."""

import sqlite3
import threading
from contextlib import closing

import pytest
from support.clocks import ManualClock
from support.stages import a_receipt, kill, new_journal, rows

from kkt_bridge.journal.receipts import find_receipt, insert_receipt
from kkt_bridge.journal.retention import STEP_PAGES, space_of, vacuum
from kkt_bridge.receipts.identity import ReceiptKey

PAGE = 4096
FRAME = PAGE + 24
LARGE = "x" * 250_000
INCREMENTAL = 2
BUSY_COMMIT = 64
"""Pages that a commit of many receipts writes anyway."""


@pytest.fixture
def journal(tmp_path):
    opened = new_journal(tmp_path, ManualClock())
    yield opened
    opened.close()


def driver(journal):
    return journal._database.writer.connection


def pragma(journal, name):
    return driver(journal).execute(f"PRAGMA {name}").fetchone()[0]


def take_large_ones(journal, count):
    for _ in range(count):
        journal.write(lambda tx: insert_receipt(tx, a_receipt(body=LARGE)))


def empty_the_file(journal, tmp_path):
    """Leave pages that hold nothing in the middle of the file, behind them some that do."""
    take_large_ones(journal, 5)
    journal.write(lambda tx: [insert_receipt(tx, a_receipt(body="y" * 2000)) for _ in range(100)])
    with journal._database.transaction():
        driver(journal).execute("DELETE FROM requests WHERE length(body) > 10000")


def frames_of(journal, tmp_path, work):
    """Pages that a commit writes."""
    driver(journal).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    work()
    return (tmp_path / "journal.db-wal").stat().st_size // FRAME


# -- the file ---------------------------------------------------------------------------------------------


def test_a_new_file_can_be_made_smaller_in_steps_and_stays_so(tmp_path, journal):
    assert pragma(journal, "auto_vacuum") == INCREMENTAL
    kill(journal)
    journal.open()
    assert pragma(journal, "auto_vacuum") == INCREMENTAL


def test_space_is_given_back_a_step_at_a_time_and_nothing_is_lost(tmp_path, journal):
    empty_the_file(journal, tmp_path)
    kept = rows(tmp_path, "SELECT * FROM requests ORDER BY receipt")
    before = journal.read(space_of)
    assert before.free > 300
    for _ in range(1000):
        space = journal.read(space_of)
        touched = frames_of(journal, tmp_path, lambda: journal.write(vacuum))
        after = journal.read(space_of)
        assert space.free - after.free == min(STEP_PAGES, space.free)
        assert touched <= BUSY_COMMIT
        if after.free == 0:
            break
    assert after.pages <= before.pages - before.free, "the pages that only told where others lie are gone too"
    assert rows(tmp_path, "SELECT * FROM requests ORDER BY receipt") == kept
    assert rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]
    driver(journal).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (tmp_path / "journal.db").stat().st_size == after.pages * PAGE


def test_a_file_that_cannot_be_made_smaller_stays_as_it_is(tmp_path):
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.execute("CREATE TABLE made_before (x)")
    journal = new_journal(tmp_path, ManualClock())
    empty_the_file(journal, tmp_path)
    before = journal.read(space_of)
    journal.write(vacuum)
    assert journal.read(space_of) == before
    journal.close()


# -- the log ----------------------------------------------------------------------------------------------


def log_size(tmp_path):
    return (tmp_path / "journal.db-wal").stat().st_size


def test_a_log_that_grew_behind_a_reader_shrinks_when_it_is_gone(tmp_path, journal):
    """A backup, or a shell that somebody forgot: the log cannot be cut as long as it looks."""
    limit = pragma(journal, "journal_size_limit")
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM receipts").fetchone()
        take_large_ones(journal, limit // len(LARGE) + 10)
        assert log_size(tmp_path) > limit
        reader.execute("ROLLBACK")
    for _ in range(2):
        journal.write(lambda tx: insert_receipt(tx, a_receipt()))
    assert log_size(tmp_path) <= limit


def test_readers_that_come_and_go_let_the_log_be_cut(tmp_path, journal):
    limit, stop = pragma(journal, "journal_size_limit"), threading.Event()

    def read():
        while not stop.is_set():
            journal.read(lambda c: find_receipt(c, ReceiptKey("pos-1", "none")))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        take_large_ones(journal, 3 * limit // len(LARGE))
        assert log_size(tmp_path) <= limit
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)

"""A commit that the disk fails in the middle: nothing of it is kept, and the next one is as good as any."""

import resource
import sqlite3
from contextlib import contextmanager

import pytest
from support.clocks import ManualClock
from support.stages import a_receipt, check_counts, new_journal, rows

from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.receipts import insert_receipt


@pytest.fixture
def journal(tmp_path):
    journal = new_journal(tmp_path, ManualClock())
    yield journal
    journal.close()


def take(journal):
    journal.write(lambda tx: insert_receipt(tx, a_receipt()))


@contextmanager
def full_disk(file):
    """No file of this process may grow beyond what this one has now."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_at_the_commit_costs_that_commit_only(journal, tmp_path):
    take(journal)
    with full_disk(tmp_path / "journal.db-wal"), pytest.raises(StorageUnavailable):
        take(journal)
    assert journal.failing
    take(journal)
    assert journal.failing is None
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(2,)]
    check_counts(journal, tmp_path)


def test_a_commit_that_leaves_its_transaction_open_does_not_block_those_after_it(journal, tmp_path, monkeypatch):
    """SQLite may keep a transaction whose COMMIT failed: then every later BEGIN would fail too."""

    def fail(_connection):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(journal._database.writer.dialect, "do_commit", fail)
        with pytest.raises(StorageUnavailable):
            take(journal)
    take(journal)
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(1,)]
    check_counts(journal, tmp_path)

"""What is read of a damaged journal: all that stands on whole pages, the log's too, and nothing that cannot be true."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from support.clocks import ManualClock
from support.old_journals import of_the_first_release
from support.receipts import encoded, receipt
from support.stages import InProcessBridge, a_receipt, meddle, new_journal

from kkt_bridge.journal.receipts import insert_receipt
from kkt_bridge.journal.tables import metadata
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.recovery.salvage import salvage


@pytest.fixture
def model(tmp_path):
    """An empty journal, for its first page."""
    folder = tmp_path / "model"
    folder.mkdir()
    new_journal(folder, ManualClock()).close()
    return folder / "journal.db"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def take(journal, count=3):
    for _ in range(count):
        body = Receipt.model_validate_json(encoded(receipt())).canonical().decode()
        journal.write(lambda tx, body=body: insert_receipt(tx, a_receipt(digest=b"0123456789abcdef", body=body)))


def copied(folder, name):
    """The files of a journal that is in use, as a kill leaves them."""
    target = folder / name
    for suffix in ("", "-wal"):
        shutil.copyfile(folder / f"journal.db{suffix}", target.with_name(name + suffix))
    return target


def test_what_only_the_log_holds_is_read_and_the_original_is_not_touched(tmp_path, model, folder):
    journal = new_journal(tmp_path, ManualClock())
    take(journal)
    damaged = copied(tmp_path, "damaged.db")
    journal.close()
    before = damaged.read_bytes(), damaged.with_name("damaged.db-wal").read_bytes()
    found = salvage(damaged, model, folder)
    assert {name: len(rows) for name, rows in found.rows.items() if rows} == {"receipts": 3, "requests": 3, "steps": 3}
    assert not any(found.gaps.values())
    assert found.figures["commit_no"] == 3
    assert (damaged.read_bytes(), damaged.with_name("damaged.db-wal").read_bytes()) == before


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ("UPDATE receipts SET status = 'sold' WHERE id = (SELECT min(id) FROM receipts)", "receipts"),
        ("UPDATE receipts SET digest = x'00' WHERE id = (SELECT min(id) FROM receipts)", "receipts"),
        ("UPDATE receipts SET total = 'much' WHERE id = (SELECT min(id) FROM receipts)", "receipts"),
        ("UPDATE receipts SET receipt_id = 'x' WHERE id = (SELECT min(id) FROM receipts)", "receipts"),
        ("UPDATE receipts SET kkt = '' WHERE id = (SELECT min(id) FROM receipts)", "receipts"),
        ("UPDATE requests SET body = '{}' WHERE receipt = (SELECT min(receipt) FROM requests)", "requests"),
        ("UPDATE requests SET body = x'ff' WHERE receipt = (SELECT min(receipt) FROM requests)", "requests"),
        ("UPDATE documents SET mark = '{' WHERE id = (SELECT min(id) FROM documents)", "documents"),
        ("UPDATE documents SET fd_number = 99 WHERE id = (SELECT min(id) FROM documents)", "documents"),
        ("UPDATE documents SET delivery = 'gone' WHERE id = (SELECT min(id) FROM documents)", "documents"),
        ("UPDATE documents SET delivery = '' WHERE id = (SELECT min(id) FROM documents)", "documents"),
        ("UPDATE steps SET to_status = '' WHERE id = (SELECT min(id) FROM steps)", "steps"),
        ("UPDATE outbox SET topic = 'a/#' WHERE id = (SELECT min(id) FROM outbox)", "outbox"),
    ],
)
def test_rows_that_cannot_be_true_are_left_out(tmp_path, model, folder, change, table):
    shop = InProcessBridge(tmp_path)
    for _ in range(3):
        shop.sell(receipt())
    shop.print_all()
    shop.kill()
    whole = len(salvage(tmp_path / "journal.db", model, folder).rows[table])
    meddle(tmp_path, change)
    (again := tmp_path / "again").mkdir()
    assert len(salvage(tmp_path / "journal.db", model, again).rows[table]) == whole - 1


def test_a_file_of_nothing_but_rubbish_brings_nothing_and_no_error(tmp_path, model, folder):
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"\xa5" * 40 * 4096)
    found = salvage(damaged, model, folder)
    assert not any(found.rows.values())
    assert all(found.gaps.values())


def test_a_table_whose_root_is_gone_does_not_take_the_others_along(tmp_path, model, folder):
    journal = new_journal(tmp_path, ManualClock())
    take(journal)
    journal.close()
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'receipts'").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(bytes(4096))
    found = salvage(path, model, folder)
    assert (found.rows["receipts"], found.gaps["receipts"]) == ([], 1)
    assert (len(found.rows["requests"]), found.gaps["requests"]) == (3, 0)


def test_a_whole_file_of_the_first_release_gives_all_its_rows(tmp_path, model, folder):
    shop = InProcessBridge(tmp_path)
    for _ in range(3):
        shop.sell(receipt())
    shop.print_all()
    shop.kill()
    old = of_the_first_release(tmp_path / "journal.db", tmp_path / "old.db")
    (again := tmp_path / "again").mkdir()
    found, expected = salvage(old, model, folder), salvage(tmp_path / "journal.db", model, again)
    assert not any(found.gaps.values())
    assert {name: len(rows) for name, rows in found.rows.items()} == {
        name: len(rows) if name != "bodies" else 0  # the first release fixed none
        for name, rows in expected.rows.items()
    }
    assert found.rows["receipts"] == expected.rows["receipts"]


def test_columns_that_cannot_be_added_any_more_are_done_without(tmp_path, model, folder):
    """A migration has to write; where damage is in its way, what the file has is still read."""
    shop = InProcessBridge(tmp_path)
    shop.sell(receipt())
    shop.kill()
    old = of_the_first_release(tmp_path / "journal.db", tmp_path / "old.db")
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        # No migration gets past a table of the very name that it is to make, or a column that is there.
        connection.execute("ALTER TABLE steps ADD COLUMN type TEXT")
        for name in ("documents", "receipts"):
            columns = {column.name for column in metadata.tables[name].columns}
            there = {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
            for column in sorted(columns - there):
                connection.execute(f"ALTER TABLE {name} ADD COLUMN {column}")
    found = salvage(old, model, folder)
    assert (len(found.rows["receipts"]), len(found.rows["steps"])) == (1, 1)
    assert found.rows["steps"][0]["received_ms"] is None

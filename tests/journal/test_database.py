"""The journal's file: its schema, its lock, its checks, and what is said of it when it cannot be used."""

import errno
import re
import sqlite3
import struct
import threading
from contextlib import closing

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool
from support.clocks import ManualClock
from support.stages import a_receipt, kill, meddle, new_journal, rows

from kkt_bridge.errors import JournalDamaged, JournalError, JournalInUse, StorageUnavailable
from kkt_bridge.journal.database import Database
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.migrate import known_schema
from kkt_bridge.journal.quarantine import quarantine, quarantined_files
from kkt_bridge.journal.receipts import insert_receipt
from kkt_bridge.journal.tables import metadata


@pytest.fixture
def journal(tmp_path):
    opened = new_journal(tmp_path, ManualClock())
    yield opened
    opened.close()


def database_in(folder):
    return Database(f"sqlite:///{folder / 'journal.db'}")


def writers_pragma(journal, name):
    return journal._database.writer.connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_the_migrations_make_the_tables_that_the_program_sees(journal, tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'journal.db'}", poolclass=NullPool)
    found = inspect(engine)
    assert set(found.get_table_names()) == set(metadata.tables)
    for name, table in metadata.tables.items():
        # In this order too: rows are inserted by position.
        made = [(column["name"], str(column["type"])) for column in found.get_columns(name)]
        assert made == [(column.name, str(column.type).replace("LARGEBINARY", "BLOB")) for column in table.columns]


def test_the_schema_is_counted_and_made_once(journal, tmp_path):
    assert rows(tmp_path, "PRAGMA user_version") == [(known_schema(),)]
    journal.write(lambda tx: tx.publish("topic", b"kept"))
    journal.close()
    journal.open()
    assert rows(tmp_path, "PRAGMA user_version") == [(known_schema(),)]
    assert rows(tmp_path, "SELECT payload FROM outbox") == [(b"kept",)]


def test_a_commit_is_on_the_disk_before_it_returns(journal):
    full, wal = 2, "wal"
    assert writers_pragma(journal, "synchronous") == full
    assert writers_pragma(journal, "journal_mode") == wal
    assert writers_pragma(journal, "busy_timeout") == 5000


def test_readers_cannot_write(journal):
    with journal._database.reader() as connection, pytest.raises(Exception, match="readonly"):
        connection.execute(text("DELETE FROM outbox"))


def test_readers_see_what_is_committed_and_nothing_else(journal):
    seen_inside = []

    def operation(tx):
        tx.publish("topic", b"1")
        tx.finish()
        seen_inside.append(journal.read(lambda connection: connection.execute(text("SELECT 1 FROM outbox")).all()))
        raise KeyError("undo")

    with pytest.raises(KeyError):
        journal.write(operation)
    assert seen_inside == [[]]
    assert journal.read(lambda connection: connection.execute(text("SELECT 1 FROM outbox")).all()) == []


def test_a_second_bridge_is_kept_out_and_told_why(journal, tmp_path):
    second = database_in(tmp_path)
    with pytest.raises(JournalInUse, match=r"journal\.db: another bridge is running on this journal: stop it first"):
        second.open()
    journal.close()
    second.open()
    second.close()
    journal.open()


def test_the_lock_goes_with_the_process(tmp_path):
    kill(new_journal(tmp_path, ManualClock()))
    new_journal(tmp_path, ManualClock()).close()


def test_a_journal_of_a_newer_program_is_left_alone(tmp_path):
    new_journal(tmp_path, ManualClock()).close()
    meddle(tmp_path, "PRAGMA user_version = 99")
    with pytest.raises(JournalError, match=r"written by a newer kkt-bridge \(schema 99, known \d+\)"):
        new_journal(tmp_path, ManualClock())
    assert rows(tmp_path, "PRAGMA user_version") == [(99,)]


def test_a_failed_opening_lets_go_of_the_lock(tmp_path):
    new_journal(tmp_path, ManualClock()).close()
    meddle(tmp_path, "PRAGMA user_version = 99")
    for _ in range(2):
        with pytest.raises(JournalError, match="newer"):
            new_journal(tmp_path, ManualClock())
    meddle(tmp_path, f"PRAGMA user_version = {known_schema()}")
    new_journal(tmp_path, ManualClock()).close()


DAMAGES = {
    "not a database": lambda _content: (
        b"this is no database, but a text that somebody saved under the wrong name\n" * 100
    ),
    "overwritten": lambda content: content[:100] + b"\xff" * 8000 + content[8100:],
    "cut short": lambda content: content[: len(content) // 2 - 1000],
    "empty": lambda _content: b"",
}


def damaged_journal(folder, damage="overwritten"):
    """A journal that a bridge has kept, with a receipt in it, and then something happened to the file."""
    journal = new_journal(folder, ManualClock())
    journal.write(lambda tx: insert_receipt(tx, a_receipt()))
    journal.close()
    file = folder / "journal.db"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    return file.read_bytes()


def moved_files(folder):
    return sorted(path.name for path in folder.glob("journal.db.damaged-*"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_is_moved_aside_with_word_of_what_to_do(tmp_path, damage):
    content = damaged_journal(tmp_path, damage)
    with pytest.raises(JournalDamaged) as raised:
        new_journal(tmp_path, ManualClock())
    (moved,) = moved_files(tmp_path)
    assert re.fullmatch(r"journal\.db\.damaged-\d{8}T\d{6}Z", moved)
    assert (tmp_path / moved).read_bytes() == content, "evidence for whoever repairs it"
    assert not (tmp_path / "journal.db").exists()
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith(f"{tmp_path / 'journal.db'}: the journal is damaged: ")
    assert f"it was moved to {moved}: run `kkt-bridge verify --rebuild --config FILE`" in said


def test_what_stands_beside_a_damaged_journal_goes_along_unchanged(tmp_path):
    """After a kill its last commits are in the log only; with it SQLite can open the file where it is now."""
    journal = new_journal(tmp_path, ManualClock())
    journal.write(lambda tx: insert_receipt(tx, a_receipt()))
    copies = {name: (tmp_path / name).read_bytes() for name in ("journal.db", "journal.db-wal", "journal.db-shm")}
    journal.close()
    for name, content in copies.items():
        (tmp_path / name).write_bytes(content)
    table = root_page(tmp_path, "receipts")
    meddle_with_log(tmp_path / "journal.db-wal", table)
    log = (tmp_path / "journal.db-wal").read_bytes()
    with pytest.raises(JournalDamaged):
        new_journal(tmp_path, ManualClock())
    moved = tmp_path / moved_files(tmp_path)[0]
    assert {path.name for path in tmp_path.iterdir()} == {
        "journal.db.lock",
        moved.name,
        f"{moved.name}-wal",
        f"{moved.name}-shm",
    }
    assert moved.with_name(f"{moved.name}-wal").read_bytes() == log
    with closing(sqlite3.connect(moved)) as connection:
        assert connection.execute("SELECT count(*) FROM receipts").fetchone() == (1,)


def root_page(folder, table):
    with closing(sqlite3.connect(f"file:{folder / 'journal.db'}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", [table]).fetchone()[0]


def meddle_with_log(log, page):
    """Write rubbish into each frame of this page, with the checksums put right (SQLite's format, section 4.2)."""
    content = bytearray(log.read_bytes())
    order = ">" if content[3] & 1 else "<"
    sums = struct.unpack(">II", content[24:32])
    for start in range(32, len(content), 24 + 4096):
        if struct.unpack(">I", content[start : start + 4])[0] == page:
            content[start + 24 : start + 24 + 4096] = b"\xff" * 4096
        for part in (content[start : start + 8], content[start + 24 : start + 24 + 4096]):
            sums = checksum(part, order, *sums)
        content[start + 16 : start + 24] = struct.pack(">II", *sums)
    log.write_bytes(content)


def checksum(part, order, first, second):
    words = struct.unpack(f"{order}{len(part) // 4}I", part)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def test_no_empty_journal_takes_the_place_of_a_damaged_one(tmp_path):
    """Not even where something starts the bridge again and again: it would not know what was printed."""
    damaged_journal(tmp_path)
    with pytest.raises(JournalDamaged):
        new_journal(tmp_path, ManualClock())
    moved = moved_files(tmp_path)
    for _ in range(2):
        with pytest.raises(JournalDamaged, match=rf"there is no journal, and {moved[0]} beside it was damaged; run `"):
            new_journal(tmp_path, ManualClock())
    assert moved_files(tmp_path) == moved
    assert not (tmp_path / "journal.db").exists()


def test_a_set_aside_file_does_not_stop_the_journal_that_came_after_it(tmp_path):
    (tmp_path / "journal.db.damaged-20260101T000000Z").write_bytes(b"")
    database = Database(f"sqlite:///{tmp_path / 'journal.db'}", anew=True)
    database.open()
    database.close()
    new_journal(tmp_path, ManualClock()).close()


def test_the_newest_damage_has_the_last_name_whatever_the_clock_says(tmp_path):
    names = []
    for now_s in (1_795_000_000, 1_795_000_000, 0, 1_795_000_001):
        (tmp_path / "journal.db").write_bytes(b"x")
        names.append(quarantine(tmp_path / "journal.db", now_s))
    assert quarantined_files(tmp_path / "journal.db") == names == sorted(set(names))


def test_a_move_that_was_interrupted_is_finished(tmp_path):
    """The log of the old journal must not be left for a new one."""
    (tmp_path / "journal.db.damaged-20260101T000000Z").write_bytes(b"x")
    (tmp_path / "journal.db-wal").write_bytes(b"log")
    with pytest.raises(JournalDamaged, match="there is no journal"):
        new_journal(tmp_path, ManualClock())
    assert (tmp_path / "journal.db.damaged-20260101T000000Z-wal").read_bytes() == b"log"
    assert not (tmp_path / "journal.db-wal").exists()


def test_a_file_that_never_was_a_journal_is_left_alone(tmp_path):
    notes = b"these are my notes, and no database at all\n" * 100
    (tmp_path / "journal.db").write_bytes(notes)
    for _ in range(2):
        with pytest.raises(JournalDamaged, match=r"no bridge has run on this file: name another one in journal\.url"):
            new_journal(tmp_path, ManualClock())
    assert (tmp_path / "journal.db").read_bytes() == notes
    assert moved_files(tmp_path) == []


def test_a_disk_that_cannot_be_read_is_no_damage(tmp_path, monkeypatch):
    content = damaged_journal(tmp_path)

    def fail(_path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("kkt_bridge.journal.database._read_all", fail)
    with pytest.raises(StorageUnavailable, match="Input/output error: see to the disk") as raised:
        new_journal(tmp_path, ManualClock())
    assert not isinstance(raised.value, JournalDamaged)
    assert (tmp_path / "journal.db").read_bytes() == content
    assert moved_files(tmp_path) == []


def test_a_damaged_journal_in_use_is_not_moved_from_under_its_bridge(journal, tmp_path):
    journal.write(lambda tx: insert_receipt(tx, a_receipt()))
    with (tmp_path / "journal.db").open("r+b") as file:
        file.write(b"\xff" * 100)
    with pytest.raises(JournalInUse):
        new_journal(tmp_path, ManualClock())
    assert moved_files(tmp_path) == []


def test_a_folder_in_the_way_is_a_disk_that_does_not_take_it(tmp_path):
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(StorageUnavailable):
        new_journal(tmp_path, ManualClock())


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "var").write_text("a file")
    with pytest.raises(StorageUnavailable, match=r"journal\.db: the journal cannot be opened: "):
        new_journal(tmp_path / "var", ManualClock())


def test_a_stranger_who_holds_the_file_is_waited_for(journal, tmp_path):
    """A backup, or an operator's shell, in the middle of a transaction of its own."""
    stranger = sqlite3.connect(tmp_path / "journal.db", isolation_level=None, check_same_thread=False)
    stranger.execute("BEGIN IMMEDIATE")
    leave = threading.Timer(0.2, stranger.execute, ["ROLLBACK"])
    leave.start()
    journal.write(lambda tx: tx.publish("topic", b"1"))
    leave.join()
    stranger.close()
    assert rows(tmp_path, "SELECT payload FROM outbox") == [(b"1",)]


def test_a_journal_can_be_opened_again_after_it_was_closed(tmp_path):
    clock = ManualClock()
    journal = Journal(database_in(tmp_path), clock)
    for payload in (b"1", b"2"):
        journal.open()
        journal.write(lambda tx, payload=payload: tx.publish("topic", payload))
        journal.close()
    assert rows(tmp_path, "SELECT payload FROM outbox ORDER BY id") == [(b"1",), (b"2",)]

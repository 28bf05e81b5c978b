"""The journal's file: its schema, its lock, its checks, and what is said of it when it cannot be used."""

import sqlite3
import threading

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool
from support.clocks import ManualClock
from support.stages import kill, meddle, new_journal, rows

from kkt_bridge.errors import JournalDamaged, JournalError, JournalInUse, StorageUnavailable
from kkt_bridge.journal.database import Database
from kkt_bridge.journal.journal import Journal
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
        made = {column["name"]: str(column["type"]) for column in found.get_columns(name)}
        assert made == {column.name: str(column.type).replace("LARGEBINARY", "BLOB") for column in table.columns}


def test_the_schema_is_counted_and_made_once(journal, tmp_path):
    assert rows(tmp_path, "PRAGMA user_version") == [(1,)]
    journal.write(lambda tx: tx.publish("topic", b"kept"))
    journal.close()
    journal.open()
    assert rows(tmp_path, "PRAGMA user_version") == [(1,)]
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


def test_a_folder_that_is_not_there_is_made(tmp_path):
    folder = tmp_path / "var" / "lib"
    new_journal(folder, ManualClock()).close()
    assert (folder / "journal.db").exists()


def test_a_journal_of_a_newer_program_is_left_alone(tmp_path):
    new_journal(tmp_path, ManualClock()).close()
    meddle(tmp_path, "PRAGMA user_version = 99")
    with pytest.raises(JournalError, match=r"written by a newer kkt-bridge \(schema 99, known 1\)"):
        new_journal(tmp_path, ManualClock())
    assert rows(tmp_path, "PRAGMA user_version") == [(99,)]


def test_a_failed_opening_lets_go_of_the_lock(tmp_path):
    new_journal(tmp_path, ManualClock()).close()
    meddle(tmp_path, "PRAGMA user_version = 99")
    for _ in range(2):
        with pytest.raises(JournalError, match="newer"):
            new_journal(tmp_path, ManualClock())
    meddle(tmp_path, "PRAGMA user_version = 1")
    new_journal(tmp_path, ManualClock()).close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda _content: b"this is no database, but a text that somebody saved under the wrong name\n" * 100,
        lambda content: content[:100] + b"\xff" * 8000 + content[8100:],
        lambda content: content[: len(content) // 2 - 1000],
    ],
    ids=["not a database", "overwritten", "cut short"],
)
def test_a_damaged_file_is_told_from_a_full_disk(tmp_path, damage):
    new_journal(tmp_path, ManualClock()).close()
    file = tmp_path / "journal.db"
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    with pytest.raises(JournalDamaged, match="damaged") as raised:
        new_journal(tmp_path, ManualClock())
    assert "\n" not in str(raised.value)
    assert file.read_bytes() == damaged, "evidence for whoever repairs it"


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

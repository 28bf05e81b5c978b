"""Where a journal is: no empty one takes the place of one that is gone, no file is a journal under two names."""

import logging
import os
import pwd
import sqlite3
from contextlib import closing

import pytest
from support.clocks import ManualClock
from support.killed import killed_at, killed_at_statement
from support.old_journals import of_the_first_release
from support.stages import a_receipt, kill, new_journal, rows

from kkt_bridge.errors import JournalError, JournalInUse, JournalLost, StorageUnavailable
from kkt_bridge.journal.database import Database
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.migrate import known_schema
from kkt_bridge.journal.permissions import not_allowed
from kkt_bridge.journal.receipts import insert_receipt
from kkt_bridge.recovery.backup import back_up

RECEIPTS = "SELECT id, receipt_id, pos_id, status, total FROM receipts ORDER BY id"
FILES = ("journal.db", "journal.db-wal", "journal.db-shm")


def take(journal, count=1):
    for _ in range(count):
        journal.write(lambda tx: insert_receipt(tx, a_receipt()))


def filled(folder, count=1):
    """A journal that is open, with so many receipts in it."""
    journal = new_journal(folder, ManualClock())
    take(journal, count)
    return journal


def crash(journal, folder):
    """What a SIGKILL leaves: the log stays beside the database."""
    contents = {name: (folder / name).read_bytes() for name in FILES}
    kill(journal)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def put_back(folder, before):
    """Have the folder hold these files, and no others."""
    for path in folder.iterdir():
        path.unlink()
    for name, content in before.items():
        (folder / name).write_bytes(content)


# -- a journal that is gone ----------------------------------------------------------------------------------


def test_a_journal_that_is_gone_is_not_begun_anew(tmp_path):
    filled(tmp_path).close()
    (tmp_path / "journal.db").unlink()
    for _ in range(2):
        with pytest.raises(JournalLost) as raised:
            new_journal(tmp_path, ManualClock())
        said = str(raised.value)
        assert said.startswith(
            f"{tmp_path / 'journal.db'}: there is no journal, but journal.db.lock says that a bridge"
        )
        assert "is its disk mounted?" in said
        assert "kkt-bridge restore COPY --config FILE" in said
        assert "kkt-bridge verify --rebuild --config FILE" in said
        assert said.endswith("only if a new, empty one is really to begin here, remove journal.db.lock")
        assert not (tmp_path / "journal.db").exists()


def test_whoever_means_it_begins_a_new_one_as_the_refusal_says(tmp_path):
    filled(tmp_path).close()
    (tmp_path / "journal.db").unlink()
    (tmp_path / "journal.db.lock").unlink()
    new_journal(tmp_path, ManualClock()).close()
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(0,)]


def test_the_log_of_a_journal_that_is_gone_is_neither_deleted_nor_read(tmp_path):
    journal = filled(tmp_path)
    crash(journal, tmp_path)
    (tmp_path / "journal.db").unlink()
    (tmp_path / "journal.db.lock").unlink()
    before = contents(tmp_path)
    with pytest.raises(JournalLost, match=r"journal\.db-wal of one is left.*remove .*journal\.db-wal"):
        new_journal(tmp_path, ManualClock())
    assert contents(tmp_path) == before | {"journal.db.lock": b""}


def test_only_the_last_folder_is_made_and_that_is_said(tmp_path, caplog):
    """Above it a disk may not be mounted: its folder, made on the disk below, would hold an empty journal."""
    with pytest.raises(StorageUnavailable, match=rf"there is no folder {tmp_path / 'var'}: mount its disk"):
        new_journal(tmp_path / "var" / "lib", ManualClock())
    assert list(tmp_path.iterdir()) == []
    new_journal(tmp_path / "var", ManualClock()).close()
    assert f"{tmp_path / 'var'} was not there, and was made" in caplog.text
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700


# -- one file, one name --------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["file", "folder"])
def test_a_link_leads_to_the_same_journal_and_the_same_lock(tmp_path, of):
    (folder := tmp_path / "one").mkdir()
    journal = filled(folder)
    link = tmp_path / "other"
    link.symlink_to(folder / "journal.db" if of == "file" else folder)
    second = Database(f"sqlite:///{link if of == 'file' else link / 'journal.db'}")
    with pytest.raises(JournalInUse):
        second.open()
    journal.close()
    second.open()
    second.close()
    assert {path.name for path in tmp_path.iterdir()} == {"one", "other"}


def test_a_file_with_two_names_is_refused(tmp_path):
    filled(tmp_path).close()
    os.link(tmp_path / "journal.db", tmp_path / "second.db")
    with pytest.raises(JournalError, match=r"second name.*remove the other name"):
        new_journal(tmp_path, ManualClock())
    (tmp_path / "second.db").unlink()
    new_journal(tmp_path, ManualClock()).close()


# -- a log beside another file -------------------------------------------------------------------------------


def test_the_log_of_a_crash_is_not_read_into_a_copy_that_was_put_in_its_place(tmp_path):
    journal = filled(tmp_path, 3)
    back_up(tmp_path / "journal.db", tmp_path / "copy.db", held=True, replace=False)
    take(journal, 3)
    crash(journal, tmp_path)
    (tmp_path / "journal.db").write_bytes((tmp_path / "copy.db").read_bytes())  # cp copy.db journal.db
    before = contents(tmp_path)
    with pytest.raises(JournalError, match=r"journal\.db-wal beside it is the log of another file.*kkt-bridge restore"):
        new_journal(tmp_path, ManualClock())
    with pytest.raises(JournalError, match="the log of another file"):
        back_up(tmp_path / "journal.db", tmp_path / "again.db", held=False, replace=False)
    assert contents(tmp_path) == before


def test_a_plain_copy_from_before_the_last_start_is_told_apart_too(tmp_path):
    filled(tmp_path).close()
    copy = (tmp_path / "journal.db").read_bytes()
    journal = new_journal(tmp_path, ManualClock())
    take(journal)
    crash(journal, tmp_path)
    (tmp_path / "journal.db").write_bytes(copy)
    with pytest.raises(JournalError, match="the log of another file"):
        new_journal(tmp_path, ManualClock())


def test_after_a_crash_the_log_is_read_as_ever(tmp_path):
    for count in (1, 2, 3):
        journal = new_journal(tmp_path, ManualClock())
        take(journal)
        crash(journal, tmp_path)
        journal = new_journal(tmp_path, ManualClock())
        assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(count,)]
        journal.close()


def test_a_copy_without_a_log_is_taken_and_that_is_said(tmp_path, caplog):
    """Put back by hand after a clean stop; what it does not know the registers are asked for."""
    journal = filled(tmp_path, 3)
    back_up(tmp_path / "journal.db", tmp_path / "copy.db", held=True, replace=False)
    take(journal, 3)
    journal.close()
    (tmp_path / "copy.db").replace(tmp_path / "journal.db")
    caplog.set_level(logging.WARNING)
    new_journal(tmp_path, ManualClock()).close()
    assert "is not the file that was used here last: a copy was put back" in caplog.text
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(3,)]
    caplog.clear()
    new_journal(tmp_path, ManualClock()).close()
    assert caplog.text == ""


@pytest.mark.parametrize("reader", [False, True])
def test_a_crash_at_any_point_of_the_start_leaves_a_log_that_is_read(tmp_path, monkeypatch, reader):
    """Also while somebody reads the old state, so that the new name cannot be brought into the file itself."""
    filled(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    if reader:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM receipts").fetchone()
    journal = new_journal(tmp_path, ManualClock())
    take(journal)
    crash(journal, tmp_path)
    connection.close()
    new_journal(tmp_path, ManualClock()).close()
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(2,)]


def a_log_of_a_crash(folder):
    journal = filled(folder, 3)
    take(journal)
    crash(journal, folder)


def one_of_the_first_release(folder):
    filled(folder, 3).close()
    of_the_first_release(folder / "journal.db", folder / "old.db").replace(folder / "journal.db")
    (folder / "journal.db.lock").unlink()


@pytest.mark.parametrize("left", [a_log_of_a_crash, one_of_the_first_release])
def test_starts_that_are_killed_one_after_the_other_anywhere_leave_a_journal_that_opens(tmp_path, left):
    def start():
        new_journal(tmp_path, ManualClock())

    left(tmp_path)
    before = contents(tmp_path)
    receipts = rows(tmp_path, RECEIPTS)
    put_back(tmp_path, before)
    first = 0
    while killed_at_statement(first, start):
        half_started, second = contents(tmp_path), 0
        while killed_at_statement(second, start):
            new_journal(tmp_path, ManualClock()).close()
            assert rows(tmp_path, RECEIPTS) == receipts, (first, second)
            put_back(tmp_path, half_started)
            second += 1
        assert second > 1
        put_back(tmp_path, before)
        first += 1
    assert first > 1


def test_whose_journal_it_is_stands_in_it(tmp_path):
    journal = Journal(Database(f"sqlite:///{tmp_path / 'journal.db'}", bridge="store-017"), ManualClock())
    journal.open()
    journal.close()
    assert rows(tmp_path, "SELECT value FROM settings WHERE name = 'bridge_id'") == [("store-017",)]


# -- who may read it -----------------------------------------------------------------------------------------


def modes(folder):
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


def test_every_file_of_a_journal_is_its_users_alone(tmp_path):
    before = os.umask(0o022)
    try:
        journal = filled(tmp_path)
        back_up(tmp_path / "journal.db", tmp_path / "copy.db", held=True, replace=False)
    finally:
        os.umask(before)
    assert modes(tmp_path) == dict.fromkeys([*FILES, "journal.db.lock", "copy.db"], 0o600)
    journal.close()


def test_a_file_that_others_could_read_is_narrowed_and_that_is_said(tmp_path, caplog):
    filled(tmp_path).close()
    (tmp_path / "journal.db").chmod(0o644)
    new_journal(tmp_path, ManualClock()).close()
    assert modes(tmp_path)["journal.db"] == 0o600
    assert "journal.db could be read by others (644): now by its user alone" in caplog.text


def test_who_may_not_read_it_is_told_whose_it_is_and_who_he_is(tmp_path):
    said = not_allowed(tmp_path / "hidden" / "journal.db")
    ours = pwd.getpwuid(os.geteuid()).pw_name
    assert f"{tmp_path} belongs to {ours}, this runs as {ours}: run this as the bridge's user, or as root" in said


# -- a new schema --------------------------------------------------------------------------------------------


@pytest.fixture
def old_journal(tmp_path):
    """A journal of the first release, with three receipts."""
    filled(tmp_path, 3).close()
    old = of_the_first_release(tmp_path / "journal.db", tmp_path / "old.db")
    old.replace(tmp_path / "journal.db")
    (tmp_path / "journal.db.lock").unlink()


def test_a_disk_without_room_for_the_copy_is_asked_for_it_before_a_migration(tmp_path, old_journal, monkeypatch):
    monkeypatch.setattr("kkt_bridge.journal.database.MIGRATION_SPARE_BYTES", 1 << 60)
    with pytest.raises(StorageUnavailable, match=r"no room for a copy of it: \d+ MiB are needed, \d+ are free"):
        new_journal(tmp_path, ManualClock())
    assert rows(tmp_path, "PRAGMA user_version") == [(1,)]


def test_a_journal_of_the_first_release_is_brought_up_to_date_with_its_rows_and_kept_as_it_was(
    tmp_path, old_journal, caplog
):
    before = rows(tmp_path, RECEIPTS)
    history = rows(tmp_path, "SELECT id, receipt, to_status FROM steps ORDER BY id")
    journal = new_journal(tmp_path, ManualClock())
    assert rows(tmp_path, "PRAGMA user_version") == [(known_schema(),)]
    assert rows(tmp_path, RECEIPTS) == before
    assert rows(tmp_path, "SELECT id, receipt, to_status FROM steps ORDER BY id") == history
    take(journal)
    journal.close()
    kept = tmp_path / f"journal.db.before-schema-{known_schema()}"
    assert f"brought from schema 1 to {known_schema()}; as it was it is kept in {kept.name}" in caplog.text
    with closing(sqlite3.connect(kept)) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
        assert copy.execute(RECEIPTS).fetchall() == before
    new_journal(tmp_path, ManualClock()).close()
    assert len(list(tmp_path.glob("journal.db.before-schema-*"))) == 1


def test_killed_while_the_copy_is_kept_the_next_start_migrates_all_the_same(tmp_path, old_journal):
    number = 0
    while killed_at(
        number, lambda: new_journal(tmp_path, ManualClock()).close(), {"os.rename", "os.chmod", "os.remove"}
    ):
        number += 1
        assert rows(tmp_path, "PRAGMA user_version") in ([(1,)], [(known_schema(),)])
    assert number > 0
    new_journal(tmp_path, ManualClock()).close()
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(3,)]
    (kept,) = tmp_path.glob("journal.db.before-schema-*")
    with closing(sqlite3.connect(kept)) as copy:
        assert copy.execute("SELECT count(*) FROM receipts").fetchone() == (3,)

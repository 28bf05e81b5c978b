"""`restore`: a copy takes the journal's place whole, nothing is deleted, and a power cut anywhere is survived."""

import os
import pwd
import sqlite3
from contextlib import closing

import pytest
from support.clocks import ManualClock
from support.killed import killed_at
from support.old_journals import of_the_first_release
from support.rights import needs_root
from support.stages import a_receipt, kill, rows

from kkt_bridge.errors import JournalDamaged, JournalError, JournalInUse, JournalLost, StorageUnavailable
from kkt_bridge.journal.database import Database
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import insert_receipt
from kkt_bridge.recovery.backup import back_up
from kkt_bridge.recovery.restore import restore

OURS = "store-017"
BESIDE = (".lock", "-wal", "-shm")


def journal_in(folder):
    journal = Journal(Database(f"sqlite:///{folder / 'journal.db'}", bridge=OURS), ManualClock())
    journal.open()
    return journal


def take(journal, count):
    for _ in range(count):
        journal.write(lambda tx: insert_receipt(tx, a_receipt()))


@pytest.fixture
def copy(tmp_path):
    """A copy with three receipts of a journal that has five by now, and was not closed in order."""
    journal = journal_in(tmp_path)
    take(journal, 3)
    back_up(tmp_path / "journal.db", tmp_path / "copy.db", held=True, replace=False)
    take(journal, 2)
    files = {name: (tmp_path / name).read_bytes() for name in ("journal.db", "journal.db-wal", "journal.db-shm")}
    kill(journal)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path / "copy.db"


def count_in(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM receipts").fetchone()[0]


def test_the_copy_takes_the_journals_place_and_what_was_there_is_kept_whole(tmp_path, copy):
    content = copy.read_bytes()
    done = restore(tmp_path / "journal.db", copy, OURS)
    assert done.receipts == 3
    moved = tmp_path / done.moved[0]
    assert [tmp_path / name for name in done.moved[1:]] == [
        moved.with_name(f"{moved.name}{s}") for s in ("-wal", "-shm")
    ]
    assert count_in(moved) == 5, "with what only its log had"
    assert copy.read_bytes() == content
    journal_in(tmp_path).close()
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(3,)]
    assert (tmp_path / "journal.db").stat().st_mode & 0o777 == 0o600
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_back_again_to_what_was_moved_aside_its_log_included(tmp_path, copy):
    done = restore(tmp_path / "journal.db", copy, OURS)
    assert restore(tmp_path / "journal.db", tmp_path / done.moved[0], OURS).receipts == 5
    journal_in(tmp_path).close()
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(5,)]


def test_where_there_is_no_journal_any_more_the_copy_is_put_and_stray_files_keep_to_themselves(tmp_path, copy):
    (tmp_path / "journal.db").unlink()
    log = (tmp_path / "journal.db-wal").read_bytes()
    done = restore(tmp_path / "journal.db", copy, OURS)
    strays = [name for name in done.moved if name.startswith("journal.db.stray-") and name.endswith("-wal")]
    assert [(tmp_path / name).read_bytes() for name in strays] == [log]
    journal_in(tmp_path).close()
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(3,)]


def test_on_a_new_machine_there_is_nothing_to_move(tmp_path, copy):
    (tmp_path / "new").mkdir()
    done = restore(tmp_path / "new" / "journal.db", copy, OURS)
    assert (done.receipts, done.moved) == (3, [])
    journal_in(tmp_path / "new").close()


def test_a_copy_of_the_first_release_is_put_and_brought_up_to_date_at_the_next_start(tmp_path, copy):
    old = of_the_first_release(copy, tmp_path / "old.db")
    assert restore(tmp_path / "journal.db", old, OURS).schema == 1
    journal_in(tmp_path).close()
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(3,)]


def unchanged(folder):
    files = (path for path in folder.iterdir() if path.is_file() and path.name != "journal.db.lock")
    return {path.name: path.read_bytes() for path in files}


def damaged(copy):
    with copy.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


def of_another_bridge(copy):
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("UPDATE settings SET value = 'store-018' WHERE name = 'bridge_id'")


def of_a_newer_program(copy):
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 999")


def of_something_else(copy):
    copy.unlink()
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE notes (text)")


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (damaged, JournalDamaged, "is damaged or no journal, and was not used: .*: take another"),
        (lambda copy: copy.write_bytes(b"my notes\n" * 1000), JournalDamaged, "is damaged or no journal"),
        (of_another_bridge, JournalError, "is the journal of bridge store-018, and this is store-017: .*--renamed"),
        (of_a_newer_program, JournalError, r"is of a newer kkt-bridge \(schema 999, known \d+\): install that one"),
        (of_something_else, JournalError, "is no journal of a kkt-bridge: name a copy that `kkt-bridge backup` made"),
        (lambda copy: copy.unlink(), JournalError, "there is no such file"),
        (lambda copy: (copy.unlink(), copy.mkdir()), JournalError, "is no file"),
        (lambda copy: (copy.unlink(), copy.symlink_to("journal.db")), JournalError, "is the journal itself"),
    ],
)
def test_what_is_wrong_with_the_copy_is_said_and_nothing_is_changed(tmp_path, copy, spoil, kind, said):
    spoil(copy)
    before = unchanged(tmp_path)
    with pytest.raises(kind, match=said) as raised:
        restore(tmp_path / "journal.db", copy, OURS)
    assert str(raised.value).startswith(f"{copy}: ")
    assert unchanged(tmp_path) == before
    journal_in(tmp_path).close()


def test_a_bridge_that_was_renamed_may_take_its_old_journal(tmp_path, copy):
    of_another_bridge(copy)
    assert restore(tmp_path / "journal.db", copy, OURS, renamed=True).receipts == 3


def test_while_a_bridge_runs_nothing_is_restored(tmp_path, copy):
    journal = journal_in(tmp_path)
    with pytest.raises(JournalInUse):
        restore(tmp_path / "journal.db", copy, OURS)
    journal.close()


def test_a_disk_that_takes_nothing_leaves_the_old_journal(tmp_path, copy, monkeypatch):
    before = unchanged(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(StorageUnavailable, match="could not be restored: No space left on device"):
        restore(tmp_path / "journal.db", copy, OURS)
    assert unchanged(tmp_path) == before


# -- killed at each effect -----------------------------------------------------------------------------------


def next_start(folder):
    """How many receipts the next start finds, or why it refuses."""
    try:
        journal_in(folder).close()
    except JournalLost as refusal:
        return str(refusal)
    return rows(folder, "SELECT count(*) FROM receipts")[0][0]


def test_killed_anywhere_the_next_start_has_the_old_journal_or_the_new_one_or_refuses(tmp_path, copy):
    journal = tmp_path / "journal.db"
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    seen = set()
    number = 0
    while True:
        for path in tmp_path.iterdir():
            path.unlink()
        for name, content in first.items():
            (tmp_path / name).write_bytes(content)
        was_killed = killed_at(number, lambda: restore(journal, copy, OURS))
        seen.add(found := next_start(tmp_path))
        assert found in {3, 5} or "kkt-bridge restore COPY" in found, number
        restore(journal, copy, OURS)
        journal_in(tmp_path).close()
        assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(3,)], number
        databases = [path for path in tmp_path.glob("journal.db*") if not path.name.endswith(BESIDE)]
        assert 5 in map(count_in, databases), f"{number}: nothing of the old journal may be lost"
        assert not list(tmp_path.glob(".journal.db.*"))
        if not was_killed:
            break
        number += 1
    assert {3, 5} < seen
    assert number > 10


@needs_root
@pytest.mark.parametrize("is_there", [True, False], ids=["as the old file was", "as the folder is"])
def test_what_root_restores_belongs_to_the_bridges_user(tmp_path, copy, is_there):
    folder, nobody = tmp_path / "var", pwd.getpwnam("nobody")
    folder.mkdir()
    (folder / "journal.db").write_bytes(copy.read_bytes())
    os.chown(folder / "journal.db" if is_there else folder, nobody.pw_uid, nobody.pw_gid)
    if not is_there:
        (folder / "journal.db").unlink()
    restore(folder / "journal.db", copy, OURS)
    for name in ("journal.db", "journal.db.lock"):
        found = (folder / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (nobody.pw_uid, nobody.pw_gid, 0o600)

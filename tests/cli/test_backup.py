"""`kkt-bridge backup`: a whole copy or none, taken from under a bridge that goes on writing."""

import json
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest
from cli.running_bridge import run
from support.bridge import as_toml
from support.clocks import ManualClock
from support.stages import a_receipt, check_counts, kill, new_journal, rows

from kkt_bridge.journal.print_queue import lease
from kkt_bridge.journal.receipts import insert_receipt


@pytest.fixture
def journal(tmp_path):
    opened = new_journal(tmp_path, ManualClock())
    for _ in range(3):
        take(opened)
    yield opened
    opened.close()


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "bridge.toml"
    content = {
        "bridge_id": "store-1",
        "journal": {"url": f"sqlite:///{tmp_path / 'journal.db'}"},
        "kkt": [{"id": "kkt-1", "driver": "virtual", "state": str(tmp_path / "kkt-1.fn")}],
        "ofd": {"url": "http://127.0.0.1:9"},
    }
    file.write_text(as_toml(content), encoding="utf-8")
    return file


def take(journal):
    def operation(tx):
        insert_receipt(tx, a_receipt())
        lease(tx, "kkt-1", "9999078900000001", 1, 1)

    journal.write(operation)


def backup(config, *args):
    return run("backup", "--config", config, *args)


def refused(config, *args):
    """The one line that says why there is no copy."""
    done = backup(config, *args)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("kkt-bridge backup: ")
    return line


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith((".part", "-journal"))]


def as_journal(copy, folder):
    """The copy, put where a bridge would find it, and opened."""
    folder.mkdir()
    shutil.copy(copy, folder / "journal.db")
    return new_journal(folder, ManualClock())


def test_a_copy_taken_while_a_bridge_writes_is_a_journal_of_one_moment(journal, config, tmp_path):
    stop = threading.Event()

    def write():
        while not stop.is_set():
            take(journal)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = backup(config, tmp_path / "copy.db")
    finally:
        stop.set()
        writer.join()
    assert (done.returncode, done.stderr) == (0, "")
    restored = as_journal(tmp_path / "copy.db", tmp_path / "restored")
    check_counts(restored, tmp_path / "restored")
    (taken,) = rows(tmp_path / "restored", "SELECT count(*) FROM receipts")[0]
    assert 3 < taken < rows(tmp_path, "SELECT count(*) FROM receipts")[0][0]
    assert f"copy.db: {taken} receipts, " in done.stdout
    restored.close()
    check_counts(journal, tmp_path)
    assert leftovers(tmp_path) == []


def test_a_copy_is_one_file_and_told_as_json(journal, config, tmp_path):
    (tmp_path / "backups").mkdir()
    copy = tmp_path / "backups" / "copy.db"
    done = backup(config, copy, "--json")
    assert json.loads(done.stdout) == {"ok": True, "copy": str(copy), "size": copy.stat().st_size, "receipts": 3}
    assert list(copy.parent.iterdir()) == [copy]
    assert copy.stat().st_mode == (tmp_path / "journal.db").stat().st_mode
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_what_only_the_log_holds_after_a_kill_is_copied_too(journal, config, tmp_path):
    copies = {name: (tmp_path / name).read_bytes() for name in ("journal.db", "journal.db-wal", "journal.db-shm")}
    kill(journal)
    for name, content in copies.items():
        (tmp_path / name).write_bytes(content)
    assert backup(config, tmp_path / "copy.db").returncode == 0
    as_journal(tmp_path / "copy.db", tmp_path / "restored").close()
    assert rows(tmp_path / "restored", "SELECT count(*) FROM receipts") == [(3,)]


def test_a_journal_at_rest_is_copied_and_nothing_is_left_beside_it(journal, config, tmp_path):
    journal.close()
    before = {path.name for path in tmp_path.iterdir()}
    assert backup(config, tmp_path / "copy.db").returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == before | {"copy.db"}


def test_a_copy_that_is_there_is_kept_unless_forced(journal, config, tmp_path):
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"of yesterday")
    assert "copy.db: is there already; --force replaces it" in refused(config, copy)
    assert copy.read_bytes() == b"of yesterday"
    assert backup(config, copy, "--force").returncode == 0
    assert copy.read_bytes().startswith(b"SQLite format 3")


def test_the_journal_is_never_overwritten(journal, config, tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "journal.db")
    for name in ("journal.db", "link.db"):
        assert "it is the journal itself: name another file" in refused(config, tmp_path / name, "--force")
    take(journal)


def test_a_log_of_another_copy_is_no_company_for_a_new_one(journal, config, tmp_path):
    (tmp_path / "copy.db-wal").write_bytes(b"log")
    assert "copy.db-wal stands beside it" in refused(config, tmp_path / "copy.db", "--force")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("", "is a folder: name the file"),
        ("nowhere/copy.db", "there is no folder"),
        ("bridge.toml/copy.db", "no folder"),
    ],
)
def test_a_place_that_takes_no_copy_is_named(journal, config, tmp_path, place, said):
    assert said in refused(config, tmp_path / place)


@pytest.mark.parametrize("table", ["receipts", "steps", "sqlite_schema"])
def test_a_damaged_journal_replaces_no_good_copy(journal, config, tmp_path, table):
    (root,) = rows(tmp_path, "SELECT coalesce((SELECT rootpage FROM sqlite_schema WHERE name = ?), 1)", table)[0]
    journal.close()
    copy = tmp_path / "copy.db"
    assert backup(config, copy).returncode == 0
    good = copy.read_bytes()
    with (tmp_path / "journal.db").open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    assert "journal.db: the journal is damaged, and was not copied: " in refused(config, copy, "--force")
    assert copy.read_bytes() == good
    assert leftovers(tmp_path) == []


def test_where_there_is_no_journal_there_is_no_copy(config, tmp_path):
    assert "journal.db: there is no journal" in refused(config, tmp_path / "copy.db")
    assert not (tmp_path / "journal.db").exists()
    (tmp_path / "journal.db.damaged-20260101T000000Z").write_bytes(b"x")
    assert "verify --rebuild" in refused(config, tmp_path / "copy.db")


def test_unusable_settings_and_arguments_end_it_with_2(config, tmp_path):
    assert backup(config).returncode == 2
    config.write_text("nonsense", encoding="utf-8")
    done = backup(config, tmp_path / "copy.db")
    assert done.returncode == 2
    assert "bridge.toml: not TOML" in done.stderr

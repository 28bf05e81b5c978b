"""`kkt-bridge restore` as an operator types it."""

import json

import pytest
from cli.running_bridge import run
from support.clocks import ManualClock
from support.stages import a_receipt, kill, new_journal, rows

from kkt_bridge.journal.receipts import insert_receipt
from kkt_bridge.recovery.backup import back_up


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "bridge.toml"
    file.write_text(
        f'bridge_id = "store-1"\njournal.url = "sqlite:///{tmp_path}/journal.db"\nofd.url = "http://127.0.0.1:9"\n'
        f'[[kkt]]\nid = "kkt-1"\ndriver = "virtual"\nstate = "{tmp_path}/kkt-1.fn"\n',
        encoding="utf-8",
    )
    return file


@pytest.fixture
def copy(tmp_path):
    journal = new_journal(tmp_path, ManualClock())
    journal.write(lambda tx: insert_receipt(tx, a_receipt()))
    back_up(tmp_path / "journal.db", tmp_path / "copy.db", held=True, replace=False)
    journal.write(lambda tx: insert_receipt(tx, a_receipt()))
    journal.close()
    return tmp_path / "copy.db"


def test_it_tells_what_was_done_and_what_comes_next(tmp_path, config, copy):
    done = run("restore", copy, "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, last = done.stdout.splitlines()
    assert first == f"{tmp_path / 'journal.db'}: 1 receipts from {copy}, checked"
    assert second.startswith("what was there is kept: journal.db.replaced-")
    assert last.startswith("now start the bridge: before it prints it reads what its registers hold beyond this copy")
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(1,)]


def test_as_json(tmp_path, config, copy):
    told = json.loads(run("restore", copy, "--config", config, "--json").stdout)
    assert (told["ok"], told["journal"], told["receipts"]) == (True, str(tmp_path / "journal.db"), 1)
    assert (tmp_path / told["moved"][0]).exists()


def test_while_a_bridge_runs_it_is_refused_in_one_line(tmp_path, config, copy):
    journal = new_journal(tmp_path, ManualClock())
    done = run("restore", copy, "--config", config)
    kill(journal)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "another bridge is running on this journal: stop it first" in line
    assert rows(tmp_path, "SELECT count(*) FROM receipts") == [(2,)]


def test_a_copy_that_is_not_there_is_refused_in_one_line(tmp_path, config):
    done = run("restore", tmp_path / "nowhere.db", "--config", config)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.endswith("there is no such file: name a copy that `kkt-bridge backup` made")


def test_settings_that_cannot_be_used_are_another_exit_status(tmp_path, config, copy):
    config.write_text(config.read_text(encoding="utf-8").replace("sqlite:////", "sqlite:///"), encoding="utf-8")
    done = run("restore", copy, "--config", config)
    assert done.returncode == 2
    assert "write four slashes" in done.stderr

import json
import os
import pwd
import shutil
import sqlite3
import tempfile
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cli.running_bridge import run
from support.receipts import encoded, receipt
from support.rights import needs_root

from kkt_bridge.cli.checkup.machine import examine_clock
from kkt_bridge.clock import SystemClock
from kkt_bridge.journal.database import Database
from kkt_bridge.registers.virtual.fiscal_document import registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.settings import load_settings

CHECKS = [
    "configuration",
    "rights",
    "clock",
    "journal directory",
    "free space",
    "file system",
    "journal lock",
    "journal file",
    "journal schema",
    "broker",
    "topics",
    "bridge",
    "bridge answers",
    "register kkt-1",
    "register kkt-1",
    "OFD",
    "OFD clock",
]


@dataclass(frozen=True)
class Place:
    directory: Path
    journal: Path
    storage: Path


@pytest.fixture
def place(tmp_path):
    """What a bridge leaves behind: made by its own parts, and held by nobody."""
    place = Place(tmp_path, tmp_path / "journal.db", tmp_path / "kkt-1.fn")
    database = Database(f"sqlite:///{place.journal}")
    database.open()
    database.close()
    storage = FiscalStorage(place.storage)
    storage.open(registration_of("kkt-1"), datetime.now(UTC))
    storage.close()
    return place


def examined(shop, **changes):
    """The exit status, and every check with --json, of this shop or with these values changed in the configuration."""
    done = run("doctor", "--config", shop.config_with(**changes), "--json")
    content = json.loads(done.stdout)
    assert done.stderr == ""
    assert content["ok"] == (done.returncode == 0)
    return done.returncode, content["checks"]


def found(checks, name, verdict):
    """The one check of this name with this verdict; each that is not ok says what to do."""
    for check in checks:
        assert (check["advice"] is None) == (check["verdict"] == "ok")
    (finding,) = (check for check in checks if check["check"] == name and check["verdict"] == verdict)
    return finding


@contextmanager
def ofd_with_clock(offset):
    """An OFD that answers its health check by a clock that is off."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 (http.server's own name)

        def date_time_string(self, _timestamp=None):
            return format_datetime(datetime.now(UTC) + offset, usegmt=True)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_running_bridge_is_found_well_and_not_disturbed(shop):
    sold = shop.run("send", "-", stdin=encoded(receipt()))

    done = run("doctor", "--config", shop.config)

    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    # How fast it answers is the machine's affair: slow is a warning, with advice in a line below.
    told = [line.split(":")[0] for line in lines if not line.startswith(" ")]
    assert [f"ok   {name}" for name in CHECKS] == [
        line.replace("warn bridge answers", "ok   bridge answers") for line in told
    ]
    assert f"held by process {shop.bridge.pid}" in done.stdout
    assert f"a bridge is running on it (process {shop.bridge.pid})" in done.stdout
    assert sold.returncode == 0
    assert shop.run("send", "-", stdin=encoded(receipt())).returncode == 0
    shop.bridge.check_runs()


def test_before_the_first_start_it_says_what_is_missing(shop, tmp_path):

    status, checks = examined(shop, directory=tmp_path / "new" / "place", bridge="store-new")

    assert status == 0
    assert "not running: no bridge store-new has been seen" in found(checks, "bridge", "warn")["reason"]
    assert "is made at the first start" in found(checks, "journal directory", "ok")["reason"]
    assert "is made at the first start" in found(checks, "journal file", "ok")["reason"]
    assert "is made at the first start" in found(checks, "register kkt-1", "ok")["reason"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["kill_bridge", "stop_bridge"])
def test_a_bridge_that_is_down_is_examined_and_nothing_left_behind(own_shop, end):
    own_shop.run("send", "-", stdin=encoded(receipt()))
    getattr(own_shop, end)()
    before = {path.name: path.read_bytes() for path in own_shop.directory.glob("[jk]*")}

    status, checks = examined(own_shop)

    assert status == 0
    assert found(checks, "journal lock", "ok")["reason"] == "free: no bridge is running on it"
    assert found(checks, "journal file", "ok")["reason"].endswith("is whole")
    assert "last FD 3, held by nobody" in found(checks, "register kkt-1", "ok")["reason"]
    assert "not running: " in found(checks, "bridge", "warn")["reason"]
    after = {path.name: path.read_bytes() for path in own_shop.directory.glob("[jk]*")}
    # The index of the log is rebuilt by whoever reads it first.
    assert {name: content for name, content in after.items() if not name.endswith("-shm")} == {
        name: content for name, content in before.items() if not name.endswith("-shm")
    }
    own_shop.start_bridge()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('bridge_id = "store-017"\n', "journal: required, and not given"),
        ("bridge_id = \n", "not TOML"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_all_that_is_said(tmp_path, text, reason):
    config = tmp_path / "bridge.toml"
    if text is not None:
        config.write_text(text, encoding="utf-8")

    done = run("doctor", "--config", config)

    assert done.returncode == 1
    first, advice = done.stdout.splitlines()
    assert first.startswith("FAIL configuration: ")
    assert reason in first
    assert advice == "     > mend it: the bridge does not start with it"


def test_a_broker_that_is_away_fails(shop, closed_port):

    status, checks = examined(shop, port=closed_port)

    assert status == 1
    assert f"127.0.0.1:{closed_port}: no MQTT broker there" in found(checks, "broker", "FAIL")["reason"]


def test_a_bridge_at_another_broker_fails(shop):

    status, checks = examined(shop, bridge="store-renamed")

    assert status == 1
    assert (
        f"running on this journal (process {shop.bridge.pid}), but not at this broker"
        in (found(checks, "bridge", "FAIL")["reason"])
    )


def test_a_bridge_elsewhere_under_the_same_id_is_warned_of(shop, tmp_path):

    status, checks = examined(shop, directory=tmp_path)

    assert status == 0
    assert "online at the broker, but not running on this journal" in found(checks, "bridge", "warn")["reason"]


def test_a_bridge_that_does_not_answer_fails(shop):
    topic = "kkt/v1/deaf/state/online"
    with shop.client() as client:
        client.publish(topic, b'{"online": true, "since": "2026-11-22T14:00:00.000+03:00"}', retain=True)
        status, checks = examined(shop, bridge="deaf")
        client.publish(topic, b"", retain=True)

    assert status == 1
    assert "bridge deaf did not answer `status`" in found(checks, "bridge answers", "FAIL")["reason"]


def test_a_damaged_journal_fails(shop, place):
    content = bytearray(place.journal.read_bytes())
    content[4096:] = b"\xff" * len(content[4096:])
    place.journal.write_bytes(content)

    status, checks = examined(shop, directory=place.directory)

    assert status == 1
    assert f"{place.journal} is damaged: " in found(checks, "journal file", "FAIL")["reason"]


def test_a_journal_that_is_no_database_fails(shop, place):
    place.journal.write_bytes(b"no database " * 1000)

    status, checks = examined(shop, directory=place.directory)

    assert status == 1
    assert "file is not a database" in found(checks, "journal file", "FAIL")["reason"]


def test_a_journal_of_a_newer_program_fails(shop, place):
    with closing(sqlite3.connect(place.journal)) as connection:
        connection.execute("PRAGMA user_version = 999")

    status, checks = examined(shop, directory=place.directory)

    assert status == 1
    assert "has schema 999" in found(checks, "journal schema", "FAIL")["reason"]


def test_a_journal_below_a_file_fails(shop, tmp_path):
    (tmp_path / "file").write_text("")

    status, checks = examined(shop, directory=tmp_path / "file")

    assert status == 1
    assert f"{tmp_path}/file is no directory" in found(checks, "journal directory", "FAIL")["reason"]


def test_a_journal_in_memory_is_warned_of(shop):

    status, checks = examined(shop, directory="/dev/shm")

    assert status == 0
    assert found(checks, "file system", "warn")["reason"] == "tmpfs at /dev/shm"


NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def open_place(place):
    """The place, with every folder above it open to all: pytest's own are not."""
    moved = Path(tempfile.mkdtemp(prefix="kkt-bridge-doctor-"))
    try:
        for file in place.directory.iterdir():
            shutil.move(file, moved)
        os.chown(moved, NOBODY.pw_uid, NOBODY.pw_gid)
        for file in moved.iterdir():
            os.chown(file, NOBODY.pw_uid, NOBODY.pw_gid)
        yield Place(moved, moved / "journal.db", moved / "kkt-1.fn")
    finally:
        shutil.rmtree(moved)


@needs_root
@pytest.mark.parametrize("name", ["journal.db", "journal.db.lock", "kkt-1.fn"])
def test_what_another_user_has_made_is_found_by_trying_and_chown_advised(shop, open_place, name):
    """As after a first start as root: the folder is the service's, a file in it is root's."""
    file = open_place.directory / name
    file.touch()
    os.chown(file, 0, 0)
    file.chmod(0o600)

    status, checks = examined(shop, directory=open_place.directory)

    assert status == 1
    finding = next(each for each in checks if each["check"] == "rights" and "cannot write" in each["reason"])
    assert f"user nobody cannot write {file} (of root, mode 0600): Permission denied" in finding["reason"]
    assert finding["advice"] == f"chown nobody: {file}"


@needs_root
def test_a_folder_that_its_user_cannot_write_to_fails(shop, open_place):
    os.chown(open_place.directory, 0, 0)
    open_place.directory.chmod(0o755)

    done = run("doctor", "--config", config_at(shop, open_place), "--user", "nobody", "--json")

    findings = [each for each in json.loads(done.stdout)["checks"] if each["check"] == "rights"]
    assert any(f"cannot write {open_place.directory} (of root, mode 0755)" in each["reason"] for each in findings)


@needs_root
def test_settings_that_the_user_cannot_read_fail_with_a_group_that_could(shop, open_place):
    config = config_at(shop, open_place)
    Path(config).chmod(0o600)

    done = run("doctor", "--config", config, "--user", "nobody", "--json")

    (finding,) = (each for each in json.loads(done.stdout)["checks"] if each["check"] == "rights")
    assert f"user nobody cannot read {config} (of root, mode 0600)" in finding["reason"]
    assert finding["advice"].startswith(f"chgrp nogroup {config} && chmod 640 {config}")


def config_at(shop, place):
    """The shop's configuration for this place, in the place itself, where anybody may look for it."""
    target = place.directory / "bridge.toml"
    shutil.copy(shop.config_with(directory=place.directory), target)
    target.chmod(0o644)
    return target


def test_there_must_be_such_a_user(shop):
    done = run("doctor", "--config", shop.config, "--user", "no-such-user")
    assert done.returncode == 2
    assert "there is no user 'no-such-user' on this machine" in done.stderr


def test_a_torn_storage_is_warned_of(shop, place):
    with place.storage.open("ab") as file:
        file.write(b'{"fd_number":2')

    status, checks = examined(shop, directory=place.directory)

    assert status == 0
    assert "a torn line at the end" in found(checks, "register kkt-1", "warn")["reason"]


@pytest.mark.parametrize("content", [b"", b"hello\n", b'{"fd_number":1,"form":1,'])
def test_a_storage_that_holds_no_document_fails(shop, place, content):
    place.storage.write_bytes(content)

    status, checks = examined(shop, directory=place.directory)

    assert status == 1
    assert str(place.storage) in found(checks, "register kkt-1", "FAIL")["reason"]


def test_a_clock_before_the_last_document_fails(shop, place):
    line = place.storage.read_text(encoding="utf-8")
    document = json.loads(line)
    document["datetime"] = "2126-11-22T14:03:00+03:00"
    place.storage.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")

    status, checks = examined(shop, directory=place.directory)

    assert status == 1
    assert "later than now" in found(checks, "register kkt-1", "FAIL")["reason"]


def test_a_register_that_is_away_fails_with_the_bridges_own_word(own_shop):
    own_shop.break_register(offline=True)
    own_shop.until(lambda state: not state["kkt"]["kkt-1"]["ready"], "a register away")

    status, checks = examined(own_shop)

    assert status == 1
    assert found(checks, "register kkt-1", "FAIL")["reason"].startswith("the bridge says: ")


def test_a_register_whose_clock_is_off_is_warned_of(own_shop):
    own_shop.break_register(clock_offset_s=400)
    own_shop.until(lambda state: (state["kkt"]["kkt-1"]["clock_drift_s"] or 0) > 300, "a clock that is off")

    status, checks = examined(own_shop)

    assert status == 0
    assert "its clock is +400 s off" in found(checks, "register kkt-1", "warn")["reason"]


def test_a_register_that_the_bridge_does_not_know_fails(shop):
    status, checks = examined(shop, kkt="kkt-2")

    assert status == 1
    assert "the running bridge does not know it" in found(checks, "register kkt-2", "FAIL")["reason"]


def test_an_ofd_that_is_away_fails(shop, closed_port):

    status, checks = examined(shop, ofd=f"http://127.0.0.1:{closed_port}")

    assert status == 1
    assert f"http://127.0.0.1:{closed_port}/ofd/v1/health does not answer" in found(checks, "OFD", "FAIL")["reason"]


def test_an_ofd_without_a_health_check_is_warned_of(shop):

    status, checks = examined(shop, ofd=f"{shop.ofd.url}/elsewhere")

    assert status == 0
    assert "has no health check" in found(checks, "OFD", "warn")["reason"]


@pytest.mark.parametrize(("minutes", "verdict"), [(0, "ok"), (10, "warn"), (-10, "warn")])
def test_the_clock_of_the_ofd_is_compared(shop, minutes, verdict):
    with ofd_with_clock(timedelta(minutes=minutes)) as url:
        status, checks = examined(shop, ofd=url)

    assert status == 0
    finding = found(checks, "OFD clock", verdict)
    assert abs(float(finding["reason"].split()[0]) - minutes * 60) < 5


def test_the_clock_of_the_machine_must_not_be_in_the_past(shop):
    finding = examine_clock(load_settings(shop.config), BatteryIsDead())

    assert finding.verdict == "FAIL"
    assert finding.reason == "2001-09-09 05:46:40 +0400 in Europe/Moscow"


class BatteryIsDead(SystemClock):
    def now_ms(self):
        return 1_000_000_000_000

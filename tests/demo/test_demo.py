"""The demo as one starts it: real processes, an outage, and numbers that agree."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.brokers import HOST, MosquittoProcess, free_port, mosquitto_program
from support.processes import wait_until

from kkt_bridge.mqtt.client import BrokerClient
from kkt_bridge.registers.virtual.storage_file import StorageError, read_documents

END_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 12.0
"""A few seconds; more only on a machine that is busy with other tests."""

RECEIPT = Path(__file__).parents[2] / "docs" / "receipt.json"
HURRIED = ("--rate", "100", "--print-time", "0.01")
ENOUGH = ("--json", "--receipts", "5000")
"""More than is sold before the test is over."""


def command(*arguments):
    return [sys.executable, "-m", "kkt_bridge", "demo", *arguments]


@pytest.fixture
def started():
    """Starts demos, and ends those that a test leaves running."""
    running = []

    def start(*arguments):
        running.append(subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        if process.returncode is None:
            process.terminate()
            process.communicate(timeout=END_TIMEOUT_S)


def ended(process, timeout_s=END_TIMEOUT_S):
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def children(process):
    """The demo's child processes, by their commands' first words."""
    listing = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8")
    found = {}
    for pid in map(int, listing.split()):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if "kkt_bridge" in words:
            found[" ".join(words[words.index("kkt_bridge") + 1 :][:2])] = pid
    return found


def runs(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


def wait_for_trade(process, directory):
    """Return when the whole shop is built and sells: the children."""

    def sells():
        assert process.poll() is None, process.communicate()
        try:
            return sum(1 for _ in read_documents(directory / "kkt-1.fn")) > 5
        except StorageError:  # not there yet, or without its first document
            return False

    wait_until(sells, END_TIMEOUT_S, "the first receipts")
    return children(process)


def test_forty_receipts_and_every_count_agrees(started, tmp_path):
    directory = tmp_path / "kept"
    status, out, err = ended(started("--receipts", "40", "--pos", "3", "--json", "--dir", str(directory)))
    assert (status, err) == (0, "")
    assert out.count("\n") == 1
    summary = json.loads(out)
    for count in ("published", "printed", "synced", "fiscal_documents", "ofd_documents"):
        assert summary[count] == 40, summary
    for count in ("rejected", "lost", "duplicates", "ofd_duplicates", "unanswered"):
        assert summary[count] == 0, summary
    assert set(summary["latencies"]) == {"p50_ms", "p95_ms", "p99_ms", "max_ms"}
    log = (directory / "bridge.log").read_text(encoding="utf-8")
    assert "the breaker to the OFD is open" in log, "there was an outage"
    assert "the breaker to the OFD is closed" in log, "it ended"
    assert "Traceback" not in log
    again = ended(started("--receipts", "1", "--json", "--dir", str(directory)))
    assert again == (
        1,
        "",
        f"kkt-bridge: --dir: {directory} holds an earlier demo; choose a directory that is new or empty\n",
    )


@pytest.mark.parametrize(("receipts", "pos", "registers"), [(1, 1, 1), (3, 5, 1), (20, 4, 2)])
def test_small_shops_agree_too(started, receipts, pos, registers):
    numbers = ("--receipts", str(receipts), "--pos", str(pos), "--kkt", str(registers))
    status, out, err = ended(started("--json", *numbers))
    assert (status, err) == (0, ""), out
    assert json.loads(out)["printed"] == receipts


def test_told_in_lines_with_a_picture_where_there_is_no_terminal(started, tmp_path):
    picture = tmp_path / "demo.svg"
    status, out, err = ended(started("--receipts", "30", *HURRIED, "--screenshot", str(picture)))
    assert (status, err) == (0, "")
    told = [line[10:] for line in out.splitlines()]
    story = [
        "The bridge is online",
        "The shop opens",
        "The demo takes the OFD away",
        "OFD is away: sales go on, documents wait",
        "The demo gives the OFD back",
        "The OFD is back: what waited is being delivered",
    ]
    assert [line for line in told if line in story] == story
    assert "30 receipts published, 30 printed, 0 rejected, 30 at the OFD\n" in out
    assert out.count("✓") == 6
    assert "\x1b" not in out
    shown = [element.text or "" for element in ET.parse(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert any("OUTAGE" in text for text in shown)
    assert any("asks" in text for text in shown), "the breaker counts down"


def test_a_directory_with_files_in_it_is_refused_and_left_as_it_is(started, tmp_path):
    (tmp_path / "letter.txt").write_text("dear diary")
    status, out, err = ended(started("--json", "--dir", str(tmp_path)))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"--dir: {tmp_path} holds files already" in err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_built(started, tmp_path):
    picture, directory = tmp_path / "no" / "demo.svg", tmp_path / "d"
    status, out, err = ended(started("--screenshot", str(picture), "--dir", str(directory)))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"--screenshot: {picture} cannot be written" in err
    assert not directory.exists()


@pytest.mark.parametrize("place", ["nowhere", "host", ":1883", "host:", "host:0", "host:65536", "host:x"])
def test_a_broker_that_is_no_host_and_port_is_a_wrong_argument(started, place):
    status, _, err = ended(started("--broker", place))
    assert status == 2
    assert "HOST:PORT" in err


def test_a_broker_that_is_not_there_is_one_line(started):
    port = free_port()
    status, out, err = ended(started("--json", "--broker", f"{HOST}:{port}"))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"{HOST}:{port}: no MQTT broker there" in err


def test_a_demo_at_a_broker_of_ones_own_counts_and_leaves_nothing_behind(started, tmp_path):
    mosquitto_program()
    with MosquittoProcess(tmp_path) as broker:
        place = f"{HOST}:{broker.port}"
        status, out, err = ended(started("--receipts", "20", "--json", "--broker", place))
        assert (status, err) == (0, ""), out
        with BrokerClient(HOST, broker.port) as client:
            assert client.protocol == 5
            client.subscribe(["kkt/#"])
            client.publish("kkt/end", b"")
            message = client.get(END_TIMEOUT_S)
            assert message is not None
            assert message.topic == "kkt/end", "no state is retained there"


def test_a_second_demo_at_one_broker_is_refused(started, tmp_path):
    mosquitto_program()
    with MosquittoProcess(tmp_path) as broker:
        place = f"{HOST}:{broker.port}"
        first = started(*ENOUGH, "--broker", place, "--dir", str(tmp_path / "d"))
        wait_for_trade(first, tmp_path / "d")
        status, out, err = ended(started("--json", "--broker", place))
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert f"a bridge demo-shop is online at {place}" in err


def test_in_ascii_the_story_is_told_in_lines(started, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    status, out, err = ended(started("--receipts", "10", *HURRIED))
    assert (status, err) == (0, "")
    assert out.isascii()
    assert out.count("  ok: ") == 6


def test_anybody_can_listen_in_on_the_port_that_was_wished(started, tmp_path):
    port = free_port()
    process = started(*ENOUGH, "--port", str(port), "--dir", str(tmp_path / "d"))
    wait_for_trade(process, tmp_path / "d")
    with BrokerClient(HOST, port) as client:
        client.subscribe(["kkt/v1/+/event/receipt"])
        assert client.get(END_TIMEOUT_S) is not None


def test_what_a_guest_sells_is_part_of_the_reckoning(started, tmp_path):
    port = free_port()
    process = started(*HURRIED, "--port", str(port), "--dir", str(tmp_path / "d"))
    wait_for_trade(process, tmp_path / "d")
    words = [sys.executable, "-m", "kkt_bridge", "send", str(RECEIPT), "--pos", "my-pos"]
    where = ["--bridge", "demo-shop", "--port", str(port)]
    subprocess.run([*words, *where], check=True, capture_output=True, timeout=END_TIMEOUT_S)
    process.send_signal(signal.SIGINT)
    status, out, err = ended(process)
    assert (status, err) == (0, ""), out
    assert "1 more printed for others than the demo's terminals\n" in out
    assert out.count("✓") == 6


def test_a_port_that_is_taken_is_one_line(started):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        status, out, err = ended(started("--json", "--port", str(port)))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything(started, tmp_path, number):
    process = started(*ENOUGH, "--dir", str(tmp_path / "d"))
    pids = wait_for_trade(process, tmp_path / "d")
    assert len(pids) == 3, pids
    began = time.monotonic()
    process.send_signal(number)
    assert ended(process) == (130, "", "")
    assert time.monotonic() - began < STOP_TIMEOUT_S
    assert not [name for name, pid in pids.items() if runs(pid)]


@pytest.mark.parametrize(
    ("which", "name"), [("broker --port", "broker"), ("sim ofd", "OFD"), ("run --config", "bridge")]
)
def test_a_child_that_dies_is_one_line_and_takes_all_along(started, tmp_path, which, name):
    process = started(*ENOUGH, "--dir", str(tmp_path / "d"))
    pids = wait_for_trade(process, tmp_path / "d")
    os.kill(pids[which], signal.SIGKILL)
    status, out, err = ended(process)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"kkt-bridge: {name} ended with SIGKILL; {name}.log ")
    assert err.endswith(f" (everything is kept in {tmp_path}/d)\n")
    assert not [name for name, pid in pids.items() if runs(pid)]


def test_ctrl_c_in_a_terminal_leaves_it_as_it_was():
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, command(), os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"})
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        shown = read_until(terminal, lambda text: "ИТОГ" in text and "● printed" in plain(text))
        os.write(terminal, b"\x03")
        began = time.monotonic()
        shown += read_until(terminal, lambda _: False)
        _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert time.monotonic() - began < STOP_TIMEOUT_S
    assert shown.count("\x1b[?1049h") == shown.count("\x1b[?1049l") == 1
    last_words = plain(shown).rpartition("receipts published")[2]
    assert last_words.count("✓") == 6, "it ends with a reckoning"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is back"
    assert "\x1b[2J" not in shown.partition("\x1b[?1049h")[2], "no frame begins with an empty screen"


def read_until(terminal, enough):
    """What the terminal shows, until it is enough or closed."""
    shown, deadline = b"", time.monotonic() + END_TIMEOUT_S
    while not enough(shown.decode(errors="replace")):
        assert time.monotonic() < deadline, plain(shown.decode(errors="replace"))[-4000:]
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    return shown.decode(errors="replace")


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)

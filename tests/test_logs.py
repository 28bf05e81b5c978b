"""Log lines: one event a line, for people or machines, with ids and without anything of the customer's."""

import fcntl
import json
import logging
import os
import re
import subprocess
import sys

import pytest
from support.processes import wait_until

from kkt_bridge.logs import LINES_AT_ONCE, LINES_MAX, configure_logging
from kkt_bridge.settings import LogSettings

IDS = {"receipt_id": "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11", "pos_id": "pos-1", "kkt": "kkt-1"}
HOSTILE = [
    "one\nline",
    "one\r\nline",
    "2026-11-22T09:03:00.000+00:00 ERROR   fake: no\n2026-11-22T09:03:00.000+00:00 ERROR   fake: yes",
    "\x1b[2J\x1b[31mred",
    "\x9b2J",
    "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g",
    "\u202eexe.txt",
    "\x00\x07\x7f",
    "\ud800",
]


@pytest.fixture(autouse=True)
def quiet_afterwards():
    root, ours = logging.getLogger(), logging.getLogger("kkt_bridge")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


class Log:
    """A file to which is logged."""

    def __init__(self, path):
        self.path = path
        self.file = path.open("wb")

    def so_far(self):
        """What is written."""
        return self.path.read_text(encoding="utf-8", errors="surrogatepass")

    def getvalue(self):
        """What was logged, also what still waits for company."""
        for handler in logging.getLogger().handlers:
            handler.flush()
        return self.so_far()


@pytest.fixture
def configured(tmp_path):
    logs = []

    def configure(**settings):
        logs.append(Log(tmp_path / f"{len(logs)}.log"))
        configure_logging(LogSettings(**settings), logs[-1].file.fileno())
        return logs[-1]

    yield configure
    for log in logs:
        log.file.close()


def say(message, *arguments, level=logging.INFO, part="kkt_bridge.stages.printing", **extra):
    logging.getLogger(part).log(level, message, *arguments, extra=extra)


def fail(text):
    try:
        int("no number")
    except ValueError as error:
        error.args = (text,)
        logging.getLogger("kkt_bridge.runtime").exception("it failed")


# -- for people ------------------------------------------------------------------------------------------


def test_a_line_for_people_says_when_how_bad_where_what_and_whose(configured):
    stream = configured()
    say("printed as FD %d", 412, **IDS)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(
        f"INFO    stages.printing: printed as FD 412 receipt_id={IDS['receipt_id']} pos_id=pos-1 kkt=kkt-1"
    )
    assert line[10] == "T"
    assert line[:29].endswith("+00:00")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_peer_wrote_is_one_harmless_line(text, configured):
    stream = configured()
    say("the OFD says: %s", text, level=logging.WARNING)
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert written[:-1].isprintable()


def test_ordinary_text_is_left_as_it_is(configured):
    stream = configured()
    say("касса «Ёлка» — 5 ₽ \\n")
    assert "касса «Ёлка» — 5 ₽ \\n" in stream.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_no_line_of_a_traceback_looks_like_a_line_of_ours(text, configured):
    stream = configured()
    fail(text)
    first, *others = stream.getvalue().splitlines()
    assert "ERROR   runtime: it failed" in first
    assert others
    assert all(line.startswith("    | ") for line in others)
    assert all(line.isprintable() for line in others)


# -- for machines ------------------------------------------------------------------------------------------


def test_a_line_for_machines_is_one_json_object(configured):
    stream = configured(format="json")
    say("printed as FD %d", 412, **IDS)
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event.pop("at")[10] == "T"
    assert event == {"level": "info", "part": "stages.printing", "message": "printed as FD 412", **IDS}


def test_ids_that_are_not_known_are_left_out(configured):
    stream = configured(format="json")
    say("the breaker is open", kkt=None)
    assert set(json.loads(stream.getvalue())) == {"at", "level", "part", "message"}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_peer_wrote_stays_inside_of_its_field(text, configured):
    stream = configured(format="json")
    say("the OFD says: %s", text)
    (line,) = stream.getvalue().split("\n")[:-1]
    assert json.loads(line)["message"] == f"the OFD says: {text}"
    assert line.isprintable(), "nor does it drive a terminal"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("form", ["text", "json"])
def test_an_id_that_a_peer_made_up_is_harmless_too(configured, form, text):
    stream = configured(format=form)
    say("refused", receipt_id=text)
    assert stream.getvalue()[:-1].isprintable()


def test_a_traceback_is_a_field(configured):
    stream = configured(format="json")
    fail("one\ntwo")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event["message"] == "it failed"
    assert event["traceback"].endswith("ValueError: one\ntwo")


# -- how much --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_is_ours_to_choose(level, said, configured):
    stream = configured(format="json", level=level)
    for name in ("debug", "info", "warning", "error"):
        say(name, level=getattr(logging, name.upper()))
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == said


def test_libraries_speak_from_warnings_up(configured):
    stream = configured(level="debug")
    say("chatter", part="httpx")
    assert stream.getvalue() == ""
    say("trouble", part="httpx", level=logging.WARNING)
    assert "httpx: trouble" in stream.getvalue()


def test_configuring_again_does_not_say_things_twice(configured):
    configured()
    stream = configured()
    say("once")
    assert stream.getvalue().count("once") == 1


def test_nothing_but_the_ids_is_taken_from_what_comes_with_a_line(configured):
    stream = configured(format="json")
    say("printed", contact="buyer@example.com", **IDS)
    assert "buyer@example.com" not in stream.getvalue()


# -- when it is written ----------------------------------------------------------------------------------


def test_a_line_alone_is_written_within_a_moment(configured):
    log = configured()
    say("one line")
    wait_until(lambda: "one line" in log.so_far(), 5, "the line")


def test_a_warning_is_written_with_what_led_to_it(configured):
    log = configured()
    say("first")
    say("second", level=logging.WARNING)
    wait_until(lambda: log.so_far().count("\n") == 2, 5, "both lines")
    assert [line.split(": ")[1] for line in log.so_far().splitlines()] == ["first", "second"]


def test_a_reader_who_is_gone_ends_nothing():
    reading, writing = os.pipe()
    configure_logging(LogSettings(), writing)
    os.close(reading)
    for _ in range(3):
        say("to nobody", level=logging.ERROR)
        logging.getLogger().handlers[0].flush()
    os.close(writing)


def test_what_cannot_be_formatted_is_told_of(configured):
    log = configured()
    say("%d", "no number")
    assert "cannot be formatted" in log.getvalue()


# -- a reader who stands still -------------------------------------------------------------------------------


@pytest.fixture
def pipe():
    """A pipe that nobody reads, and that holds hardly anything."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def read_all(reading, until):
    text = ""
    while until not in text:
        text += os.read(reading, 65_536).decode()
    return text


def test_nobody_waits_for_a_reader_who_stands_still_and_what_was_dropped_is_told(pipe):
    reading, writing = pipe
    configure_logging(LogSettings(), writing)
    said = LINES_MAX + 3 * LINES_AT_ONCE
    for number in range(said):  # were one of them waited for, this would not end
        say("line %d.", number, level=logging.WARNING)
    text = read_all(reading, "lines were dropped")
    while text.count("stages.printing: line") + dropped_in(text) < said:
        text += os.read(reading, 65_536).decode()
    assert text.index("line 0.") < text.index("line 1.")
    assert 0 < dropped_in(text) < said - LINES_MAX + 1


def dropped_in(text):
    return sum(int(count) for count in re.findall(r"(\d+) lines were dropped", text))


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_the_last_lines_of_a_process_are_written(level):
    script = (
        "import logging; from kkt_bridge.logs import configure_logging; from kkt_bridge.settings import LogSettings;"
        "configure_logging(LogSettings());"
        f"[logging.getLogger('kkt_bridge').log({level}, 'line %d', n) for n in range(100)]"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "line 99" in run.stderr.splitlines()[-1]


def test_a_process_ends_although_nobody_reads_its_last_lines(pipe):
    _, writing = pipe
    script = (
        "import logging; from kkt_bridge.logs import configure_logging; from kkt_bridge.settings import LogSettings;"
        "configure_logging(LogSettings());"
        "[logging.getLogger('kkt_bridge').error('line %d', n) for n in range(1000)]"
    )
    run = subprocess.run([sys.executable, "-c", script], stderr=writing, timeout=60, check=False)
    assert run.returncode == 0

"""Log lines: one event a line, for people or machines, with ids and without anything of the customer's."""

import io
import json
import logging

import pytest
from support.brokers import wait_until

from kkt_bridge.logs import configure_logging
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


class Log(io.StringIO):
    """What was logged, also what still waits for company."""

    def getvalue(self):
        for handler in logging.getLogger().handlers:
            handler.flush()
        return super().getvalue()


def configured(**settings):
    stream = Log()
    configure_logging(LogSettings(**settings), stream)
    return stream


def say(message, *arguments, level=logging.INFO, part="kkt_bridge.stages.printing", **extra):
    logging.getLogger(part).log(level, message, *arguments, extra=extra)


def fail(text):
    try:
        int("no number")
    except ValueError as error:
        error.args = (text,)
        logging.getLogger("kkt_bridge.runtime").exception("it failed")


# -- for people ------------------------------------------------------------------------------------------


def test_a_line_for_people_says_when_how_bad_where_what_and_whose():
    stream = configured()
    say("printed as FD %d", 412, **IDS)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(
        f"INFO    stages.printing: printed as FD 412 receipt_id={IDS['receipt_id']} pos_id=pos-1 kkt=kkt-1"
    )
    assert line[10] == "T"
    assert line[:29].endswith("+00:00")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_peer_wrote_is_one_harmless_line(text):
    stream = configured()
    say("the OFD says: %s", text, level=logging.WARNING)
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert written[:-1].isprintable()


def test_ordinary_text_is_left_as_it_is():
    stream = configured()
    say("касса «Ёлка» — 5 ₽ \\n")
    assert "касса «Ёлка» — 5 ₽ \\n" in stream.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_no_line_of_a_traceback_looks_like_a_line_of_ours(text):
    stream = configured()
    fail(text)
    first, *others = stream.getvalue().splitlines()
    assert "ERROR   runtime: it failed" in first
    assert others
    assert all(line.startswith("    | ") for line in others)
    assert all(line.isprintable() for line in others)


# -- for machines ------------------------------------------------------------------------------------------


def test_a_line_for_machines_is_one_json_object():
    stream = configured(format="json")
    say("printed as FD %d", 412, **IDS)
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event.pop("at")[10] == "T"
    assert event == {"level": "info", "part": "stages.printing", "message": "printed as FD 412", **IDS}


def test_ids_that_are_not_known_are_left_out():
    stream = configured(format="json")
    say("the breaker is open", kkt=None)
    assert set(json.loads(stream.getvalue())) == {"at", "level", "part", "message"}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_peer_wrote_stays_inside_of_its_field(text):
    stream = configured(format="json")
    say("the OFD says: %s", text)
    (line,) = stream.getvalue().split("\n")[:-1]
    assert json.loads(line)["message"] == f"the OFD says: {text}"


def test_a_traceback_is_a_field():
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
def test_the_level_is_ours_to_choose(level, said):
    stream = configured(format="json", level=level)
    for name in ("debug", "info", "warning", "error"):
        say(name, level=getattr(logging, name.upper()))
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == said


def test_libraries_speak_from_warnings_up():
    stream = configured(level="debug")
    say("chatter", part="httpx")
    assert stream.getvalue() == ""
    say("trouble", part="httpx", level=logging.WARNING)
    assert "httpx: trouble" in stream.getvalue()


def test_configuring_again_does_not_say_things_twice():
    configured()
    stream = configured()
    say("once")
    assert stream.getvalue().count("once") == 1


def test_nothing_but_the_ids_is_taken_from_what_comes_with_a_line():
    stream = configured(format="json")
    say("printed", contact="buyer@example.com", **IDS)
    assert "buyer@example.com" not in stream.getvalue()


# -- when it is written ----------------------------------------------------------------------------------


def test_a_line_alone_is_written_within_a_moment():
    stream = configured()
    say("one line")
    wait_until(lambda: "one line" in io.StringIO.getvalue(stream), 5, "the line")


def test_a_warning_is_written_at_once_with_what_led_to_it():
    stream = configured()
    say("first")
    say("second", level=logging.WARNING)
    assert [line.split(": ")[1] for line in io.StringIO.getvalue(stream).splitlines()] == ["first", "second"]


def test_a_stream_that_is_gone_ends_nothing():
    stream = configured()
    stream.close()
    say("to nobody", level=logging.ERROR)

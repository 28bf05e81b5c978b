import json
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kkt_bridge.cli.message_text import RAW_SHOWN_MAX, message_lines, reply_lines, state_line
from kkt_bridge.cli.output import line, printable
from kkt_bridge.wire.catalogue import CATALOGUE

TOPICS = {entry.name: re.sub(r"{\w+}", "x-1", entry.topic).removeprefix("kkt/v1/x-1/") for entry in CATALOGUE}
ON_MQTT = [entry for entry in CATALOGUE if entry.carrier == "mqtt"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=20,
)


def shown(entry, content):
    return [str(told) for told in message_lines(TOPICS[entry.name], json.dumps(content).encode())]


@pytest.mark.parametrize("entry", ON_MQTT, ids=lambda entry: entry.name)
def test_every_message_of_the_contract_is_told_in_words(entry):
    lines = shown(entry, dict(entry.example))

    assert lines
    for told in lines:
        assert told.startswith(TOPICS[entry.name])
        assert not told[len(TOPICS[entry.name]) :].lstrip().startswith("{")


@pytest.mark.parametrize("entry", ON_MQTT, ids=lambda entry: entry.name)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_message_with_a_field_gone_wrong_is_still_a_line(entry, data):
    field = data.draw(st.sampled_from(sorted(entry.example)))
    changed = dict(entry.example) | {field: data.draw(ANYTHING)}
    gone = {name: value for name, value in changed.items() if name != field}

    for content in (changed, gone, data.draw(ANYTHING)):
        assert all("\n" not in told for told in shown(entry, content))
        if entry.name.startswith("state-"):
            assert state_line(entry.name.removeprefix("state-"), content)


@given(st.binary())
def test_any_bytes_on_any_topic_are_a_line(payload):
    (told,) = message_lines("some/where", payload)

    assert not {"Cc", "Cf", "Cs", "Zl", "Zp"} & {unicodedata.category(char) for char in str(told)}
    assert str(told).startswith("some/where")


def test_a_message_of_an_unknown_kind_is_told_field_by_field():
    (told,) = message_lines("event/fire", json.dumps({"where": "касса 3", "hot": True, "alarms": [1, 2]}).encode())

    assert str(told) == "event/fire             where касса 3, hot true, alarms [1, 2]"


def test_a_long_payload_that_says_nothing_known_is_cut():
    (told,) = message_lines("event/odd", b"x" * 5000)

    assert len(told) < RAW_SHOWN_MAX + 30


def test_a_reply_shows_its_wrong_fields_below():
    example = next(entry for entry in CATALOGUE if entry.name == "reply").example
    error = {"code": "invalid_receipt", "message": "no", "retryable": False, "fields": [{"path": "", "message": "bad"}]}

    head, field = reply_lines({**example, "status": "rejected", "fiscal": None, "error": error})

    assert str(head).startswith("rejected ")
    assert str(field) == "    (the whole): bad"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("Оправа 199.90 €", "Оправа 199.90 €"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x9b1m", "\\x9b1m"),
        ("\u202eabc", "\\u202eabc"),
        ("a\u2028b", "a\\u2028b"),
        ("\ud800", "\\ud800"),
        ("a\xa0b", "a\xa0b"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_instead(text, safe):
    assert printable(text) == safe
    assert str(line((text, ""))) == safe

"""JSON as the contract takes it, and the line that says what is wrong with other JSON."""

from decimal import Decimal
from typing import Any

import pytest

from kkt_bridge.wire.decode import BadJson, parse_object


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"{}", {}),
        (b' \t\r\n{"a": "b"}\n', {"a": "b"}),
        ('{"имя": "Ёлка 👓"}'.encode(), {"имя": "Ёлка 👓"}),
        (rb'{"a": "\u0401\ud83d\udc53\n"}', {"a": "Ё👓\n"}),
        (b'{"a": [1, null, true, {"a": false}]}', {"a": [1, None, True, {"a": False}]}),
        (b'{"a": {"b": 1}, "c": {"b": 1}}', {"a": {"b": 1}, "c": {"b": 1}}),
        (b'{"": 0}', {"": 0}),
    ],
)
def test_an_object_is_read(payload: bytes, value: dict[str, Any]) -> None:
    assert parse_object(payload) == value


@pytest.mark.parametrize("number", ["0.1", "1e3", "-2.50", "1E-7", "1e999999999999", "-0.0", "1" * 101])
def test_a_number_that_is_no_small_integer_stays_exact(number: str) -> None:
    found = parse_object(f'{{"a": {number}}}'.encode())["a"]
    assert isinstance(found, Decimal)
    assert found == Decimal(number)


@pytest.mark.parametrize("number", ["0", "-1", "9007199254740993", "1" * 100])
def test_an_integer_is_an_integer(number: str) -> None:
    found = parse_object(f'{{"a": {number}}}'.encode())["a"]
    assert isinstance(found, int)
    assert found == int(number)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "empty: expected a JSON object"),
        (b"  ", "not JSON: Expecting value at line 1 column 3"),
        (b'{"a": 1,\n "b" 2}', "not JSON: Expecting ':' delimiter at line 2 column 6"),
        (b'{"a": "\x01"}', "not JSON: Invalid control character at line 1 column 8"),
        (b"{} {}", "not JSON: Extra data at line 1 column 4"),
        (b"[]", "expected a JSON object, not an array"),
        (b'"a"', "expected a JSON object, not a string"),
        (b"1", "expected a JSON object, not a number"),
        (b"1.5", "expected a JSON object, not a number"),
        (b"false", "expected a JSON object, not a boolean"),
        (b"null", "expected a JSON object, not null"),
        (b"\xef\xbb\xbf{}", "starts with a byte-order mark: send plain UTF-8"),
        ("{}".encode("utf-16"), "not UTF-8: byte 0xFF at offset 0"),
        (b'{"a": "\xe9"}', "not UTF-8: byte 0xE9 at offset 7"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": [-Infinity]}', "-Infinity is not a JSON number"),
        (b'{"a": 1e9999999999999999999}', "a number has an exponent beyond any use"),
        (b'{"a": 1, "a": 1}', "the key 'a' stands twice in one object"),
        (b'{"b": [{"a": 1, "\\u0061": 2}]}', "the key 'a' stands twice in one object"),
        ('{"я\\n": 1, "я\\n": 1}'.encode(), r"the key '\u044f\n' stands twice in one object"),
        (b'{"a": "\\ud83d"}', "a string holds half of a surrogate pair"),
        (b'{"a": [{"\\udc53": 1}]}', "a string holds half of a surrogate pair"),
        (b'{"a": "\\ud83d \\udc53"}', "a string holds half of a surrogate pair"),
        (b"[" * 100_000, "nested deeper than 32 levels"),
        (b'{"a":' * 100_000, "nested deeper than 32 levels"),
        (b'{"a":' * 32 + b"{}" + b"}" * 32, "nested deeper than 32 levels"),
        (b'{"a": [1, ' + b"[" * 31 + b"]" * 31 + b"]}", "nested deeper than 32 levels"),
    ],
)
def test_other_json_is_refused_with_the_reason(payload: bytes, words: str) -> None:
    with pytest.raises(BadJson) as caught:
        parse_object(payload)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a":' * 31 + b"{}" + b"}" * 31,
        b'{"a": [1, ' + b"[" * 30 + b"]" * 30 + b"]}",
        b'{"a": [' + b"[], {}, " * 1000 + b"0]}",
        b'{"a": "' + b"[" * 1000 + b'"}',
    ],
)
def test_a_broad_object_is_no_deep_one(payload: bytes) -> None:
    assert "a" in parse_object(payload)


def test_a_long_key_is_cut_where_it_is_named() -> None:
    key = "k" * 10_000
    with pytest.raises(BadJson) as caught:
        parse_object(f'{{"{key}": 1, "{key}": 2}}'.encode())
    assert len(str(caught.value)) < 200

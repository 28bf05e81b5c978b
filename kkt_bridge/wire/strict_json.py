"""JSON as the contract takes it: one object, no duplicate keys, no NaN, no lone surrogates, no floats."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn

NESTING_MAX: Final = 32
"""Levels of objects and arrays: far more than any message has, far fewer than any writer of JSON takes."""

FIELDS_MAX: Final = 200
"""Fields of one object: several times what any message has."""

_TOO_DEEP: Final = f"nested deeper than {NESTING_MAX} levels"


class BadJson(ValueError):
    """The payload is not JSON as the contract wants it; the text says what and where."""


def parse_object(payload: bytes) -> dict[str, Any]:
    """The JSON object in these bytes, numbers with a fraction or an exponent as Decimal; BadJson otherwise."""
    if not payload:
        raise BadJson("empty: expected a JSON object")
    if payload.startswith(b"\xef\xbb\xbf"):
        raise BadJson("starts with a byte-order mark: send plain UTF-8")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise BadJson(f"not UTF-8: byte 0x{payload[error.start]:02X} at offset {error.start}") from None
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        problem = error.msg.removesuffix(" at")
        raise BadJson(f"not JSON: {problem} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise BadJson(_TOO_DEEP) from None
    except InvalidOperation:
        raise BadJson("a number has an exponent beyond any use") from None
    if not isinstance(value, dict):
        raise BadJson(f"expected a JSON object, not {_JSON_NAMES[type(value)]}")
    if payload.count(b"{") + payload.count(b"[") > NESTING_MAX:
        _refuse_depth(value)
    if b"\\u" in payload:
        _refuse_lone_surrogates(value)
    return value


_INT_DIGITS_MAX: Final = 100

_JSON_NAMES: Final = {
    list: "an array",
    str: "a string",
    int: "a number",
    Decimal: "a number",
    bool: "a boolean",
    type(None): "null",
}


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > FIELDS_MAX:
        raise BadJson(f"an object has {len(pairs)} fields, at most {FIELDS_MAX} are taken")
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadJson(f"the key {twice[:64]!a} stands twice in one object")
    return found


def _integer(digits: str) -> int | Decimal:
    # int() takes no more than some thousands of digits; the value is out of any range all the same.
    return int(digits) if len(digits) <= _INT_DIGITS_MAX else Decimal(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is not a JSON number")


def _refuse_depth(root: dict[str, Any]) -> None:
    level: list[Any] = [root]
    for _ in range(NESTING_MAX):
        inside = (child for node in level for child in (node.values() if isinstance(node, dict) else node))
        level = [child for child in inside if isinstance(child, dict | list)]
    if level:
        raise BadJson(_TOO_DEEP)


def _refuse_lone_surrogates(root: dict[str, Any]) -> None:
    todo: list[Any] = [root]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
                raise BadJson("a string holds half of a surrogate pair")
        elif isinstance(value, dict):
            todo += value.keys()
            todo += value.values()
        elif isinstance(value, list):
            todo += value


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates,
    parse_float=Decimal,
    parse_int=_integer,
    parse_constant=_refuse_constant,
)

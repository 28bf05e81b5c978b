"""Payload in, request or a refusal out: no input raises anything but `Undecodable`.

JSON is taken as the contract has it: one object, no duplicate keys, no NaN, no lone surrogates, no floats.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kkt_bridge.receipts.checks import Fault, receipt_faults
from kkt_bridge.receipts.model import (
    FAULTS_ENOUGH,
    IDENTIFIER_PATTERN,
    MARKING_CODE_PATTERN,
    RECEIPT_ID_PATTERN,
    Receipt,
)
from kkt_bridge.receipts.text import INN_PATTERN
from kkt_bridge.wire.messages import ID_SOUGHT_BYTES, REQUEST_BYTES_MAX, Error
from kkt_bridge.wire.refusals import error

NESTING_MAX: Final = 32
"""Levels of objects and arrays: far more than any message has, far fewer than any writer of JSON takes."""

FIELDS_MAX: Final = 200
"""Fields of one object: several times what any message has."""

_TOO_DEEP: Final = f"nested deeper than {NESTING_MAX} levels"


class BadJson(ValueError):
    """The payload is not JSON as the contract wants it; the text says what and where."""


def parse_object(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in these bytes, numbers with a fraction or an exponent as Decimal. Errors: BadJson."""
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


_PATTERN_WORDS: Final = MappingProxyType(
    {
        RECEIPT_ID_PATTERN: "expected a lower-case UUID such as 0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11",
        IDENTIFIER_PATTERN: "expected 1 to 64 of A-Z a-z 0-9 _ . - and a letter or digit first",
        INN_PATTERN: "expected 10 or 12 digits",
        MARKING_CODE_PATTERN: "expected 1 to 300 printable ASCII characters or GS (U+001D)",
    }
)

_WORDS: Final = MappingProxyType(
    {
        "missing": "required",
        "extra_forbidden": "unknown field: check the spelling",
        "dict_type": "expected an object",
        "model_type": "expected an object",
        "tuple_type": "expected an array",
        "list_type": "expected an array",
        "string_too_short": "must not be empty",
        "string_too_long": "at most {max_length} characters",
    }
)


def fault_words(kind: str, message: str, context: Mapping[str, Any]) -> str:
    """Return a pydantic finding (its type, message and context) as one clause that says what was expected."""
    if kind == "string_pattern_mismatch":
        return _PATTERN_WORDS.get(context["pattern"], f"expected a match of {context['pattern']}")
    if kind in _WORDS:
        return _WORDS[kind].format_map(context)
    return message.removeprefix("Value error, ").replace("Input should be", "expected", 1)


FAULTS_SHOWN_MAX: Final = FAULTS_ENOUGH
"""More wrong fields than this are neither listed nor counted: the answer must not outgrow the question."""

FAULTS_READ_MAX: Final = 1000
"""With more wrong fields than this they are only counted: what has so many is no receipt at all."""

ID_CHARS_MAX: Final = 64
"""Characters of an id that come back in an answer, also of one that is no UUID."""

_PATH_CHARS_MAX: Final = 200

Message = TypeVar("Message", bound=BaseModel)


class Undecodable(Exception):
    """The payload is no such request. `message_id` is the text of the id it holds, shortened, if that can be read."""

    def __init__(self, error: Error, message_id: str | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.message_id = message_id


def decode_receipt(payload: bytes, pos: str) -> Receipt:
    """Return the receipt that POS `pos` published. Errors: Undecodable, with the error for the reply."""
    fields, receipt_id = _parse(payload, "receipt_id")
    if (claimed := fields.get("pos_id")) != pos and isinstance(claimed, str):
        mismatch = Fault("pos_id", f"differs from the topic's POS {pos[:64]!a}: publish on the topic of your own POS")
        raise Undecodable(invalid_receipt([mismatch], "pos_mismatch"), receipt_id)
    receipt = _validate(Receipt, fields, receipt_id)
    if faults := receipt_faults(receipt):
        raise Undecodable(invalid_receipt(faults), receipt_id)
    return receipt


def decode_message(model: type[Message], payload: bytes, id_field: str) -> Message:
    """Return a query or command. Errors: Undecodable, with the error for the answer."""
    return _validate(model, *_parse(payload, id_field))


def invalid_receipt(faults: list[Fault], reason: str = "invalid_receipt") -> Error:
    """Return the error that names these wrong fields, at least one."""
    return error(reason, problem=_summary(faults), fields=faults[:FAULTS_SHOWN_MAX])


def too_large(length: int, beginning: bytes, id_field: str) -> Undecodable:
    """Return the refusal of a payload of more than `REQUEST_BYTES_MAX`; of it `ID_SOUGHT_BYTES` are needed."""
    return Undecodable(error("too_large", length=length, most=REQUEST_BYTES_MAX), _id_seen(beginning, id_field))


def validation_faults(findings: ValidationError, most: int | None = None) -> list[Fault]:
    """Return the findings of pydantic, the first `most` of them, as paths and messages of the contract."""
    return [_fault(item) for item in findings.errors(include_url=False, include_input=False)[:most]]


def _parse(payload: bytes, id_field: str) -> tuple[dict[str, Any], str | None]:
    """Return the fields of the JSON object, and the text of its id, shortened, if it has one."""
    if len(payload) > REQUEST_BYTES_MAX:
        raise too_large(len(payload), payload, id_field)
    try:
        fields = parse_object(payload)
    except BadJson as problem:
        raise Undecodable(error("invalid_json", problem=problem), _id_seen(payload, id_field)) from None
    value = fields.get(id_field)
    return fields, value[:ID_CHARS_MAX] if isinstance(value, str) and value else None


def _validate(model: type[Message], fields: dict[str, Any], message_id: str | None) -> Message:
    try:
        return model.model_validate(fields)
    except ValidationError as findings:
        if (count := findings.error_count()) > FAULTS_READ_MAX:
            raise Undecodable(error("invalid_receipt", problem=f"{count} fields are wrong"), message_id) from None
        raise Undecodable(invalid_receipt(validation_faults(findings, FAULTS_SHOWN_MAX + 1)), message_id) from None


def _fault(item: ErrorDetails) -> Fault:
    context = item.get("ctx", {})
    path = ".".join(str(part) for part in (*item["loc"], *([context["field"]] if "field" in context else [])))
    return Fault(_shown(path[:_PATH_CHARS_MAX]), fault_words(item["type"], item["msg"], context))


def _shown(path: str) -> str:
    # An unknown field's name is the sender's own: what it holds must not reach a log or a terminal raw.
    if path.isprintable():
        return path
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path)[:_PATH_CHARS_MAX]


def _summary(faults: list[Fault]) -> str:
    first = f"{faults[0].path}: {faults[0].message}" if faults[0].path else faults[0].message
    if len(faults) > FAULTS_SHOWN_MAX:
        return f"{first} (and at least {FAULTS_SHOWN_MAX} more)"
    return f"{first} (and {len(faults) - 1} more)" if len(faults) > 1 else first


def _id_seen(payload: bytes, name: str) -> str | None:
    """The id in a payload that is not read as JSON: for the answer only, so that its sender knows what is meant."""
    start = payload[:ID_SOUGHT_BYTES]
    key = rb'(?<!\\)"%b"\s*:' % name.encode()
    found = re.search(key + rb'\s*"([^"\\\x00-\x1f]+)"', start)
    if found is None or len(re.findall(key, start)) > 1:
        return None
    try:
        return found[1].decode()[:ID_CHARS_MAX]
    except UnicodeDecodeError:
        return None

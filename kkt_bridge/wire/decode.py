"""Payload in, request or a refusal out: no input raises anything but `Undecodable`."""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, TypeVar

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
from kkt_bridge.receipts.requisites import INN_PATTERN
from kkt_bridge.wire.messages import ID_SOUGHT_BYTES, REQUEST_BYTES_MAX, Error, ErrorCode, FaultyField
from kkt_bridge.wire.strict_json import BadJson, parse_object

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
    """A pydantic finding (its type, message and context) as one clause that says what was expected."""
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

NOTHING_TAKEN: Final = "nothing was taken: mended, it may always be sent again under the same id"

Message = TypeVar("Message", bound=BaseModel)


class Undecodable(Exception):
    """The payload is no such request. `message_id` is the text of the id it holds, shortened, if that can be read."""

    def __init__(self, error: Error, message_id: str | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.message_id = message_id


def decode_receipt(payload: bytes, pos: str) -> Receipt:
    """The receipt that POS `pos` published; Undecodable holds the error for the reply."""
    fields = _parse(payload, "receipt_id")
    receipt_id = _id_in(fields, "receipt_id")
    if (claimed := fields.get("pos_id")) != pos and isinstance(claimed, str):
        mismatch = Fault("pos_id", f"differs from the topic's POS {pos[:64]!a}: publish on the topic of your own POS")
        raise Undecodable(_refusal("pos_mismatch", _summary([mismatch]), [mismatch]), receipt_id)
    receipt = _validate(Receipt, fields, "invalid_receipt", receipt_id)
    if faults := receipt_faults(receipt):
        raise Undecodable(invalid_receipt(faults), receipt_id)
    return receipt


def invalid_receipt(faults: list[Fault]) -> Error:
    """The error that names these wrong fields, at least one."""
    return _refusal("invalid_receipt", _summary(faults), faults)


def decode_message(model: type[Message], payload: bytes, id_field: str) -> Message:
    """A query or command; Undecodable holds the error for the answer."""
    fields = _parse(payload, id_field)
    return _validate(model, fields, "invalid_receipt", _id_in(fields, id_field))


def too_large(length: int, beginning: bytes, id_field: str) -> Undecodable:
    """The refusal of a payload of so many bytes, more than `REQUEST_BYTES_MAX`; of it `ID_SOUGHT_BYTES` are needed."""
    message = f"{length} bytes are too many for a request, at most {REQUEST_BYTES_MAX} fit"
    return Undecodable(_refusal("too_large", message), _id_seen(beginning, id_field))


def validation_faults(error: ValidationError, most: int | None = None) -> list[Fault]:
    """The findings of pydantic, the first `most` of them, as paths and messages of the contract."""
    return [_fault(item) for item in error.errors(include_url=False, include_input=False)[:most]]


def _parse(payload: bytes, id_field: str) -> dict[str, Any]:
    if len(payload) > REQUEST_BYTES_MAX:
        raise too_large(len(payload), payload, id_field)
    try:
        return parse_object(payload)
    except BadJson as problem:
        raise Undecodable(_refusal("invalid_json", str(problem)), _id_seen(payload, id_field)) from None


def _validate(model: type[Message], fields: dict[str, Any], code: ErrorCode, message_id: str | None) -> Message:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        if error.error_count() > FAULTS_READ_MAX:
            raise Undecodable(_refusal(code, f"{error.error_count()} fields are wrong"), message_id) from None
        faults = validation_faults(error, FAULTS_SHOWN_MAX + 1)
        raise Undecodable(_refusal(code, _summary(faults), faults), message_id) from None


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


def _refusal(code: ErrorCode, message: str, faults: Iterable[Fault] = ()) -> Error:
    shown = [FaultyField(path=fault.path, message=fault.message) for fault in islice(faults, FAULTS_SHOWN_MAX)]
    return Error(code=code, message=f"{message}; {NOTHING_TAKEN}", retryable=False, fields=shown)


def _id_in(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value[:ID_CHARS_MAX] if isinstance(value, str) and value else None


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

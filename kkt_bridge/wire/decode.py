"""Payload in, request or a refusal out: never an exception."""

import re
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kkt_bridge.receipts.checks import Fault, receipt_faults
from kkt_bridge.receipts.model import RECEIPT_ID_PATTERN, Receipt
from kkt_bridge.wire.messages import REQUEST_BYTES_MAX, Error, ErrorCode, FaultyField
from kkt_bridge.wire.strict_json import BadJson, parse_object

FAULTS_SHOWN_MAX = 200
"""More wrong fields than this are counted, not listed: the answer must not outgrow the question."""

_PATH_CHARS_MAX = 200

Message = TypeVar("Message", bound=BaseModel)


class Undecodable(Exception):  # noqa: N818 (a verdict, not a failure)
    """The payload is no such request. `receipt_id` is the id it holds, if it is fit to be named."""

    def __init__(self, error: Error, message_id: str | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.message_id = message_id


def decode_receipt(payload: bytes, pos: str) -> Receipt:
    """The receipt that POS `pos` published; Undecodable holds the error for the reply."""
    fields = _parse(payload)
    receipt_id = _id_in(fields, "receipt_id")
    if (claimed := fields.get("pos_id")) != pos and isinstance(claimed, str):
        message = f"pos_id does not match the topic's POS {pos!a}: publish on the topic of your own POS"
        raise Undecodable(_refusal("pos_mismatch", message, [Fault("pos_id", "differs from the topic")]), receipt_id)
    receipt = _validate(Receipt, fields, "invalid_receipt", receipt_id)
    if faults := receipt_faults(receipt):
        raise Undecodable(_refusal("invalid_receipt", _summary(faults), faults), receipt_id)
    return receipt


def decode_message(model: type[Message], payload: bytes, id_field: str) -> Message:
    """A query or command; Undecodable holds the error for the answer."""
    fields = _parse(payload)
    return _validate(model, fields, "invalid_receipt", _id_in(fields, id_field))


def validation_faults(error: ValidationError) -> list[Fault]:
    """The findings of pydantic as paths and messages of the contract."""
    details = error.errors(include_url=False, include_input=False)
    parents = {item["loc"][:depth] for item in details for depth in range(len(item["loc"]))}
    # An array whose every element is wrong is also reported as too short: that is noise.
    return [_fault(item) for item in details if not (item["type"] == "too_short" and item["loc"] in parents)]


def _parse(payload: bytes) -> dict[str, Any]:
    if len(payload) > REQUEST_BYTES_MAX:
        message = f"the request has {len(payload)} bytes, at most {REQUEST_BYTES_MAX} are taken: split the receipt"
        raise Undecodable(_refusal("too_large", message))
    try:
        return parse_object(payload)
    except BadJson as problem:
        raise Undecodable(_refusal("invalid_json", str(problem))) from None


def _validate(model: type[Message], fields: dict[str, Any], code: ErrorCode, message_id: str | None) -> Message:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        faults = validation_faults(error)
        raise Undecodable(_refusal(code, _summary(faults), faults), message_id) from None


def _fault(item: ErrorDetails) -> Fault:
    context = item.get("ctx", {})
    path = ".".join(str(part) for part in (*item["loc"], *([context["field"]] if "field" in context else [])))
    match item["type"]:
        case "missing":
            message = "required"
        case "extra_forbidden":
            message = "unknown field: check the spelling"
        case _:
            message = item["msg"].removeprefix("Value error, ")
    return Fault(path[:_PATH_CHARS_MAX], message)


def _summary(faults: list[Fault]) -> str:
    first = f"{faults[0].path}: {faults[0].message}" if faults[0].path else faults[0].message
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{first}{more}; nothing was taken, mend it and send it again under the same id"


def _refusal(code: ErrorCode, message: str, faults: Iterable[Fault] = ()) -> Error:
    shown = [FaultyField(path=fault.path, message=fault.message) for fault in faults][:FAULTS_SHOWN_MAX]
    return Error(code=code, message=message, retryable=False, fields=shown)


def _id_in(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and re.fullmatch(RECEIPT_ID_PATTERN, value) else None

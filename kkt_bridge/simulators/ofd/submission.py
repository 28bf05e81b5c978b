"""A submission of a bridge: one fiscal document under one idempotency key, checked as far as an OFD would."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

BLOCKS = ("receipt", "fiscal", "hlc", "ffd")
KEY_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class SubmissionRefusedError(Exception):
    """A document this OFD does not take, with the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Submission:
    """One fiscal document as handed in; `body` is its JSON text, byte for byte."""

    key: str
    kkt: str | None
    fn_number: str
    fd_number: int
    body: bytes

    @property
    def document(self) -> tuple[str, int]:
        """The identity of the fiscal document: the FN and the number inside it."""
        return self.fn_number, self.fd_number


def read_submission(key: str | None, body: bytes) -> Submission:
    """Check the `Idempotency-Key` and the body of a POST and return the submission.

    Raises:
        SubmissionRefusedError: 400 for a malformed request, 422 for a document that contradicts itself.
    """
    if key is None:
        raise SubmissionRefusedError(400, "header Idempotency-Key is missing: send {pos_id}:{receipt_id}")
    if not KEY_FORM.fullmatch(key):
        raise SubmissionRefusedError(400, f"header Idempotency-Key {key[:200]!r} is not {{pos_id}}:{{uuid}}")
    submission = submission_of(parse_object(body), body)
    if submission.key != key:
        raise SubmissionRefusedError(
            422, f"Idempotency-Key {key} does not match the receipt in the body, {submission.key[:200]}"
        )
    return submission


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse strict UTF-8 JSON that must be an object.

    Raises:
        SubmissionRefusedError: 400, it is not.
    """
    try:
        value = _DECODER.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise SubmissionRefusedError(400, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise SubmissionRefusedError(400, "the body is not a JSON object")
    return value


def submission_of(content: Mapping[str, Any], body: bytes) -> Submission:
    """Return the submission that a parsed body describes.

    Raises:
        SubmissionRefusedError: 400 if a block is missing, 422 if the document cannot be identified by it.
    """
    for block in BLOCKS:
        if not isinstance(content.get(block), dict):
            raise SubmissionRefusedError(400, f"{block}: expected a JSON object")
    receipt, fiscal = content["receipt"], content["fiscal"]
    fn_number, fd_number = fiscal.get("fn_number"), fiscal.get("fd_number")
    if type(fd_number) is not int:
        raise SubmissionRefusedError(422, "fiscal.fd_number: expected an integer")
    if not isinstance(fn_number, str) or not fn_number:
        raise SubmissionRefusedError(422, "fiscal.fn_number: expected a string of digits")
    kkt = fiscal.get("kkt")
    return Submission(
        key=f"{receipt.get('pos_id')}:{receipt.get('receipt_id')}",
        kkt=kkt if isinstance(kkt, str) else None,
        fn_number=fn_number,
        fd_number=fd_number,
        body=body,
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)

"""Receipts as a POS sends them: all alike but for their ids, so that making them costs the load next to nothing."""

import json
import re
import uuid
from collections.abc import Iterator
from itertools import chain

from kkt_bridge.wire.examples import EXAMPLES

_ID = "\x00"
_RECEIPT_ID = re.compile(rb'"receipt_id":\s*"([0-9a-f-]{36})"')


class Till:
    """The receipts of one terminal: the contract's example with two items and two payments, about 530 bytes."""

    def __init__(self, pos_id: str) -> None:
        request = EXAMPLES["receipt-request"] | {"receipt_id": _ID, "pos_id": pos_id}
        text = json.dumps(request, ensure_ascii=False, separators=(",", ":"))
        self._head, self._tail = (part.encode() for part in text.split(json.dumps(_ID)[1:-1]))

    def payload(self, receipt_id: bytes) -> bytes:
        """The request with this id."""
        return self._head + receipt_id + self._tail


def receipt_ids(ready: int) -> Iterator[bytes]:
    """Random ids without end; so many are made before this returns."""
    return chain([_receipt_id() for _ in range(ready)], iter(_receipt_id, None))


def answered_id(payload: bytes) -> bytes | None:
    """The receipt that a reply, or an echo, is about."""
    found = _RECEIPT_ID.search(payload)
    return found[1] if found else None


def _receipt_id() -> bytes:
    return str(uuid.uuid4()).encode()

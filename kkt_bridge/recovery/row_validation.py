"""The checks of rows read from a damaged file: can this program have written them?"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from kkt_bridge.journal import tables
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.receipts.lifecycle import DeliveryState, Status
from kkt_bridge.receipts.model import Receipt

Row = dict[str, Any]

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_KINDS: Final = MappingProxyType({"INTEGER": int, "TEXT": str, "BLOB": bytes})
"""The Python types that SQLite gives for the types of columns."""


def is_valid_row(table: str, row: Row) -> bool:
    """Return whether every value is of its column's type and range, and stored receipts and marks can be read."""
    return _is_typed(table, row) and (table not in _RULES or _RULES[table](row))


def _is_typed(table: str, row: Row) -> bool:
    return all(
        row[column.name] is None or isinstance(row[column.name], _kinds(table, column.name, str(column.type)))
        for column in tables.metadata.tables[table].columns
    )


def _kinds(table: str, column: str, kind: str) -> type | tuple[type, ...]:
    # An id that is no UUID stands in a tombstone as it is.
    packed = table == "tombstones" and column in {"receipt_id", "original_receipt_id"}
    return (bytes, str) if packed else _KINDS.get(kind, bytes)


def _receipt(row: Row) -> bool:
    return (
        _is_key(row)
        and row["status"] in set(Status)
        and len(row["digest"] or b"") == 16
        and (row["total"] is not None and row["total"] >= 0)
        and _NAME.fullmatch(row["kkt"] or "") is not None
    )


def receipt_in(row: Mapping[str, Any]) -> Receipt | None:
    """Return the receipt in a row of `requests`; None if it does not hold one."""
    try:
        return Receipt.model_validate_json(row["body"] or "")
    except ValidationError:
        return None


def _document(row: Row) -> bool:
    mark = mark_in(row)
    return (
        mark is not None
        and (mark.fn_number, mark.fd_number) == (row["fn_number"], row["fd_number"])
        and row["delivery"] in set(DeliveryState)
    )


def mark_in(row: Mapping[str, Any]) -> FiscalMark | None:
    """Return the mark in a row of `documents` or `recovered`; None if it does not hold one."""
    try:
        return FiscalMark.model_validate_json(row["mark"] or "")
    except ValidationError:
        return None


def _step(row: Row) -> bool:
    return row["to_status"] in set(Status) and (row["from_status"] is None or row["from_status"] in set(Status))


def _tombstone(row: Row) -> bool:
    return len(row["digest"] or b"") == 16 and len(row["receipt_id"] or b"") in {16, 36}


def _message(row: Row) -> bool:
    return bool(row["topic"]) and "+" not in row["topic"] and "#" not in row["topic"] and row["payload"] is not None


def _is_key(row: Row) -> bool:
    return _UUID.fullmatch(row["receipt_id"] or "") is not None and _NAME.fullmatch(row["pos_id"] or "") is not None


_RULES: Final[Mapping[str, Callable[[Row], bool]]] = MappingProxyType(
    {
        "receipts": _receipt,
        "requests": lambda row: receipt_in(row) is not None,
        "documents": _document,
        "steps": _step,
        "outbox": _message,
        "tombstones": _tombstone,
    }
)

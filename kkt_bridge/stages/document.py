"""The document as the OFD gets it: put together from what the journal holds."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from kkt_bridge.errors import DocumentRefused
from kkt_bridge.ffd.document import ffd_document
from kkt_bridge.journal.records import DueDocument
from kkt_bridge.receipts.codes import TaxSystem
from kkt_bridge.receipts.fiscal import FiscalMark
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.recent import receipt_of


class DocumentUnfit(DocumentRefused):
    """No document can be made of what the journal holds."""


def idempotency_key(due: DueDocument) -> str:
    """The key under which the OFD takes a document once, however often it is sent."""
    return f"{due.pos_id}:{due.receipt_id}"


class DocumentBuilder:
    """Builds the body of `POST /ofd/v1/receipt`."""

    def __init__(self, tax_systems: Mapping[str, TaxSystem]) -> None:
        self._tax_systems = tax_systems

    def body(self, due: DueDocument) -> bytes:
        """`{"receipt", "fiscal", "hlc", "ffd"}`; the first two go through byte for byte as they are stored."""
        receipt = receipt_of(due.body)
        ffd: dict[str, Any] = ffd_document(
            receipt,
            FiscalMark.model_validate_json(due.mark),
            tax_system=receipt.tax_system or self._tax_systems.get(due.kkt, "osn"),
            requisite=requisite_1192(due.pos_id, due.receipt_id),
        )
        hlc = {"wall_ms": due.hlc.wall_ms, "counter": due.hlc.counter, "server_time": None}
        return b'{"receipt":%b,"fiscal":%b,"hlc":%b,"ffd":%b}' % (
            due.body.encode(),
            due.mark.encode(),
            to_json(hlc),
            to_json(ffd),
        )

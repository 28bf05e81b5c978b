"""What is left of a sale to refund."""

from kkt_bridge.journal.records import RefundedSale
from kkt_bridge.receipts.amounts import Kopecks, format_kopecks
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.wire.messages import Error
from kkt_bridge.wire.refusals import error


def refund_refusal(original_id: str, refund: Kopecks, original: RefundedSale | None) -> Error | None:
    """Return why this much of a sale cannot be refunded now; None if it can."""
    path = "original_receipt_id"
    if original is None or original.status == Status.REJECTED:
        return error("original_not_found", fields=[(path, "no such sale")], original=original_id)
    if original.status != Status.SYNCED:
        return error("original_not_synced", fields=[(path, f"still {original.status}")], original=original_id)
    left = original.total - original.refunded
    if refund > left:
        at_most = format_kopecks(left)
        fields = [("items", f"at most {at_most}")]
        return error("refund_exceeds_original", fields=fields, original=original_id, left=at_most)
    return None

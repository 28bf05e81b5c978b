"""Replies to a POS, composed from what the journal holds."""

import json
from datetime import tzinfo

from kkt_bridge.journal.records import PrintTask, StoredReceipt
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.wire.messages import Error, HlcStamp, Reply, rfc3339
from kkt_bridge.wire.refusals import error


def refusal(receipt_id: str | None, pos_id: str, error: Error) -> Reply:
    """Return the reply to a request that ends here; nothing was taken."""
    return Reply(receipt_id=receipt_id, pos_id=pos_id, status="rejected", final=True, error=error)


def not_found(key: ReceiptKey) -> Reply:
    """Return the answer to a query for a receipt that was never taken."""
    return Reply(
        **key._asdict(),
        status="unknown",
        final=False,
        error=error("not_found", **key._asdict()),
    )


def printed(task: PrintTask, mark: FiscalMark, warnings: tuple[str, ...], printed_ms: int, zone: tzinfo) -> Reply:
    """Return the reply with the fiscal document."""
    return Reply(
        **task.key._asdict(),
        status="printed",
        final=True,
        fiscal=mark,
        warnings=list(warnings),
        hlc=HlcStamp(wall_ms=task.hlc.wall_ms, counter=task.hlc.counter),
        received_at=rfc3339(task.received_ms, zone),
        printed_at=rfc3339(printed_ms, zone),
    )


def rejected(task: PrintTask, code: str, message: str, zone: tzinfo) -> Reply:
    """Return the reply to a receipt that the register refused for good."""
    return Reply(
        **task.key._asdict(),
        status="rejected",
        final=True,
        error=rejection(code, message),
        hlc=HlcStamp(wall_ms=task.hlc.wall_ms, counter=task.hlc.counter),
        received_at=rfc3339(task.received_ms, zone),
    )


def rejection(code: str, problem: str) -> Error:
    """Return why a register will not print a receipt, with what the cashier may do; `code` is the contract's."""
    return error("kkt_rejected", problem=problem).model_copy(update={"code": code})


def stored(receipt: StoredReceipt, zone: tzinfo, *, duplicate: bool) -> Reply:
    """Return the reply again to a receipt that was taken before, or `buffered` while it waits."""
    status = _REPLY_STATUS[receipt.status]
    return Reply.model_validate(
        {
            **receipt.key._asdict(),
            "status": status,
            "final": status != "buffered",
            "duplicate": duplicate,
            "fiscal": json.loads(receipt.mark) if receipt.mark else None,
            "error": rejection(receipt.error_code, receipt.error_message or "")
            if receipt.error_code and status == "rejected"
            else None,
            "warnings": json.loads(receipt.warnings) if receipt.warnings else [],
            "hlc": HlcStamp(wall_ms=receipt.hlc.wall_ms, counter=receipt.hlc.counter, server_time=receipt.server_time),
            "received_at": rfc3339(receipt.received_ms, zone),
            "printed_at": rfc3339(receipt.printed_ms, zone) if receipt.printed_ms is not None else None,
        }
    )


_REPLY_STATUS = {
    Status.BUFFERED: "buffered",
    Status.PRINTING: "buffered",
    Status.PRINTED: "printed",
    Status.SYNCED: "printed",
    Status.DEAD: "printed",
    Status.REJECTED: "rejected",
}

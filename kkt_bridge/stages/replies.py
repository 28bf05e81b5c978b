"""What a POS is told: replies composed from what the journal holds."""

import json
from collections.abc import Iterable
from datetime import tzinfo

from kkt_bridge.journal.records import PrintTask, StoredReceipt
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.wire.messages import Error, ErrorCode, FaultyField, HlcStamp, Reply, rfc3339

SAFE_TO_REPEAT = "sending it again under the same receipt_id is safe and prints nothing twice"


def refusal(receipt_id: str | None, pos_id: str, error: Error) -> Reply:
    """The request ends here; nothing was taken."""
    return Reply(receipt_id=receipt_id, pos_id=pos_id, status="rejected", final=True, error=error)


def error(code: ErrorCode, message: str, *, retryable: bool, fields: Iterable[tuple[str, str]] = ()) -> Error:
    """An error of the contract."""
    shown = [FaultyField(path=path, message=text) for path, text in fields]
    return Error(code=code, message=message, retryable=retryable, fields=shown)


def not_found(key: ReceiptKey) -> Reply:
    """The answer to a query for a receipt that was never taken."""
    message = f"no receipt {key.receipt_id} was ever taken from {key.pos_id}; {SAFE_TO_REPEAT}"
    return Reply(
        **key._asdict(),
        status="unknown",
        final=False,
        error=error("not_found", message, retryable=True),
    )


def printed(task: PrintTask, mark: FiscalMark, warnings: tuple[str, ...], printed_ms: int, zone: tzinfo) -> Reply:
    """The fiscal document exists."""
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
    """The register refused it for good."""
    return Reply(
        **task.key._asdict(),
        status="rejected",
        final=True,
        error=rejection(code, message),
        hlc=HlcStamp(wall_ms=task.hlc.wall_ms, counter=task.hlc.counter),
        received_at=rfc3339(task.received_ms, zone),
    )


def rejection(code: str, message: str) -> Error:
    """Why a register will not print a receipt, with what the cashier may do."""
    advice = "nothing was printed: put it right and sell again under a new receipt_id"
    return Error.model_validate({"code": code, "message": f"{message}; {advice}", "retryable": False})


def stored(receipt: StoredReceipt, zone: tzinfo, *, duplicate: bool) -> Reply:
    """What became of a receipt that was taken: the same reply again, or word that it waits."""
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

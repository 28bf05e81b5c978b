"""One example for each message: a sale, the outage it falls into, and what everyone is told of it."""

import json
from types import MappingProxyType
from typing import Any, Final

from kkt_bridge.ffd.document import ffd_document
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.wire.decode import decode_receipt

_RECEIPT_ID: Final = "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11"
_COMMAND_ID: Final = "5f2d3c9e-2b64-4d0a-8f57-3a1c6f0e9b20"
_POS: Final = "pos-1"
_KKT: Final = "kkt-1"
_PRINTED_AT: Final = "2026-11-22T14:03:00.204+03:00"
_PUBLISHED_AT: Final = "2026-11-22T14:03:01.000+03:00"

_REQUEST: Final[dict[str, Any]] = {
    "receipt_id": _RECEIPT_ID,
    "pos_id": _POS,
    "type": "sale",
    "items": [
        {"name": "Оправа Ray-Ban RB5154", "price": "12990.00", "quantity": "1", "total": "12990.00", "vat": "22"},
        {"name": "Линза 1.6 HMC", "price": "2450.50", "quantity": 2, "total": "4901.00", "vat": "22", "unit": "piece"},
    ],
    "payments": [{"type": "card", "amount": "10000.00"}, {"type": "cash", "amount": "8000.00"}],
    "cashier": {"name": "Иванова А. П.", "inn": "500100732259"},
    "customer": {"contact": "buyer@example.com"},
}

_FISCAL: Final[dict[str, Any]] = {
    "kkt": _KKT,
    "kkt_serial": "0000000000012345",
    "registration_number": "0000000001047959",
    "fn_number": "9999078900000001",
    "fd_number": 412,
    "fiscal_sign": "2819546253",
    "datetime": "2026-11-22T14:03:00+03:00",
    "shift_number": 12,
    "receipt_number": 34,
    "type": "sale",
    "total": "17891.00",
    "change": "109.00",
    "qr": "t=20261122T1403&s=17891.00&fn=9999078900000001&i=412&fp=2819546253&n=1",
}

_HLC: Final[dict[str, Any]] = {"wall_ms": 1795345380123, "counter": 0, "server_time": None}

_RECEIPT: Final = decode_receipt(json.dumps(_REQUEST).encode(), _POS)

_COMMAND_ARGS: Final[dict[str, dict[str, Any]]] = {
    "status": {},
    "sync": {"force": True},
    "receipt": {"receipt_id": _RECEIPT_ID, "pos_id": _POS},
    "buffer-list": {"limit": 50},
    "dlq-list": {"limit": 50, "after": 0},
    "dlq-requeue": {"receipt_id": _RECEIPT_ID},
    "dlq-discard": {"receipt_id": _RECEIPT_ID, "reason": "the OFD has it under another number, ticket 1841"},
    "shift-open": {"kkt": _KKT},
    "shift-close": {"kkt": _KKT},
    "x-report": {},
    "pause": {},
    "resume": {},
    "reprint": {"kkt": _KKT, "fd_number": 412},
    "settle": {
        "receipt_id": _RECEIPT_ID,
        "adopt": {
            name: _FISCAL[name]
            for name in ("fn_number", "fd_number", "fiscal_sign", "datetime", "shift_number", "receipt_number")
        },
        "reason": "on the paper that the buyer showed, the storage is with the service centre",
    },
}

EXAMPLES: Final = MappingProxyType(
    {
        "receipt-request": _REQUEST,
        "query": {"receipt_id": _RECEIPT_ID},
        "reply": {
            "receipt_id": _RECEIPT_ID,
            "pos_id": _POS,
            "status": "printed",
            "final": True,
            "duplicate": False,
            "fiscal": _FISCAL,
            "error": None,
            "warnings": [],
            "hlc": _HLC,
            "received_at": "2026-11-22T14:02:58.911+03:00",
            "printed_at": _PRINTED_AT,
        },
        "command": {"command_id": _COMMAND_ID, "issued_by": "ops", "args": {}},
        **{
            f"command-{name}": {"command_id": _COMMAND_ID, "issued_by": "ops", "args": args}
            for name, args in _COMMAND_ARGS.items()
        },
        "command-result": {
            "command_id": _COMMAND_ID,
            "ok": True,
            "result": {"sent": 6, "failed": 0, "skipped": 0, "duration_s": 1.4},
            "error": None,
            "at": _PUBLISHED_AT,
        },
        "state-online": {
            "online": True,
            "since": "2026-11-22T08:55:12.030+03:00",
            "version": "0.1.0",
            "boot_id": "c1d0a6f2-7c1b-4a3e-9f0b-5d2c8e4b7a61",
        },
        "state-health": {
            "status": "degraded",
            "components": {
                "journal": {"status": "healthy", "reason": None},
                "ofd": {"status": "degraded", "reason": "breaker open"},
            },
            "at": _PUBLISHED_AT,
        },
        "state-buffer": {
            "capacity": 200,
            "pending": 6,
            "percent_full": 3.0,
            "accepting": True,
            "paused": False,
            "oldest_pending_at": "2026-11-22T13:58:41.377+03:00",
            "full_at": "2026-11-22T16:25:00.000+03:00",
            "dlq_size": 0,
            "by_status": {"buffered": 0, "printing": 0, "printed": 6, "synced": 120, "rejected": 1, "dead": 0},
            "at": _PUBLISHED_AT,
        },
        "state-breaker": {
            "state": "open",
            "failures": 5,
            "fail_max": 5,
            "opened_at": "2026-11-22T14:02:40.000+03:00",
            "next_probe_at": "2026-11-22T14:03:40.000+03:00",
            "last_error": "503",
            "at": _PUBLISHED_AT,
        },
        "state-sync": {
            "network": "offline",
            "in_progress": False,
            "last_success_at": "2026-11-22T13:57:03.118+03:00",
            "sent_total": 120,
            "failed_total": 5,
            "rate_per_s": 0.0,
            "paused_until": None,
            "unsendable": 0,
            "at": _PUBLISHED_AT,
        },
        "state-kkt": {
            "kkt": _KKT,
            "driver": "virtual",
            "ready": True,
            "mode": "shift_open",
            "model": "Virtual KKT",
            "serial": "0000000000012345",
            "registration_number": "0000000001047959",
            "fn_number": "9999078900000001",
            "fn_expires": "2027-10-01",
            "last_fd_number": 412,
            "ofd_unsent": 6,
            "ofd_first_unsent_at": "2026-11-22T13:58:43.020+03:00",
            "queue": 0,
            "shift": {"number": 12, "open": True, "opened_at": "2026-11-22T09:00:04.512+03:00"},
            "paper": "ok",
            "clock_drift_s": 1.2,
            "problem": None,
            "detail": None,
            "doubts": [],
            "doubts_total": 0,
            "parked": 0,
            "journal_behind": 0,
            "at": _PUBLISHED_AT,
        },
        "state-alerts": {
            "alerts": [
                {
                    "code": "buffer_fill",
                    "severity": "warning",
                    "since": "2026-11-22T13:58:41.377+03:00",
                    "message": "the buffer is 81 % full: 162 of 200 receipts are not at the OFD yet; at the rate of "
                    "the last minutes it is full about 2026-11-22T16:25",
                    "what_to_do": "see in `kkt-bridge status` why the OFD takes nothing; a larger buffer.capacity "
                    "gives time and costs only disk",
                    "kkt": None,
                }
            ],
            "at": _PUBLISHED_AT,
        },
        "event-receipt": {
            "steps": [
                {
                    "receipt_id": _RECEIPT_ID,
                    "pos_id": _POS,
                    "kkt": _KKT,
                    "from": "printing",
                    "to": "printed",
                    "fd_number": 412,
                    "error": None,
                    "type": "sale",
                    "total": "17891.00",
                    "received_at": "2026-11-22T14:02:58.911+03:00",
                    "at": _PRINTED_AT,
                }
            ]
        },
        "event-breaker": {
            "from": "closed",
            "to": "open",
            "failures": 5,
            "last_error": "503",
            "at": "2026-11-22T14:02:40.000+03:00",
        },
        "event-network": {"from": "online", "to": "offline", "at": "2026-11-22T14:02:41.000+03:00"},
        "event-alert": {
            "alert": "unsettled_doubt",
            "code": "unsettled_doubt",
            "severity": "critical",
            "state": "raised",
            "subject": _KKT,
            "kkt": _KKT,
            "since": _PUBLISHED_AT,
            "message": "kkt-1 prints nothing: it cannot tell whether 1 receipt was printed",
            "what_to_do": "look with `kkt-bridge settle list`, compare with the paper, and settle it by hand",
            "at": _PUBLISHED_AT,
        },
        "event-shift": {
            "kkt": _KKT,
            "number": 12,
            "open": True,
            "fd_number": 378,
            "at": "2026-11-22T09:00:04.512+03:00",
        },
        "event-command": {
            "command_id": _COMMAND_ID,
            "name": "sync",
            "issued_by": "ops",
            "ok": True,
            "error": None,
            "reason": None,
            "at": _PUBLISHED_AT,
        },
        "ofd-document": {
            "receipt": json.loads(_RECEIPT.canonical()),
            "fiscal": _FISCAL,
            "hlc": _HLC,
            "ffd": ffd_document(
                _RECEIPT, FiscalMark(**_FISCAL), tax_system="osn", requisite=requisite_1192(_RECEIPT.key)
            ),
        },
    }
)
"""By message name, each as it stands in the payload."""

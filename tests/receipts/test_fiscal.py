"""The fiscal mark and its QR code."""

import pytest
from pydantic import ValidationError

from kkt_bridge.receipts.ffd_codes import Operation
from kkt_bridge.receipts.fiscal_mark import FiscalMark, qr_text

MARK = {
    "kkt": "kkt-1",
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


@pytest.mark.parametrize(("operation", "code"), [("sale", 1), ("refund", 2), ("purchase", 3), ("purchase_refund", 4)])
def test_the_qr_code_of_the_contract(operation: Operation, code: int) -> None:
    text = qr_text(
        datetime="2026-11-22T14:03:59+03:00",
        total=17891_00,
        fn_number="9999078900000001",
        fd_number=412,
        fiscal_sign="2819546253",
        operation=operation,
    )
    assert text == f"t=20261122T1403&s=17891.00&fn=9999078900000001&i=412&fp=2819546253&n={code}"


def test_a_mark_is_kept_as_it_was_given() -> None:
    assert FiscalMark.model_validate(MARK).model_dump() == MARK


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fn_number", "999907890000001"),
        ("fd_number", 0),
        ("fiscal_sign", "-1"),
        ("fiscal_sign", "28195462530"),
        ("type", "shift"),
        ("total", "17891"),
        ("change", "109.0"),
    ],
)
def test_a_mark_that_no_register_gives_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        FiscalMark.model_validate(MARK | {field: value})

"""The FFD 1.2 document of a receipt as JSON with the tax service's key names (order ED-7-20/662@).

Sums are integer kopecks; numbers beside the keys are tags. What only the register's registration knows
(user, address and place of settlement) is not here: the operator has it from the registration report.
"""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from kkt_bridge.ffd.marking import product_code
from kkt_bridge.ffd.vat import VAT_CODES, tax_within, vat_totals
from kkt_bridge.receipts.amounts import MICRO
from kkt_bridge.receipts.ffd_codes import (
    CORRECTION_FORM,
    OPERATION_CODES,
    PAYMENT_METHOD_CODES,
    PAYMENT_SUBJECT_CODES,
    RECEIPT_FORM,
    TAX_SYSTEM_BITS,
    UNIT_CODES,
    TaxSystem,
)
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.receipts.model import Correction, Item, Receipt
from kkt_bridge.receipts.text import to_cp866

FORMAT_VERSION: Final = 4
"""[1209] FFD 1.2."""

PAYMENT_KEYS: Final = MappingProxyType(
    {
        "cash": "cashTotalSum",  # 1031, what stays in the drawer
        "card": "ecashTotalSum",  # 1081
        "prepaid": "prepaidSum",  # 1215
        "credit": "creditSum",  # 1216
        "other": "provisionSum",  # 1217
    }
)
"""Every document carries all five, zeros included."""

CORRECTION_KIND_CODES: Final = MappingProxyType({"voluntary": 0, "ordered": 1})
"""[1173]"""

UNCHECKED_MARKS: Final = 1
"""[2107] with marked goods: not every check was positive. No driver checks marking codes yet, so 0, all
positive, would be untrue."""

_EXPONENT_QUANTITY: Final = re.compile(rb'("quantity":)([0-9.]+e-[0-9]+)')
_EPOCH: Final = date(1970, 1, 1)
_DAY_S: Final = 86_400


def ffd_document(
    receipt: Receipt,
    mark: FiscalMark,
    *,
    tax_system: TaxSystem,
    requisite: str,
    user_inn: str | None = None,
    sender_email: str | None = None,
) -> dict[str, Any]:
    """The one-key object `{"receipt": ...}`, for a correction `{"receiptCorrection": ...}`.

    `tax_system` holds where the receipt names none; `requisite` is tag 1192; `sender_email` is tag 1117, which
    stands only beside a buyer's e-mail.
    """
    fields: dict[str, Any] = {
        "code": RECEIPT_FORM if receipt.correction is None else CORRECTION_FORM,
        "fiscalDocumentFormatVer": FORMAT_VERSION,
        "kktRegId": mark.registration_number,  # 1037
        "fiscalDriveNumber": mark.fn_number,  # 1041
        "fiscalDocumentNumber": mark.fd_number,  # 1040
        # 1012: seconds since 1970 as if the shop's own clock showed UTC, for the FFD's times have no zone.
        "dateTime": int(datetime.fromisoformat(mark.datetime).replace(tzinfo=UTC).timestamp()),
        "shiftNumber": mark.shift_number,  # 1038
        "requestNumber": mark.receipt_number,  # 1042
        "operationType": OPERATION_CODES[receipt.operation],  # 1054
    }
    if user_inn is not None:
        fields["userInn"] = user_inn  # 1018
    fields["appliedTaxationType"] = TAX_SYSTEM_BITS[receipt.tax_system or tax_system]  # 1055
    fields |= _people(receipt, sender_email)
    fields["items"] = [_item(item) for item in receipt.items]
    fields["totalSum"] = receipt.total  # 1020
    paid = dict.fromkeys(PAYMENT_KEYS.values(), 0)
    for payment in receipt.payments:
        paid[PAYMENT_KEYS[payment.type]] += payment.amount
    paid[PAYMENT_KEYS["cash"]] -= receipt.change  # it goes out of the cash, whatever was given for it
    fields |= paid
    fields |= vat_totals(receipt.items)
    if any(item.marking_code is not None for item in receipt.items):
        fields["checkingLabeledProdResult"] = UNCHECKED_MARKS  # 2107
    fields["propertiesData"] = requisite  # 1192
    fields["fiscalSign"] = int(mark.fiscal_sign)  # 1077, as printed
    if receipt.correction is None:
        return {"receipt": fields}
    return {"receiptCorrection": fields | _correction(receipt.correction)}


def _people(receipt: Receipt, sender_email: str | None) -> dict[str, str]:
    """Return the cashier and the buyer, as far as the receipt names them."""
    fields = {}
    if receipt.cashier is not None:
        fields["operator"] = to_cp866(receipt.cashier.name)  # 1021
        if receipt.cashier.inn is not None:
            fields["operatorInn"] = receipt.cashier.inn  # 1203
    if receipt.customer is not None:
        fields["buyerPhoneOrAddress"] = to_cp866(receipt.customer.contact)  # 1008
        if sender_email is not None and "@" in receipt.customer.contact:
            fields["sellerAddress"] = to_cp866(sender_email)  # 1117
    return fields


def _item(item: Item) -> dict[str, Any]:
    """One line [1059]."""
    fields: dict[str, Any] = {
        "name": to_cp866(item.name),  # 1030
        "price": item.price,  # 1079
        # 1023: at most 14 significant digits, and a binary double prints 15 unchanged, so it is exact as text,
        # but for the exponent that `plain_quantities` takes out of it.
        "quantity": item.quantity / MICRO if item.quantity % MICRO else item.quantity // MICRO,
        "sum": item.total,  # 1043
        "paymentType": PAYMENT_METHOD_CODES[item.payment_method],  # 1214
        "productType": PAYMENT_SUBJECT_CODES[item.payment_subject],  # 1212
        "nds": VAT_CODES[item.vat],  # 1199
        "itemsQuantityMeasure": UNIT_CODES[item.unit],  # 2108
    }
    if item.vat != "none":
        fields["ndsSum"] = tax_within(item.total, item.vat)  # 1200
    if item.marking_code is not None:
        fields["productCodeNew"] = product_code(item.marking_code)  # 1163
    return fields


def plain_quantities(document: bytes) -> bytes:
    """The document's JSON with its quantities [1023] in plain decimals.

    A JSON writer prints a small number as 1e-6, which is no quantity to those who read it as text. Inside a string no
    such key can be found: its quotes are escaped there.
    """
    return _EXPONENT_QUANTITY.sub(_plain, document) if b"e-" in document else document


def _plain(match: re.Match[bytes]) -> bytes:
    return match[1] + format(Decimal(match[2].decode()), "f").encode()


def _correction(correction: Correction) -> dict[str, Any]:
    base: dict[str, Any] = {"correctionDocumentDate": (correction.date - _EPOCH).days * _DAY_S}  # 1178
    if correction.document_number is not None:
        base["correctionDocumentNumber"] = to_cp866(correction.document_number)  # 1179
    return {
        "correctionType": CORRECTION_KIND_CODES[correction.kind],  # 1173
        # 1174; the tax service's own papers begin this key with a Cyrillic letter, this one is Latin.
        "correctionBase": base,
    }

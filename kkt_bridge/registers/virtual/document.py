"""A receipt as the commands that make a document of it, and the document as the mark that the POS gets."""

from collections.abc import Iterator
from typing import Final

from kkt_bridge.ffd.vat import VAT_CODES
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.receipts.ffd_codes import (
    PAYMENT_METHOD_CODES,
    PAYMENT_SUBJECT_CODES,
    SALE_FORMS,
    TAX_SYSTEM_BITS,
    UNIT_CODES,
)
from kkt_bridge.receipts.fiscal_mark import FiscalMark, qr_text
from kkt_bridge.receipts.model import Cashier, Item, Receipt
from kkt_bridge.receipts.text import to_cp866
from kkt_bridge.registers.base import PrintJob, StoredDocument
from kkt_bridge.registers.virtual.fiscal_document import FiscalDocument, Registration
from kkt_bridge.registers.virtual.model import ItemLine, Payments, RegisterModel

_CORRECTION_KINDS: Final = {"voluntary": 0, "ordered": 1}
"""FFD tag 1173."""


def make_document(model: RegisterModel, job: PrintJob) -> FiscalDocument:
    """Fill the document that is open and close it [FF0C, FF46, 89h, FF45]."""
    receipt = job.receipt
    for tag, value in _requisites(job):
        model.set_requisite(tag, value)
    for item in receipt.items:
        model.add_line(_line(item))
    subtotal = model.subtotal()
    assert subtotal == receipt.total, f"the register counted {subtotal}, the receipt says {receipt.total}"
    return model.close_document(_payments(receipt), TAX_SYSTEM_BITS[job.tax_system])


def _requisites(job: PrintJob) -> Iterator[tuple[int, str | int]]:
    receipt = job.receipt
    yield 1192, job.requisite
    yield from cashier_requisites(receipt.cashier).items()
    if receipt.customer is not None:
        yield 1008, to_cp866(receipt.customer.contact)
    if receipt.correction is not None:
        yield 1173, _CORRECTION_KINDS[receipt.correction.kind]
        yield 1178, receipt.correction.date.isoformat()
        if receipt.correction.document_number is not None:
            yield 1179, to_cp866(receipt.correction.document_number)


def cashier_requisites(cashier: Cashier | None) -> dict[int, str]:
    """The cashier by FFD tag [1021, 1203]."""
    if cashier is None:
        return {}
    named = {1021: to_cp866(cashier.name)}
    return named if cashier.inn is None else {**named, 1203: cashier.inn}


def _line(item: Item) -> ItemLine:
    return ItemLine(
        name=to_cp866(item.name),
        price=item.price,
        quantity=item.quantity,
        total=item.total,
        vat=VAT_CODES[item.vat],
        payment_method=PAYMENT_METHOD_CODES[item.payment_method],
        payment_subject=PAYMENT_SUBJECT_CODES[item.payment_subject],
        unit=UNIT_CODES[item.unit],
        marking_code=item.marking_code,
    )


def _payments(receipt: Receipt) -> Payments:
    return Payments(
        cash=receipt.paid("cash"),
        electronic=receipt.paid("card"),
        prepaid=receipt.paid("prepaid"),
        credit=receipt.paid("credit"),
        provision=receipt.paid("other"),
    )


def fiscal_mark(kkt_id: str, registration: Registration, document: FiscalDocument) -> FiscalMark:
    """The mark of a receipt's document; ValueError or KeyError where it lacks what a receipt has."""
    body, at = document.body, document.at.isoformat(timespec="seconds")
    if body.total is None or body.operation is None:
        raise ValueError("no total, or no operation")
    return FiscalMark(
        kkt=kkt_id,
        kkt_serial=registration.kkt_serial,
        registration_number=registration.registration_number,
        fn_number=registration.fn_number,
        fd_number=document.fd_number,
        fiscal_sign=document.fiscal_sign,
        datetime=at,
        shift_number=document.shift_number,
        receipt_number=document.receipt_number,
        type=body.type,
        total=format_kopecks(body.total),
        change=format_kopecks(body.content["change"]),
        qr=qr_text(
            datetime=at,
            total=body.total,
            fn_number=registration.fn_number,
            fd_number=document.fd_number,
            fiscal_sign=document.fiscal_sign,
            operation=body.operation,
        ),
    )


def stored_document(
    kkt_id: str, registration: Registration, document: FiscalDocument, *, on_paper: bool
) -> StoredDocument:
    """A document of the storage as the port shows it; ValueError or KeyError where it lacks what its form has."""
    body = document.body
    return StoredDocument(
        fn_number=registration.fn_number,
        fd_number=document.fd_number,
        form=body.form,
        operation=body.operation,
        total=body.total,
        requisite=body.requisite_1192,
        at=document.at,
        shift_number=document.shift_number,
        mark=fiscal_mark(kkt_id, registration, document) if body.form in SALE_FORMS else None,
        on_paper=on_paper,
    )

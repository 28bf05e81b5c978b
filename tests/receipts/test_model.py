"""The receipt as a value: what it makes of a request, and what it computes."""

from datetime import date
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from support.receipts import cash, full_receipt, item, paid, small_receipt

from kkt_bridge.ffd.vat import VAT_CODES, VAT_PERCENT
from kkt_bridge.receipts import ffd_codes as codes
from kkt_bridge.receipts.amounts import KOPECKS_MAX
from kkt_bridge.receipts.model import ITEMS_MAX, Item, Receipt


def of(request: dict[str, Any]) -> Receipt:
    return Receipt.model_validate(request)


def test_a_receipt_adds_up() -> None:
    receipt = of(
        small_receipt(
            items=[item(), item(price="0.99", quantity="3", total="2.97")],
            payments=[*paid("card", "5"), *cash("6"), *cash("4"), *paid("prepaid", "0.97")],
        )
    )
    assert receipt.total == 12_97
    assert receipt.change == 3_00
    assert receipt.paid("cash") == 10_00
    assert receipt.paid("card") == 5_00
    assert receipt.paid("credit") == 0


@pytest.mark.parametrize("kind", ["sale", "refund", "purchase", "purchase_refund"])
def test_the_operation_of_a_plain_receipt_is_its_type(kind: str) -> None:
    assert of(small_receipt(type=kind)).operation == kind


def test_the_operation_of_a_correction_is_that_of_what_it_corrects() -> None:
    receipt = of(full_receipt())
    assert receipt.type == "correction"
    assert receipt.operation == "sale"


def test_the_date_of_a_correction_is_a_date() -> None:
    receipt = of(full_receipt())
    assert receipt.correction is not None
    assert receipt.correction.date == date(2026, 11, 20)


def test_the_canonical_form_fills_in_defaults_and_leaves_out_what_is_absent() -> None:
    receipt = of(small_receipt(receipt_id="0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11", cashier=None))
    assert receipt.canonical().decode() == (
        '{"receipt_id":"0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11","pos_id":"pos-1","type":"sale",'
        '"items":[{"name":"Салфетка","price":"10.00","quantity":"1","total":"10.00","vat":"22",'
        '"payment_method":"full_payment","payment_subject":"commodity","unit":"piece"}],'
        '"payments":[{"type":"cash","amount":"10.00"}]}'
    )


def test_the_canonical_form_of_everything_reads_back() -> None:
    receipt = of(full_receipt())
    assert Receipt.model_validate_json(receipt.canonical()) == receipt


def test_a_receipt_never_changes() -> None:
    receipt = of(small_receipt())
    with pytest.raises(ValidationError):
        receipt.type = "refund"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("price", "quantity", "total", "fits"),
    [
        ("0.01", "1", "0.02", True),
        ("0.01", "1", "0.00", True),
        ("0.01", "1", "0.03", False),
        ("0.01", "0.5", "0.00", True),
        ("0.01", "0.5", "0.01", True),
        ("0.01", "0.5", "0.02", False),
        ("0.01", "0.000001", "0.01", True),
        ("0.01", "0.000001", "0.02", False),
        ("33.33", "0.333333", "11.11", True),
        ("99999999.99", "1", "99999999.98", True),
        ("99999999.99", "99999999.999999", "99999999.99", False),
        ("0", "5", "0.01", True),
        ("0", "5", "0.02", False),
    ],
)
def test_a_total_may_be_off_by_a_kopeck_and_by_nothing_more(price: str, quantity: str, total: str, fits: bool) -> None:  # noqa: FBT001
    position = item(price=price, quantity=quantity, total=total)
    if fits:
        assert Item.model_validate(position).total <= KOPECKS_MAX
    else:
        with pytest.raises(ValidationError, match="within 1 kopeck"):
            Item.model_validate(position)


def test_a_receipt_has_at_most_500_items() -> None:
    assert ITEMS_MAX == 500
    assert len(of(small_receipt(items=[item()] * 500)).items) == 500
    with pytest.raises(ValidationError, match="expected 1 to 500 of them, not 501"):
        of(small_receipt(items=[item()] * 501))


def test_every_word_of_the_contract_has_its_code() -> None:
    assert set(VAT_CODES) == set(get_args(codes.Vat))
    assert set(codes.OPERATION_CODES) == set(get_args(codes.Operation))
    assert set(codes.PAYMENT_METHOD_CODES) == set(get_args(codes.PaymentMethod))
    assert set(codes.TAX_SYSTEM_BITS) == set(get_args(codes.TaxSystem))
    assert set(VAT_PERCENT) == set(VAT_CODES) - {"0", "none"}
    assert set(codes.PAYMENT_SUBJECT_NAMES.values()) <= codes.PAYMENT_SUBJECT_CODES.keys()
    nameless = {21, 30, 31, 50, 51, 72, 73, 80, 81, 82, 83, 255}
    assert set(codes.UNIT_NAMES.values()) == {code for code in codes.UNIT_CODES if code in range(256)} - nameless


def test_no_two_words_have_one_code() -> None:
    for table in (VAT_CODES, codes.PAYMENT_METHOD_CODES, codes.PAYMENT_SUBJECT_NAMES, codes.UNIT_NAMES):
        assert len(set(table.values())) == len(table)


@pytest.mark.parametrize(("word", "code"), [("commodity", 1), ("another", 13), (33, 33)])
def test_the_code_of_a_payment_subject(word: int | str, code: int) -> None:
    assert codes.PAYMENT_SUBJECT_CODES[word] == code


@pytest.mark.parametrize(("word", "code"), [("piece", 0), ("hour", 71), (255, 255)])
def test_the_code_of_a_unit(word: int | str, code: int) -> None:
    assert codes.UNIT_CODES[word] == code

"""The whole document: golden examples by hand, and what must hold for any receipt."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from kkt_bridge.ffd.document import ffd_document, plain_quantities
from kkt_bridge.receipts.amounts import MICRO, format_kopecks, format_quantity
from kkt_bridge.receipts.checks import receipt_faults
from kkt_bridge.receipts.ffd_codes import PaymentMethod, PaymentType, TaxSystem, Vat
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.receipts.model import Receipt

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
PAYMENT_SUMS = ("cashTotalSum", "ecashTotalSum", "prepaidSum", "creditSum", "provisionSum")
QUANTITY_MAX = 10**14 - 1


def line(**changes: Any) -> dict[str, Any]:
    return {"name": "Чай", "price": "150.00", "quantity": 2, "total": "300.00", "vat": "22", **changes}


def receipt(**changes: Any) -> Receipt:
    request = {
        "receipt_id": "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11",
        "pos_id": "pos-1",
        "type": "sale",
        "items": [line()],
        "payments": [{"type": "cash", "amount": "300.00"}],
        **changes,
    }
    parsed = Receipt.model_validate(request)
    assert receipt_faults(parsed) == []
    return parsed


def mark(**changes: Any) -> FiscalMark:
    fields = {
        "kkt": "kkt-1",
        "kkt_serial": "0000000000012345",
        "registration_number": "0000000001047959",
        "fn_number": "9999078900000001",
        "fd_number": 412,
        "fiscal_sign": "2819546253",
        "datetime": "2026-01-15T12:34:00+03:00",
        "shift_number": 12,
        "receipt_number": 34,
        "type": "sale",
        "total": "300.00",
        "change": "0.00",
        "qr": "t=20260115T1234&s=300.00&fn=9999078900000001&i=412&fp=2819546253&n=1",
    }
    return FiscalMark.model_validate({**fields, **changes})


def document(of: Receipt, **changes: Any) -> dict[str, Any]:
    """The one object within the document."""
    whole = ffd_document(of, mark(**changes), tax_system="osn", requisite="MFRGGZDFMZTWQ2LK")
    (fields,) = whole.values()
    assert isinstance(fields, dict)
    return fields


@pytest.mark.parametrize(
    ("contact", "told"), [("buyer@example.com", "shop@example.com"), ("+79161234567", None), (None, None)]
)
def test_the_senders_address_stands_beside_a_buyers_email_and_nowhere_else(
    contact: str | None, told: str | None
) -> None:
    of = receipt(**({"customer": {"contact": contact}} if contact else {}))
    whole = ffd_document(of, mark(), tax_system="osn", requisite="A" * 16, sender_email="shop@example.com")
    assert whole["receipt"].get("sellerAddress") == told
    assert "sellerAddress" not in ffd_document(of, mark(), tax_system="osn", requisite="A" * 16)["receipt"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_document(path: Path) -> None:
    golden = json.loads(path.read_text(encoding="utf-8"))
    made = ffd_document(
        Receipt.model_validate(golden["receipt"]),
        FiscalMark.model_validate(golden["mark"]),
        tax_system=golden["tax_system"],
        requisite=golden["requisite"],
        user_inn=golden["user_inn"],
    )
    assert made == golden["document"]
    assert json.loads(json.dumps(made)) == golden["document"]


def test_there_is_a_golden_sale_and_a_golden_correction() -> None:
    assert [path.stem for path in GOLDEN] == ["correction", "sale"]


@pytest.mark.parametrize(("kind", "operation"), [("sale", 1), ("refund", 2), ("purchase", 3), ("purchase_refund", 4)])
def test_each_type_has_its_settlement_sign(kind: str, operation: int) -> None:
    whole = ffd_document(receipt(type=kind), mark(type=kind), tax_system="osn", requisite="A" * 16)
    assert list(whole) == ["receipt"]
    assert (whole["receipt"]["code"], whole["receipt"]["operationType"]) == (3, operation)
    assert "correctionType" not in whole["receipt"]


@pytest.mark.parametrize(("operation", "code"), [("sale", 1), ("refund", 2), ("purchase", 3), ("purchase_refund", 4)])
def test_a_voluntary_correction_has_a_date_and_no_order(operation: str, code: int) -> None:
    correction = {"operation": operation, "kind": "voluntary", "date": "2026-01-14"}
    corrected = receipt(type="correction", correction=correction)
    whole = ffd_document(corrected, mark(type="correction"), tax_system="osn", requisite="A" * 16)
    assert list(whole) == ["receiptCorrection"]
    fields = whole["receiptCorrection"]
    assert (fields["code"], fields["operationType"], fields["correctionType"]) == (31, code, 0)
    assert fields["correctionBase"] == {"correctionDocumentDate": 1768348800}


def test_keys_are_ascii_letters() -> None:
    correction = {"operation": "sale", "kind": "ordered", "date": "2026-01-14", "document_number": "12-34/5"}
    fields = document(receipt(type="correction", correction=correction), type="correction")
    assert all(key.isascii() and key.isalnum() for key in [*fields, *fields["correctionBase"]])


def test_change_leaves_the_cash_and_all_five_ways_are_named() -> None:
    payments = [
        {"type": "cash", "amount": "100.00"},
        {"type": "card", "amount": "50.00"},
        {"type": "prepaid", "amount": "40.00"},
        {"type": "credit", "amount": "30.00"},
        {"type": "other", "amount": "20.00"},
        {"type": "card", "amount": "70.00"},
        {"type": "cash", "amount": "1.50"},
    ]
    fields = document(receipt(payments=payments))
    assert [fields[key] for key in PAYMENT_SUMS] == [9000, 12000, 4000, 3000, 2000]


def test_cash_given_back_whole_leaves_none() -> None:
    payments = [{"type": "card", "amount": "300.00"}, {"type": "cash", "amount": "5000.00"}]
    assert [document(receipt(payments=payments))[key] for key in PAYMENT_SUMS] == [0, 30000, 0, 0, 0]


@pytest.mark.parametrize(
    "written",
    ["2026-01-15T12:34:00+03:00", "2026-01-15T12:34:00+12:00", "2026-01-15T12:34:00Z", "2026-01-15T12:34:00.999+03:00"],
)
def test_time_is_the_shops_wall_clock_whatever_its_zone(written: str) -> None:
    assert document(receipt(), datetime=written)["dateTime"] == 1768480440


def test_a_sign_with_leading_zeros_is_its_number() -> None:
    assert document(receipt(), fiscal_sign="0000000042")["fiscalSign"] == 42


@pytest.mark.parametrize(
    ("tax_system", "bit"), [("osn", 1), ("usn_income", 2), ("usn_income_expense", 4), ("eshn", 16), ("patent", 32)]
)
def test_the_default_tax_system_holds_until_the_receipt_names_one(tax_system: TaxSystem, bit: int) -> None:
    by_default = ffd_document(receipt(), mark(), tax_system=tax_system, requisite="A" * 16)
    by_receipt = ffd_document(receipt(tax_system=tax_system), mark(), tax_system="osn", requisite="A" * 16)
    assert by_default["receipt"]["appliedTaxationType"] == by_receipt["receipt"]["appliedTaxationType"] == bit


@pytest.mark.parametrize(("code", "word"), [*enumerate(get_args(PaymentMethod), start=1)])
def test_each_payment_method_has_its_code(code: int, word: PaymentMethod) -> None:
    assert document(receipt(items=[line(payment_method=word)]))["items"][0]["paymentType"] == code


def test_subject_and_unit_by_word_or_by_number_are_the_same() -> None:
    by_word = document(receipt(items=[line(payment_subject="service", unit="hour")]))
    by_number = document(receipt(items=[line(payment_subject=4, unit=71)]))
    assert by_word == by_number
    assert (by_word["items"][0]["productType"], by_word["items"][0]["itemsQuantityMeasure"]) == (4, 71)


def test_absent_parts_have_no_keys() -> None:
    fields = document(receipt())
    absent = {"operator", "operatorInn", "buyerPhoneOrAddress", "userInn", "correctionBase", "nds18", "ndsNo"}
    assert absent.isdisjoint(fields)
    assert "productCodeNew" not in fields["items"][0]


def test_an_item_without_vat_has_no_tax_and_one_at_zero_has_zero() -> None:
    untaxed, zero = document(receipt(items=[line(vat="none"), line(vat="0")], payments=cash(60000)))["items"]
    assert "ndsSum" not in untaxed
    assert zero["ndsSum"] == 0


def test_every_text_fits_cp866() -> None:
    fields = document(
        receipt(
            items=[line(name="Крем «Ночь» — 50 ₽")],
            cashier={"name": "Ирина “И.”"},
            customer={"contact": "ж—@example.com"},
        )
    )
    assert fields["items"][0]["name"] == 'Крем "Ночь" - 50 р'
    assert (fields["operator"], fields["buyerPhoneOrAddress"]) == ('Ирина "И."', "ж-@example.com")


def quantity_of(micro: int) -> int | float:
    item = line(price="0.00", total="0.00", quantity=format_quantity(micro))
    free = receipt(items=[item], payments=[{"type": "cash", "amount": "0.00"}])
    number = document(free)["items"][0]["quantity"]
    assert isinstance(number, int | float)
    return number


@pytest.mark.parametrize("micro", [1, 100_001, MICRO - 1, MICRO + 1, QUANTITY_MAX, QUANTITY_MAX - 1, 333_333_333_333])
def test_a_quantity_at_the_edge_prints_exactly(micro: int) -> None:
    assert Decimal(json.dumps(quantity_of(micro))) * MICRO == micro


@given(st.integers(1, QUANTITY_MAX))
def test_any_quantity_prints_exactly_whoever_writes_the_json(micro: int) -> None:
    number = quantity_of(micro)
    for text in (json.dumps(number), to_json(number).decode()):
        assert Decimal(text) * MICRO == micro
    assert isinstance(number, int) == (micro % MICRO == 0)


def cash(kopecks: int) -> list[dict[str, Any]]:
    return [{"type": "cash", "amount": format_kopecks(kopecks)}]


LINES = st.builds(
    lambda price, micro, vat: line(
        price=format_kopecks(price),
        quantity=format_quantity(micro),
        total=format_kopecks((price * micro + MICRO // 2) // MICRO),
        vat=vat,
    ),
    st.integers(0, 1_000_000),
    st.integers(1, 100 * MICRO),
    st.sampled_from(get_args(Vat)),
)


@st.composite
def paid_receipts(draw: st.DrawFn) -> Receipt:
    lines = draw(st.lists(LINES, min_size=1, max_size=8))
    left = sum(int(item["total"].replace(".", "")) for item in lines)
    payments = []
    for kind in draw(st.lists(st.sampled_from(get_args(PaymentType)), max_size=6)):
        part = draw(st.integers(0, left))
        payments.append({"type": kind, "amount": format_kopecks(part)})
        left -= part
    payments += cash(left + draw(st.integers(0, 500_000)))
    return receipt(items=lines, payments=draw(st.permutations(payments)))


def tax_totals(fields: dict[str, Any]) -> dict[int, int]:
    """Every total of the document by its code of tag 1199."""
    keys = {"nds18": 1, "nds10": 2, "nds18118": 3, "nds10110": 4, "nds0": 5, "ndsNo": 6}
    listed = fields.get("amountsReceiptNds", {}).get("amountsNds", [])
    own = {code: fields[key] for key, code in keys.items() if key in fields}
    return own | {entry["nds"]: entry["ndsSum"] for entry in listed}


@given(paid_receipts())
def test_sums_of_any_receipt_agree_with_each_other(of: Receipt) -> None:
    fields = document(of)
    assert sum(item["sum"] for item in fields["items"]) == fields["totalSum"] == of.total
    assert sum(fields[key] for key in PAYMENT_SUMS) == fields["totalSum"]
    assert min(fields[key] for key in PAYMENT_SUMS) >= 0
    expected: dict[int, int] = {}
    for item in fields["items"]:
        amount = item["sum"] if item["nds"] in {5, 6} else item["ndsSum"]
        expected[item["nds"]] = expected.get(item["nds"], 0) + amount
    assert tax_totals(fields) == expected


@given(paid_receipts())
def test_a_document_is_json_and_survives_it(of: Receipt) -> None:
    fields = document(of)
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields


@pytest.mark.parametrize(
    ("micro", "text"),
    [(1, b"0.000001"), (10, b"0.00001"), (15, b"0.000015"), (99, b"0.000099"), (123_456, b"0.123456")],
)
def test_a_small_quantity_goes_out_in_plain_decimals(micro: int, text: bytes) -> None:
    item = line(price="0.00", total="0.00", quantity=format_quantity(micro))
    whole = ffd_document(
        receipt(items=[item], payments=[{"type": "cash", "amount": "0.00"}]),
        mark(),
        tax_system="osn",
        requisite="A" * 16,
    )
    for written in (to_json(whole), json.dumps(whole, separators=(",", ":")).encode()):
        assert b'"quantity":' + text + b"," in plain_quantities(written)


def test_a_name_that_looks_like_a_quantity_is_left_alone() -> None:
    item = line(name='","quantity":1e-6,"', price="300.00", quantity="1", total="300.00")
    whole = ffd_document(receipt(items=[item]), mark(), tax_system="osn", requisite="A" * 16)
    assert plain_quantities(to_json(whole)) == to_json(whole)


def test_marked_goods_say_that_their_codes_were_not_all_found_right() -> None:
    marked = document(receipt(items=[line(), line(marking_code="0104605035006964215OoyE8qxeIOn", total="300.00")],
                              payments=[{"type": "cash", "amount": "600.00"}]))  # fmt: skip
    assert marked["checkingLabeledProdResult"] == 1
    assert "checkingLabeledProdResult" not in document(receipt())

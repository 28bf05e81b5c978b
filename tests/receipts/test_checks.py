"""Rules over the whole receipt, each on the field that should change."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.receipts import cash, full_receipt, item, paid, small_receipt

from kkt_bridge.receipts.checks import Fault, correction_date_fault, receipt_faults
from kkt_bridge.receipts.model import Receipt

ID = "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11"
VOLUNTARY = {"operation": "sale", "kind": "voluntary", "date": "2026-11-20"}
DEAR = item(price="99999999.99", total="99999999.99")

parts = st.lists(
    st.tuples(
        st.sampled_from(["cash", "card", "prepaid", "credit", "other"]), st.integers(min_value=0, max_value=30_00)
    ),
    min_size=1,
    max_size=5,
)


def faults_of(request: dict[str, Any]) -> list[Fault]:
    return receipt_faults(Receipt.model_validate(request))


@pytest.mark.parametrize(
    "payments",
    [
        cash("10"),
        cash("5000"),
        paid("card", "10"),
        [*paid("card", "10"), *cash("3")],
        [*paid("card", "4"), *paid("prepaid", "3"), *paid("credit", "2"), *paid("other", "1")],
        [*paid("card", "0"), *cash("10")],
    ],
)
def test_payments_that_cover_the_total(payments: list[dict[str, Any]]) -> None:
    assert faults_of(small_receipt(payments=payments)) == []


@pytest.mark.parametrize(
    ("payments", "words"),
    [
        (cash("9.99"), "together 9.99, less than the total 10.00"),
        ([*paid("card", "5"), *cash("4")], "together 9.00, less than the total 10.00"),
        (paid("card", "10.01"), "non-cash 10.01 exceeds the total 10.00; only cash gives change"),
        ([*paid("card", "6"), *paid("credit", "5")], "non-cash 11.00 exceeds the total 10.00; only cash gives change"),
        ([*paid("card", "11"), *cash("1")], "non-cash 11.00 exceeds the total 10.00; only cash gives change"),
        ([*cash("99999999.99"), *cash("0.01")], "together 100000000.00, above 99999999.99"),
    ],
)
def test_payments_that_do_not(payments: list[dict[str, Any]], words: str) -> None:
    assert faults_of(small_receipt(payments=payments)) == [Fault("payments", words)]


def test_a_total_beyond_the_money_range_is_a_fault_of_the_items() -> None:
    assert faults_of(small_receipt(items=[DEAR, item()], payments=cash("1"))) == [
        Fault("items", "the total 100000009.99 is above 99999999.99")
    ]


def test_a_total_at_the_end_of_the_money_range() -> None:
    assert faults_of(small_receipt(items=[DEAR], payments=cash("99999999.99"))) == []


@pytest.mark.parametrize("kind", ["sale", "refund", "purchase", "purchase_refund"])
def test_only_a_correction_carries_a_correction(kind: str) -> None:
    assert [fault.path for fault in faults_of(small_receipt(type=kind, correction=VOLUNTARY))] == ["correction"]
    assert faults_of(small_receipt(type="correction", correction=VOLUNTARY)) == []
    assert [fault.path for fault in faults_of(small_receipt(type="correction"))] == ["correction"]


@pytest.mark.parametrize("kind", ["sale", "purchase", "purchase_refund"])
def test_only_a_refund_names_its_original(kind: str) -> None:
    assert [fault.path for fault in faults_of(small_receipt(type=kind, original_receipt_id=ID))] == [
        "original_receipt_id"
    ]
    assert faults_of(small_receipt(type="refund", original_receipt_id=ID)) == []
    assert [fault.path for fault in faults_of(full_receipt() | {"original_receipt_id": ID})] == ["original_receipt_id"]


@given(parts)
def test_a_receipt_is_right_exactly_when_cash_alone_gives_change(payments: list[tuple[str, int]]) -> None:
    written = [{"type": kind, "amount": f"{kopecks // 100}.{kopecks % 100:02d}"} for kind, kopecks in payments]
    request = small_receipt(payments=written)
    total = sum(kopecks for _, kopecks in payments)
    non_cash = sum(kopecks for kind, kopecks in payments if kind != "cash")
    assert (faults_of(request) == []) is (non_cash <= 10_00 <= total)
    if faults_of(request) == []:
        receipt = Receipt.model_validate(request)
        assert 0 <= receipt.change <= receipt.paid("cash")


@pytest.mark.parametrize(("ahead_days", "is_fault"), [(-1, False), (0, False), (1, True), (400, True)])
def test_a_correction_is_of_today_or_earlier(ahead_days: int, *, is_fault: bool) -> None:
    today = date(2026, 11, 28)
    corrected = (today + timedelta(days=ahead_days)).isoformat()
    receipt = Receipt.model_validate(
        small_receipt(type="correction", correction=VOLUNTARY | {"date": corrected}),
    )
    words = "must not be in the future: in the shop it is 2026-11-28"
    assert correction_date_fault(receipt, today) == (Fault("correction.date", words) if is_fault else None)


@pytest.mark.parametrize("today", [date(1970, 1, 1), date(2025, 12, 31)])
def test_a_clock_that_cannot_be_right_judges_no_correction(today: date) -> None:
    receipt = Receipt.model_validate(small_receipt(type="correction", correction=VOLUNTARY))
    assert correction_date_fault(receipt, today) is None


def test_only_a_correction_has_a_date() -> None:
    assert correction_date_fault(Receipt.model_validate(small_receipt()), date(1970, 1, 1)) is None

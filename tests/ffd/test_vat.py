"""Tax inside a gross amount and the totals per rate."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkt_bridge.ffd.vat import VAT_CODES, VAT_PERCENT, tax_within, vat_totals
from kkt_bridge.receipts.amounts import KOPECKS_MAX, format_kopecks
from kkt_bridge.receipts.ffd_codes import Vat
from kkt_bridge.receipts.model import Item

GROSS = (100, 12345, 30000, 80730, 99999)

# Worked by hand from gross * rate / (100 + rate), half up.
TAX_OF_GROSS: dict[int, tuple[int, ...]] = {
    22: (18, 2226, 5410, 14558, 18033),
    20: (17, 2058, 5000, 13455, 16667),
    10: (9, 1122, 2727, 7339, 9091),
    7: (7, 808, 1963, 5281, 6542),
    5: (5, 588, 1429, 3844, 4762),
}


def item(vat: Vat, gross: int) -> Item:
    money = format_kopecks(gross)
    return Item.model_validate({"name": "Чай", "price": money, "quantity": 1, "total": money, "vat": vat})


@pytest.mark.parametrize("vat", VAT_PERCENT)
def test_tax_of_a_gross_amount_has_its_known_value(vat: Vat) -> None:
    assert tuple(tax_within(gross, vat) for gross in GROSS) == TAX_OF_GROSS[VAT_PERCENT[vat]]


@pytest.mark.parametrize("vat", ["0", "none"])
def test_a_rate_without_tax_contains_none(vat: Vat) -> None:
    assert tax_within(KOPECKS_MAX, vat) == 0


@given(st.integers(0, KOPECKS_MAX), st.sampled_from(sorted(VAT_PERCENT)))
def test_tax_is_the_exact_quotient_rounded_half_up(gross: int, vat: Vat) -> None:
    rate = VAT_PERCENT[vat]
    exact = Decimal(gross) * rate / (100 + rate)
    assert tax_within(gross, vat) == exact.quantize(Decimal(1), ROUND_HALF_UP)


@pytest.mark.parametrize(
    ("vat", "totals"),
    [
        ("20", {"nds18": 2058}),
        ("10", {"nds10": 1122}),
        ("20/120", {"nds18118": 2058}),
        ("10/110", {"nds10110": 1122}),
        ("0", {"nds0": 12345}),
        ("none", {"ndsNo": 12345}),
        ("5", {"amountsReceiptNds": {"amountsNds": [{"nds": 7, "ndsSum": 588}]}}),
        ("7", {"amountsReceiptNds": {"amountsNds": [{"nds": 8, "ndsSum": 808}]}}),
        ("5/105", {"amountsReceiptNds": {"amountsNds": [{"nds": 9, "ndsSum": 588}]}}),
        ("7/107", {"amountsReceiptNds": {"amountsNds": [{"nds": 10, "ndsSum": 808}]}}),
        ("22", {"amountsReceiptNds": {"amountsNds": [{"nds": 11, "ndsSum": 2226}]}}),
        ("22/122", {"amountsReceiptNds": {"amountsNds": [{"nds": 12, "ndsSum": 2226}]}}),
    ],
)
def test_each_rate_has_its_place_in_the_totals(vat: Vat, totals: dict[str, Any]) -> None:
    assert vat_totals([item(vat, 12345)]) == totals


def test_every_rate_at_once_keeps_its_own_total() -> None:
    totals = vat_totals([item(vat, 30000) for vat in get_args(Vat)] * 2)
    listed = totals.pop("amountsReceiptNds")["amountsNds"]
    assert totals == {
        "nds18": 10000,
        "nds10": 5454,
        "nds0": 60000,
        "ndsNo": 60000,
        "nds18118": 10000,
        "nds10110": 5454,
    }
    assert [entry["nds"] for entry in listed] == [7, 8, 9, 10, 11, 12]
    assert [entry["ndsSum"] for entry in listed] == [2858, 3926, 2858, 3926, 10820, 10820]
    assert len(totals) + len(listed) == len(VAT_CODES)


def test_a_total_is_the_sum_of_the_items_taxes_not_the_tax_of_their_sum() -> None:
    # 0.03 at 20 % contains half a kopeck: 1 each by item, 1.5 together.
    assert vat_totals([item("20", 3)] * 3) == {"nds18": 3}
    assert tax_within(9, "20") == 2

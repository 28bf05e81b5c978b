"""The simulated trade: as varied as the contract, valid in every receipt, and the same for the same seed."""

import json
from collections import Counter
from datetime import date

from support.receipts import PLAIN, VAT_RATES

from kkt_bridge.simulators.shop import Shop
from kkt_bridge.wire.decode import decode_receipt

TILLS = 12
RECEIPTS = 250


def a_day():
    shops = [Shop(f"pos-{number}", "a day") for number in range(1, TILLS + 1)]
    return [shop.receipt() for shop in shops for _ in range(RECEIPTS)]


def test_every_receipt_is_one_that_the_bridge_takes():
    for receipt in a_day():
        decode_receipt(json.dumps(receipt, ensure_ascii=False).encode(), receipt["pos_id"])


def test_a_day_meets_all_of_the_contract():
    day = a_day()
    items = [item for receipt in day for item in receipt["items"]]
    assert {item["vat"] for item in items} == set(VAT_RATES)
    assert {payment["type"] for receipt in day for payment in receipt["payments"]} == {
        "cash", "card", "prepaid", "credit", "other",
    }  # fmt: skip
    assert {receipt["type"] for receipt in day} == {*PLAIN, "correction"}
    assert {receipt["correction"]["kind"] for receipt in day if "correction" in receipt} == {"voluntary", "ordered"}
    assert {"commodity", "excise", "job", "service", "payment"} == {
        item.get("payment_subject", "commodity") for item in items
    }
    assert any("marking_code" in item for item in items)
    assert any("customer" in receipt for receipt in day)


def test_most_are_sales_and_many_are_paid_with_change():
    day = [decode_receipt(json.dumps(receipt).encode(), receipt["pos_id"]) for receipt in a_day()]
    types = Counter(receipt.type for receipt in day)
    assert types["sale"] > 0.8 * len(day)
    assert sum(receipt.change > 0 for receipt in day) > 0.15 * len(day)
    assert all(receipt.total > 0 for receipt in day)
    assert all(receipt.correction.date < date(2026, 12, 1) for receipt in day if receipt.correction)


def test_ids_are_canonical_and_never_the_same_twice():
    ids = [receipt["receipt_id"] for receipt in a_day()]
    assert len(set(ids)) == len(ids)


def test_the_same_seed_sells_the_same():
    assert a_day() == a_day()
    assert Shop("pos-1", 1).receipt() != Shop("pos-1", 2).receipt()
    assert Shop("pos-1", 1).receipt() != Shop("pos-2", 1).receipt()

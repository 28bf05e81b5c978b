"""Refunds and what they are held to; purchases and corrections."""

import pytest
from support.receipts import cash, receipt, small_receipt

PRICE = "100.00"


@pytest.fixture(scope="module")
def shop(calm_shop):
    return calm_shop()


def sale_of(total, **changes):
    position = {"price": total, "total": total}
    return small_receipt(position, payments=cash(total), **changes)


def refund_of(original, total, **changes):
    return sale_of(total, type="refund", original_receipt_id=original, **changes)


def synced_sale(shop, total=PRICE, **changes):
    receipt_id = shop.sell(sale_of(total, **changes))["receipt_id"]
    shop.wait_status(receipt_id, "synced")
    return receipt_id


def test_a_sale_is_refunded_in_parts_and_never_beyond_its_total(shop):
    original = synced_sale(shop)
    assert shop.sell(refund_of(original, "60.00"))["fiscal"]["type"] == "refund"
    error = shop.refusal(refund_of(original, "40.01"))
    assert (error["code"], error["retryable"]) == ("refund_exceeds_original", False)
    assert "40.00" in error["message"]
    assert error["fields"]
    shop.sell(refund_of(original, "15.50"))
    shop.sell(refund_of(original, "24.50"))
    assert shop.refusal(refund_of(original, "0.01"))["code"] == "refund_exceeds_original"


def test_refunds_that_come_together_cannot_exceed_it_either(shop):
    original = synced_sale(shop)
    ids = shop.publish_receipts(refund_of(original, "30.00") for _ in range(10))
    replies = [shop.wait_reply(id_) for id_ in ids]
    assert [reply["status"] for reply in replies].count("printed") == 3
    assert {reply["error"]["code"] for reply in replies if reply["error"]} == {"refund_exceeds_original"}


def test_a_repeated_refund_counts_once(shop):
    original = synced_sale(shop)
    refund = refund_of(original, "60.00")
    first = shop.sell(refund)
    assert shop.sell(refund)["fiscal"] == first["fiscal"]
    shop.sell(refund_of(original, "40.00"))


def test_a_refund_may_come_from_another_pos(shop):
    original = synced_sale(shop)
    assert shop.sell(refund_of(original, PRICE, pos_id="pos-2"))["pos_id"] == "pos-2"
    assert shop.refusal(refund_of(original, PRICE))["code"] == "refund_exceeds_original"


def test_a_refund_of_an_unknown_sale_is_refused(shop):
    error = shop.refusal(refund_of(receipt()["receipt_id"], PRICE))
    assert (error["code"], error["retryable"]) == ("original_not_found", False)
    assert [field["path"] for field in error["fields"]] == ["original_receipt_id"]


def test_what_is_no_sale_cannot_be_refunded(shop):
    purchase = shop.sell(small_receipt(type="purchase"))["receipt_id"]
    shop.wait_status(purchase, "synced")
    assert shop.refusal(refund_of(purchase, "10.00"))["code"] == "original_not_found"
    refund = refund_of(synced_sale(shop), PRICE)
    shop.sell(refund)
    shop.wait_status(refund["receipt_id"], "synced")
    assert shop.refusal(refund_of(refund["receipt_id"], "1.00"))["code"] == "original_not_found"


def test_a_refund_that_names_no_sale_is_taken(shop):
    assert shop.sell(sale_of("5000.00", type="refund"))["fiscal"]["type"] == "refund"


def test_a_refused_refund_leaves_no_trace_and_may_come_again(shop):
    shop.ofd_faults(outage=True)
    original = shop.sell(sale_of(PRICE))["receipt_id"]
    refund = refund_of(original, PRICE)
    error = shop.refusal(refund)
    assert (error["code"], error["retryable"]) == ("original_not_synced", True)
    assert shop.query(refund["receipt_id"])["status"] == "unknown"
    shop.ofd_faults()
    shop.wait_status(original, "synced")
    reply = shop.sell(refund)
    assert (reply["duplicate"], reply["fiscal"]["type"]) == (False, "refund")


def test_a_dead_sale_is_not_synced(shop):
    doomed = shop.publish_receipt_after(lambda key: shop.ofd_faults(refuse_keys=[key]))
    shop.wait_status(doomed, "dead")
    shop.ofd_faults()
    assert shop.refusal(refund_of(doomed, "1.00"))["code"] == "original_not_synced"


def test_a_refund_that_the_register_rejects_gives_the_sum_free_again(shop):
    original = synced_sale(shop)
    shop.fault("kkt-1", {"refuse_next": 1})
    assert shop.refusal(refund_of(original, PRICE))["code"] == "kkt_rejected"
    shop.heal("kkt-1")
    assert shop.sell(refund_of(original, PRICE))["status"] == "printed"


@pytest.mark.parametrize("kind", ["purchase", "purchase_refund", "refund", "sale"])
def test_each_type_is_printed_as_what_it_is(shop, kind):
    request = small_receipt(type=kind)
    assert shop.sell(request)["fiscal"]["type"] == kind
    (document,) = shop.documents_of(request["receipt_id"])
    assert (document.body.form, document.body.type, document.body.operation) == (3, kind, kind)
    shop.wait_status(request["receipt_id"], "synced")


@pytest.mark.parametrize("operation", ["sale", "refund", "purchase", "purchase_refund"])
@pytest.mark.parametrize("kind", ["voluntary", "ordered"])
def test_a_correction_is_a_form_of_its_own(shop, operation, kind):
    correction = {"operation": operation, "kind": kind, "date": "2026-11-20"}
    if kind == "ordered":
        correction["document_number"] = "12-34/5"
    request = small_receipt(type="correction", correction=correction)
    fiscal = shop.sell(request)["fiscal"]
    assert fiscal["type"] == "correction"
    assert fiscal["qr"].endswith(f"&n={('sale', 'refund', 'purchase', 'purchase_refund').index(operation) + 1}")
    (document,) = shop.documents_of(request["receipt_id"])
    assert (document.body.form, document.body.operation) == (31, operation)
    shop.wait_status(request["receipt_id"], "synced")


def test_change_is_told_and_only_cash_makes_it(shop):
    request = receipt(payments=[{"type": "card", "amount": "200.00"}, {"type": "cash", "amount": "1000.00"}])
    assert shop.sell(request)["fiscal"]["change"] == "999.50"
    request = receipt(payments=[{"type": "card", "amount": "200.50"}])
    assert shop.sell(request)["fiscal"]["change"] == "0.00"


def test_what_the_paper_cannot_show_is_replaced_with_a_warning(shop):
    reply = shop.sell(small_receipt({"name": "«Ёлка» — 5 € 👓"}))
    assert reply["warnings"] == ["text_replaced"]
    assert shop.sell(small_receipt({"name": "Оправа"}))["warnings"] == []

"""The digests by which a receipt is known again: stored on disk and on paper, so they must never change."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.receipts import changed, full_receipt

from kkt_bridge.receipts.identity import ReceiptKey, content_digest, requisite_1192
from kkt_bridge.receipts.model import Receipt

ID = "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11"


def of(request: dict[str, Any]) -> Receipt:
    return Receipt.model_validate(request)


def test_the_requisite_of_a_known_receipt_is_what_it_was() -> None:
    assert requisite_1192(ReceiptKey("pos-1", ID)) == "OLPLZILVASWPIRRT"


def test_the_digest_of_a_known_receipt_is_what_it_was() -> None:
    assert (
        content_digest(of(full_receipt() | {"receipt_id": ID}).canonical()).hex() == "fedf7a56fbd5503add6f6841834aacb0"
    )


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True), st.uuids())
def test_a_requisite_is_sixteen_characters_of_paper(pos_id: str, receipt_id: Any) -> None:
    requisite = requisite_1192(ReceiptKey(pos_id, str(receipt_id)))
    assert re.fullmatch("[A-Z2-7]{16}", requisite)
    assert requisite != requisite_1192(ReceiptKey(pos_id + "0", str(receipt_id)))


def test_a_requisite_belongs_to_both_halves_of_the_key() -> None:
    other = ID.replace("0b9f", "1b9f")
    assert (
        len({requisite_1192(ReceiptKey(pos, key)) for pos in ("pos-1", "pos-10", "pos-2") for key in (ID, other)}) == 6
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("items.0.name", "Салфетки"),
        ("items.0.quantity", "1.0001"),
        ("items.0.marking_code", None),
        ("items.0.unit", "gram"),
        ("payments.0.type", "other"),
        ("cashier.inn", None),
        ("customer", None),
        ("correction.kind", "voluntary"),
        ("correction.date", "2026-11-21"),
        ("tax_system", None),
        ("kkt", "kkt-2"),
    ],
)
def test_any_change_of_content_changes_the_digest(path: str, value: Any) -> None:
    request = full_receipt()
    other = changed(request, path, value)
    if path == "correction.kind":
        other = changed(other, "correction.document_number", None)
    assert content_digest(of(other).canonical()) != content_digest(of(request).canonical())


def test_the_order_of_fields_changes_nothing() -> None:
    request = full_receipt()
    backwards = dict(reversed(request.items()))
    assert content_digest(of(backwards).canonical()) == content_digest(of(request).canonical())

"""Receipts of the last moment: the same as parsed anew, and no more of them than two generations."""

import pytest
from pydantic import ValidationError
from support.receipts import receipt

from kkt_bridge.receipts import recent
from kkt_bridge.receipts.model import Receipt


def of(**changes):
    return Receipt.model_validate(receipt(**changes))


def test_a_receipt_comes_back_as_it_would_be_parsed():
    taken = of()
    body = taken.canonical().decode()
    recent.remember(body, taken)
    assert recent.receipt_of(body) is taken
    assert recent.receipt_of(body) == Receipt.model_validate_json(body)


def test_one_that_is_not_remembered_is_parsed():
    body = of().canonical().decode()
    assert recent.receipt_of(body).canonical().decode() == body
    with pytest.raises(ValidationError):
        recent.receipt_of('{"type": "sale"}')


def test_no_more_than_two_generations_are_kept():
    for _ in range(3 * recent.GENERATION_MAX):
        taken = of()
        recent.remember(taken.canonical().decode(), taken)
    kept = len(recent._recent.young) + len(recent._recent.old)
    assert recent.GENERATION_MAX < kept <= 2 * recent.GENERATION_MAX
    assert recent.receipt_of(taken.canonical().decode()) is taken


def test_a_large_receipt_is_not_kept():
    body = "x" * (recent.BODY_MAX + 1)
    recent.remember(body, of())
    assert body not in recent._recent.young

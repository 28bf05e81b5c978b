"""Receipts of the last moment: the same as parsed anew, and no more of them than two generations."""

import pytest
from pydantic import ValidationError
from support.receipts import receipt

from kkt_bridge.receipts.model import RECENT_CHARS_MAX, RECENT_MAX, Receipt, RecentReceipts


@pytest.fixture
def recent():
    return RecentReceipts()


def of(**changes):
    return Receipt.model_validate(receipt(**changes))


def test_a_receipt_comes_back_as_it_would_be_parsed(recent):
    taken = of()
    body = taken.canonical().decode()
    recent.add(body, taken)
    assert recent.parse(body) is taken
    assert recent.parse(body) == Receipt.model_validate_json(body)


def test_one_that_is_not_remembered_is_parsed(recent):
    body = of().canonical().decode()
    assert recent.parse(body).canonical().decode() == body
    with pytest.raises(ValidationError):
        recent.parse('{"type": "sale"}')


def test_no_more_than_two_generations_are_kept(recent):
    for _ in range(3 * RECENT_MAX):
        taken = of()
        recent.add(taken.canonical().decode(), taken)
    kept = len(recent)
    assert RECENT_MAX < kept <= 2 * RECENT_MAX
    assert recent.parse(taken.canonical().decode()) is taken


def test_a_large_receipt_is_not_kept(recent):
    body = "x" * (RECENT_CHARS_MAX + 1)
    recent.add(body, of())
    assert len(recent) == 0

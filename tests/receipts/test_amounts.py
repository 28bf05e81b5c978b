"""Money and quantities: exact both ways, and nothing else taken."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkt_bridge.receipts.amounts import (
    KOPECKS_MAX,
    MICRO,
    format_kopecks,
    format_quantity,
    parse_kopecks,
    parse_quantity,
)

MICRO_MAX = 99_999_999_999_999

kopecks = st.integers(min_value=0, max_value=KOPECKS_MAX)
micros = st.integers(min_value=1, max_value=MICRO_MAX)


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("0", 0),
        ("0.00", 0),
        ("7", 7_00),
        ("7.5", 7_50),
        ("7.05", 7_05),
        ("007.05", 7_05),
        ("199.90", 199_90),
        ("99999999.99", KOPECKS_MAX),
        (0, 0),
        (7, 7_00),
        (99_999_999, 99_999_999_00),
        (Decimal("7.05"), 7_05),
        (Decimal("7.0500000"), 7_05),
        (Decimal("1e3"), 1000_00),
        (Decimal("105E-2"), 1_05),
        (Decimal("0E+30"), 0),
        (Decimal("0e-999999"), 0),
        (Decimal("-0"), 0),
        (Decimal("99999999.99"), KOPECKS_MAX),
    ],
)
def test_an_amount_in_kopecks(value: Any, amount: int) -> None:
    assert parse_kopecks(value) == amount


@pytest.mark.parametrize(
    "value",
    [
        "", "-1", "+1", "1.", ".5", "1,5", "1.005", " 1", "1 ", "1\n", "1e3", "NaN", "123456789", "١", "１", "²", "½",
        -1, 100_000_000, 10**50, True, False, None, 1.5, [], {}, b"1",
        Decimal("0.001"), Decimal("-0.01"), Decimal("1e8"), Decimal("99999999.995"), Decimal("1e-999999"),
        Decimal("1e999999999999"), Decimal("-1e999999999999"), Decimal("1." + "0" * 60 + "1"),
    ],
)  # fmt: skip
def test_what_is_no_amount(value: Any) -> None:
    with pytest.raises(ValueError, match="amount"):
        parse_kopecks(value)


@pytest.mark.parametrize(
    ("value", "micro"),
    [
        ("1", MICRO),
        ("0.000001", 1),
        ("2.5", 2_500_000),
        ("99999999.999999", MICRO_MAX),
        (2, 2 * MICRO),
        (Decimal("0.000001"), 1),
        (Decimal("1e-6"), 1),
        (Decimal("0.3750"), 375_000),
    ],
)
def test_a_quantity_in_millionths(value: Any, micro: int) -> None:
    assert parse_quantity(value) == micro


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "must be above zero"),
        ("0.000000", "must be above zero"),
        (Decimal("0e9"), "must be above zero"),
        (-1, "out of range: a quantity is from 0 to 99999999.999999"),
        (100_000_000, "out of range: a quantity is from 0 to 99999999.999999"),
        (Decimal("0.0000001"), "too precise: a quantity has at most 6 decimals"),
        ("0.0000001", 'not a quantity: expected digits such as "199.9", at most 8 before the point and 6 after it'),
        (True, "not a quantity: expected a string of digits or a number"),
        (1.0, "not a quantity: expected a string of digits or a number"),
    ],
)
def test_what_is_no_quantity(value: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_quantity(value)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("micro", "text"), [(MICRO, "1"), (1, "0.000001"), (375_000, "0.375"), (10 * MICRO, "10"), (10_500_000, "10.5")]
)
def test_a_quantity_in_its_shortest_form(micro: int, text: str) -> None:
    assert format_quantity(micro) == text


@given(kopecks)
def test_an_amount_survives_every_spelling(amount: int) -> None:
    text = format_kopecks(amount)
    assert len(text.partition(".")[2]) == 2
    assert parse_kopecks(text) == parse_kopecks(Decimal(text)) == parse_kopecks(Decimal(amount) / 100) == amount
    assert parse_kopecks(Decimal(text).normalize()) == amount


@given(micros)
def test_a_quantity_survives_every_spelling(micro: int) -> None:
    text = format_quantity(micro)
    assert not (text.endswith("0") and "." in text)
    assert parse_quantity(text) == parse_quantity(Decimal(text)) == parse_quantity(Decimal(text).normalize()) == micro


@given(st.text() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False))
def test_a_value_is_an_amount_in_range_or_a_value_error(value: Any) -> None:
    for parse, limit in ((parse_kopecks, KOPECKS_MAX), (parse_quantity, MICRO_MAX)):
        try:
            found = parse(value)
        except ValueError:
            continue
        assert 0 <= found <= limit

"""Taxpayer numbers and contacts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from kkt_bridge.receipts.text import INN, inn_check_digits

ADAPTER: TypeAdapter[str] = TypeAdapter(INN)

DIGITS = "0123456789"
bodies = st.one_of(*(st.text(DIGITS, min_size=length, max_size=length) for length in (9, 10))).filter(
    lambda body: body.strip("0")
)


def is_inn(text: str) -> bool:
    try:
        ADAPTER.validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("inn", ["7704358518", "7702203276", "7707083893", "500100732259"])
def test_numbers_that_exist(inn: str) -> None:
    assert is_inn(inn)


@given(bodies)
def test_a_number_is_right_with_its_check_digits(body: str) -> None:
    assert is_inn(body + inn_check_digits(body))


@given(bodies, st.data())
def test_of_all_endings_only_the_check_digits_are_right(body: str, data: st.DataObject) -> None:
    right = inn_check_digits(body)
    ending = data.draw(st.text(DIGITS, min_size=len(right), max_size=len(right)))
    assert is_inn(body + ending) == (ending == right)


@given(bodies, st.data())
def test_a_mistyped_check_digit_is_noticed(body: str, data: st.DataObject) -> None:
    inn = body + inn_check_digits(body)
    place = data.draw(st.integers(len(body), len(inn) - 1))
    other = data.draw(st.sampled_from(DIGITS.replace(inn[place], "")))
    assert not is_inn(inn[:place] + other + inn[place + 1 :])


@pytest.mark.parametrize("place", range(12))
def test_a_mistyped_digit_of_a_person_is_noticed(place: int) -> None:
    inn = "500100732259"
    assert not any(is_inn(inn[:place] + other + inn[place + 1 :]) for other in DIGITS.replace(inn[place], ""))


@pytest.mark.parametrize(
    "text",
    ["", "1", "77043585", "77043585181", "5001007322590", "７704358518", "770435851 ", "7704358518\n"],
)
def test_neither_a_persons_nor_an_organisations(text: str) -> None:
    assert not is_inn(text)


@pytest.mark.parametrize("length", [10, 12])
def test_zeros_alone_are_nobodys_although_their_check_digits_fit(length: int) -> None:
    with pytest.raises(ValidationError, match="nobody has the number of zeros alone"):
        ADAPTER.validate_python("0" * length, strict=True)

"""Codes as a scanner reads them, and the product code they become."""

from typing import Any

import pytest

from kkt_bridge.ffd.marking import product_code

GS = "\x1d"
WATER = {
    "gs1m": {
        "rawProductCode": "0104605035006964215OoyE8qxeIOn>",
        "productIdType": 6,
        "gtin": "04605035006964",
        "sernum": "5OoyE8qxeIOn>",
    }
}


def undefined(raw: str) -> dict[str, Any]:
    return {"undefined": {"rawProductCode": raw}}


@pytest.mark.parametrize(
    "label",
    [
        "0104605035006964215OoyE8qxeIOn>",
        f"0104605035006964215OoyE8qxeIOn>{GS}93dGVz",
        f"0104605035006964215OoyE8qxeIOn>{GS}91EE10{GS}92qV8X4aJrN1M=",
        f"{GS}0104605035006964215OoyE8qxeIOn>{GS}93dGVz",
    ],
    ids=["bare", "short tail", "long tail", "leading separator"],
)
def test_a_data_matrix_is_its_gtin_and_serial_without_the_tail(label: str) -> None:
    assert product_code(label) == WATER


def test_the_longest_serial_still_fits_the_tag() -> None:
    code = product_code("0104605035006964" + "21" + "S" * 20)["gs1m"]
    assert (code["sernum"], len(code["rawProductCode"])) == ("S" * 20, 38)


def test_a_serial_of_digits_21_is_not_taken_for_the_identifier() -> None:
    assert product_code(f"0104605035006964212121{GS}93abcd")["gs1m"]["sernum"] == "2121"


@pytest.mark.parametrize(
    ("label", "form", "extra"),
    [
        ("46070128", "ean8", {}),
        ("4607001234562", "ean13", {}),
        ("04627083415024", "itf14", {"productIdType": 5}),
    ],
)
def test_a_bare_article_number_is_told_by_its_length(label: str, form: str, extra: dict[str, Any]) -> None:
    assert product_code(label) == {form: {"rawProductCode": label, "gtin": label, **extra}}


def test_a_fur_mark_is_told_by_its_form() -> None:
    assert product_code("RU-401301-AAA0277031") == {"mi": {"rawProductCode": "RU-401301-AAA0277031"}}


@pytest.mark.parametrize(
    "label",
    [
        "4607001234563",
        "460701²7",
        "0",
        "CODE-OF-THE-HOUSE",
        "0104605035006964",
        "010460503500696421",
        f"010460503500696421{GS}93dGVz",
    ],
    ids=["wrong check digit", "no ASCII digit", "short", "own code", "no serial", "empty serial", "empty before tail"],
)
def test_what_fits_no_form_is_undefined_and_kept(label: str) -> None:
    assert product_code(label) == undefined(label)


@pytest.mark.parametrize("label", ["0104605035006964" + "21" + "S" * 21, "X" * 300])
def test_a_long_unknown_code_is_cut_to_the_tags_limit(label: str) -> None:
    assert product_code(label) == undefined(label[:32])

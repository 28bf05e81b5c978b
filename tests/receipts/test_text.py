"""Text on its way to a fiscal register."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkt_bridge.receipts.text import text_problem, to_cp866


@pytest.mark.parametrize("text", ["Линза", "a", "№ 5", "  a  ", "ё", "👓", "½", "¸", "\u200ba", "a\u00a0b", "\u2028a"])
def test_fit_for_a_fiscal_document(text: str) -> None:
    assert text_problem(text) is None


@pytest.mark.parametrize(
    "text", ["", " ", "\u00a0", "\u2003\u2009", "\u3000", "\u200b", "\u200d\ufeff", "\u0301", "\u2028", "\ufe0f"]
)
def test_nothing_that_anyone_could_read_is_blank(text: str) -> None:
    assert text_problem(text) == "must not be blank"


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
def test_control_and_direction_are_refused_by_name_and_place(code: int) -> None:
    expected = f"control or direction-changing character U+{code:04X} at position 1"
    assert text_problem(f"я{chr(code)}я") == expected


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("«Ёлка» — “Ray-Ban”", '"Ёлка" - "Ray-Ban"'),
        ("10–20 °C", "10-20 °C"),
        ("Оправа… 100 ₽", "Оправа. 100 р"),
        ("Café Ångström", "Cafe Angstrom"),
        ("м²", "м2"),
        ("a\u2009b\u202fc", "a b c"),
        ("линза\u200b 👓\ufe0f", "линза ?"),
        ("и\u0306", "и"),
        ("½ литра, Ⅳ, ⑩, ㎏", "? литра, ?, ?, ?"),
        ("¸´", "??"),
        ("© ® € ×", "c r E x"),
        ("眼镜", "??"),
    ],
)
def test_what_cp866_lacks_is_replaced_by_the_nearest(text: str, printed: str) -> None:
    assert to_cp866(text) == printed != text


@pytest.mark.parametrize("text", ["", "Оправа Ray-Ban RB5154", "ЁёЇїЄєЎў№·√°\u00a0", "`'\"-._~", "╔═╗░▒▓"])
def test_what_cp866_has_stays(text: str) -> None:
    assert to_cp866(text) == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_fits_the_paper_and_grows_no_longer(text: str) -> None:
    printed = to_cp866(text)
    assert len(printed.encode("cp866")) == len(printed) <= len(text)
    assert to_cp866(printed) == printed


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_is_fit_is_not_blank_on_paper(text: str) -> None:
    if text_problem(text) is None:
        assert to_cp866(text).strip()

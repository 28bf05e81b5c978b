"""The text that a scanner read from a label, as the product code of FFD 1.2: tag 1163 (order ED-7-20/662@)."""

import re
from typing import Any, Final

UNDEFINED_MAX: Final = 32
"""Characters of a code of unknown form that tag 1300 holds."""

_GS: Final = "\x1d"
_GS1M: Final = re.compile(r"01([0-9]{14})21([^\x1d]{1,20})(?:\x1d.*)?", re.DOTALL)
"""GTIN and serial of a GS1 DataMatrix; the verification tail after the separator stays out of the document."""

_FUR_MARK: Final = re.compile(r"[A-Z]{2}-[0-9]{6}-[A-Z0-9]{10}")
_PRODUCT_ID_TYPES: Final = {"itf14": 5, "gs1m": 6}
"""Numbers seen in the tax service's receipts; a form without one is told by its key alone."""

_BARE_GTINS: Final = {8: "ean8", 13: "ean13", 14: "itf14"}  # 1301, 1302, 1303


def product_code(marking_code: str) -> dict[str, Any]:
    """The one-key object of tag 1163 for a code as read from the label; a form not recognised is `undefined`."""
    code = marking_code.removeprefix(_GS)  # some scanners pass on the FNC1 that only says "GS1 follows"
    if gs1 := _GS1M.fullmatch(code):
        gtin, serial = gs1.groups()
        return _named("gs1m", f"01{gtin}21{serial}", gtin=gtin, sernum=serial)  # 1305
    if (form := _BARE_GTINS.get(len(code))) and _is_gtin(code):
        return _named(form, code, gtin=code)
    if _FUR_MARK.fullmatch(code):
        return _named("mi", code)  # 1307
    return _named("undefined", code[:UNDEFINED_MAX])  # 1300


def _named(form: str, raw: str, **parts: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"rawProductCode": raw}
    if form in _PRODUCT_ID_TYPES:
        fields["productIdType"] = _PRODUCT_ID_TYPES[form]
    return {form: {**fields, **parts}}


def _is_gtin(digits: str) -> bool:
    """Return whether these are digits that end in the GS1 check digit: weights 3 and 1 from the right."""
    if not (digits.isascii() and digits.isdigit()):
        return False
    weighted = sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(reversed(digits)))
    return weighted % 10 == 0

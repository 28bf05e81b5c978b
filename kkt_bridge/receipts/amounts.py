"""Money in integer kopecks and quantities in integer millionths; binary floats never enter."""

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Annotated, Final

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

KOPECKS_MAX: Final = 99_999_999_99
"""The money range: 8 digits of roubles, 2 of kopecks."""

MICRO: Final = 1_000_000
"""A quantity of one, in millionths."""

_ROUBLES_LIMIT: Final = 10**8
_EXACT: Final = Context(prec=40, traps=[Inexact, InvalidOperation])
_MONEY_TEXT: Final = re.compile(r"([0-9]{1,8})(?:\.([0-9]{1,2}))?", re.ASCII)
_QUANTITY_TEXT: Final = re.compile(r"([0-9]{1,8})(?:\.([0-9]{1,6}))?", re.ASCII)


def _parse_fixed(value: object, text: re.Pattern[str], decimals: int, kind: str) -> int:
    if isinstance(value, str):
        match = text.fullmatch(value)
        if match is None:
            raise ValueError(
                f'not {kind}: expected digits such as "199.9", at most 8 before the point and {decimals} after it'
            )
        whole, fraction = match.groups(default="")
        return int(whole + fraction.ljust(decimals, "0"))
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError(f"not {kind}: expected a string of digits or a number")  # noqa: TRY004 (pydantic wants ValueError)
    if not 0 <= value < _ROUBLES_LIMIT:
        raise ValueError(f"out of range: {kind} is from 0 to 99999999.{'9' * decimals}")
    try:
        return int(Decimal(value).quantize(Decimal(1).scaleb(-decimals), context=_EXACT).scaleb(decimals))
    except Inexact:
        raise ValueError(f"too precise: {kind} has at most {decimals} decimals") from None


def parse_kopecks(value: object) -> int:
    """Money as the contract writes it (text of digits, or a JSON number) in kopecks; ValueError says why not."""
    return _parse_fixed(value, _MONEY_TEXT, 2, "an amount")


def format_kopecks(kopecks: int) -> str:
    """Roubles with exactly two decimals, as they stand in every message from the bridge."""
    return f"{kopecks // 100}.{kopecks % 100:02d}"


def parse_quantity(value: object) -> int:
    """A quantity above zero, in millionths; ValueError says why not."""
    micro = _parse_fixed(value, _QUANTITY_TEXT, 6, "a quantity")
    if micro == 0:
        raise ValueError("must be above zero")
    return micro


def format_quantity(micro: int) -> str:
    """The shortest decimal form: "2", "0.375"."""
    whole, fraction = divmod(micro, MICRO)
    return f"{whole}.{fraction:06d}".rstrip("0").rstrip(".")


def _as_read(pattern: str, lower_bound: str, description: str) -> WithJsonSchema:
    text = {"type": "string", "pattern": pattern}
    # No multipleOf: validators work in binary floats, in which 0.07 is no multiple of 0.01.
    number = {"type": "number", lower_bound: 0, "exclusiveMaximum": _ROUBLES_LIMIT}
    return WithJsonSchema({"description": description, "anyOf": [text, number]}, mode="validation")


def _as_written(pattern: str, description: str) -> WithJsonSchema:
    return WithJsonSchema({"description": description, "type": "string", "pattern": pattern}, mode="serialization")


Kopecks = Annotated[
    int,
    PlainValidator(parse_kopecks),
    PlainSerializer(format_kopecks, return_type=str),
    _as_read(r"^[0-9]{1,8}(\.[0-9]{1,2})?$", "minimum", "Roubles, at most 2 decimals."),
    _as_written(r"^[0-9]{1,8}\.[0-9]{2}$", "Roubles, always 2 decimals."),
]
"""A money field: roubles on the wire, kopecks in the program."""

Quantity = Annotated[
    int,
    PlainValidator(parse_quantity),
    PlainSerializer(format_quantity, return_type=str),
    _as_read(
        r"^(?=.*[1-9])[0-9]{1,8}(\.[0-9]{1,6})?$", "exclusiveMinimum", "A quantity above zero, at most 6 decimals."
    ),
    _as_written(r"^(?=.*[1-9])[0-9]{1,8}(\.[0-9]{1,6})?$", "A quantity in its shortest form."),
]
"""A quantity field: a decimal on the wire, millionths in the program."""

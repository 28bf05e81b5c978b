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
            raise ValueError(f'not {kind}: expected digits such as "199.9", at most {decimals} decimals')
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


def _json_number(pattern: str, *, exclusive: bool) -> WithJsonSchema:
    lower = {"exclusiveMinimum": 0} if exclusive else {"minimum": 0}
    return WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": pattern},
                {"type": "number", **lower, "exclusiveMaximum": _ROUBLES_LIMIT},
            ]
        }
    )


Kopecks = Annotated[
    int,
    PlainValidator(parse_kopecks),
    PlainSerializer(format_kopecks, return_type=str),
    _json_number(r"^[0-9]{1,8}(\.[0-9]{1,2})?$", exclusive=False),
]
"""A money field: roubles on the wire, kopecks in the program."""

Quantity = Annotated[
    int,
    PlainValidator(parse_quantity),
    PlainSerializer(format_quantity, return_type=str),
    _json_number(r"^[0-9]{1,8}(\.[0-9]{1,6})?$", exclusive=True),
]
"""A quantity field: a decimal on the wire, millionths in the program."""

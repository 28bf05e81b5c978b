"""The contract's words and the FFD's code numbers for them (order ED-7-20/662@, tags in brackets)."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import PlainValidator, WithJsonSchema

Operation = Literal["sale", "refund", "purchase", "purchase_refund"]
ReceiptType = Literal["sale", "refund", "purchase", "purchase_refund", "correction"]
PaymentType = Literal["cash", "card", "prepaid", "credit", "other"]
Vat = Literal["none", "0", "5", "7", "10", "20", "22", "5/105", "7/107", "10/110", "20/120", "22/122"]
PaymentMethod = Literal[
    "full_prepayment",
    "prepayment",
    "advance",
    "full_payment",
    "partial_payment",
    "credit",
    "credit_payment",
]
TaxSystem = Literal["osn", "usn_income", "usn_income_expense", "eshn", "patent"]

RECEIPT_FORM: Final = 3
CORRECTION_FORM: Final = 31
BSO_FORM: Final = 4
BSO_CORRECTION_FORM: Final = 41
SHIFT_OPEN_FORM: Final = 2
SHIFT_CLOSE_FORM: Final = 5
"""Forms of fiscal documents, by their numbers in the FFD (a BSO is a receipt for services on a form of its own)."""

SALE_FORMS: Final = frozenset({RECEIPT_FORM, CORRECTION_FORM, BSO_FORM, BSO_CORRECTION_FORM})
"""Those that a receipt can have become: each of them has an operation and a total, and may carry tag 1192."""

OPERATION_CODES: Final = MappingProxyType({"sale": 1, "refund": 2, "purchase": 3, "purchase_refund": 4})
"""[1054]"""

PAYMENT_METHOD_CODES: Final = MappingProxyType(
    {
        "full_prepayment": 1, "prepayment": 2, "advance": 3, "full_payment": 4,
        "partial_payment": 5, "credit": 6, "credit_payment": 7,
    }
)  # fmt: skip
"""[1214]"""

TAX_SYSTEM_BITS: Final = MappingProxyType(
    {"osn": 1, "usn_income": 2, "usn_income_expense": 4, "eshn": 16, "patent": 32}
)
"""[1055], one bit each; 8 (ENVD) was abolished in 2021."""

PAYMENT_SUBJECT_NAMES: Final = MappingProxyType(
    {
        "commodity": 1, "excise": 2, "job": 3, "service": 4, "payment": 10,
        "agent_commission": 11, "another": 13,
    }
)  # fmt: skip
UNIT_NAMES: Final = MappingProxyType(
    {
        "piece": 0, "gram": 10, "kilogram": 11, "ton": 12, "centimeter": 20, "meter": 22,
        "square_meter": 32, "milliliter": 40, "liter": 41, "cubic_meter": 42, "day": 70, "hour": 71,
    }
)  # fmt: skip
_UNIT_NUMBERS: Final = (0, 10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 70, 71, 72, 73, 80, 81, 82, 83, 255)


def _with_numbers(names: Mapping[str, int], numbers: Iterable[int]) -> Mapping[int | str, int]:
    return MappingProxyType({**names, **{number: number for number in numbers}})


PAYMENT_SUBJECT_CODES: Final = _with_numbers(PAYMENT_SUBJECT_NAMES, (*range(1, 28), *range(30, 34)))
"""[1212] by name, and every number that the FFD knows by itself."""

UNIT_CODES: Final = _with_numbers(UNIT_NAMES, _UNIT_NUMBERS)
"""[2108] by name, and every number that the FFD knows by itself."""


def _name_or_number(codes: Mapping[int | str, int], tag: int) -> PlainValidator:
    names = ", ".join(name for name in codes if isinstance(name, str))

    def parse(value: object) -> int | str:
        # A JSON number may come as 1e1; it is judged by its value. True is no number.
        if isinstance(value, str | int | Decimal) and not isinstance(value, bool) and value in codes:
            return value if isinstance(value, str) else int(value)
        raise ValueError(f"expected {names}, or a code number of FFD tag {tag}")

    return PlainValidator(parse)


PaymentSubject = Annotated[
    int | str, _name_or_number(PAYMENT_SUBJECT_CODES, 1212), WithJsonSchema({"enum": list(PAYMENT_SUBJECT_CODES)})
]
Unit = Annotated[int | str, _name_or_number(UNIT_CODES, 2108), WithJsonSchema({"enum": list(UNIT_CODES)})]

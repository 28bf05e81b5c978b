"""Receipts as POS terminals write them: good ones, and odd but good ones. Each call makes fresh ids."""

import copy
import json
import random
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

POS = "pos-1"
REQUEST_BYTES_MAX = 256 * 1024
NAME_CHARS_MAX = 128
REMOVED = object()

PLAIN = ("sale", "refund", "purchase", "purchase_refund")
CONTACTS = ("+12345", "+79001234567", "+123456789012345", "a@b.c", "o'neill+shop@mail.example.com", "почта@пример.рф")
TAX_SYSTEMS = ("osn", "usn_income", "usn_income_expense", "eshn", "patent")
VAT_RATES = ("none", "0", "5", "7", "10", "20", "22", "5/105", "7/107", "10/110", "20/120", "22/122")
PAYMENT_METHODS = (
    "full_prepayment", "prepayment", "advance", "full_payment", "partial_payment", "credit", "credit_payment",
)  # fmt: skip
PAYMENT_SUBJECTS = ("commodity", "excise", "job", "service", "payment", "agent_commission", "another")
UNITS = (
    "piece", "gram", "kilogram", "ton", "centimeter", "meter", "square_meter", "milliliter", "liter", "cubic_meter",
    "hour", "day",
)  # fmt: skip


class ValidKind(NamedTuple):
    """A payload that must be taken, strange as it looks."""

    name: str
    payload: bytes


@dataclass(frozen=True)
class Verbatim:
    """A JSON token as it is to stand in the payload, such as 1e400, which no Python number survives."""

    text: str


_rng = random.Random()


def new_id() -> str:
    """Return a fresh receipt id."""
    return str(uuid.UUID(int=_rng.getrandbits(128), version=4))


@contextmanager
def seeded_ids(seed: int) -> Iterator[None]:
    """Have the ids that are made in this block follow from a seed."""
    state = _rng.getstate()
    _rng.seed(seed)
    try:
        yield
    finally:
        _rng.setstate(state)


def receipt(**changes: Any) -> dict[str, Any]:
    """A valid request of POS `pos-1` with a fresh id: two positions, card and cash, 10.00 change."""
    return {
        "receipt_id": new_id(),
        "pos_id": POS,
        "type": "sale",
        "items": [
            item(name="Оправа Ray-Ban RB5154", price="150.00", total="150.00"),
            item(name="Линза 1.6 HMC", price="25.25", quantity=2, total="50.50"),
        ],
        "payments": [{"type": "card", "amount": "100.00"}, {"type": "cash", "amount": "110.50"}],
        **changes,
    }


def item(**changes: Any) -> dict[str, Any]:
    """A position of 10.00."""
    return {"name": "Салфетка", "price": "10.00", "quantity": "1", "total": "10.00", "vat": "22", **changes}


def small_receipt(position: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A request of one position of 10.00, paid in cash; `position` changes the position."""
    defaults = {"items": [item(**(position or {}))], "payments": [{"type": "cash", "amount": "10.00"}]}
    return receipt(**(defaults | changes))


def full_receipt() -> dict[str, Any]:
    """A request with every part that a request may have: an ordered correction."""
    return small_receipt(
        {
            "payment_method": "full_payment",
            "payment_subject": "commodity",
            "unit": "piece",
            "marking_code": "0104605035006964215OoyE8qxeIOn>\x1d93dGVz",
        },
        type="correction",
        cashier={"name": "Иванова А. П.", "inn": "500100732259"},
        customer={"contact": "buyer@example.com"},
        correction={"operation": "sale", "kind": "ordered", "date": "2026-11-20", "document_number": "12-34/5"},
        tax_system="osn",
        kkt="kkt-1",
    )


def encoded(request: Any) -> bytes:
    """The request as JSON, with what is `Verbatim` put in as it is."""
    text = json.dumps(request, ensure_ascii=False, default=lambda token: f"@@{token.text}@@")
    return re.sub(r'"@@(.*?)@@"', lambda found: found[1], text).encode()


def changed(request: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at this path (`items.0.price`), or without the field where it is `REMOVED`."""
    copied = copy.deepcopy(request)
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place: Any = copied
    for part in parents:
        place = place[part]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return copied


def cash(amount: str) -> list[dict[str, Any]]:
    """A payment in cash, alone."""
    return paid("cash", amount)


def paid(kind: str, amount: str) -> list[dict[str, Any]]:
    """A payment of one kind, alone."""
    return [{"type": kind, "amount": amount}]


def odd_but_valid_kinds() -> list[ValidKind]:
    """Return requests that look wrong and are right, each to be taken by a bridge that has a register `kkt-1`."""
    positions: dict[str, dict[str, Any]] = {
        "exponent": {"price": Verbatim("1e1"), "quantity": Verbatim("10E-1"), "total": Verbatim("0.1e+2")},
        "numbers": {"price": Verbatim("10.00"), "quantity": 1, "total": 10},
        "number with zeros behind": {"price": Verbatim("10.000000"), "total": Verbatim("10.0")},
        "one decimal": {"price": "10.0", "total": "10"},
        "zeros in front": {"price": "00000010", "total": "00000010.00"},
        "quantity with six decimals": {"quantity": "1.000000"},
        "total a kopeck high": {"price": "9.99"},
        "total a kopeck low": {"price": "10.01"},
        "smallest quantity": {"price": "10000000", "quantity": Verbatim("0.000001")},
        "smallest quantity as text": {"price": "10000000", "quantity": "0.000001"},
        "third of a kilogram": {"price": "30", "quantity": "0.333333", "unit": "kilogram"},
        "largest quantity": {"price": "0", "quantity": "99999999.999999", "total": "0"},
        "name of 128 emoji": {"name": "\U0001f453" * NAME_CHARS_MAX},
        "name of 128 letters": {"name": "я" * NAME_CHARS_MAX},
        "name of one letter": {"name": "Я"},
        "name with typography": {"name": "«Ёлка» — 5 № “a” ₽…"},
        "name of one emoji": {"name": "\U0001f453"},
        "name with a joined emoji": {"name": "\U0001f468\u200d\U0001f469\u200d\U0001f467"},
        "name with combining marks": {"name": "и\u0306"},
        "name in Arabic": {"name": "نظارات ١٢"},
        "name with left-to-right mark": {"name": "a\u200eb"},
        "name between spaces": {"name": "  линза  "},
        "name of JSON": {"name": '{"a": "\\"}'},
        "GS in the marking code": {"marking_code": "0104605035006964215abc\x1d93dGVz"},
        "marking code of 300": {"marking_code": "~" * 300},
        "marking code of one": {"marking_code": "1"},
        "marking code null": {"marking_code": None},
        "subject by number": {"payment_subject": 4},
        "subject by the last number": {"payment_subject": 33},
        "subject as 1e1": {"payment_subject": Verbatim("1e1")},
        "subject as 1.0": {"payment_subject": Verbatim("1.0")},
        "unit by number": {"unit": 0},
        "unit by the last number": {"unit": 255},
        "unit as 1.1e1": {"unit": Verbatim("1.1e1")},
    }
    positions |= {f"vat {rate}": {"vat": rate} for rate in VAT_RATES}
    positions |= {f"method {name}": {"payment_method": name} for name in PAYMENT_METHODS}
    positions |= {f"subject {name}": {"payment_subject": name} for name in PAYMENT_SUBJECTS}
    positions |= {f"unit {name}": {"unit": name} for name in UNITS}
    requests = {name: _paid_up(position) for name, position in positions.items()} | _odd_receipts()
    text = encoded(receipt())
    texts = {
        "white space around": b"\r\n\t " + text + b"\n",
        "exactly 256 KiB": encoded(receipt()).ljust(REQUEST_BYTES_MAX),
        "escapes for everything": json.dumps(receipt(), ensure_ascii=True).encode(),
        "surrogate pair in escapes": encoded(receipt()).replace("Оправа".encode(), b"\\ud83d\\udc53"),
        "escaped key": encoded(receipt()).replace(b'"type"', b'"t\\u0079pe"', 1),
    }
    return [
        *(ValidKind(name, encoded(request)) for name, request in requests.items()),
        *(ValidKind(name, payload) for name, payload in texts.items()),
    ]


def _paid_up(position: dict[str, Any]) -> dict[str, Any]:
    """A receipt of this position; what is paid beyond its total is change."""
    return small_receipt(position, payments=cash("10.01"))


def _odd_receipts() -> dict[str, dict[str, Any]]:
    voluntary = {"operation": "refund", "kind": "voluntary", "date": "2026-11-20"}
    nulls = dict.fromkeys(("cashier", "customer", "correction", "original_receipt_id", "tax_system", "kkt"))
    return {
        "full": full_receipt(),
        "voluntary correction": small_receipt(type="correction", correction=voluntary),
        "voluntary correction, number null": small_receipt(
            type="correction", correction=voluntary | {"document_number": None}
        ),
        "correction on a leap day": small_receipt(type="correction", correction=voluntary | {"date": "2024-02-29"}),
        "refund that names none": small_receipt(type="refund"),
        "purchase": small_receipt(type="purchase"),
        "purchase refund": small_receipt(type="purchase_refund"),
        "null for every optional part": small_receipt() | nulls,
        "much cash": small_receipt(payments=cash("99999999.99")),
        "cash in two parts": small_receipt(payments=[*cash("4"), *cash("7")]),
        "every kind of payment": small_receipt(
            payments=[part for kind in ("cash", "card", "prepaid", "credit", "other") for part in paid(kind, "2")]
        ),
        "card for all, cash all given back": small_receipt(payments=[*paid("card", "10"), *cash("5")]),
        "a payment of nothing": small_receipt(payments=[*paid("card", "10"), *cash("0")]),
        "for nothing": small_receipt({"price": 0, "total": "0.00"}, payments=cash("0")),
        "the dearest": small_receipt({"price": "99999999.99", "total": 99999999.99}, payments=cash("99999999.99")),
        "500 items": small_receipt(items=[item()] * 500, payments=cash("5000")),
        "cashier without INN": small_receipt(cashier={"name": "Иванова А. П."}),
        "cashier with the INN of an organisation": small_receipt(cashier={"name": "Touch", "inn": "7702203276"}),
        "cashier whose check digit would be ten": small_receipt(cashier={"name": "Touch", "inn": "1000001060"}),
        **{f"contact {contact}": small_receipt(customer={"contact": contact}) for contact in CONTACTS},
        "payments by a hundred": small_receipt(payments=cash("0.1") * 100),
        **{f"tax system {name}": small_receipt(tax_system=name) for name in TAX_SYSTEMS},
    }

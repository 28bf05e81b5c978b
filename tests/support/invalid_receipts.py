"""Every kind of request that must be refused; each call makes fresh ids."""

from typing import Any, NamedTuple

from support.receipts import (
    PLAIN,
    POS,
    REMOVED,
    REQUEST_BYTES_MAX,
    Verbatim,
    cash,
    changed,
    encoded,
    full_receipt,
    item,
    new_id,
    paid,
    receipt,
    small_receipt,
)


class InvalidKind(NamedTuple):
    """A payload that must be refused with this code; `path` is the field that the error must name, if any."""

    name: str
    payload: bytes
    code: str
    path: str | None


MISSING = (
    "receipt_id", "pos_id", "type", "items", "payments",
    "items.0.name", "items.0.price", "items.0.quantity", "items.0.total", "items.0.vat",
    "payments.0.type", "payments.0.amount", "cashier.name", "customer.contact",
    "correction.operation", "correction.kind", "correction.date", "correction.document_number",
)  # fmt: skip

UNKNOWN = ("vendor", "items.0.discount", "payments.0.card_number", "cashier.age", "customer.name", "correction.reason")

_AMOUNTS: tuple[Any, ...] = (
    "", " ", " 1", "1 ", "1\n", "-1", "+1", "1.", ".5", "1,5", "1 000", "1_000", "1.001", "123456789", "1234567890123",
    "100000000.00", "1e3", "0x10", "NaN", "Infinity", "١٢", "１２", "1２", "²", "10 ₽", "--1", "1..0",
    -1, 100_000_000, 1234567890123, True, False, None, [], {}, ["1"],
    Verbatim("-0.01"), Verbatim("0.001"), Verbatim("10.001"), Verbatim("1e8"), Verbatim("-1e400"), Verbatim("1e400"),
    Verbatim("1e999999999999"), Verbatim("1e-3"), Verbatim("1e-400"), Verbatim("1e-999999999999"),
    Verbatim("99999999.991"), Verbatim("9" * 5000), Verbatim("0." + "1" * 5000),
)  # fmt: skip

_QUANTITIES: tuple[Any, ...] = (
    "0", "0.0", "0.000000", "0.0000001", "-1", "1.0000001", "123456789", "", "1,5", "٢", "２", "2 шт",
    0, -1, True, None, [], Verbatim("0.0"), Verbatim("0e5"), Verbatim("0.0000001"), Verbatim("1e-7"), Verbatim("1e8"),
)  # fmt: skip

_TEXTS: tuple[Any, ...] = ("", " ", "\t", "\u00a0", "\u2003", "\u200b", "\u200b\ufeff", None, 1, True, [], {}, ["a"])

_UNPRINTABLE = tuple(map(chr, (0x00, 0x01, 0x09, 0x0A, 0x0D, 0x1B, 0x1D, 0x1F, 0x7F, 0x80, 0x85, 0x9F)))
_DIRECTIONAL = tuple(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))

_UUIDS = (
    "", "1", "0B9F6C52-6A1E-4C07-9D1C-0A4F4E1B5A11", "{0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11}",
    "urn:uuid:0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11", "0b9f6c526a1e4c079d1c0a4f4e1b5a11",
    "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a1", "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a111",
    "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11\n", " 0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11",
    "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a1g", "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a1１",
)  # fmt: skip

_IDENTIFIERS = ("", "-x", ".x", "_x", "a/b", "a b", "+", "#", "касса", "a" * 65, "kkt-1\n", "kkt-１")

_NOT_OBJECTS: tuple[Any, ...] = ([], "text", 1, True)

WRONG: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("receipt_id", (*_UUIDS, None, 1, True, [], {})),
    ("pos_id", (None, 1, True, [], {})),
    ("type", ("", "SALE", "sell", "sale ", None, 1, [], {})),
    ("items", ([], {}, None, "text", 1, [item()] * 501, [{}] * 20_000)),
    ("items.0", (None, "text", 1, [])),
    ("items.0.name", (*_TEXTS, "я" * 129, "\U0001f453" * 129)),
    ("items.0.name", tuple(f"Лин{char}за" for char in (*_UNPRINTABLE, *_DIRECTIONAL))),
    ("items.0.price", _AMOUNTS),
    ("items.0.quantity", _QUANTITIES),
    ("items.0.total", _AMOUNTS),
    ("items.0.vat", (22, 0, None, "", "18", "22.0", "22%", "NONE", "18/118", "110/10", True, [], {})),
    ("items.0.payment_method", ("", "full", "FULL_PAYMENT", None, 4, [])),
    ("items.0.payment_subject", ("", "goods", "1", None, True, 0, -1, 28, 29, 34, 99, Verbatim("1.5"),
                                 Verbatim("1e400"), [], {}, [1])),
    ("items.0.unit", ("", "kg", "0", None, True, False, 1, 13, 43, 84, 256, -1, Verbatim("0.5"), [], {}, [0])),
    ("items.0.marking_code", ("", "a" * 301, "Код", "a\tb", "a\nb", "a\x7f", "a\x00", "é", "１", 1, True, [], {})),
    ("payments", ([], {}, None, "text", 1, [{}] * 40_000)),
    ("payments.0", (None, "text", 1, [])),
    ("payments.0.type", ("", "CASH", "visa", None, 1, [])),
    ("payments.0.amount", _AMOUNTS),
    ("cashier", _NOT_OBJECTS),
    ("cashier.name", (*_TEXTS, "я" * 65, "Ива\nнова", "Ива\u202eнова")),
    ("cashier.inn", ("", "123", "12345678901", "1234567890123", "50010073225x", "５00100732259", 500100732259, [],
                     "500100732258", "500100732269", "050100732259", "7702203275", "7722033276", "0000000001",
                     "0000000000", "000000000000")),
    ("customer", _NOT_OBJECTS),
    ("customer.contact", (*_TEXTS, "a" * 65, "a\r\nb@example.com", "abc", "+", "+1234", "+1234567890123456",
                          "+7 900 123-45-67", "89001234567", "79001234567", "+７9001234567", "@", "a@", "@example.com",
                          "a@example",
                          "a@example.", "a@.com", "a@b@example.com", "a b@example.com", "none")),
    ("correction", _NOT_OBJECTS),
    ("correction.operation", ("correction", "", "SALE", None, 1, [])),
    ("correction.kind", ("", "forced", None, 0, [])),
    ("correction.date", ("", "2026-02-30", "2026-13-01", "0000-01-01", "22.11.2026", "2026-1-2", "20261122",
                         "2026-11-22T00:00:00Z", "2026-11-2２", "٢٠٢٦-11-22", None, 20261122, True, [], {})),
    ("correction.document_number", (*_TEXTS, "1" * 33, "12\u200e\u202a34")),
    ("original_receipt_id", (*_UUIDS, 1, True, [])),
    ("tax_system", ("", "envd", "OSN", 1, True, [])),
    ("kkt", (*_IDENTIFIERS, 1, True, [])),
)  # fmt: skip
"""Values that no such field may have, whatever else the receipt says."""


def invalid_kinds() -> list[InvalidKind]:
    """Every kind of bad input, as published on the topic of `pos-1`."""
    return [*_unreadable(), *_too_large(), *_of_another_pos(), *_missing(), *_unknown(), *_wrong(), *_at_odds()]


def _unreadable() -> list[InvalidKind]:
    text = encoded(receipt()).decode()
    cases = {
        "nothing": b"",
        "white space": b" \r\n\t ",
        "null": b"null",
        "an array": f"[{text}]".encode(),
        "a string": b'"receipt"',
        "a number": b"17",
        "a fraction": b"1.5",
        "true": b"true",
        "not JSON at all": b"receipt=1",
        "XML": b"<receipt/>",
        "zero bytes": b"\x00" * 16,
        "all byte values": bytes(range(256)),
        "cut in the middle": text[: len(text) // 2].encode(),
        "last brace missing": text[:-1].encode(),
        "rubbish behind": f"{text}x".encode(),
        "two objects": f"{text}{text}".encode(),
        "comma behind the last field": f"{text[:-1]},}}".encode(),
        "single quotes": text.replace('"', "'").encode(),
        "a comment": f"/* sale */{text}".encode(),
        "a key without quotes": text.replace('"type"', "type").encode(),
        "byte-order mark": b"\xef\xbb\xbf" + text.encode(),
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without mark": text.encode("utf-16-le"),
        "UTF-32": text.encode("utf-32"),
        "Latin-1": '{"name": "Café"}'.encode("latin-1"),
        "CP1251": text.encode("cp1251"),
        "CP866": text.encode("cp866"),
        "overlong UTF-8": b'{"name": "\xc0\x80"}',
        "surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
        "cut inside a character": text.encode()[: text.encode().index("О".encode()) + 1],
        "raw control character": text.replace("Оправа", "Опр\x01ава").encode(),
        "raw line end in a string": text.replace("Оправа", "Опр\nава").encode(),
        "unknown escape": text.replace("Оправа", "\\x41").encode(),
        "lone high surrogate": text.replace("Оправа", "\\ud83d").encode(),
        "lone low surrogate": text.replace("Оправа", "\\udc53").encode(),
        "surrogates the wrong way round": text.replace("Оправа", "\\udc53\\ud83d").encode(),
        "lone surrogate in a key": text.replace('"cash"', '"cash", "\\ud800": 1', 1).encode(),
        "lone surrogate far inside": f'{text[:-1]}, "x": [[{{"y": ["\\udfff"]}}]]}}'.encode(),
        "deep arrays": b"[" * 100_000,
        "deep objects": b'{"a":' * 40_000,
        "deep inside a field": text.replace('"150.00"', "[" * 100_000 + "]" * 100_000, 1).encode(),
        "an exponent beyond everything": text.replace('"150.00"', "1e9999999999999999999", 1).encode(),
    }
    for number in ("NaN", "Infinity", "-Infinity", "1.", ".5", "01", "+1", "0x10", "1e", "-", "1_0", "１２", "True"):
        cases[f"number {number}"] = text.replace('"150.00"', number, 1).encode()
    twice = {
        "the receipt": ('"type": "sale"', '"type": "sale", "type": "sale"'),
        "the receipt, once escaped": ('"type": "sale"', '"type": "sale", "t\\u0079pe": "refund"'),
        "an item": ('"vat": "22"', '"vat": "22", "vat": "20"'),
        "a payment": ('"amount": "100.00"', '"amount": "100.00", "amount": "1.00"'),
        "the cashier": ('"sale"', '"sale", "cashier": {"name": "А", "name": "Б"}'),
        "something unknown": ('"sale"', '"sale", "x": {"a": 1, "a": 1}'),
        "the id": ('"receipt_id"', '"receipt_id": "", "receipt_id"'),
    }
    for name, (once, both) in twice.items():
        cases[f"a key twice in {name}"] = text.replace(once, both, 1).encode()
    return [InvalidKind(f"unreadable: {name}", payload, "invalid_json", None) for name, payload in cases.items()]


def _too_large() -> list[InvalidKind]:
    text = encoded(receipt())
    return [
        InvalidKind("too large: by one byte", text.ljust(REQUEST_BYTES_MAX + 1), "too_large", None),
        InvalidKind("too large: by a KiB", text.ljust(REQUEST_BYTES_MAX + 1024), "too_large", None),
        InvalidKind("too large: a name", encoded(small_receipt({"name": "я" * 140_000})), "too_large", None),
        InvalidKind("too large: nonsense", b"\xff" * (REQUEST_BYTES_MAX + 1), "too_large", None),
    ]


def _of_another_pos() -> list[InvalidKind]:
    return [
        InvalidKind(f"pos_id {pos!r} on the topic of {POS}", encoded(receipt(pos_id=pos)), "pos_mismatch", "pos_id")
        for pos in ("pos-2", "pos-10", "pos-", "POS-1", "", "pos-1 ", "pos-1\n", "+", "pos-１", "../pos-1")
    ]


def _missing() -> list[InvalidKind]:
    return [
        InvalidKind(f"missing: {path}", encoded(changed(full_receipt(), path, REMOVED)), "invalid_receipt", path)
        for path in MISSING
    ]


def _unknown() -> list[InvalidKind]:
    return [
        InvalidKind(f"unknown: {path} {value}", encoded(changed(full_receipt(), path, value)), "invalid_receipt", path)
        for path in UNKNOWN
        for value in (1, None)
    ]


def _wrong() -> list[InvalidKind]:
    return [
        InvalidKind(
            f"wrong: {path} {ascii(value)[:60]} ({number})",
            encoded(changed(full_receipt(), path, value)),
            "invalid_receipt",
            path,
        )
        for path, values in WRONG
        for number, value in enumerate(values)
    ]


def _at_odds() -> list[InvalidKind]:
    """Receipts whose every field is fit, and which contradict themselves."""
    correction = full_receipt()["correction"]
    original = new_id()
    dear = item(price="99999999.99", total="99999999.99")
    items: dict[str, dict[str, Any]] = {
        "two kopecks high": {"total": "10.02"},
        "two kopecks low": {"total": "9.98"},
        "of another quantity": {"quantity": 3},
        "a kopeck and a half off": {"price": "0.01", "quantity": "0.5", "total": "0.02"},
        "far out of range": {"price": 99999999, "quantity": 99999999},
    }
    payments = {
        "too little": cash("9.99"),
        "nothing": cash("0"),
        "by card, change wanted": paid("card", "10.01"),
        "by card above the total, cash beside": [*paid("card", "10.01"), *cash("5")],
        "in two ways, together above the total": [*paid("card", "6"), *paid("credit", "5")],
        "with an advance, change wanted": paid("prepaid", "11"),
        "otherwise, change wanted": paid("other", "11"),
        "out of range": [*cash("99999999.99"), *cash("99999999.99")],
    }
    number = "correction.document_number"
    others = [
        ("second item's total", changed(receipt(), "items.1.total", "50.55"), "items.1.total"),
        ("total out of range", small_receipt(items=[dear, dear]), "items"),
        ("correction without its block", small_receipt(type="correction"), "correction"),
        ("correction with null for its block", small_receipt(type="correction", correction=None), "correction"),
        ("correction with an original", full_receipt() | {"original_receipt_id": original}, "original_receipt_id"),
        ("order without a number", changed(full_receipt(), number, None), number),
        ("number without an order", changed(full_receipt(), "correction.kind", "voluntary"), number),
    ]
    cases = [
        *((f"item total {name}", small_receipt(position), "items.0.total") for name, position in items.items()),
        *((f"paid {name}", small_receipt(payments=parts), "payments") for name, parts in payments.items()),
        *((f"{kind} with correction", small_receipt(type=kind, correction=correction), "correction") for kind in PLAIN),
        *(
            (f"{kind} with an original", small_receipt(type=kind, original_receipt_id=original), "original_receipt_id")
            for kind in PLAIN
            if kind != "refund"
        ),
        *others,
    ]
    return [InvalidKind(f"at odds: {name}", encoded(request), "invalid_receipt", path) for name, request, path in cases]

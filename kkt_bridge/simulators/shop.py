"""The goods of the simulated shops: an optician's and a grocery, receipts drawn from a seed.

Every VAT rate, payment kind and receipt type turns up now and then, so that a day of trade meets all of
the contract; sums are in kopecks and exact.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Any, Final

from kkt_bridge.receipts.amounts import MICRO, format_kopecks, format_quantity
from kkt_bridge.receipts.ffd_codes import PaymentMethod, PaymentSubject, PaymentType, ReceiptType, Unit, Vat


@dataclass(frozen=True, slots=True)
class Goods:
    """Something on the shelf: what a piece, or a unit of measure, costs from and to, in roubles."""

    name: str
    price_from: int
    price_to: int
    vat: Vat = "22"
    subject: PaymentSubject = "commodity"
    method: PaymentMethod = "full_payment"
    unit: Unit = "piece"
    most: int = 1
    """Pieces in one sale; 0 for what is weighed."""
    marked: bool = False
    """True if each piece carries a marking code."""


OPTICIAN: Final = (
    Goods("Оправа Ray-Ban RB5154", 9_990, 14_990),
    Goods("Оправа «Нева» детская", 1_490, 3_990, vat="10"),
    Goods("Очки солнцезащитные Polaroid", 2_990, 7_490),
    Goods("Линза 1.6 HMC", 1_890, 4_900, most=2, vat="10"),
    Goods("Линзы контактные Acuvue, 30 шт.", 1_650, 2_390, most=2, vat="10"),
    Goods("Раствор для линз, 360 мл", 490, 890, most=2, vat="10"),
    Goods("Салфетка из микрофибры", 90, 250, most=3),
    Goods("Футляр жёсткий", 350, 990),
    Goods("Шнурок для очков", 120, 390, vat="20"),
    Goods("Подбор очков, приём оптометриста", 500, 1_500, vat="none", subject="service"),
    Goods("Изготовление очков", 700, 2_400, vat="5", subject="job"),
    Goods("Ремонт: замена винта", 100, 300, vat="7", subject="job"),
    Goods("Выезд мастера", 400, 900, vat="7", subject="service", unit="hour", most=2),
    Goods("Линзы с доставкой за рубеж", 3_000, 6_000, vat="0"),
)

ADVANCES: Final = (
    Goods("Аванс за очки по заказу", 1_000, 9_000, vat="22/122", subject="payment", method="advance"),
    Goods("Аванс за контактные линзы", 500, 2_500, vat="10/110", subject="payment", method="prepayment"),
    Goods("Аванс за изготовление", 500, 2_000, vat="5/105", subject="payment", method="prepayment"),
    Goods("Аванс за ремонт", 200, 900, vat="7/107", subject="payment", method="prepayment"),
    Goods("Доплата по договору 2025 года", 500, 4_000, vat="20/120", subject="payment", method="prepayment"),
)

GROCERY: Final = (
    Goods("Хлеб ржаной «Дарницкий»", 45, 79, vat="10", most=2),
    Goods("Молоко 3,2 %, 930 мл", 79, 129, vat="10", most=2, marked=True),
    Goods("Творог 5 %, 200 г", 95, 160, vat="10", most=3, marked=True),
    Goods("Сыр российский", 690, 1_190, vat="10", unit="kilogram", most=0),
    Goods("Яблоки Гала", 119, 219, vat="10", unit="kilogram", most=0),
    Goods("Картофель", 39, 69, vat="10", unit="kilogram", most=0),
    Goods("Огурцы, свежий урожай", 149, 349, vat="10", unit="kilogram", most=0),
    Goods("Яйцо куриное С1, десяток", 99, 149, vat="10", most=2),
    Goods("Чай чёрный, 100 пакетиков", 199, 420),
    Goods("Кофе в зёрнах, 1 кг", 990, 2_190),
    Goods("Шоколад горький 75 %", 99, 189, most=4),
    Goods("Пакет-майка", 7, 12, most=3),
    Goods("Вода питьевая, 1,5 л", 39, 79, most=6, marked=True),
    Goods("Квас на розлив", 79, 139, unit="liter", most=0),
    Goods("Пиво светлое, 0,5 л", 69, 149, subject="excise", most=4),
)

CASHIERS: Final = (
    {"name": "Иванова А. П.", "inn": "500100732259"},
    {"name": "Кузнецов И. С."},
    {"name": "Соколова М. Д."},
    {"name": "Шевченко О. В."},
)

CONTACTS: Final = ("buyer@example.com", "+79990000017", "ochki@example.org")

GLASS_BOTTLE: Final = Goods("Приём стеклотары", 2, 5, vat="none", most=20)

_TYPES: Final[Sequence[tuple[ReceiptType, int]]] = (
    ("sale", 90),
    ("refund", 6),
    ("correction", 2),
    ("purchase", 1),
    ("purchase_refund", 1),
)
_USUAL: Final = {"payment_method": "full_payment", "payment_subject": "commodity", "unit": "piece"}
"""Fields that a POS leaves out."""

_FIRST_CORRECTED: Final = date(2026, 1, 12)
_NOTES: Final = (100_00, 500_00, 1000_00, 5000_00)
"""Banknotes, in kopecks."""


class Shop:
    """One till's trade: the same seed and `pos_id` give the same receipts, ids included."""

    def __init__(self, pos_id: str, seed: object) -> None:
        self._pos_id = pos_id
        self._random = Random(f"{seed}/{pos_id}")  # noqa: S311 (trade, not secrets)
        self._cashier = self._random.choice(CASHIERS)
        self._shelf = self._random.choice((OPTICIAN, GROCERY))

    def receipt(self) -> dict[str, Any]:
        """The next customer's receipt, as the contract's request."""
        random = self._random
        types, weights = zip(*_TYPES, strict=True)
        kind: ReceiptType = random.choices(types, weights)[0]
        items = [self._item(goods) for goods in self._basket(kind)]
        total = sum(amount for _, amount in items)
        request: dict[str, Any] = {
            "receipt_id": str(uuid.UUID(int=random.getrandbits(128), version=4)),
            "pos_id": self._pos_id,
            "type": kind,
            "items": [item for item, _ in items],
            "payments": [
                {"type": way, "amount": format_kopecks(amount)} for way, amount in self._payments(kind, total)
            ],
            "cashier": dict(self._cashier),
        }
        if random.random() < 0.3:
            request["customer"] = {"contact": random.choice(CONTACTS)}
        if kind == "correction":
            request["correction"] = self._correction()
        return request

    def _basket(self, kind: ReceiptType) -> Sequence[Goods]:
        random = self._random
        if kind in {"purchase", "purchase_refund"}:
            return [GLASS_BOTTLE]
        if kind == "sale" and random.random() < 0.08:
            return [random.choice(ADVANCES)]
        most = 7 if self._shelf is GROCERY else 3
        return random.sample(self._shelf, random.randint(1, most))

    def _item(self, goods: Goods) -> tuple[dict[str, Any], int]:
        """The line, and its total in kopecks."""
        random = self._random
        price = random.randint(goods.price_from, goods.price_to) * 100 - random.choice((0, 0, 1, 10, 50))
        quantity = random.randint(1, goods.most) * MICRO if goods.most else random.randint(120, 2_400) * (MICRO // 1000)
        total = (price * quantity + MICRO // 2) // MICRO
        item: dict[str, Any] = {
            "name": goods.name,
            "price": format_kopecks(price),
            "quantity": format_quantity(quantity),
            "total": format_kopecks(total),
            "vat": goods.vat,
        }
        said = {"payment_method": goods.method, "payment_subject": goods.subject, "unit": goods.unit}
        item |= {field: value for field, value in said.items() if value != _USUAL[field]}
        if goods.marked and quantity == MICRO:
            item["marking_code"] = self._marking_code()
        return item, total

    def _marking_code(self) -> str:
        serial = "".join(self._random.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789", k=6))
        return f"010460{self._random.randrange(10**10):010d}215{serial}\x1d93{serial[:4]}"

    def _payments(self, kind: ReceiptType, total: int) -> list[tuple[PaymentType, int]]:
        """Draw the payments: mostly by card or in cash, with change; at times in two ways, or not at once."""
        random = self._random
        if kind != "sale":
            return [(random.choice(("cash", "card")), total)]
        draw = random.random()
        if draw < 0.45:
            return [("card", total)]
        if draw < 0.80:
            return [("cash", self._handed_over(total))]
        part = random.randrange(total + 1)
        if draw < 0.92:
            return [("card", part), ("cash", self._handed_over(total - part))]
        other: PaymentType = random.choice(("prepaid", "credit", "other"))
        return [(other, total)] if draw < 0.97 else [(other, part), ("card", total - part)]

    def _handed_over(self, due: int) -> int:
        """Exact money, or the next note up."""
        if self._random.random() < 0.3:
            return due
        note = self._random.choice(_NOTES)
        return -(-due // note) * note

    def _correction(self) -> dict[str, Any]:
        random = self._random
        about = {
            "operation": random.choice(("sale", "refund")),
            "kind": "voluntary",
            "date": (_FIRST_CORRECTED + timedelta(days=random.randrange(200))).isoformat(),
        }
        if random.random() < 0.4:
            about |= {"kind": "ordered", "document_number": f"{random.randrange(1, 99)}-{random.randrange(1, 999)}/КР"}
        return about

"""The sales of a campaign's terminal: good receipts mostly, and each kind of bad one with its only right verdict."""

import copy
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any, Final

from chaos.records import CONFLICT, PRINTED, Sale
from support.receipts import REMOVED, cash, changed

from kkt_bridge.simulators.shop import Shop

KINDS: Final = {"sale": 78, "broken": 8, "other content": 7, "refund": 5, "refund too much": 2}
"""Of a hundred requests."""

BREAKAGES: Final[Sequence[tuple[str, Any, str]]] = (
    ("payments", REMOVED, "invalid_receipt"),
    ("items.0.vat", "19", "invalid_receipt"),
    ("items.0.total", "0.07", "invalid_receipt"),
    ("vendor", "a field that nobody knows", "invalid_receipt"),
    ("kkt", "kkt-99", "unknown_kkt"),
    ("pos_id", "pos-of-another", "pos_mismatch"),
)

RESPONSE_TOPIC_SHARE: Final = 0.3
OTHER_REGISTER_SHARE: Final = 0.2


class Trade:
    """One terminal's customers; the same random numbers make the same receipts."""

    def __init__(self, pos_id: str, branch: str, kkts: Sequence[str], rng: Random) -> None:
        self._pos_id = pos_id
        self._branch = branch
        self._kkts = kkts
        self._rng = rng
        self._shop = Shop(pos_id, rng.random())

    def next(self, printed: Sequence[Sale], refunded: Sequence[Sale]) -> Sale:
        """The next request. `printed` are plain sales that can be refunded or contradicted, `refunded` were."""
        (kind,) = self._rng.choices(list(KINDS), list(KINDS.values()))
        if kind == "broken":
            return self._broken()
        if kind == "other content" and printed:
            return self._other_content(self._rng.choice(printed))
        if kind == "refund" and printed:
            return self._refund(self._rng.choice(printed), kind, PRINTED)
        if kind == "refund too much" and refunded:
            return self._refund(self._rng.choice(refunded), kind, "refund_exceeds_original")
        return self._sale(self._receipt(), "sale", PRINTED)

    def _receipt(self) -> dict[str, Any]:
        request = self._shop.receipt()
        if self._rng.random() < OTHER_REGISTER_SHARE:
            request["kkt"] = self._rng.choice(self._kkts)
        return request

    def _broken(self) -> Sale:
        path, value, code = self._rng.choice(BREAKAGES)
        return self._sale(changed(self._receipt(), path, value), f"broken: {path}", code)

    def _other_content(self, original: Sale) -> Sale:
        request = copy.deepcopy(original.request)
        request["items"][0]["name"] = "Совсем другой товар"
        return self._sale(request, "other content", CONFLICT)

    def _refund(self, original: Sale, kind: str, expected: str) -> Sale:
        """The whole of a sale, in cash."""
        request = {
            "receipt_id": str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            "pos_id": self._pos_id,
            "type": "refund",
            "original_receipt_id": original.receipt_id,
            "items": copy.deepcopy(original.request["items"]),
            "payments": cash(str(total_of(original.request))),
        }
        return self._sale(request, kind, expected)

    def _sale(self, request: dict[str, Any], kind: str, expected: str) -> Sale:
        sale = Sale(self._pos_id, request, kind, expected)
        if self._rng.random() < RESPONSE_TOPIC_SHARE:
            sale.response_topic = f"{self._branch}/reply/{self._rng.randrange(3)}"
            sale.correlation = self._rng.randbytes(8)
        return sale


def total_of(request: Mapping[str, Any]) -> Decimal:
    """Return the total of the items, roubles."""
    return sum((Decimal(item["total"]) for item in request["items"]), Decimal("0.00"))

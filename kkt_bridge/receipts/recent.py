"""Receipts of the last moment by their canonical form: parsed where they were taken, not again where they are printed.

A memory of a pure function, no more: what is not in it is parsed.
"""

from typing import Final

from kkt_bridge.receipts.model import Receipt

GENERATION_MAX: Final = 128
"""Receipts in each of the two generations; when the younger one is full, the older one is forgotten."""

BODY_MAX: Final = 4096
"""Characters of a receipt that is kept: parsed, it takes nine times that. A usual one has some hundred."""


class _Generations:
    """Needs no lock: each change is one assignment."""

    def __init__(self) -> None:
        self.young: dict[str, Receipt] = {}
        self.old: dict[str, Receipt] = {}


_recent: Final = _Generations()


def remember(body: str, receipt: Receipt) -> None:
    """Keep a receipt for those who will ask for it by its canonical form, unless it is a large one."""
    if len(body) > BODY_MAX:
        return
    if len(_recent.young) >= GENERATION_MAX:
        _recent.young, _recent.old = {}, _recent.young
    _recent.young[body] = receipt


def receipt_of(body: str) -> Receipt:
    """The receipt with this canonical form. Errors: pydantic's, where it is none."""
    return _recent.young.get(body) or _recent.old.get(body) or Receipt.model_validate_json(body)

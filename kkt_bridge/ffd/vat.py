"""VAT: the code of each rate, the tax inside a gross amount, and the totals per rate (order ED-7-20/662@)."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final

from kkt_bridge.receipts.amounts import Kopecks
from kkt_bridge.receipts.ffd_codes import Vat
from kkt_bridge.receipts.model import Item

VAT_CODES: Final = MappingProxyType(
    {
        "20": 1, "10": 2, "20/120": 3, "10/110": 4, "0": 5, "none": 6,
        "5": 7, "7": 8, "5/105": 9, "7/107": 10, "22": 11, "22/122": 12,
    }
)  # fmt: skip
"""[1199]"""

VAT_PERCENT: Final = MappingProxyType(
    {
        "20": 20,
        "10": 10,
        "20/120": 20,
        "10/110": 10,
        "5": 5,
        "7": 7,
        "5/105": 5,
        "7/107": 7,
        "22": 22,
        "22/122": 22,
    }
)
"""The rate within the gross amount; 0 % and "none" carry no tax."""

RATE_KEYS: Final = MappingProxyType(
    {
        "20": "nds18",  # 1102; the key is older than the rate
        "10": "nds10",  # 1103
        "0": "nds0",  # 1104, turnover
        "none": "ndsNo",  # 1105, turnover
        "20/120": "nds18118",  # 1106
        "10/110": "nds10110",  # 1107
    }
)
"""The rates with a total of their own; the others (5 %, 7 %, 22 %) share the list of tag 1115."""


def tax_within(gross: Kopecks, vat: Vat) -> Kopecks:
    """Return the tax that a gross amount contains, rounded half up; 0 for the rates without one."""
    percent = VAT_PERCENT.get(vat, 0)
    return (2 * gross * percent + 100 + percent) // (2 * (100 + percent))


def vat_totals(items: Iterable[Item]) -> dict[str, Any]:
    """Return the totals per rate [1102-1107, 1115]: the items' taxes added up, so that the lines sum to them.

    A rate that no item has is left out; 0 % and "none" declare their turnover.
    """
    totals: dict[str, Kopecks] = {}
    for item in items:
        amount = tax_within(item.total, item.vat) if item.vat in VAT_PERCENT else item.total
        totals[item.vat] = totals.get(item.vat, 0) + amount
    fields: dict[str, Any] = {key: totals[vat] for vat, key in RATE_KEYS.items() if vat in totals}
    listed = [
        {"nds": code, "ndsSum": totals[vat]}  # 1119: 1199, 1120
        for vat, code in VAT_CODES.items()
        if vat in totals and vat not in RATE_KEYS
    ]
    return {**fields, "amountsReceiptNds": {"amountsNds": listed}} if listed else fields

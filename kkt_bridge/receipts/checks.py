"""Rules over the whole receipt: sums, and fields that only some types carry."""

from datetime import date
from typing import Final, NamedTuple

from kkt_bridge.receipts.amounts import KOPECKS_MAX, format_kopecks
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.receipts.text import to_cp866

CLOCK_EARLIEST: Final = date(2026, 1, 1)
"""This program did not exist before: a clock that says so has lost its battery."""


class Fault(NamedTuple):
    """One wrong field: its path as the contract writes it (`items.0.price`) and what is wrong with it."""

    path: str
    message: str


def correction_date_fault(receipt: Receipt, today: date) -> Fault | None:
    """Return the fault of a correction of something that has not happened yet; `today` is the date in the shop.

    Apart from the others because it is no property of the receipt: the repeat of a receipt that was taken is never
    judged by it, whatever a clock says meanwhile. A clock that cannot be right judges nobody: a sale that is refused
    for good because a battery is empty would be lost.
    """
    if receipt.correction is None or receipt.correction.date <= today or today < CLOCK_EARLIEST:
        return None
    return Fault("correction.date", f"must not be in the future: in the shop it is {today.isoformat()}")


def receipt_faults(receipt: Receipt) -> list[Fault]:
    """Return a fault for each whole-receipt rule that this receipt breaks, on the field that should change."""
    faults = []
    if receipt.type == "correction" and receipt.correction is None:
        faults.append(Fault("correction", "required for a receipt of type correction"))
    if receipt.type != "correction" and receipt.correction is not None:
        faults.append(Fault("correction", "only a receipt of type correction has one"))
    if receipt.type != "refund" and receipt.original_receipt_id is not None:
        faults.append(Fault("original_receipt_id", "only a refund may name its original"))
    total, paid = receipt.total, sum(payment.amount for payment in receipt.payments)
    non_cash = sum(payment.amount for payment in receipt.payments if payment.type != "cash")
    if total > KOPECKS_MAX:
        faults.append(Fault("items", f"the total {format_kopecks(total)} is above {format_kopecks(KOPECKS_MAX)}"))
    elif paid > KOPECKS_MAX:
        faults.append(Fault("payments", f"together {format_kopecks(paid)}, above {format_kopecks(KOPECKS_MAX)}"))
    elif non_cash > total:
        sums = f"non-cash {format_kopecks(non_cash)} exceeds the total {format_kopecks(total)}"
        faults.append(Fault("payments", f"{sums}; only cash gives change"))
    elif paid < total:
        faults.append(
            Fault("payments", f"together {format_kopecks(paid)}, less than the total {format_kopecks(total)}")
        )
    return faults


def print_warnings(receipt: Receipt, *, on_paper: bool = True) -> tuple[str, ...]:
    """Return the warnings for its POS: `not_on_paper`, and `text_replaced` where a name of the goods has changed."""
    replaced = any(to_cp866(item.name) != item.name for item in receipt.items)
    return (*(() if on_paper else ("not_on_paper",)), *(("text_replaced",) if replaced else ()))

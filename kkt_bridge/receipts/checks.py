"""Rules over the whole receipt: sums, and fields that only some types carry."""

from collections.abc import Iterator
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


def receipt_faults(receipt: Receipt) -> list[Fault]:
    """Return a fault for each whole-receipt rule that this receipt breaks, on the field that should change."""
    return list(_faults(receipt))


def correction_date_fault(receipt: Receipt, today: date) -> Fault | None:
    """Return the fault of a correction of something that has not happened yet; `today` is the date in the shop.

    Apart from the others because it is no property of the receipt: the repeat of a receipt that was taken is never
    judged by it, whatever a clock says meanwhile. A clock that cannot be right judges nobody: a sale that is refused
    for good because a battery is empty would be lost.
    """
    if receipt.correction is None or receipt.correction.date <= today or today < CLOCK_EARLIEST:
        return None
    return Fault("correction.date", f"must not be in the future: in the shop it is {today.isoformat()}")


def _faults(receipt: Receipt) -> Iterator[Fault]:
    if receipt.type == "correction" and receipt.correction is None:
        yield Fault("correction", "required for a receipt of type correction")
    if receipt.type != "correction" and receipt.correction is not None:
        yield Fault("correction", "only a receipt of type correction has one")
    if receipt.type != "refund" and receipt.original_receipt_id is not None:
        yield Fault("original_receipt_id", "only a refund may name its original")
    total, paid = receipt.total, sum(payment.amount for payment in receipt.payments)
    if total > KOPECKS_MAX:
        yield Fault("items", f"the total {format_kopecks(total)} is above {format_kopecks(KOPECKS_MAX)}")
        return
    non_cash = paid - receipt.paid("cash")
    if paid > KOPECKS_MAX:
        yield Fault("payments", f"together {format_kopecks(paid)}, above {format_kopecks(KOPECKS_MAX)}")
    elif non_cash > total:
        yield Fault(
            "payments",
            f"non-cash {format_kopecks(non_cash)} exceeds the total {format_kopecks(total)}; only cash gives change",
        )
    elif paid < total:
        yield Fault("payments", f"together {format_kopecks(paid)}, less than the total {format_kopecks(total)}")


def print_warnings(receipt: Receipt, *, on_paper: bool = True) -> tuple[str, ...]:
    """What its POS is to know: `not_on_paper`, and `text_replaced` where a name of the goods is not as it was given."""
    replaced = any(to_cp866(item.name)[1] for item in receipt.items)
    return (*(() if on_paper else ("not_on_paper",)), *(("text_replaced",) if replaced else ()))

"""The contract's warnings beside a receipt that was printed."""

from kkt_bridge.receipts.model import Receipt
from kkt_bridge.receipts.text import to_cp866


def print_warnings(receipt: Receipt, *, on_paper: bool = True) -> tuple[str, ...]:
    """What its POS is to know: `not_on_paper`, and `text_replaced` where a name of the goods is not as it was given."""
    replaced = any(to_cp866(item.name)[1] for item in receipt.items)
    return (*(() if on_paper else ("not_on_paper",)), *(("text_replaced",) if replaced else ()))

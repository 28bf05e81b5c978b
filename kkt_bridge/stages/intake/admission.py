"""Whether a receipt may be taken now: refused before accepting what could not be kept."""

from collections.abc import Callable

from kkt_bridge.clock import Clock
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import find_original
from kkt_bridge.journal.settings import get_setting, set_setting
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.stages.intake.flood import FloodStatus, FloodWatch
from kkt_bridge.stages.intake.refusals import error
from kkt_bridge.wire.messages import Error

_PAUSED = "paused"
_AT_THE_OFD = frozenset({Status.SYNCED})


class Admission:
    """The rules that depend on the state of the bridge, not on the receipt alone."""

    def __init__(self, capacity: int, storage_exhausted: Callable[[str], bool], clock: Clock) -> None:
        self.capacity = capacity
        self.watch = FloodWatch(clock)
        """Who sends how much: the intake notes it."""
        self._storage_exhausted = storage_exhausted
        self._paused = False

    def recall(self, journal: Journal) -> None:
        """Stay paused over a restart."""
        self._paused = journal.read(lambda connection: get_setting(connection, _PAUSED)) == "yes"

    @property
    def paused(self) -> bool:
        """Whether an operator has stopped the taking of receipts."""
        return self._paused

    @property
    def flood(self) -> FloodStatus | None:
        """The POS that floods the bridge, the worst one if there are several; None if none does."""
        return self.watch.flood

    def set_paused(self, journal: Journal, *, paused: bool) -> None:
        """Stop or start taking receipts, also over a restart."""
        journal.write(lambda tx: set_setting(tx, _PAUSED, "yes" if paused else "no"))
        self._paused = paused

    def accepting(self, pending: int) -> bool:
        """Whether a receipt would be taken."""
        return not self._paused and pending < self.capacity

    def refusal(self, tx: Transaction, receipt: Receipt, kkt: str) -> Error | None:
        """Why this receipt cannot be taken now; None if it can."""
        if self._paused:
            return error("paused")
        if tx.pending() >= self.capacity:
            return error("buffer_full", capacity=self.capacity)
        if self._storage_exhausted(kkt):
            return error("fn_exhausted", kkt=kkt)
        if receipt.original_receipt_id is not None:
            return _refund_refusal(tx, receipt, receipt.original_receipt_id)
        return None


def _refund_refusal(tx: Transaction, receipt: Receipt, original_id: str) -> Error | None:
    original = find_original(tx.connection, ReceiptKey(receipt.pos_id, original_id))
    path = "original_receipt_id"
    if original is None or original.status == Status.REJECTED:
        return error("original_not_found", fields=[(path, "no such sale")], original=original_id)
    if original.status not in _AT_THE_OFD:
        return error("original_not_synced", fields=[(path, f"still {original.status}")], original=original_id)
    left = original.total - original.refunded
    if receipt.total > left:
        at_most = format_kopecks(left)
        fields = [("items", f"at most {at_most}")]
        return error("refund_exceeds_original", fields=fields, original=original_id, left=at_most)
    return None

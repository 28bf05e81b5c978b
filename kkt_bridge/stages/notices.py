"""Stage 2b: word to a POS whose receipt is safe but not yet on paper."""

from datetime import tzinfo
from typing import Final

from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import first_unnotified_steady_ms, mark_notified, unnotified
from kkt_bridge.journal.records import StoredReceipt
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.stages import replies

BATCH_MAX: Final = 100
LOOK_AGAIN_S: Final = 0.25
"""How late a notice may be; looking costs nothing while no receipt waits for its register."""

_ON_THE_WAY: Final = (Status.BUFFERED, Status.PRINTING)


class Notices:
    """Sends the `buffered` reply when a register takes its time."""

    def __init__(self, *, journal: Journal, buffered_after_s: float, zone: tzinfo) -> None:
        self._journal = journal
        self._buffered_after_ms = int(buffered_after_s * 1000)
        self._zone = zone

    def step(self) -> float | None:
        """Notify those who have waited long enough."""
        if not any(n for (_, kind), n in self._journal.counts().items() if kind in _ON_THE_WAY):
            return LOOK_AGAIN_S
        oldest = self._journal.read(first_unnotified_steady_ms)
        if oldest is None:
            return LOOK_AGAIN_S
        limit = self._journal.steady_ms() - self._buffered_after_ms
        if oldest > limit:
            return min((oldest - limit) / 1000, LOOK_AGAIN_S)
        due = self._journal.read(lambda connection: unnotified(connection, limit, BATCH_MAX))
        self._journal.write(lambda tx: self._notify(tx, due))
        return 0.0

    def _notify(self, tx: Transaction, due: list[StoredReceipt]) -> None:
        for receipt in due:
            assert receipt.id is not None
            assert receipt.reply_topic is not None
            if mark_notified(tx, receipt.id):
                reply = replies.stored(receipt, self._zone, duplicate=False)
                tx.publish(receipt.reply_topic, reply.payload(), receipt.correlation)

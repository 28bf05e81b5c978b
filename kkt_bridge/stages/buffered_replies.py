"""Stage 2b: the `buffered` reply to a POS whose receipt is safe but not yet on paper."""

from contextlib import suppress
from datetime import tzinfo
from typing import Final

from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import mark_notified, unprinted_after
from kkt_bridge.journal.records import StoredReceipt
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.stages import replies

BATCH_MAX: Final = 100
LOOK_AGAIN_S: Final = 0.25
"""Seconds that a notice may be late."""

IDLE_S: Final = 1.0
"""Seconds of rest at most while no receipt waits for its register; less where one may wait less without a word."""


class BufferedReplies:
    """Sends the `buffered` reply when a register takes its time."""

    def __init__(self, *, journal: Journal, buffered_after_s: float, zone: tzinfo) -> None:
        self._journal = journal
        self._buffered_after_ms = int(buffered_after_s * 1000)
        self._zone = zone
        self._seen: dict[str, int] = {}
        """The last receipt of each register's queue that needs no further look: they come in order."""

    def step(self) -> float | None:
        """Notify those who have waited long enough."""
        counts = {(kkt, kind): n for (kkt, kind), n in self._journal.counts().items() if n}
        more = False
        # Printing first: what is given back to the queue between the two looks is then seen by the second.
        for status in (Status.PRINTING, Status.BUFFERED):
            for kkt in [kkt for kkt, kind in counts if kind == status]:
                with suppress(StorageUnavailable):  # the journal's own health says so; the next look tries again
                    more |= self._look(status, kkt)
        if more:
            return 0.0
        is_any = any(kind in {Status.PRINTING, Status.BUFFERED} for _, kind in counts)
        return LOOK_AGAIN_S if is_any else max(LOOK_AGAIN_S, min(self._buffered_after_ms / 1000, IDLE_S))

    def _look(self, status: Status, kkt: str) -> bool:
        """Notify the due ones of a register's queue; True if there may be more of them."""
        # What is being printed was leased from behind the mark, or is so little that it is looked at each time.
        after = self._seen.get(kkt, 0) if status is Status.BUFFERED else 0
        waiting = self._journal.read(lambda connection: unprinted_after(connection, status, kkt, after, BATCH_MAX))
        limit = self._journal.steady_ms() - self._buffered_after_ms
        due = [each for each in waiting if each.received_steady_ms <= limit]
        if unnotified := [each.receipt for each in due if not each.notified]:
            self._journal.write(lambda tx: self._notify(tx, unnotified))
        if due and status is Status.BUFFERED:
            assert due[-1].receipt.id is not None
            self._seen[kkt] = due[-1].receipt.id
        return len(due) == BATCH_MAX and status is Status.BUFFERED

    def _notify(self, tx: Transaction, due: list[StoredReceipt]) -> None:
        for receipt in due:
            assert receipt.id is not None
            assert receipt.reply_topic is not None
            if mark_notified(tx, receipt.id):
                reply = replies.stored(receipt, self._zone, duplicate=False)
                tx.publish(receipt.reply_topic, reply.payload(), receipt.correlation)

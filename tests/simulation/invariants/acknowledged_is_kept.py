"""1. A message is acknowledged to the broker only after its effect is committed."""

from typing import Any

from kkt_bridge.journal.commands import ONLY_ASK
from simulation.broker import QueuedMessage
from simulation.invariants.invariant import Invariant
from simulation.terminals import Sale


class AcknowledgedIsKept(Invariant):
    """At the moment when the PUBACK leaves, the journal's file holds what became of the message."""

    name = "acknowledged is kept"

    def acknowledged(self, queued: QueuedMessage | None) -> None:
        if queued is None:
            self.fail("a PUBACK for a message that this connection never brought")
        about: Any = queued.about
        if isinstance(about, Sale):
            # A refusal given to an earlier delivery may have been kept for as long as refusals are.
            told_before = queued.times > 1 and (bool(about.replies) or self._refusal_waits(about))
            if not (self._is_taken(about) or self._is_refused(queued) or told_before):
                self.fail(f"receipt {about.key} is acknowledged, and the journal holds nothing of it")
        elif isinstance(about, tuple):
            self._check_command(queued, about[1])
        elif queued.topic.endswith("/receipt") and not self._is_answered(queued):
            self.fail(f"{queued.payload[:200]!r} is acknowledged, and no answer to it is recorded")

    def _refusal_waits(self, sale: Sale) -> bool:
        """True while a refusal is still to be published."""
        refused = f'%"receipt_id":"{sale.receipt_id}",%"status":"rejected"%'
        return bool(self.world.rows("SELECT 1 FROM outbox WHERE CAST(payload AS TEXT) LIKE ?", refused))

    def _is_answered(self, queued: QueuedMessage) -> bool:
        # A refusal given to an earlier delivery may have been kept for as long as refusals are.
        return queued.times > 1 or self._is_refused(queued) or self._is_known(queued)

    def _is_taken(self, sale: Sale) -> bool:
        key = (sale.receipt_id, sale.pos)
        return bool(self.world.rows("SELECT 1 FROM receipts WHERE receipt_id = ? AND pos_id = ?", *key)) or (
            self._has_tombstone(sale)
        )

    def _has_tombstone(self, sale: Sale) -> bool:
        ids = (sale.receipt_id, bytes.fromhex(sale.receipt_id.replace("-", "")))
        return bool(
            self.world.rows("SELECT 1 FROM tombstones WHERE receipt_id IN (?, ?) AND pos_id = ?", *ids, sale.pos)
        )

    def _is_known(self, queued: QueuedMessage) -> bool:
        """Content that contradicts a receipt may itself have been the first to be taken."""
        pos = queued.topic.split("/")[-2]
        return any(
            sale.conflict == queued.payload and self._is_taken(sale)
            for sale in self.world.terminals[pos].sales.values()
        )

    def _is_refused(self, queued: QueuedMessage) -> bool:
        return self.recorded_refusal(queued) is not None

    def _check_command(self, queued: QueuedMessage, command_id: str) -> None:
        """It is taken, or answered: then the answer was told already, or is in the outbox.

        Of a command that was carried out the outbox alone is enough only where the command just asks, and at a
        redelivery: such a command is forgotten a minute after its answer, which may be before the PUBACK leaves.
        """
        if self.world.operator.results.get(command_id):
            return
        just_asks = queued.topic.rsplit("/", 1)[-1] in ONLY_ASK
        answered = f'%"command_id":"{command_id}",' + ('"ok":%' if just_asks and queued.times > 1 else '"ok":false%')
        if not self.world.rows("SELECT 1 FROM commands WHERE command_id = ?", command_id) and not self.world.rows(
            "SELECT 1 FROM outbox WHERE CAST(payload AS TEXT) LIKE ?", answered
        ):
            self.fail(f"command {command_id} is acknowledged, and the journal holds nothing of it")

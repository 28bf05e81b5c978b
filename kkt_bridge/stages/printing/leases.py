"""The receipts that a lane has leased from the journal, and the commits that record their outcomes and lease the next.

A receipt is written `printing`, with the register's last document number, before the first byte goes out. Its outcome
is recorded in the same commit that leases the next, so a busy lane costs one commit a receipt; where a register is
faster than the disk, one commit covers several. An idle lane's next receipt is leased in the very commit that takes it,
which saves that receipt a commit.
"""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.journal import Journal, LeaseRequest
from kkt_bridge.journal.printing import lease, release
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.recovered import find_recovered
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.registers.base import Expected
from kkt_bridge.stages.printing.outcomes import (
    PrintOutcome,
    adopt_recovered,
    ids_of,
    log_outcome,
    mark_conflict,
    record_outcomes,
)
from kkt_bridge.stages.printing.status import LaneSettings

log = logging.getLogger(__name__)


class Leases:
    """The leased receipts of one lane, and outcomes that are not yet recorded."""

    def __init__(
        self, settings: LaneSettings, journal: Journal, note_unrecordable: Callable[[PrintTask, Exception], None]
    ) -> None:
        """`note_unrecordable` is told of a receipt whose outcome the journal will not have: it is in doubt."""
        self._settings = settings
        self._journal = journal
        self._note_unrecordable = note_unrecordable
        self._lease_request: LeaseRequest[list[PrintTask]] | None = None
        self.tasks: deque[PrintTask] = deque()
        """Leased, and not begun."""
        self.size = 1
        """Receipts leased at once."""
        self.outcomes: list[PrintOutcome] = []
        """Not yet recorded."""

    def lease_on_arrival(self, expected: Expected, is_allowed: Callable[[], bool]) -> None:
        """Have the next receipts leased in the commit that takes them; the lane is idle until `collect`.

        `is_allowed` is asked in the thread of whoever commits.
        """
        self._lease_request = self._journal.request_lease(
            self._settings.kkt, lambda tx: self._lease(tx, expected) if is_allowed() else []
        )

    def collect(self) -> bool:
        """Take over what was leased on arrival, and end that; False while a commit is under way that may lease."""
        request = self._lease_request
        if request is not None:
            if not self._journal.withdraw_lease(request):
                return False
            self._lease_request = None
            self.tasks.extend(request.result or [])
        return True

    def record(self, expected: Expected | None) -> bool:
        """Record the outcomes; in the same commit, lease the next receipts, if it is given where they will stand.

        Returns False where an outcome could not be recorded, and its receipt is in doubt. Errors: JournalError.
        """
        if not self.outcomes and expected is None:
            return True
        outcomes = self.outcomes

        def operation(tx: Transaction) -> list[PrintTask]:
            record_outcomes(tx, outcomes, self._settings.zone, self._settings.requisites)
            return self._lease(tx, expected) if expected is not None else []

        try:
            self.tasks.extend(self._journal.write(operation))
        except StorageUnavailable:
            raise
        except Exception:
            if not outcomes:
                raise
            log.exception("%d outcomes could not be recorded together", len(outcomes))
            self._record_one_by_one()
            return False
        self.outcomes = []
        for outcome in outcomes:
            log_outcome(outcome)
        return True

    def give_back(self) -> None:
        """Release receipts not begun, to their old places; one that cannot be released is in doubt by its row."""
        tasks = list(self.tasks)
        if not tasks:
            return
        self.tasks.clear()

        def operation(tx: Transaction) -> None:
            for task in tasks:
                release(tx, task)

        try:
            self._journal.write(operation)
        except Exception as error:  # noqa: BLE001 (whatever it was: their rows still say `printing`)
            log.warning("%d receipts could not be given back, and are in doubt: %s", len(tasks), error)

    def _lease(self, tx: Transaction, expected: Expected) -> list[PrintTask]:
        """Lease receipts, and return those of which no document is known: another lane may have found one elsewhere."""
        leased = lease(tx, self._settings.kkt, expected.fn_number, expected.fd_number - 1, self.size)
        if not tx.may_be_recovered:
            return leased
        unprinted = []
        for task in leased:
            found = find_recovered(tx.connection, requisite_1192(task.key))
            if (outcome := adopt_recovered(tx, task)) is not None:
                self._record_one(outcome, tx)
            elif mark_conflict(found, task) is None:  # else its row leaves it in doubt
                unprinted.append(task)
        return unprinted

    def _record_one_by_one(self) -> None:
        """Record the others where the journal will not have one of them; a person looks at that one."""
        while self.outcomes:
            outcome = self.outcomes[0]
            try:
                self._journal.write(partial(self._record_one, outcome))
            except StorageUnavailable:
                raise
            except Exception as error:
                log.exception("its outcome cannot be recorded", extra=ids_of(outcome.task))
                self._note_unrecordable(outcome.task, error)
            else:
                log_outcome(outcome)
            del self.outcomes[0]

    def _record_one(self, outcome: PrintOutcome, tx: Transaction) -> None:
        record_outcomes(tx, [outcome], self._settings.zone, self._settings.requisites)

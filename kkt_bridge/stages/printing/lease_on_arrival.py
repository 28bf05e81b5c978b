"""A resting lane's next receipt is leased in the very commit that takes it, which saves that receipt a commit."""

from collections.abc import Callable

from kkt_bridge.journal.journal import Journal, LeaseRequest
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.transaction import Transaction


class LeaseOnArrival:
    """Between the end of a lane's work and its next step: a lease request that stands in the journal."""

    def __init__(self, journal: Journal, kkt: str) -> None:
        self._journal = journal
        self._kkt = kkt
        self._lease_request: LeaseRequest[list[PrintTask]] | None = None

    def begin(self, lease: Callable[[Transaction], list[PrintTask]]) -> None:
        """Wish for the next receipt. `lease` runs in the thread of whoever commits, while the lane rests."""
        self._lease_request = self._journal.request_lease(self._kkt, lease)

    def end(self) -> list[PrintTask] | None:
        """What was leased meanwhile; None while a commit is under way that may lease something: the rest goes on."""
        lease_request = self._lease_request
        if lease_request is None:
            return []
        if not self._journal.withdraw_lease(lease_request):
            return None
        self._lease_request = None
        return lease_request.result or []

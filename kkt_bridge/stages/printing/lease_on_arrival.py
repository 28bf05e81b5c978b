"""A resting lane's next receipt is leased in the very commit that takes it, which saves that receipt a commit."""

from collections.abc import Callable

from kkt_bridge.journal.journal import Journal, Wish
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.transaction import Transaction


class LeaseOnArrival:
    """Between the end of a lane's work and its next step: a wish that stands in the journal."""

    def __init__(self, journal: Journal, kkt: str) -> None:
        self._journal = journal
        self._kkt = kkt
        self._wish: Wish[list[PrintTask]] | None = None

    def begin(self, lease: Callable[[Transaction], list[PrintTask]]) -> None:
        """Wish for the next receipt. `lease` runs in the thread of whoever commits, while the lane rests."""
        self._wish = self._journal.wish(self._kkt, lease)

    def end(self) -> list[PrintTask] | None:
        """What was leased meanwhile; None while a commit is under way that may lease something: the rest goes on."""
        wish = self._wish
        if wish is None:
            return []
        if not self._journal.withdraw(wish):
            return None
        self._wish = None
        return wish.result or []

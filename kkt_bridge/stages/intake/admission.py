"""The conditions on which a receipt is taken now: pause, capacity, and storages that are full."""

from collections.abc import Callable

from kkt_bridge.clock import Clock
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.settings import get_setting, set_setting
from kkt_bridge.stages.intake.flood import FloodStatus, FloodWatch

_PAUSED = "paused"


class Admission:
    """The state of the bridge on which the taking of receipts depends."""

    def __init__(self, capacity: int, storage_exhausted: Callable[[str], bool], clock: Clock) -> None:
        self.capacity = capacity
        self.storage_exhausted = storage_exhausted
        """True for a register whose fiscal storage takes no more documents."""
        self.watch = FloodWatch(clock)
        """Counts messages by sender; the intake notes them."""
        self.paused = False
        """True while an operator has stopped the taking of receipts."""

    def recall(self, journal: Journal) -> None:
        """Stay paused over a restart."""
        self.paused = journal.read(lambda connection: get_setting(connection, _PAUSED)) == "yes"

    @property
    def flood(self) -> FloodStatus | None:
        """The POS that floods the bridge, the worst one if there are several; None if none does."""
        return self.watch.flood

    def set_paused(self, journal: Journal, *, paused: bool) -> None:
        """Stop or start taking receipts, also over a restart."""
        journal.write(lambda tx: set_setting(tx, _PAUSED, "yes" if paused else "no"))
        self.paused = paused

    def accepting(self, pending: int) -> bool:
        """Return whether a receipt would be taken while so many fill the buffer."""
        return not self.paused and pending < self.capacity

"""The journal's file as an administrator meets it: copied, put back later, or lost with the machine."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192

if TYPE_CHECKING:
    from simulation.world import World

REACH_S: Final = 20 * 86_400.0
"""Seconds: a bridge without a journal reads its registers' storages a month back, and could not know a longer day."""


class JournalFile:
    """The file, and what was done to it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._journal = world.folder / "journal.db"
        self._copy = world.folder / "copy.db"
        self.was_lost = False
        """True once the bridge has woken up with less than it knew."""
        self.awaits_a_register = False
        """True while a register that such a bridge never read is away: for longer than a minute it waits for none."""

    def copy(self) -> None:
        """Make a backup, while the bridge runs or not."""
        if not self._journal.exists():
            return
        source = sqlite3.connect(f"file:{self._journal}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(self._copy)) as target:
            source.backup(target)

    @property
    def may_be_put_back(self) -> bool:
        """Return whether there is a copy with each receipt that stands on a storage which can be read no more."""
        return self._copy.exists() and (self._is_knowable or self._gone() <= self._in_copy())

    @property
    def may_be_lost(self) -> bool:
        """Return whether all that was printed can still be read: not behind a storage's end, nor under a wrong date."""
        is_short = self._world.clock.monotonic() - self._world.began_s < REACH_S
        return self._is_knowable and is_short and "clock" not in self._world.day.kinds

    @property
    def _is_knowable(self) -> bool:
        return not any(register.old_storages for register in self._world.registers.values())

    def _gone(self) -> set[str]:
        """The marks of our receipts on storages that were taken out."""
        sales = {sale.requisite for sale in self._world.sales()}
        documents = (document for register in self._world.registers.values() for document in register.documents())
        held = {register.fn_number() for register in self._world.registers.values()}
        marks = {document.body.requisite_1192 for fn_number, document in documents if fn_number not in held}
        return {mark for mark in marks if mark in sales}

    def _in_copy(self) -> set[str]:
        """The marks of the receipts that the copy knows."""
        with closing(sqlite3.connect(f"file:{self._copy}?mode=ro", uri=True)) as copy:
            return {requisite_1192(ReceiptKey(*row)) for row in copy.execute("SELECT pos_id, receipt_id FROM receipts")}

    def put_back(self) -> None:
        """Put the copy in the journal's place, as on a new machine."""
        self.lose()
        shutil.copy(self._copy, self._journal)

    def lose(self) -> None:
        """Leave nothing of the journal, its lock included."""
        self._world.close_journal_reader()
        self.was_lost = True
        for path in self._world.folder.glob("journal.db*"):
            path.unlink()

"""A journal that may be older than what the registers printed: a copy put back, or a journal that is new.

Receipts may have been printed since that the journal does not know. Their documents are on the fiscal storages, and
each lane reads its own before it prints. That is not enough in three cases:

* The document of a receipt that waits for one register may stand on the storage of another: its POS was mapped anew,
  or the storages changed places. So lanes wait for each other at the start (`StartBarrier`): none prints before each
  has read its storage, or found its register away.
* The storage that the register held by this journal has been taken out. Receipts that wait in the journal may stand on
  it: where they are found nowhere else they are left to a person, like every receipt in doubt, and the lane stands
  still. (A storage that is exchanged once the register was read under this journal holds nothing unknown.)
* A register that was never read under this journal does not answer. Its documents may be receipts that come again, now
  for another register. A request does not say when its sale took place, so a repeat cannot be told from a new sale: the
  other lanes wait for `AWAY_WAIT_S` after the start, as long as a register takes that was switched on together with the
  bridge, and then sell on. The lane that is away says what may follow.

A receipt that the journal does not know at all, and that a storage holds which is gone, is printed again if its POS
repeats it: nothing here can know of it. The lane says so where it finds a storage exchanged.
"""

import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from enum import Enum
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import JournalError
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.print_queue import IN_DOUBT_MAX, hold_in_doubt, waiting_since_before
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.settings import HeldStorage, note_held_storage, storage_held_by
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.stages.printing.leases import ids_of


class StartBarrier:
    """Shared by all lanes of a process; opens once, and stays open."""

    def __init__(self, registers: Iterable[str]) -> None:
        self._awaited = set(registers)
        self.is_shared = len(self._awaited) > 1
        """Whether there is more than one register."""
        self.storages_read: set[str] = set()
        """Fiscal storages that were read to their ends, in whichever register."""

    def arrive(self, kkt: str) -> None:
        """Note that this register's storage was read, or that it is waited for no longer."""
        self._awaited.discard(kkt)

    @property
    def is_open(self) -> bool:
        """Whether no register is waited for."""
        return not self._awaited

    @property
    def awaited(self) -> str:
        """Registers that are waited for, separated by commas."""
        return ", ".join(sorted(self._awaited))


AWAY_WAIT_S: Final = 60.0
"""Seconds after the start for which lanes wait for a register that does not answer and was never read."""

UNREAD: Final = (
    "; its fiscal storage has not been read since this journal began or was put back: a receipt that it printed before "
    "is printed again if its POS repeats it and is mapped to another register now"
)
"""Added to the problem of a register that was never read under this journal."""

log = logging.getLogger(__name__)


class StorageVerdict(Enum):
    """What the fiscal storage in a register says of the journal."""

    SAME = "same"
    """It was read under this journal already, and is noted."""
    CAUGHT_UP = "caught_up"
    """What happened since has been read, or the journal is the newest: to be noted."""
    TAKEN_OUT = "taken_out"
    """The one that the journal names is gone, and nobody has read what was made on it since."""


def judge_storage(
    held: HeldStorage | None, restored_at_commit: int, fn_number: str, storages_read: Collection[str]
) -> StorageVerdict:
    """Return what storage `fn_number` says, found in a register that held `held` by the journal.

    `restored_at_commit` is the last commit of a journal that was put here, 0 where it is the bridge's own;
    `storages_read` are those that this process has read, in any register.
    """
    if held is not None and held.commit_no > restored_at_commit:
        return StorageVerdict.SAME if held.fn_number == fn_number else StorageVerdict.CAUGHT_UP
    if restored_at_commit == 0:
        return StorageVerdict.CAUGHT_UP
    if held is not None and (held.fn_number == fn_number or held.fn_number in storages_read):
        return StorageVerdict.CAUGHT_UP
    return StorageVerdict.TAKEN_OUT


class StaleJournal:
    """Whether the journal may be stale for one register, and what its lane does then."""

    def __init__(self, kkt: str, journal: Journal, barrier: StartBarrier, clock: Clock) -> None:
        self._kkt = kkt
        self._journal = journal
        self._barrier = barrier
        self._clock = clock
        self._began_at = clock.monotonic()
        self._noted: str | None = None
        """The storage that is noted as the register's."""
        self._was_read = False
        self.taken_out: str | None = None
        """What to show of a storage that was taken out; None where none was."""

    def note_read(self, fn_number: str) -> None:
        """Note that the register's storage was read to its end and nothing blocks it. Errors: JournalError."""
        self._was_read = True
        self._barrier.storages_read.add(fn_number)
        if self._noted != fn_number:
            self._examine(fn_number)

    def holds_up_others(self) -> bool:
        """Return whether the other lanes wait for this register, which does not serve."""
        if self._was_read or self._clock.monotonic() - self._began_at >= AWAY_WAIT_S:
            return False
        return not self.is_known()

    def warning(self) -> str:
        """Return what to add to the problem of a register that does not serve; empty where nothing may follow."""
        return "" if not self._barrier.is_shared or self.is_known() else UNREAD

    def is_known(self) -> bool:
        """Return whether the register's storage was read under this journal, in this process or before."""
        if not self._was_read:
            with suppress(JournalError):
                held = self._journal.read(lambda connection: storage_held_by(connection, self._kkt))
                self._was_read = held is not None and held.commit_no > self._journal.restored_at_commit
        return self._was_read

    def catch_up(self, fn_number: str) -> bool:
        """Examine a storage before printing; return whether nothing was left to a person. Errors: JournalError."""
        if self._noted == fn_number:
            return True
        verdict, held = self._examine(fn_number)
        left = self._hold_waiting_in_doubt(held, fn_number) if verdict is StorageVerdict.TAKEN_OUT else 0
        if left < IN_DOUBT_MAX:
            self._noted = fn_number
        return left == 0

    def _examine(self, fn_number: str) -> tuple[StorageVerdict, HeldStorage | None]:
        """Return the verdict, noted where it leaves nothing open, and what the register held by the journal."""
        held = self._journal.read(lambda connection: storage_held_by(connection, self._kkt))
        verdict = judge_storage(held, self._journal.restored_at_commit, fn_number, self._barrier.storages_read)
        if verdict is StorageVerdict.CAUGHT_UP:
            self._journal.write(lambda tx: note_held_storage(tx, self._kkt, fn_number))
        if verdict is not StorageVerdict.TAKEN_OUT:
            self._noted = fn_number
        return verdict, held

    def _hold_waiting_in_doubt(self, held: HeldStorage | None, fn_number: str) -> int:
        """Hold in doubt what waits in this journal, as many as are judged at once; return how many."""
        old = held.fn_number if held is not None else None
        remark = _remark(self._kkt, old)

        def operation(tx: Transaction) -> list[PrintTask]:
            tasks = waiting_since_before(tx.connection, self._kkt, self._journal.restored_at_commit)
            for task in tasks:
                hold_in_doubt(tx, task, old, tx.fd_marks.get(old) if old else None, remark)
            if len(tasks) < IN_DOUBT_MAX:
                note_held_storage(tx, self._kkt, fn_number)
            return tasks

        tasks = self._journal.write(operation)
        for task in tasks:
            log.warning("left to a person: it %s", remark, extra=ids_of(task))
        if old:
            self.taken_out = (
                f"fiscal storage {old} was taken out of {self._kkt} after this journal was written: a receipt that it "
                "holds and the journal does not know is printed again if its POS repeats it: compare what was sold "
                "since then with its papers"
            )
            log.warning("%s; %d receipts that were waiting are left to a person", self.taken_out, len(tasks))
        return len(tasks)


def _remark(kkt: str, fn_number: str | None) -> str:
    """Return why a receipt is left to a person, in words that follow its name."""
    if fn_number is None:
        where = f"that does not name the fiscal storage that {kkt} held: it may have been printed on one that is not "
        where += "there any more"
    else:
        where = f"fiscal storage {fn_number} is not in {kkt} any more: it may have been printed there"
    return f"was waiting when this journal was put back or made anew, and {where}"

"""What a lane does where the bridge's memory may not be the last: a copy put back, or a journal that is new.

What happened since is on the storages. Two of them may be out of reach:

* The storage that the register held by this memory has been taken out. Receipts that wait in the memory may stand on
  it: where they are found nowhere else they are left to a person, like every doubt, and the lane stands still.
  (A storage that is exchanged once the register was read under this memory holds nothing unknown: `HeldStorage`.)
* A register that this memory has never read does not answer. Its documents may be receipts that come again, now for
  another register. A request does not say when its sale took place, so a repeat cannot be told from a new sale: the
  other lanes wait for `AWAY_WAIT_S` after the start, as long as a register takes that was switched on together with the
  bridge, and then sell on. The lane that is away says what may follow.

A receipt that this memory does not know at all, and that a storage holds which is gone, is printed again if its POS
repeats it: nothing here can know of it. The lane says so where it finds a storage exchanged.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import JournalError
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.printing import IN_DOUBT_MAX, hold_in_doubt, waiting_since_before
from kkt_bridge.journal.records import PrintTask
from kkt_bridge.journal.settings import HeldStorage, note_held_storage, storage_held_by
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.stages.printing.outcomes import ids_of
from kkt_bridge.stages.printing.start_barrier import StartBarrier

AWAY_WAIT_S: Final = 60.0
"""Seconds after the start for which lanes wait for a register that does not answer and was never read."""

UNREAD: Final = (
    "; its fiscal storage has not been read since this journal began or was put back: a receipt that it printed before "
    "is printed again if its POS repeats it and is mapped to another register now"
)
"""What is said of a register that does not serve and was never read."""

log = logging.getLogger(__name__)


class StorageVerdict(Enum):
    """What the storage in a register says of the memory."""

    SAME = "same"
    """It was read under this memory already, and is noted."""
    CAUGHT_UP = "caught_up"
    """What happened since this memory has been read, or the memory is the last: to be noted."""
    TAKEN_OUT = "taken_out"
    """The one that this memory names is gone, and nobody has read what was made on it since."""


def judge(
    held: HeldStorage | None, taken_up_at: int, fn_number: str, was_read: Callable[[str], bool]
) -> StorageVerdict:
    """What storage `fn_number` says, found in a register that held `held` by a memory that was put here.

    `taken_up_at` is the last commit of that memory, 0 where the memory is the bridge's own; `was_read` tells of a
    storage whether this process has read it in any register.
    """
    if held is not None and held.commit_no > taken_up_at:
        return StorageVerdict.SAME if held.fn_number == fn_number else StorageVerdict.CAUGHT_UP
    if taken_up_at == 0:
        return StorageVerdict.CAUGHT_UP
    if held is not None and (held.fn_number == fn_number or was_read(held.fn_number)):
        return StorageVerdict.CAUGHT_UP
    return StorageVerdict.TAKEN_OUT


class OldJournal:
    """What one lane knows of it."""

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
        """What is to be told of a storage that was taken out; None where none was."""

    def note_read(self, fn_number: str) -> None:
        """The register's storage has been read to its end, and nothing on it is unreadable. Errors: JournalError."""
        self._was_read = True
        self._barrier.note_read(fn_number)
        if self._noted != fn_number:
            self._judge(fn_number)

    def is_waited_for(self) -> bool:
        """Whether the other lanes wait for this register, which does not serve."""
        if self._was_read or self._clock.monotonic() - self._began_at >= AWAY_WAIT_S:
            return False
        return not self.is_known()

    def what_may_follow(self) -> str:
        """What is added to the reason for which the register does not serve: nothing where nothing may follow."""
        return "" if not self._barrier.is_shared or self.is_known() else UNREAD

    def is_known(self) -> bool:
        """Whether this memory has read the register's storage, in this process or before."""
        if not self._was_read:
            with suppress(JournalError):
                held = self._journal.read(lambda connection: storage_held_by(connection, self._kkt))
                self._was_read = held is not None and held.commit_no > self._journal.taken_up_at
        return self._was_read

    def catch_up(self, fn_number: str) -> bool:
        """Before anything is printed on this storage: whether nothing has to be left to a person first."""
        if self._noted == fn_number:
            return True
        verdict, held = self._judge(fn_number)
        left = self._leave_to_a_person(held, fn_number) if verdict is StorageVerdict.TAKEN_OUT else 0
        if left < IN_DOUBT_MAX:
            self._noted = fn_number
        return left == 0

    def _judge(self, fn_number: str) -> tuple[StorageVerdict, HeldStorage | None]:
        """The verdict, noted where it leaves nothing open, and what the register held by the memory."""
        held = self._journal.read(lambda connection: storage_held_by(connection, self._kkt))
        verdict = judge(held, self._journal.taken_up_at, fn_number, self._barrier.was_read)
        if verdict is StorageVerdict.CAUGHT_UP:
            self._journal.write(lambda tx: note_held_storage(tx, self._kkt, fn_number))
        if verdict is not StorageVerdict.TAKEN_OUT:
            self._noted = fn_number
        return verdict, held

    def _leave_to_a_person(self, held: HeldStorage | None, fn_number: str) -> int:
        """Take what waits in this memory for doubts, as many as are judged together; how many."""
        old = held.fn_number if held is not None else None
        remark = _remark(self._kkt, old)

        def operation(tx: Transaction) -> list[PrintTask]:
            tasks = waiting_since_before(tx.connection, self._kkt, self._journal.taken_up_at)
            for task in tasks:
                hold_in_doubt(tx, task, old, tx.fd_mark(old) if old else None, remark)
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
    """Why a receipt is left to a person, in words that follow its name."""
    if fn_number is None:
        return (
            f"was waiting when this journal was put back or made anew, and that does not name the fiscal storage that "
            f"{kkt} held: it may have been printed on one that is not there any more"
        )
    return (
        f"was waiting when this journal was put back or made anew, and fiscal storage {fn_number} is not in {kkt} any "
        "more: it may have been printed there"
    )

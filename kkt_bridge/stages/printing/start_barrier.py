"""Where lanes wait for each other at the start: none prints before each has looked into its register's storage.

With an old journal, or none, the document of a receipt that waits for one register may stand on the storage of another:
its POS was mapped anew, or the storages changed places. A register that does not answer is waited for only where this
memory has never seen its storage, and not for long (see `old_memory.py`).
"""

from collections.abc import Iterable


class StartBarrier:
    """Shared by all lanes of a process; opens once, and stays open."""

    def __init__(self, registers: Iterable[str]) -> None:
        self._awaited = set(registers)
        self.is_shared = len(self._awaited) > 1
        """Whether there is more than one register."""
        self._read: set[str] = set()

    def arrive(self, kkt: str) -> None:
        """This register's storage was read, or the register is waited for no longer."""
        self._awaited.discard(kkt)

    def note_read(self, fn_number: str) -> None:
        """This storage was read to its end, in whichever register."""
        self._read.add(fn_number)

    def was_read(self, fn_number: str) -> bool:
        """Whether this process has read it."""
        return fn_number in self._read

    @property
    def is_open(self) -> bool:
        """Whether nobody is waited for."""
        return not self._awaited

    @property
    def awaited(self) -> str:
        """Who is waited for, in words."""
        return ", ".join(sorted(self._awaited))

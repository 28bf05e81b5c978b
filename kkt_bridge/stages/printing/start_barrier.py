"""Where lanes wait for each other at the start: none prints before each has looked into its register's storage.

With an old journal, or none, the document of a receipt that waits for one register may stand on the storage of another:
its POS was mapped anew, or the storages changed places. A register that does not answer is not waited for.
"""

from collections.abc import Iterable


class StartBarrier:
    """Shared by all lanes of a process; opens once, and stays open."""

    def __init__(self, registers: Iterable[str]) -> None:
        self._awaited = set(registers)

    def arrive(self, kkt: str) -> None:
        """This register's storage was read, or the register could not be asked."""
        self._awaited.discard(kkt)

    @property
    def is_open(self) -> bool:
        """Whether nobody is waited for."""
        return not self._awaited

"""Rows that the journal has committed, in their order, for the one who publishes them.

While the reader keeps up they come from memory, straight from the commit; where it does not, or starts over, from
the journal. Either way only what is on the disk is told, and nothing is left out.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

AHEAD_MAX: Final = 4000
"""Rows kept in memory for a reader; beyond that the journal keeps them."""


class Row(Protocol):
    """What has an id that follows the order of commits."""

    @property
    def id(self) -> int:
        """Above the ids of all earlier rows."""
        ...


R = TypeVar("R", bound=Row)


class OutboxCursor(Generic[R]):
    """One reader's place in a table that only ever grows."""

    def __init__(self, read: Callable[[int, int], list[R]]) -> None:
        """`read` asks the journal for so many rows behind an id, in order."""
        self._read = read
        self._fresh: deque[R] = deque()
        self._behind = True
        self._last = 0

    def committed(self, rows: Sequence[R]) -> None:
        """Take note of a commit; from the thread that committed."""
        if self._behind:
            return  # the journal is asked anyway, and after this
        self._fresh.extend(rows)
        if len(self._fresh) > AHEAD_MAX:
            self._behind = True

    def start_over(self, after: int) -> None:
        """Begin again behind this row."""
        self._last = after
        self._behind = True

    @property
    def position(self) -> int:
        """The last row that was taken."""
        return self._last

    def take(self, limit: int) -> list[R]:
        """The next rows, at most so many; fewer only if there are no more, or these came meanwhile.

        Errors: those of `read`.
        """
        rows = self._catch_up(limit) if self._behind else self._from_memory(limit)
        if rows:
            self._last = rows[-1].id
        return rows

    def _from_memory(self, limit: int) -> list[R]:
        fresh = self._fresh
        while fresh and fresh[0].id <= self._last:
            fresh.popleft()  # committed while the journal was being read, and taken from there
        return [fresh.popleft() for _ in range(min(limit, len(fresh)))]

    def _catch_up(self, limit: int) -> list[R]:
        # In this order: what is committed from here on is in memory, and what was before is in the journal.
        self._behind = False
        self._fresh.clear()
        try:
            rows = self._read(self._last, limit)
        except Exception:
            self._behind = True
            raise
        if len(rows) == limit:
            self._behind = True  # and never False here: the thread that commits may have fallen back meanwhile
        return rows

"""The journal's disk: SQLite itself is made to fail, by limits of its own or at the moment of its COMMIT."""

import sqlite3
from typing import Any, Literal

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from simulation.effects import Effects

State = Literal["well", "full", "readonly"]

PAGES_MAX = 1_073_741_823
"""SQLite's own limit."""


class Disk:
    """The journal's disk: well, full, readonly, or failing at a COMMIT."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self.state: State = "well"
        self.failing_commits = 0
        self.writer: Any = None
        """The driver's connection that the bridge writes through."""

    def set(self, state: State) -> None:
        """Let the disk be so, for this process of the bridge and those that follow."""
        self.state = state
        if self.writer is None:
            return
        (pages,) = self.writer.execute("PRAGMA page_count").fetchone()
        self.writer.execute(f"PRAGMA max_page_count = {pages if state == 'full' else PAGES_MAX}")
        self.writer.execute(f"PRAGMA query_only = {int(state == 'readonly')}")

    def heal(self) -> None:
        """Nothing is wrong any more."""
        self.failing_commits = 0
        self.set("well")

    def new_engine(self, url: str, **how: Any) -> Engine:
        """Make an engine; the one that writes commits through this disk."""
        engine = create_engine(url, **how)
        if how.get("poolclass") is NullPool:
            engine.dialect.do_commit = self._commit  # type: ignore[method-assign]
        return engine

    def _commit(self, connection: Any) -> None:
        self._effects.at("commit: before")
        if self.failing_commits:
            self.failing_commits -= 1
            self._effects.trace("the COMMIT fails")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        connection.commit()
        self._effects.at("commit: after")

"""Work in a process that is killed before an effect of its own on files: what a power cut leaves."""

import os
import sys
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Engine, event

KILLED = 9
"""The exit status of a process that ended at the effect that was chosen."""

EFFECTS = frozenset(
    {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "open", "sqlite3.connect"}
)
"""Audit events of the interpreter (PEP 578), raised before each call by which a restore changes files."""

WRITING = ("COMMIT", "PRAGMA wal_checkpoint")
"""How the SQL statements begin that change a journal's log or its file for good."""


def killed_at(number: int, work: Callable[[], object], effects: Collection[str] = EFFECTS) -> bool:
    """Do this in a process that ends before its effect of this number; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [number]

        def count(what: str, _arguments: Any) -> None:
            if what in effects:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(KILLED)

        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == KILLED


def killed_at_statement(number: int, work: Callable[[], object]) -> bool:
    """As `killed_at`, before the SQL statement of this number among those that are `WRITING`."""
    child = os.fork()
    if child == 0:
        left = [number]

        def count(statement: str) -> None:
            if statement.startswith(WRITING):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(KILLED)

        def watch(connection: Any, _record: Any) -> None:
            connection.set_trace_callback(count)

        event.listen(Engine, "connect", watch)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == KILLED

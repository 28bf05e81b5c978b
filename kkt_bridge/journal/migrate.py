"""The schema's history, as numbered SQL files: which there are, and running those that a file has not seen.

A file's `user_version` is the number of the last migration that it has seen.
"""

import sqlite3
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

_NUMBER_DIGITS: Final = 4
"""A migration's file begins with its number in so many digits."""


class Migration(NamedTuple):
    """One step of the schema's history."""

    number: int
    statements: Sequence[str]


@cache
def migrations() -> Sequence[Migration]:
    """All of them, in order."""
    scripts = sorted(
        (entry for entry in files("kkt_bridge.journal.migrations").iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return [
        Migration(
            int(script.name[:_NUMBER_DIGITS]),
            [statement for statement in script.read_text(encoding="utf-8").split(";\n") if statement.strip()],
        )
        for script in scripts
    ]


def known_schema() -> int:
    """The number of the schema that this program writes."""
    return migrations()[-1].number


def schema_of(connection: sqlite3.Connection) -> int:
    """The number of the schema that this file has; 0 for one that holds nothing yet."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection) -> None:
    """Run what this file has not seen, each migration in a transaction of its own.

    `connection` is in autocommit mode. Errors: sqlite3.Error, and the file has the schema that it got to by then.
    """
    done = schema_of(connection)
    for migration in migrations():
        if migration.number > done:
            _run(connection, migration)


def _run(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in migration.statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {migration.number}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

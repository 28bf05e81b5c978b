"""Journals as earlier releases wrote them, made by their own migrations."""

import sqlite3
from contextlib import closing
from pathlib import Path

from kkt_bridge.journal.migrate import migrations


def of_the_first_release(path: Path, copy: Path) -> Path:
    """The rows of a journal in a file that the first release made: its tables and columns, and no others."""
    first = migrations()[0]
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        for statement in first.statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {first.number}")
        connection.execute("ATTACH ? AS now", [str(path)])
        for (table,) in connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall():
            columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")
    return copy

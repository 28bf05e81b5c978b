"""The price of durability on this disk: one small insert, one commit, as the journal is set."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from benchmarks.medians import percentile

COMMITS = 300
WARM_UP = 30
ROW = b"x" * 200


def commit_p50_ms(file: Path) -> float:
    """The median of bare sqlite3 commits with WAL and `synchronous=FULL`."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, body BLOB)")
        took = [_commit(connection) for _ in range(WARM_UP + COMMITS)]
    return percentile(sorted(took[WARM_UP:]), 50) * 1000


def _commit(connection: sqlite3.Connection) -> float:
    began = time.perf_counter()
    connection.execute("INSERT INTO rows (body) VALUES (?)", (ROW,))
    return time.perf_counter() - began

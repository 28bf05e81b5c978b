"""Journals with a long past, made in seconds: one receipt that a bridge has really taken, copied as often as wanted."""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError

ID_BITS = 16
"""Bits of an id within its commit, as `kkt_bridge/journal/transaction.py` has them."""

EARLIER_FN = "9999078900999999"
"""The storage that made the copies' documents. It was replaced since: the present one need not know them."""

CACHE_KIB = 400_000
RANDOM_UUID = """
    lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-a' ||
          substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))
"""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Pattern:
    """The rows of the one receipt that is there."""

    receipt: Values
    request: Values
    document: Values
    steps: Sequence[Values]


def multiply(journal: Path, copies: int) -> None:
    """Give the journal of a stopped bridge, which holds one receipt, so many more, alike but for their ids."""
    with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        pattern = _pattern(connection)
        first = int(_figure(connection, "commit_no")) + 1
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        connection.execute("CREATE TEMP TABLE copies (n INTEGER PRIMARY KEY, base INTEGER, uuid TEXT)")
        connection.execute(
            f"""WITH RECURSIVE counter(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < ?)
                INSERT INTO copies SELECT n, (? + n - 1) << {ID_BITS}, {RANDOM_UUID} FROM counter""",  # noqa: S608
            (copies, first),
        )
        _copy_rows(connection, pattern)
        _count(connection, pattern, copies, first + copies)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    # What is still on its way to the disk would burden whatever is measured next.
    with journal.open("rb") as file:
        os.fsync(file.fileno())


def _pattern(connection: sqlite3.Connection) -> Pattern:
    def rows(table: str) -> list[Values]:
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1")]  # noqa: S608

    receipts, requests, documents, outbox = (rows(table) for table in ("receipts", "requests", "documents", "outbox"))
    if not len(receipts) == len(requests) == len(documents) == 1 or outbox:
        raise BenchmarkError("the pattern of a synthetic journal is one receipt with everything published")
    steps = [step for step in rows("steps") if step["receipt"] == receipts[0]["id"]]
    return Pattern(receipts[0], requests[0], documents[0], steps)


def _copy_rows(connection: sqlite3.Connection, pattern: Pattern) -> None:
    receipt, document = "base + 1", "base + 2"
    old = pattern.document
    mark = f"replace(:mark, '\"fd_number\":{old['fd_number']},', '\"fd_number\":' || n || ',')"
    _insert(connection, pattern, "receipts", pattern.receipt, {"id": receipt, "document": document})
    _insert(connection, pattern, "requests", pattern.request, {"receipt": receipt})
    _insert(
        connection,
        pattern,
        "documents",
        dict(old) | {"mark": old["mark"].replace(old["fn_number"], EARLIER_FN), "fn_number": EARLIER_FN},
        {"id": document, "receipt": receipt, "fd_number": "n", "mark": mark},
    )
    for number, step in enumerate(pattern.steps, start=3):
        _insert(connection, pattern, "steps", step, {"id": f"base + {number}", "receipt": receipt})


def _insert(
    connection: sqlite3.Connection, pattern: Pattern, table: str, row: Values, different: Mapping[str, str]
) -> None:
    """A row for each copy: as in the pattern, but for the receipt's UUID and these expressions."""
    uuid = pattern.receipt["receipt_id"]
    expressions = [
        different.get(name)
        or (f"replace(:{name}, '{uuid}', uuid)" if isinstance(value, str) and uuid in value else f":{name}")
        for name, value in row.items()
    ]
    connection.execute(
        f"INSERT INTO {table} ({', '.join(row)}) SELECT {', '.join(expressions)} FROM copies ORDER BY n",  # noqa: S608
        dict(row),
    )


def _count(connection: sqlite3.Connection, pattern: Pattern, copies: int, commit_no: int) -> None:
    """What the journal keeps beside its rows: its counters, its last commit, and what is news no more."""
    status, kkt = pattern.receipt["status"], pattern.receipt["kkt"]
    set_figure = "UPDATE figures SET value = ? WHERE kkt = ? AND name = ?"
    connection.execute(set_figure, (copies + 1, kkt, status))
    connection.execute(set_figure, (commit_no, "", "commit_no"))
    published = (str(commit_no << ID_BITS),)
    connection.execute("UPDATE settings SET value = ? WHERE name = 'steps_published'", published)
    if connection.execute("SELECT changes()").fetchone()[0] != 1:
        raise BenchmarkError("the bridge has not published the steps of the pattern")


def _figure(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute("SELECT value FROM figures WHERE kkt = '' AND name = ?", (name,)).fetchone()
    return int(row[0])

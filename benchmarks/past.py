"""Bridges with a past: many receipts stored, or many that the OFD lacks, made in seconds.

One receipt that a bridge has really taken is copied in its journal as often as wanted.
"""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.processes import wait_until
from support.simulated_ofd import OfdProcess

from benchmarks.load import BenchmarkError
from benchmarks.programs import Bridge, BridgeConfig
from benchmarks.site import Site, load_bridge

STORED = 1_000_000
PENDING = 100_000
"""Receipts of the two pasts that are measured."""
PUBLISHED_S = 30.0
"""For one receipt until everything about it is published."""

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


def past_of(site: Site, name: str, copies: int, *, pending: bool) -> Path:
    """A directory with such a journal, made once: `pending` receipts wait for the OFD, others are delivered."""
    directory = site.directory / name
    if not directory.exists():
        directory.mkdir()
        with ExitStack() as stack:
            url = site.away if pending else stack.enter_context(OfdProcess(directory)).url
            bridge = stack.enter_context(site.bridge(BridgeConfig(url), directory))
            load_bridge(bridge, replace(site.load(), window=1, count=1))
            wanted = "printed" if pending else "synced"
            wait_until(lambda: _is_published(bridge, wanted), PUBLISHED_S, f"a receipt that is {wanted} and published")
        multiply(directory / "journal.db", copies)
    return directory


def _is_published(bridge: Bridge, status: str) -> bool:
    with closing(sqlite3.connect(f"file:{bridge.journal}?mode=ro", uri=True)) as connection:
        statuses = [row[0] for row in connection.execute("SELECT status FROM receipts")]
        waiting = connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
        last_step = connection.execute("SELECT max(id) FROM steps").fetchone()[0]
        published = connection.execute("SELECT value FROM settings WHERE name = 'steps_published'").fetchone()
    return statuses == [status] and not waiting and published is not None and int(published[0]) >= last_step


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
    """Set what the journal keeps beside its rows: its counters, its last commit, the last event published."""
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

"""The readable rows of a damaged journal: every row that stands on a page which is whole.

A table is read upwards until a bad page stops it, then downwards from its other end; what is left between is
divided and tried again, so that one bad page costs the rows on it and no others. Rows are not believed: what
could not have been written by this program is left out.
"""

import heapq
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kkt_bridge.journal import tables
from kkt_bridge.journal.migrate import migrate
from kkt_bridge.recovery.row_validation import Row, is_valid_row

PROBES_MAX: Final = 2000
"""Queries spent on one table: the finer the gaps are searched, the longer it takes."""

_ROWID_TOP: Final = 2**63 - 1
_UUID_TOP: Final = 2**128 - 1


@dataclass(frozen=True, slots=True)
class Table:
    """A table to be walked by a key that stands for a number."""

    name: str
    key: str
    top: int
    pack: Callable[[int], Any]
    unpack: Callable[[Any], int]


def _by_number(name: str, key: str = "id") -> Table:
    return Table(name, key, _ROWID_TOP, pack=int, unpack=int)


TABLES: Final = (
    _by_number("receipts"),
    _by_number("requests", "receipt"),
    _by_number("documents"),
    _by_number("bodies", "document"),
    _by_number("steps"),
    _by_number("outbox"),
    _by_number("commands"),
    _by_number("storages"),
    Table(
        "tombstones",
        "receipt_id",
        _UUID_TOP,
        pack=lambda number: number.to_bytes(16, "big"),
        unpack=lambda packed: int.from_bytes(packed, "big"),
    ),
)
"""The tables that are saved. Refusals are not: the broker's redeliveries that they are for are over by then."""


@dataclass(slots=True)
class Salvage:
    """The rows read. `gaps` counts the stretches of each table that could not be."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    gaps: dict[str, int] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    figures: dict[str, int] = field(default_factory=dict)
    """The clocks and the number of the last commit."""
    recovered: list[Row] = field(default_factory=list)
    """Rows of `recovered`: documents that waited there already for their receipts to come again."""


def salvage(damaged: Path, model: Path, folder: Path) -> Salvage:
    """Read what can be read of a journal that was moved aside.

    `model` is a journal of this program's schema; `folder` an empty folder, where a copy is worked on. The original
    is only read, and may be of an earlier schema. OSError where it cannot be copied.
    """
    copy = folder / "damaged.db"
    shutil.copyfile(damaged, copy)
    log = damaged.with_name(damaged.name + "-wal")
    if log.exists():
        shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
    if not _opens(copy):
        _replace_first_page(copy, model)
    found = Salvage()
    with closing(_connect(copy)) as connection, closing(_connect(model)) as known:
        # A journal of an earlier release. Where damage is in the way, the columns that it has must do.
        with suppress(sqlite3.Error):
            migrate(connection)
        for table in TABLES:
            shape = _shape(connection, known, table)
            found.rows[table.name], found.gaps[table.name] = _read_table(connection, shape)
        found.settings = dict(_rows_before_damage(connection, "SELECT name, value FROM settings"))
        found.figures = dict(_rows_before_damage(connection, "SELECT name, value FROM figures WHERE kkt = ''"))
        names = [column.name for column in tables.recovered.columns]
        rows = _rows_before_damage(connection, f"SELECT {', '.join(names)} FROM recovered")  # noqa: S608 (names of our own)
        found.recovered = [dict(zip(names, row, strict=True)) for row in rows]
    return found


@dataclass(frozen=True, slots=True)
class _Shape:
    """A table as it is in the file that is read."""

    table: Table
    columns: Sequence[str]
    """Of those that this program knows, the ones that are there."""
    lacking: dict[str, Any]
    """Those that are not, with the values that their migration gives to old rows."""


def _shape(connection: sqlite3.Connection, known: sqlite3.Connection, table: Table) -> _Shape:
    there = {row[1] for row in _rows_before_damage(connection, f"PRAGMA table_info({table.name})")}
    default_of = {row[1]: row[4] for row in known.execute(f"PRAGMA table_info({table.name})")}
    names = [column.name for column in tables.metadata.tables[table.name].columns]
    if not there:  # the schema itself cannot be read: whoever has to fail is the query
        return _Shape(table, names, {})
    lacking = {
        name: known.execute(f"SELECT {default_of[name] or 'NULL'}").fetchone()[0] for name in names if name not in there
    }
    return _Shape(table, [name for name in names if name in there], lacking)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = lambda text: text.decode(errors="replace")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _opens(path: Path) -> bool:
    try:
        with closing(_connect(path)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            connection.execute("SELECT 1 FROM receipts LIMIT 0")
    except sqlite3.Error:
        return False
    return True


def _replace_first_page(copy: Path, model: Path) -> None:
    """Put a good first page in the place of a bad one: journals of one schema have their tables at the same pages.

    Of the header (SQLite file format, section 1.3) the size is the copy's own, and nothing counts as free.
    """
    page = bytearray(model.read_bytes()[:4096])
    page_size = int.from_bytes(page[16:18], "big")
    page[28:32] = (copy.stat().st_size // page_size).to_bytes(4, "big")
    page[32:40] = bytes(8)
    with copy.open("r+b") as file:
        file.write(page[:page_size])


def _rows_before_damage(connection: sqlite3.Connection, query: str) -> list[Any]:
    """Return the rows of a query before a bad page stops it; these tables stand on a page or two."""
    rows: list[Any] = []
    with suppress(sqlite3.Error):
        rows.extend(connection.execute(query))
    return rows


def _read_table(connection: sqlite3.Connection, shape: _Shape) -> tuple[list[Row], int]:
    """Every readable row in the order of the key, and how many gaps are left."""
    found: dict[tuple[int, str], Row] = {}
    # The widest gap first: the budget goes where most can be hidden.
    gaps = [(-shape.table.top, 0, shape.table.top)]
    left = 0
    for _ in range(PROBES_MAX):
        if not gaps:
            break
        _, low, high = heapq.heappop(gaps)
        if (gap := _read_range(connection, shape, low, high, found)) is None:
            continue
        low, high = gap
        middle = (low + high) // 2
        if middle in {low, high}:
            left += 1
            continue
        for part in ((low, middle), (middle, high)):
            heapq.heappush(gaps, (part[0] - part[1], *part))
    ends = {high for _, _, high in gaps}  # neighbours count as one gap
    return [found[key] for key in sorted(found)], left + sum(low not in ends for _, low, _ in gaps)


def _read_range(
    connection: sqlite3.Connection, shape: _Shape, low: int, high: int, found: dict[tuple[int, str], Row]
) -> tuple[int, int] | None:
    """Read what lies above `low`, up to `high`, from both ends; return what is left in between, None for nothing."""
    whole, last = _walk(connection, shape, low, high, found, "ASC")
    if whole:
        return None
    low = low if last is None else last
    _, last = _walk(connection, shape, low, high, found, "DESC")
    return low, high if last is None else last - 1


def _walk(
    connection: sqlite3.Connection, shape: _Shape, low: int, high: int, found: dict[tuple[int, str], Row], order: str
) -> tuple[bool, int | None]:
    """Read rows until the end or a bad page; return whether it was the end, and the last key."""
    table = shape.table
    query = (
        f"SELECT {', '.join(shape.columns)} FROM {table.name} "  # noqa: S608 (names of our own)
        f"WHERE {table.key} > ? AND {table.key} <= ? ORDER BY {table.key} {order}"
    )
    last: int | None = None
    try:
        for values in connection.execute(query, [table.pack(low), table.pack(high)]):
            row = dict(zip(shape.columns, values, strict=True)) | shape.lacking
            key = table.unpack(row[table.key])
            last = key
            if is_valid_row(table.name, row):
                found[key, str(row.get("pos_id"))] = row
    except (sqlite3.Error, TypeError, ValueError, OverflowError):
        return False, last
    return True, last

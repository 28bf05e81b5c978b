"""Writing saved rows into a new journal, ids and all, and putting its counters and clocks right."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from kkt_bridge.journal import tables
from kkt_bridge.journal.database import Database
from kkt_bridge.journal.records import ID_BITS
from kkt_bridge.journal.transaction import DLQ, FD_MARK, ClockFigures


def load_rows(
    database: Database,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    settings: Mapping[str, str],
    hlc_ms: int,
    fd_marks: Mapping[str, int],
) -> None:
    """Fill an empty journal, in one transaction.

    `hlc_ms` is a time behind which its order must not go back; `fd_marks` says of each fiscal storage up to which
    document it is known.

    Ids stay as they were, so everything that refers to them still does; new ones come behind them all.
    """
    with database.transaction() as connection:
        for name, saved in rows.items():
            _insert(connection, name, saved)
        _insert(connection, "settings", [{"name": name, "value": value} for name, value in settings.items()])
        connection.exec_driver_sql(
            "INSERT INTO figures SELECT kkt, status, count(*) FROM receipts GROUP BY kkt, status"
        )
        connection.exec_driver_sql(
            "INSERT INTO figures SELECT kkt, ?, count(*) FROM documents WHERE delivery = 'dead' GROUP BY kkt", (DLQ,)
        )
        clocks = _clocks(rows, hlc_ms)
        own = clocks._asdict() | {FD_MARK + fn_number: fd_number for fn_number, fd_number in fd_marks.items()}
        figures = [{"kkt": "", "name": name, "value": value} for name, value in own.items()]
        _insert(connection, "figures", figures)


def _insert(connection: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """What contradicts a row that is there already, or lacks what it must have, stays out."""
    names = [column.name for column in tables.metadata.tables[table].columns]
    values = [tuple(row.get(name) for name in names) for row in rows]
    if values:
        places = ", ".join("?" for _ in names)
        connection.exec_driver_sql(
            f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({places})",  # noqa: S608 (names of our own)
            values,
        )


def _clocks(rows: Mapping[str, Sequence[Mapping[str, Any]]], hlc_ms: int) -> ClockFigures:
    """Behind everything that any row says."""
    ids = (row["id"] for name in ("receipts", "documents", "steps", "outbox", "commands") for row in rows.get(name, ()))
    ordered = [(row["hlc_wall_ms"], row["hlc_counter"]) for row in rows.get("receipts", ())]
    steady = (row[name] or 0 for table in rows.values() for row in table for name in row if name.endswith("_steady_ms"))
    ages = (value for value in steady if value < _STEADY_MAX_MS)
    wall_ms, counter = max([*ordered, (hlc_ms, 0)])
    return ClockFigures(
        hlc_wall_ms=wall_ms,
        hlc_counter=counter,
        steady_ms=max(ages, default=0),
        commit_no=max((number >> ID_BITS for number in ids), default=0),
    )


_STEADY_MAX_MS = 100 * 366 * 86_400_000
"""A bridge lives no longer; what is above it was misread."""

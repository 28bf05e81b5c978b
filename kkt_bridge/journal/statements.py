"""Statements written in SQLAlchemy Core, compiled once, run by the driver itself.

Core keeps them checked and portable; its execution machinery costs ten times what SQLite needs for a
statement that touches one row, and a receipt takes two dozen of them. So each is compiled for the
database's dialect at its first use and then handed to the DBAPI cursor of the SQLAlchemy connection.
"""

import re
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, TypeVar

from sqlalchemy import ClauseElement, ColumnElement, Connection, Delete, Insert, Select, Update, bindparam

T = TypeVar("T")
Row = Mapping[str, Any] | tuple[Any, ...]
"""The values of a statement, by name, or in the order in which they stand in it."""


class PreparedStatement:
    """A statement with named parameters, called with a connection and their values.

    Every parameter must be given. Returns the driver's cursor: its rows have their columns as attributes, as the driver
    made them (int, str, bytes, None); `rowcount` tells how many were changed.
    """

    __slots__ = ("_fixed", "_make", "_names", "_statement", "_text", "_wanted")

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._text: str | None = None
        self._names: Sequence[str] = ()
        self._wanted: frozenset[str] = frozenset()
        self._fixed: dict[str, Any] = {}
        self._make: Callable[[sqlite3.Cursor, tuple[Any, ...]], Any] | None = None

    def __call__(self, connection: Connection, values: Row | list[dict[str, Any]]) -> sqlite3.Cursor:
        """Run it once, or once for each of a list of values."""
        if self._text is None:
            self._compile(connection)
        rows = []
        for given in values if isinstance(values, list) else (values,):
            if isinstance(given, tuple):
                rows.append(given)
            else:
                assert given.keys() <= self._wanted, f"no such parameters: {given.keys() - self._wanted}"
                named = {**self._fixed, **given} if self._fixed else given
                rows.append(tuple([named[name] for name in self._names]))
        cursor: Any = connection.connection.cursor()
        cursor.row_factory = self._make
        if isinstance(values, list):
            return cursor.executemany(self._text, rows)  # type: ignore[no-any-return]
        return cursor.execute(self._text, rows[0])  # type: ignore[no-any-return]

    def scalar(self, connection: Connection, values: Row, kind: Callable[[Any], T]) -> T | None:
        """The first column of the first row; None if there is no row, or NULL in it."""
        row = self(connection, values).fetchone()
        return None if row is None or row[0] is None else kind(row[0])

    def text(self, connection: Connection) -> str:
        """The statement as the database gets it."""
        if self._text is None:
            self._compile(connection)
        assert self._text is not None
        return self._text

    def _compile(self, connection: Connection) -> None:
        compiled: Any = self._statement.compile(dialect=connection.dialect)
        # Values written into the statement itself are parameters to the driver too.
        self._fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        self._names = compiled.positiontup or ()
        self._wanted = frozenset(self._names)
        columns = [entry[0] for entry in compiled._result_columns]  # noqa: SLF001 (Core tells them nowhere else)
        if columns:
            make = namedtuple("Row", columns)._make  # type: ignore[attr-defined]  # noqa: PYI024 (made at run time)
            self._make = lambda _cursor, row: make(row)
        self._text = str(compiled)


def prepared_insert(statement: Insert, *, without: Collection[str] = ()) -> PreparedStatement:
    """An INSERT of all columns in the table's order, each from the parameter of its name, but for those left NULL."""
    columns = [column.name for column in statement.table.columns if column.name not in without]
    return PreparedStatement(statement.values({column: bindparam(column) for column in columns}))


class BulkInsert:
    """An INSERT of any number of rows, each a tuple in the order of the columns.

    Whenever a statement runs, the interpreter goes to another thread, and must be waited for behind it: many rows
    in one statement cost a tenth of one statement for each.
    """

    def __init__(self, statement: PreparedStatement) -> None:
        """`statement` inserts one row."""
        self._one = statement
        self._texts: dict[int, str] = {}

    def __call__(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert them, in this order."""
        cursor = connection.connection.cursor()
        done = 0
        while left := len(rows) - done:
            size = min(ROWS_MAX, 1 << left.bit_length() - 1)
            some = rows[done : done + size]
            cursor.execute(self._texts.get(size) or self._written(connection, size), [*chain.from_iterable(some)])
            done += size

    def text(self, connection: Connection) -> str:
        """The statement for one row as the database gets it."""
        return self._one.text(connection)

    def _written(self, connection: Connection, size: int) -> str:
        before, one, after = re.split(r"(?<=VALUES )(\([?, ]+\))", self.text(connection))
        self._texts[size] = text = before + ", ".join([one] * size) + after
        return text


class WhereIn:
    """A SELECT, UPDATE or DELETE of the rows whose column is IN any number of values: a few runs at most."""

    def __init__(self, statement: Select[Any] | Update | Delete, column: ColumnElement[Any]) -> None:
        self._names = {size: [f"value_{n}" for n in range(size)] for size in SIZES}
        self._by_size = {
            size: PreparedStatement(statement.where(column.in_([bindparam(name) for name in names])))
            for size, names in self._names.items()
        }

    def __call__(self, connection: Connection, wanted: Sequence[Any]) -> list[Any]:
        """The rows with these values, in no order; none of an UPDATE or DELETE."""
        rows: list[Any] = []
        for some, size in in_sizes(wanted):
            rows += self._by_size[size](connection, dict(zip(self._names[size], some, strict=True))).fetchall()
        return rows


def in_sizes(values: Sequence[T]) -> Iterator[tuple[list[T], int]]:
    """These values, divided among statements of the `SIZES`; the last one is repeated to fill the last of them."""
    for start in range(0, len(values), SIZES[-1]):
        some = [*values[start : start + SIZES[-1]]]
        size = next(size for size in SIZES if size >= len(some))
        yield some + some[-1:] * (size - len(some)), size


SIZES: Final = (1, 4, 16, 64)
"""Values for which there are statements."""

ROWS_MAX: Final = 64
"""Rows in one INSERT."""

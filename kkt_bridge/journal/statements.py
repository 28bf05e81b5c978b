"""Statements written in SQLAlchemy Core, compiled once, run by the driver itself.

Core keeps them checked and portable; its execution machinery costs ten times what SQLite needs for a
statement that touches one row, and a receipt takes two dozen of them. So each is compiled for the
database's dialect at its first use and then handed to the DBAPI cursor of the SQLAlchemy connection.
"""

import re
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, TypeVar

from sqlalchemy import ClauseElement, ColumnElement, Connection, Delete, Insert, Select, Update, bindparam

T = TypeVar("T")
Row = Mapping[str, Any] | tuple[Any, ...]
"""The values of a statement, by name, or in the order in which they stand in it."""


class Rows:
    """What a statement brought: rows with their columns as attributes, each read once."""

    __slots__ = ("_cursor", "_make")

    def __init__(self, cursor: Any, make: Callable[[Sequence[Any]], Any]) -> None:
        self._cursor = cursor
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return map(self._make, self._cursor.fetchall())

    @property
    def rowcount(self) -> int:
        """Rows that an UPDATE, INSERT or DELETE changed."""
        return int(self._cursor.rowcount)

    def one_or_none(self) -> Any:
        """The first row; None if there is none."""
        row = self._cursor.fetchone()
        return None if row is None else self._make(row)

    def scalar(self, kind: Callable[[Any], T]) -> T | None:
        """The first column of the first row; None if there is no row, or NULL in it."""
        row = self._cursor.fetchone()
        return None if row is None or row[0] is None else kind(row[0])


class PreparedStatement:
    """A statement with named parameters, called with a connection and their values.

    Every parameter must be given; columns come back as the driver made them (int, str, bytes, None).
    """

    __slots__ = ("_fixed", "_make", "_names", "_statement", "_text", "_wanted")

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._text: str | None = None
        self._names: Sequence[str] = ()
        self._wanted: frozenset[str] = frozenset()
        self._fixed: dict[str, Any] = {}
        self._make: Callable[[Sequence[Any]], Any] = tuple

    def __call__(self, connection: Connection, values: Row | list[dict[str, Any]]) -> Rows:
        """Run it once, or once for each of a list of values."""
        if self._text is None:
            self._compile(connection)
        cursor = connection.connection.cursor()
        if isinstance(values, list):
            cursor.executemany(self._text, [self._row(row) for row in values])
        else:
            cursor.execute(self._text, self._row(values))
        return Rows(cursor, self._make)

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
            self._make = namedtuple("Row", columns)._make  # type: ignore[attr-defined]  # noqa: PYI024 (made at run time)
        self._text = str(compiled)

    def _row(self, values: Row) -> tuple[Any, ...]:
        if isinstance(values, tuple):
            return values
        assert values.keys() <= self._wanted, f"no such parameters: {values.keys() - self._wanted}"
        given = {**self._fixed, **values} if self._fixed else values
        return tuple([given[name] for name in self._names])


def prepared_insert(statement: Insert, *columns: str) -> PreparedStatement:
    """An INSERT of these columns, each from the parameter of its name."""
    in_order = [column.name for column in statement.table.columns if column.name in columns]
    assert list(columns) == in_order, f"the order of the table's columns is {in_order}"
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


class BulkUpdate:
    """A SELECT of the rows in which a column has any of several values, or a change of them: a few runs at most."""

    def __init__(self, statement: Select[Any] | Update | Delete, column: ColumnElement[Any]) -> None:
        self._names = {size: [f"value_{n}" for n in range(size)] for size in SIZES}
        self._by_size = {
            size: PreparedStatement(statement.where(column.in_([bindparam(name) for name in names])))
            for size, names in self._names.items()
        }

    def __call__(self, connection: Connection, wanted: Sequence[Any]) -> Iterator[Any]:
        """The rows with these values, in no order."""
        return chain.from_iterable(self._runs(connection, wanted))

    def change(self, connection: Connection, wanted: Sequence[Any]) -> int:
        """Change the rows with these values; how many there were."""
        return sum(rows.rowcount for rows in self._runs(connection, wanted))

    def _runs(self, connection: Connection, wanted: Sequence[Any]) -> Iterator[Rows]:
        for some, size in in_sizes(wanted):
            yield self._by_size[size](connection, dict(zip(self._names[size], some, strict=True)))


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

"""Statements written in SQLAlchemy Core, compiled once for the database at hand.

Core keeps them portable and checked; running the compiled text skips the work that Core would repeat
at each execution, which is most of the cost of a statement that touches one row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Connection, CursorResult, Insert, bindparam


class Prepared:
    """A statement with named parameters, called with a connection and their values.

    Every parameter must be given; columns come back as the driver made them (int, str, bytes, None).
    """

    __slots__ = ("_fixed", "_names", "_statement", "_text")

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._text: str | None = None
        self._names: Sequence[str] = ()
        self._fixed: dict[str, Any] = {}

    def __call__(
        self, connection: Connection, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> CursorResult[Any]:
        """Run it once, or once for each of several sets of values."""
        if self._text is None:
            compiled = self._statement.compile(dialect=connection.dialect)
            self._names = compiled.positiontup or ()  # type: ignore[attr-defined]
            # Values written into the statement itself are parameters to the driver too.
            self._fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}  # type: ignore[attr-defined]
            self._text = str(compiled)
        if isinstance(values, Mapping):
            return connection.exec_driver_sql(self._text, self._row(values))
        return connection.exec_driver_sql(self._text, [self._row(row) for row in values])

    def _row(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        given = {**self._fixed, **values} if self._fixed else values
        return tuple([given[name] for name in self._names])


def prepared_insert(statement: Insert, *columns: str) -> Prepared:
    """An INSERT of these columns, each from the parameter of its name."""
    return Prepared(statement.values({column: bindparam(column) for column in columns}))

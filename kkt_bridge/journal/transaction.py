"""One transaction of the journal: what the operations in it change together, or not at all."""

from collections import ChainMap, Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, union_all, update
from sqlalchemy.dialects.sqlite import insert as upsert

from kkt_bridge.clock import Hlc
from kkt_bridge.errors import IllegalTransition
from kkt_bridge.journal import tables
from kkt_bridge.journal.records import ID_BITS, NO_SALE, Message, ReceiptRow, Sale, Step, StoredReceipt
from kkt_bridge.journal.statements import (
    SIZES,
    BulkInsert,
    PreparedStatement,
    WhereIn,
    in_sizes,
    prepared_insert,
)
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import ENDS, PENDING, Status, advance

CountKey = tuple[str, str]
"""A register, and a status or `dlq`; in the table, an empty register stands for the bridge itself."""

DLQ: Final = "dlq"

FD_MARK: Final = "fd/"
"""Before the number of a fiscal storage: the figure that is its mark, see `Journal.fd_mark`."""


@dataclass(frozen=True, slots=True)
class Instant:
    """When a transaction takes place, in both of the bridge's times."""

    wall_ms: int
    """By the system clock: for people."""
    steady_ms: int
    """By a clock that never goes back, not even over a restart: for back-offs and ages."""


class Committed(NamedTuple):
    """What a commit changed, for those who wait for it."""

    queues: frozenset[str]
    """Registers with new receipts."""
    documents: bool
    commands: bool
    messages: Sequence[Message]
    steps: Sequence[Step]


class ClockFigures(NamedTuple):
    """The journal's memory of time and order."""

    hlc_wall_ms: int = 0
    hlc_counter: int = 0
    steady_ms: int = 0
    commit_no: int = 0


class JournalState(NamedTuple):
    """What the journal knows without a query, as of its last commit. Replaced whole by the next one."""

    counts: Mapping[CountKey, int]
    pending: int
    """Receipts that fill the buffer."""
    fd_marks: Mapping[str, int]
    may_be_recovered: bool
    """Whether there may be documents in `recovered`: nearly always there are none."""
    clock: ClockFigures


class MoveKind(NamedTuple):
    """Transitions that one statement writes."""

    current: str
    target: str
    columns: tuple[str, ...]
    """That are set besides the status."""


class Move(NamedTuple):
    """A transition to be written."""

    row: ReceiptRow
    values: tuple[Any, ...]
    """Of the columns."""


@dataclass(slots=True)
class Transaction:
    """What the operations of one commit share.

    Rows are gathered and written together: each statement that runs by itself gives the interpreter to another
    thread. A look through `connection`, and the end, write what was gathered by then.
    """

    _connection: Connection
    before: JournalState
    instant: Instant
    hlc: Hlc
    """The newest point of the hybrid clock."""
    commit_no: int
    may_be_recovered: bool
    """See `JournalState`."""
    fd_marks: ChainMap[str, int]
    """By fiscal storage, see `Journal.fd_mark`; the first map holds those that this transaction moved on."""
    counts: Counter[CountKey] = field(default_factory=Counter)
    """What is added to each counter."""
    queues: set[str] = field(default_factory=set)
    documents_touched: bool = False
    commands_touched: bool = False
    known: dict[ReceiptKey, StoredReceipt | None] = field(default_factory=dict)
    """Receipts that were looked up together; `None` where there is none."""
    rows: defaultdict[BulkInsert, list[tuple[Any, ...]]] = field(default_factory=partial(defaultdict, list))
    """Rows to be inserted."""
    changes: defaultdict[WhereIn, list[int]] = field(default_factory=partial(defaultdict, list))
    """Keys of rows to be changed; nothing else that is gathered may depend on it."""
    messages: list[Message] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    _ids: int = 0
    _moves: dict[MoveKind, list[Move]] = field(default_factory=dict)
    _moving: set[int] = field(default_factory=set)

    @property
    def connection(self) -> Connection:
        """For a look at what the database holds, what was gathered so far included."""
        self._flush()
        return self._connection

    def new_id(self) -> int:
        """An id for a new row: above every id of earlier commits, and of this one."""
        self._ids += 1
        assert self._ids < 1 << ID_BITS, "too many rows in one commit"
        return self.commit_no << ID_BITS | self._ids

    def tick(self) -> Hlc:
        """Return the next point of the hybrid clock."""
        self.hlc = self.hlc.next(self.instant.wall_ms)
        return self.hlc

    def pending(self) -> int:
        """Receipts that fill the buffer, this transaction's included."""
        return self.before.pending + sum(change for (_, kind), change in self.counts.items() if kind in PENDING)

    def advance_fd_mark(self, fn_number: str, fd_number: int) -> None:
        """Each document of this storage is known, up to this one. The mark never goes back."""
        self.fd_marks[fn_number] = max(fd_number, self.fd_marks.get(fn_number, 0))

    def note_next_document(self, fn_number: str, fd_number: int) -> None:
        """A document was made just now: where all before it are known, this one is too."""
        if self.fd_marks.get(fn_number) == fd_number - 1:
            self.fd_marks[fn_number] = fd_number

    def publish(self, topic: str, payload: bytes, correlation: bytes | None = None, *, is_event: bool = False) -> None:
        """Put a message into the outbox: it goes out if, and only if, this transaction commits."""
        message = Message(self.new_id(), topic, payload, correlation, int(is_event), self.instant.steady_ms)
        self.messages.append(message)

    def step(
        self,
        receipt: int | None,
        key: tuple[str, str | None],
        kkt: str | None,
        current: Status | None,
        target: Status,
        *,
        fd_number: int | None = None,
        error: str | None = None,
        sale: Sale = NO_SALE,
    ) -> None:
        """Record what happened to a receipt; `sale` only where no row of its own tells it.

        `key` is that of a receipt, or of a request that is none: its POS, and its id if it has one.
        """
        pos_id, receipt_id = key
        source, at = None if current is None else current.value, (self.instant.wall_ms, self.instant.steady_ms)
        what = (receipt, receipt_id, pos_id, kkt, source, target.value, fd_number, error)
        self.steps.append(Step(self.new_id(), *what, *at, sale.type, sale.total, sale.received_ms))

    def move(
        self,
        row: ReceiptRow,
        target: Status,
        *,
        fd_number: int | None = None,
        error: str | None = None,
        **columns: Any,
    ) -> None:
        """Take a receipt from the status that `row` was read in to `target`, if the table of transitions allows it.

        With a `kkt` among the columns it goes over to that register. The stored row guards itself: were it in another
        status by now, IllegalTransition, and nothing is changed.
        """
        advance(row.status, target)
        if row.id in self._moving:
            self._flush()
        if target in ENDS:
            columns["ended_steady_ms"] = self.instant.steady_ms
        kind = MoveKind(row.status.value, target.value, tuple(columns))
        self._moves.setdefault(kind, []).append(Move(row, tuple(columns.values())))
        self._moving.add(row.id)
        self.known.pop(row.key, None)
        kkt = columns.get("kkt", row.kkt)
        self.counts[row.kkt, row.status] -= 1
        self.counts[kkt, target] += 1
        self.step(row.id, row.key, kkt, row.status, target, fd_number=fd_number, error=error)

    def finish(self) -> JournalState:
        """Write what was gathered; return what holds once the caller has committed."""
        self._flush()
        if self.steps:
            _INSERT_STEPS(self._connection, self.steps)
        if self.messages:
            _INSERT_MESSAGES(self._connection, self.messages)
        before, clock = self.before, ClockFigures(*self.hlc, self.instant.steady_ms, self.commit_no)
        changed = {key: before.counts.get(key, 0) + change for key, change in self.counts.items() if change}
        moved_marks = self.fd_marks.maps[0]
        figures = [(kkt, kind, count) for (kkt, kind), count in changed.items()]
        figures += [("", name, value) for name, value in zip(ClockFigures._fields, clock, strict=True)]
        figures += [("", FD_MARK + fn_number, fd_number) for fn_number, fd_number in moved_marks.items()]
        _SET_FIGURES(self._connection, figures)
        return JournalState(
            counts={**before.counts, **changed} if changed else before.counts,
            pending=self.pending(),
            fd_marks={**before.fd_marks, **moved_marks} if moved_marks else before.fd_marks,
            may_be_recovered=self.may_be_recovered,
            clock=clock,
        )

    def _flush(self) -> None:
        """Write new rows, then moves. Two moves of one receipt never wait together, so their order holds."""
        rows, self.rows = self.rows, defaultdict(list)
        for insertion, new in rows.items():
            insertion(self._connection, new)
        changes, self.changes = self.changes, defaultdict(list)
        for statement, keys in changes.items():
            statement(self._connection, keys)
        moves, self._moves = self._moves, {}
        self._moving.clear()
        for kind, moved in moves.items():
            statements = _move_statements(kind.columns)
            for some, size in in_sizes(moved):
                flat: chain[Any] = chain.from_iterable((move.row.id, *move.values) for move in some)
                changed = statements[size](self._connection, (kind.target, *flat, kind.current)).rowcount
                if changed != len({move.row.id for move in some}):
                    # Of several, nobody tells which one; each is tried for itself then (see journal.py).
                    gone = " or ".join(f"receipt {row.key} is no longer {row.status}" for row, _ in moved)
                    raise IllegalTransition(gone)


@cache
def _move_statements(columns: tuple[str, ...]) -> dict[int, PreparedStatement]:
    """The guarded UPDATE of transitions that also set these columns, for so many of them at once."""
    return {size: _move_statement(columns, size) for size in SIZES}


def _move_statement(columns: tuple[str, ...], size: int) -> PreparedStatement:
    """Its values: the target; the row's id and those of the columns, for each; what is to be left."""
    names = ("row_id", *(f"new_{name}" for name in columns))
    # Not WITH ... UPDATE: the driver counts the rows of what begins with UPDATE only.
    moved = union_all(
        *(select(*(bindparam(f"{name}_{n}").label(name) for name in names)) for n in range(size))
    ).subquery("moved")
    stored = tables.receipts.c
    return PreparedStatement(
        update(tables.receipts)
        .where(stored.id == moved.c.row_id, stored.status == bindparam("current"))
        .values(status=bindparam("target"), **{name: moved.c[f"new_{name}"] for name in columns})
    )


_INSERT_STEPS: Final = BulkInsert(prepared_insert(insert(tables.steps)))
_INSERT_MESSAGES: Final = BulkInsert(prepared_insert(insert(tables.outbox)))
_insert_figure = upsert(tables.figures).values({name: bindparam(name) for name in ("kkt", "name", "value")})
_SET_FIGURES: Final = BulkInsert(
    PreparedStatement(
        _insert_figure.on_conflict_do_update(
            index_elements=["kkt", "name"], set_={"value": _insert_figure.excluded.value}
        )
    )
)

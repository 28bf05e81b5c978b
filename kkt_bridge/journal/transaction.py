"""One transaction of the journal: what the operations in it change together, or not at all."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, insert, update
from sqlalchemy.dialects.sqlite import insert as upsert

from kkt_bridge.errors import IllegalTransition
from kkt_bridge.journal import tables
from kkt_bridge.journal.statements import Prepared, Rows, prepared_insert
from kkt_bridge.receipts.hlc import Hlc
from kkt_bridge.receipts.lifecycle import ENDS, PENDING, Status, advance

CountKey = tuple[str, str]
"""A register, and a status or `dlq`; in the table, an empty register stands for the bridge itself."""

ID_BITS: Final = 16
"""Bits of an id within its commit; those above are the commit's number."""

DLQ: Final = "dlq"


@dataclass(frozen=True, slots=True)
class Instant:
    """When a transaction takes place, in both of the bridge's times."""

    wall_ms: int
    """By the system clock: for people."""
    steady_ms: int
    """By a clock that never goes back, not even over a restart: for back-offs and ages."""


class Touched(NamedTuple):
    """What a commit changed, for those who wait for it."""

    queues: frozenset[str]
    """Registers with new receipts."""
    documents: bool
    outbox: bool
    steps: bool
    commands: bool


class ClockFigures(NamedTuple):
    """The journal's memory of time and order."""

    hlc_wall_ms: int = 0
    hlc_counter: int = 0
    steady_ms: int = 0
    commit_no: int = 0


@dataclass(slots=True)
class Transaction:
    """What the operations of one commit share.

    Rows that every operation adds (steps, messages, counts) are gathered and written once, at the end.
    """

    connection: Connection
    instant: Instant
    hlc: Hlc
    commit_no: int
    counts_before: Mapping[CountKey, int]
    pending_before: int
    counts_delta: Counter[CountKey] = field(default_factory=Counter)
    queues: set[str] = field(default_factory=set)
    documents_touched: bool = False
    commands_touched: bool = False
    _ids: int = 0
    _steps: list[dict[str, Any]] = field(default_factory=list)
    _messages: list[dict[str, Any]] = field(default_factory=list)

    def execute(self, statement: Prepared, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Rows:
        """Run a statement of this room."""
        return statement(self.connection, values)

    def new_id(self) -> int:
        """An id for a new row: above every id of earlier commits, and of this one."""
        self._ids += 1
        assert self._ids < 1 << ID_BITS, "too many rows in one commit"
        return self.commit_no << ID_BITS | self._ids

    def tick(self) -> Hlc:
        """The next point of the hybrid clock."""
        self.hlc = self.hlc.next(self.instant.wall_ms)
        return self.hlc

    def pending(self) -> int:
        """Receipts that fill the buffer, this transaction's included."""
        return self.pending_before + sum(n for (_, kind), n in self.counts_delta.items() if kind in PENDING)

    def count(self, kkt: str, kind: str, change: int) -> None:
        """Add to a counter."""
        self.counts_delta[kkt, kind] += change

    def publish(self, topic: str, payload: bytes, correlation: bytes | None = None, *, is_event: bool = False) -> None:
        """Put a message into the outbox: it goes out if, and only if, this transaction commits."""
        self._messages.append(
            {
                "id": self.new_id(),
                "topic": topic,
                "payload": payload,
                "correlation": correlation,
                "is_event": int(is_event),
                "created_steady_ms": self.instant.steady_ms,
            }
        )

    def step(
        self,
        *,
        receipt: int | None,
        receipt_id: str | None,
        pos_id: str,
        kkt: str | None,
        current: Status | None,
        target: Status,
        fd_number: int | None = None,
        error: str | None = None,
    ) -> None:
        """Record what happened to a receipt."""
        self._steps.append(
            {
                "id": self.new_id(),
                "receipt": receipt,
                "receipt_id": receipt_id,
                "pos_id": pos_id,
                "kkt": kkt,
                "from_status": current,
                "to_status": target,
                "fd_number": fd_number,
                "error": error,
                "at_ms": self.instant.wall_ms,
                "at_steady_ms": self.instant.steady_ms,
            }
        )

    def move(
        self,
        row: "Movable",
        target: Status,
        *,
        fd_number: int | None = None,
        error: str | None = None,
        **columns: Any,
    ) -> None:
        """Take a receipt from the status that `row` was read in to `target`, if the table of transitions allows it.

        The stored row guards itself: were it in another status by now, IllegalTransition, and nothing is changed.
        """
        advance(row.status, target)
        if target in ENDS:
            columns["ended_steady_ms"] = self.instant.steady_ms
        values = {f"new_{name}": value for name, value in columns.items()}
        result = self.execute(
            _move_statement(tuple(columns)),
            {"row_id": row.id, "current": row.status, "target": target, **values},
        )
        if result.rowcount != 1:
            raise IllegalTransition(f"receipt {row.pos_id}:{row.receipt_id} is no longer {row.status}")
        self.count(row.kkt, row.status, -1)
        self.count(row.kkt, target, +1)
        self.step(
            receipt=row.id,
            receipt_id=row.receipt_id,
            pos_id=row.pos_id,
            kkt=row.kkt,
            current=row.status,
            target=target,
            fd_number=fd_number,
            error=error,
        )

    def finish(self) -> None:
        """Write what was gathered. The caller commits."""
        if self._steps:
            self.execute(_INSERT_STEPS, self._steps)
        if self._messages:
            self.execute(_INSERT_MESSAGES, self._messages)
        self.execute(_SET_FIGURES, [*self._changed_counts(), *self._clock_figures()])

    def _changed_counts(self) -> Iterator[dict[str, Any]]:
        for (kkt, kind), change in self.counts_delta.items():
            if change:
                value = self.counts_before.get((kkt, kind), 0) + change
                yield {"kkt": kkt, "name": kind, "value": value}

    def _clock_figures(self) -> Iterator[dict[str, Any]]:
        row = ClockFigures(self.hlc.wall_ms, self.hlc.counter, self.instant.steady_ms, self.commit_no)
        for name, value in row._asdict().items():
            yield {"kkt": "", "name": name, "value": value}

    def touched(self) -> Touched:
        """What this transaction changed."""
        return Touched(
            queues=frozenset(self.queues),
            documents=self.documents_touched,
            outbox=bool(self._messages),
            steps=bool(self._steps),
            commands=self.commands_touched,
        )


@dataclass(frozen=True, slots=True)
class Movable:
    """What is needed of a receipt's row to move it on."""

    id: int
    receipt_id: str
    pos_id: str
    kkt: str
    status: Status


@cache
def _move_statement(columns: tuple[str, ...]) -> Prepared:
    """The guarded UPDATE of a transition that also sets these columns."""
    receipts = tables.receipts
    return Prepared(
        update(receipts)
        .where(receipts.c.id == bindparam("row_id"), receipts.c.status == bindparam("current"))
        .values(status=bindparam("target"), **{name: bindparam(f"new_{name}") for name in columns})
    )


_INSERT_STEPS: Final = prepared_insert(
    insert(tables.steps),
    "id",
    "receipt",
    "receipt_id",
    "pos_id",
    "kkt",
    "from_status",
    "to_status",
    "fd_number",
    "error",
    "at_ms",
    "at_steady_ms",
)
_INSERT_MESSAGES: Final = prepared_insert(
    insert(tables.outbox), "id", "topic", "payload", "correlation", "is_event", "created_steady_ms"
)
_insert_figure = upsert(tables.figures).values({name: bindparam(name) for name in ("kkt", "name", "value")})
_SET_FIGURES: Final = Prepared(
    _insert_figure.on_conflict_do_update(index_elements=["kkt", "name"], set_={"value": _insert_figure.excluded.value})
)

"""Group commit: many callers, one transaction, one sync of the disk.

Whoever finds the writer's gate open commits for everybody who is waiting by then; the others find
their work done when the gate opens for them. So a lone caller pays for no hand-over between threads,
a crowd pays for one commit, and a single thread (a simulation, a tool) needs nothing special.
"""

import logging
import threading
from collections import ChainMap, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, select

from kkt_bridge.clock import Clock, Hlc
from kkt_bridge.errors import JournalDamaged, JournalError, StorageUnavailable
from kkt_bridge.journal import tables
from kkt_bridge.journal.database import Database
from kkt_bridge.journal.settings import restored_at_commit
from kkt_bridge.journal.transaction import (
    FD_MARK,
    ClockFigures,
    Committed,
    CountKey,
    Instant,
    JournalState,
    Transaction,
)
from kkt_bridge.receipts.lifecycle import PENDING

WALL_AGE_MAX_MS: Final = 400 * 86_400_000
"""A receipt that looks older than this, milliseconds, was taken while the wall clock was wrong."""

COMMIT_OPERATIONS_MAX: Final = 64
"""Operations in one transaction: bounds how long the first of them waits for the last."""

T = TypeVar("T")
Operation = Callable[[Transaction], T]

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _PendingWrite(Generic[T]):
    """An operation on its way through a commit."""

    operation: Operation[T]
    awaited: bool
    result: Any = None
    error: Exception | None = None
    done: bool = False


@dataclass(slots=True, eq=False)
class LeaseRequest(Generic[T]):
    """An operation that waits for a register's next receipt."""

    kkt: str
    operation: Operation[T]
    being_granted: bool = False
    """Whether the commit that brings the receipt is under way: who knows how it ends."""
    result: T | None = None
    """What the operation returned, once that is committed."""


class Journal:
    """Every durable change goes through `write`; `read` sees what is committed.

    An operation is a function of a `Transaction`. It may be run twice (alone, after a neighbour in the
    same commit failed), so it must have no effect outside the transaction.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._gate = threading.Lock()
        self._waiting: deque[_PendingWrite[Any]] = deque()
        self._postponed: list[_PendingWrite[Any]] = []
        """Posted while the disk took nothing."""
        self._lease_lock = threading.Lock()
        """Of the requests alone: who withdraws one does not wait for the disk."""
        self._lease_requests: dict[str, LeaseRequest[Any]] = {}
        self._granting: list[LeaseRequest[Any]] = []
        self._listeners: list[Callable[[Committed], None]] = []
        self._state = JournalState({}, 0, {}, may_be_recovered=True, clock=ClockFigures())
        self._steady_at_open_ms = 0
        self._opened_at_s = 0.0
        self._wall_at_open_ms = 0
        self._damage: str | None = None
        self.restored_at_commit = 0
        """The last commit of a memory that was put here, and may be old (see `settings.py`); 0 where none was."""
        self.failing: str | None = None
        """Why the last commit failed, for `state/health`; None when it did not."""

    def open(self) -> None:
        """Open the database and recall counts and clocks. Errors: see `Database.open`."""
        self._database.open()
        with self._database.reader() as connection:
            figures = {(row.kkt, row.name): row.value for row in connection.execute(select(tables.figures))}
            awaited = connection.execute(select(tables.recovered.c.fd_number).limit(1)).first()
            self.restored_at_commit = restored_at_commit(connection)
        clock = ClockFigures(**{name: figures.pop(("", name), 0) for name in ClockFigures._fields})
        if self._database.was_restored:  # also where the disk did not take that fact
            self.restored_at_commit = clock.commit_no
        marks = [name for kkt, name in figures if not kkt and name.startswith(FD_MARK)]
        fd_marks = {name.removeprefix(FD_MARK): figures.pop(("", name)) for name in marks}
        pending = sum(count for (_, kind), count in figures.items() if kind in PENDING)
        self._state = JournalState(figures, pending, fd_marks, awaited is not None, clock)
        self._steady_at_open_ms = clock.steady_ms
        self._opened_at_s = self._clock.monotonic()
        self._wall_at_open_ms = self._clock.now_ms()

    def close(self) -> None:
        """Write what was posted, and let go of the file."""
        with suppress(JournalError):
            self.flush()
        self._database.close()

    def listen(self, listener: Callable[[Committed], None]) -> None:
        """Have `listener` told of every commit; it must be quick and must not raise."""
        self._listeners.append(listener)

    def write(self, operation: Operation[T]) -> T:
        """Run the operation; when this returns, its effect is on the disk.

        Errors: what the operation raises; StorageUnavailable when the disk does not take it. Either way
        nothing of it was kept.
        """
        entry = _PendingWrite(operation, awaited=True)
        self._waiting.append(entry)
        with self._gate:
            self._waiting.extendleft(reversed(self._postponed))
            self._postponed.clear()
            while not entry.done:
                group = min(len(self._waiting), COMMIT_OPERATIONS_MAX)
                self._attempt([self._waiting.popleft() for _ in range(group)])
        if entry.error is not None:
            raise entry.error
        return entry.result  # type: ignore[no-any-return]

    def post(self, operation: Operation[Any]) -> None:
        """Have the operation run with the next commit, or the next `flush`. For what may be done again if lost.

        It is lost with the process, or when it raises; while the disk takes nothing it waits.
        """
        self._waiting.append(_PendingWrite(operation, awaited=False))

    def flush(self) -> None:
        """Commit what was posted, if anything was; where the disk takes nothing, it goes on waiting."""
        with self._gate:
            if not (self._waiting or self._postponed):
                return
        with suppress(StorageUnavailable):
            self.write(lambda _tx: None)

    def request_lease(self, kkt: str, operation: Operation[T]) -> LeaseRequest[T]:
        """Have the operation run in the very commit that brings this register receipts next, which saves it one.

        Once; and not at all where that commit fails.
        """
        lease_request = LeaseRequest(kkt, operation)
        with self._lease_lock:
            self._lease_requests[kkt] = lease_request
        return lease_request

    def withdraw_lease(self, lease_request: LeaseRequest[Any]) -> bool:
        """Withdraw the request, whether it was granted by now or not; False while it is being granted."""
        with self._lease_lock:
            if lease_request.being_granted:
                return False
            if self._lease_requests.get(lease_request.kkt) is lease_request:
                del self._lease_requests[lease_request.kkt]
            return True

    def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query on what is committed."""
        try:
            with self._database.reader() as connection:
                return query(connection)
        except JournalDamaged as damage:
            self._note(damage)
            raise

    def counts(self) -> dict[CountKey, int]:
        """Receipts by register and status, and dead letters by register: as committed, without a query."""
        return dict(self._state.counts)

    def total(self, kind: str) -> int:
        """Return how many receipts of all registers have this status, or how many dead letters there are."""
        return sum(count for (_, of_kind), count in self._state.counts.items() if of_kind == kind)

    def pending(self) -> int:
        """Receipts that fill the buffer, as committed."""
        return self._state.pending

    def fd_mark(self, fn_number: str) -> int | None:
        """Of this fiscal storage's documents, the last one up to which the journal knows what each of them is.

        Recorded as a receipt's or a shift's, or looked at. Kept for ever: a storage that ends before it has lost
        documents, and what one holds behind it has to be looked at. None where the storage was never seen.
        """
        return self._state.fd_marks.get(fn_number)

    def steady_ms(self) -> int:
        """The steady clock: milliseconds that the bridge has lived with this journal."""
        return self._steady_at_open_ms + int((self._clock.monotonic() - self._opened_at_s) * 1000)

    def age_ms(self, received_ms: int, received_steady_ms: int, *, count_downtime: bool) -> int:
        """How old a receipt is, milliseconds.

        The steady clock stands still while the bridge is down. For what was taken before this start the wall clock can
        count that time too, as it showed when the journal was opened: later jumps make no receipt older.
        """
        age_ms = self.steady_ms() - received_steady_ms
        if count_downtime and received_steady_ms <= self._steady_at_open_ms:
            wall_ms = self._wall_at_open_ms - received_ms
            if wall_ms <= WALL_AGE_MAX_MS:
                age_ms = max(age_ms, wall_ms + self.steady_ms() - self._steady_at_open_ms)
        return age_ms

    @property
    def hlc_wall_ms(self) -> int:
        """The newest time in the order of receipts, milliseconds since 1970; 0 before the first one."""
        return self._state.clock.hlc_wall_ms

    def _attempt(self, entries: list[_PendingWrite[Any]]) -> None:
        try:
            self._commit(entries)
        except StorageUnavailable as error:
            self._note(error)
            self._postponed += [entry for entry in entries if not entry.awaited]
            self._fail([entry for entry in entries if entry.awaited], error)
        except Exception as error:  # noqa: BLE001 (whatever one operation raised is its caller's)
            if len(entries) == 1 and not self._granting:
                self._fail(entries, error)
                return
            # Each for itself, and without the requests, which nobody waits for.
            for entry in entries:
                self._attempt([entry])

    def _note(self, error: StorageUnavailable) -> None:
        """Keep what is wrong for `state/health`; damage for good, as commits may succeed on pages that are whole."""
        self.failing = str(error)
        if isinstance(error, JournalDamaged):
            self._damage = str(error)

    @staticmethod
    def _fail(entries: list[_PendingWrite[Any]], error: Exception) -> None:
        for entry in entries:
            entry.error = error
            entry.done = True
            if not entry.awaited:
                log.error("a posted change was lost: %s", error)

    def _commit(self, entries: list[_PendingWrite[Any]]) -> None:
        """Run the operations, and the lease requests of the registers that get receipts by them, in one transaction."""
        self._granting = []
        state = self._state
        try:
            with self._database.transaction() as connection:
                transaction = Transaction(
                    _connection=connection,
                    before=state,
                    instant=Instant(self._clock.now_ms(), self.steady_ms()),
                    hlc=Hlc(state.clock.hlc_wall_ms, state.clock.hlc_counter),
                    commit_no=state.clock.commit_no + 1,
                    may_be_recovered=state.may_be_recovered,
                    fd_marks=ChainMap({}, dict(state.fd_marks)),
                )
                for entry in entries:
                    entry.result = entry.operation(transaction)
                with self._lease_lock:
                    wanted = sorted(transaction.queues & self._lease_requests.keys())
                    self._granting = [self._lease_requests.pop(kkt) for kkt in wanted]
                    for lease_request in self._granting:
                        lease_request.being_granted = True
                results = [lease_request.operation(transaction) for lease_request in self._granting]
                after = transaction.finish()
            for lease_request, result in zip(self._granting, results, strict=True):
                lease_request.result = result
        finally:
            for lease_request in self._granting:
                lease_request.being_granted = False
        for entry in entries:
            entry.done = True
        self.failing = self._damage
        self._state = after
        committed = Committed(
            queues=frozenset(transaction.queues),
            documents=transaction.documents_touched,
            commands=transaction.commands_touched,
            messages=transaction.messages,
            steps=transaction.steps,
        )
        for listener in self._listeners:
            try:
                listener(committed)
            except Exception:  # what is committed stays committed
                log.exception("a listener failed on a commit")

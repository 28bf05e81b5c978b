"""Requests to a lane from other threads: jobs between two receipts, shift orders, and what persons decide."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from kkt_bridge.errors import RegisterNotReady
from kkt_bridge.receipts.ffd_codes import SHIFT_CLOSE_FORM, SHIFT_OPEN_FORM
from kkt_bridge.registers.base import (
    FiscalRegister,
    ShiftReport,
    StoredDocument,
)
from kkt_bridge.stages.printing.shift_age import OPEN

RegisterJob = Callable[[FiscalRegister], ShiftReport | None]
"""A shift report, say, or a copy: done between two receipts."""

T = TypeVar("T")
R = TypeVar("R")


class Requests(Generic[T, R]):
    """Requests that one lane has not answered yet."""

    def __init__(self, refusal: type[Exception]) -> None:
        """`refusal` is the error that ends the request alone: any other ends the round too."""
        self._refusal = refusal
        self.waiting: deque[tuple[T, Future[R]]] = deque()
        """Not answered yet, oldest first."""

    def put(self, request: T) -> "Future[R]":
        """Add a request; from any thread."""
        future: Future[R] = Future()
        self.waiting.append((request, future))
        return future

    def serve(self, answer: Callable[[T], R], done: Callable[[R | None], None] = lambda _: None) -> None:
        """Answer each with what `answer` returns, and pass that to `done` (None where it was refused).

        What `answer` raises is the request's answer; unless it is a refusal, it ends the round and is raised here too.
        """
        while self.waiting:
            request, future = self.waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            result: R | None = None
            try:
                result = answer(request)
            except self._refusal as refused:
                future.set_exception(refused)
            except Exception as error:
                future.set_exception(error)
                raise
            else:
                future.set_result(result)
            done(result)

    def refuse(self, problem: Exception) -> None:
        """Answer each with an error: the lane could not get as far as looking at it."""
        while self.waiting:
            _, future = self.waiting.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(problem)


@dataclass(frozen=True, slots=True)
class ShiftBaseline:
    """A register's shift and last document when an order was first begun."""

    fn_number: str
    shift_number: int
    is_open: bool
    last_fd_number: int


@dataclass(frozen=True, slots=True)
class ShiftOrder:
    """A job for a lane: open the next shift, or close the one that is open."""

    opens: bool
    baseline: ShiftBaseline | None
    """How the register stood when this order was first begun; None if it never was."""
    keep_baseline: Callable[[ShiftBaseline], object]
    """Stores it durably."""

    def __call__(self, register: FiscalRegister) -> ShiftReport:
        """Carry it out, or tell what came of it; RegisterNotReady where it cannot be done, or not any more."""
        status = register.status()
        now = ShiftBaseline(status.fn_number, status.shift_number, status.mode in OPEN, status.last_fd_number)
        before = self.baseline
        if before is None:
            self.keep_baseline(now)
        elif (before.fn_number, before.shift_number, before.is_open) != (now.fn_number, now.shift_number, now.is_open):
            return self._find_document(register, before, now)
        return register.open_shift(None) if self.opens else register.close_shift(None)

    def _find_document(self, register: FiscalRegister, before: ShiftBaseline, now: ShiftBaseline) -> ShiftReport:
        number = before.shift_number + 1 if self.opens else before.shift_number
        form = SHIFT_OPEN_FORM if self.opens else SHIFT_CLOSE_FORM
        done = "opened" if self.opens else "closed"
        if before.fn_number == now.fn_number and before.is_open is not self.opens:
            for document in register.documents(before.last_fd_number + 1, now.last_fd_number):
                if isinstance(document, StoredDocument) and document.form == form and document.shift_number == number:
                    return ShiftReport(number, open=self.opens, fd_number=document.fd_number)
        raise RegisterNotReady(
            "shift_changed",
            f"the order was begun before a restart and meant shift {number} on FN {before.fn_number}; that shift was "
            f"not {done} by it, and now the register is at shift {now.shift_number} on FN {now.fn_number}: order again",
        )

"""What is asked of a lane from other threads: one queue of futures, for jobs and for decisions alike."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from kkt_bridge.registers.base import FiscalRegister, ShiftReport

RegisterJob = Callable[[FiscalRegister], ShiftReport | None]
"""A shift report, say, or a copy: done between two receipts."""

T = TypeVar("T")
R = TypeVar("R")


class Requests(Generic[T, R]):
    """Requests that one lane has not answered yet."""

    def __init__(self, refusal: type[Exception]) -> None:
        """`refusal` is the error that ends the request alone: any other ends the round too."""
        self._refusal = refusal
        self._waiting: deque[tuple[T, Future[R]]] = deque()

    def put(self, request: T) -> "Future[R]":
        """Leave a request; from any thread."""
        future: Future[R] = Future()
        self._waiting.append((request, future))
        return future

    def __bool__(self) -> bool:
        """Whether a request waits."""
        return bool(self._waiting)

    def serve(self, answer: Callable[[T], R], done: Callable[[R | None], None] = lambda _: None) -> None:
        """Have each answered, and tell `done` what came of it (None of one that was refused).

        What `answer` raises is the request's answer; unless it is a refusal, it ends the round and is raised here too.
        """
        while self._waiting:
            request, future = self._waiting.popleft()
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
        """Answer each that the lane could not get so far as to look at it."""
        while self._waiting:
            _, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(problem)

"""What is to be done on a register between two receipts, on its way from any thread into a lane's own."""

import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from kkt_bridge.errors import RegisterNotReady
from kkt_bridge.registers.base import FiscalRegister

RegisterJob = Callable[[FiscalRegister], Any]
"""A shift report, say, or a copy."""


class LaneJobs:
    """The jobs that one lane has not done yet."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[RegisterJob, Future[Any]]] = queue.SimpleQueue()

    def put(self, job: RegisterJob) -> Future[Any]:
        """Leave a job; from any thread."""
        future: Future[Any] = Future()
        self._waiting.put((job, future))
        return future

    def __bool__(self) -> bool:
        """Whether a job waits."""
        return not self._waiting.empty()

    def do_all(self, register: FiscalRegister, done: Callable[[Any], None]) -> None:
        """Do them, and tell `done` what came of each; a register away ends this, one not ready only that job."""
        while self:
            job, future = self._waiting.get_nowait()
            if not future.set_running_or_notify_cancel():
                continue
            result = None
            try:
                result = job(register)
            except RegisterNotReady as error:
                future.set_exception(error)
            except Exception as error:
                future.set_exception(error)
                raise
            else:
                future.set_result(result)
            done(result)

    def refuse(self, problem: str, detail: str) -> None:
        """Answer each that the register is not fit for it."""
        while self:
            self._waiting.get_nowait()[1].set_exception(RegisterNotReady(problem, detail))

"""What persons have decided, on its way from any thread into a lane's own."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.stages.hand_settling import HandOrder, HandSettled, SettleRefused


class HandOrders:
    """The orders that one lane has not carried out yet."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[HandOrder, Future[HandSettled]]] = deque()

    def put(self, order: HandOrder) -> "Future[HandSettled]":
        """Leave an order; from any thread."""
        future: Future[HandSettled] = Future()
        self._waiting.append((order, future))
        return future

    def __bool__(self) -> bool:
        """Whether an order waits."""
        return bool(self._waiting)

    def carry_out(self, settle: Callable[[HandOrder], HandSettled]) -> None:
        """Have `settle` carry out each; what it raises is the order's answer, and ends the round unless refused."""
        while self._waiting:
            order, future = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                settled = settle(order)
            except SettleRefused as refused:
                future.set_exception(refused)
            except Exception as error:
                future.set_exception(error)
                raise
            else:
                future.set_result(settled)

    def refuse(self, problem: KktBridgeError) -> None:
        """Answer each that the lane could not get so far as to look at it."""
        while self._waiting:
            _, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(problem)

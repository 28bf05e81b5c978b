"""Simulated POS terminals: clients of a bridge like any other, each with a connection and a cashier of its own.

A cashier publishes a receipt and serves nobody else until its final reply is there. If no word comes in
time the same receipt is published again, under the same id: that is what makes a lost message harmless.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final, Self

from kkt_bridge.errors import BrokerAway
from kkt_bridge.mqtt.client import BridgeAddress
from kkt_bridge.simulators.shop import Shop

STOP_POLL_S: Final = 0.2
"""Between two looks of a waiting terminal whether the trade was stopped."""

RECONNECT_S: Final = 0.5
CATCH_UP_S: Final = 0.05
"""Lost time that a rate makes up for: enough for a late thread, no crowd after a pause."""

STOP_TIMEOUT_S: Final = 3.0
PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class TerminalSettings:
    """The address of the bridge, and the options of the terminals."""

    bridge: BridgeAddress
    count: int
    seed: object
    retry_after_s: float = 10.0
    """Without a word for so long, a receipt is published again."""


class Trade:
    """The customers: at most `rate` a second over all tills (0: as fast as they are served), as many as are let in."""

    def __init__(self, rate: float = 0.0) -> None:
        self._interval_s = 1 / rate if rate > 0 else 0.0
        self._waiting = 0.0
        self._next_at = 0.0
        self._closed = False
        self._changed = threading.Condition()
        self.stopped = False

    def let_in(self, customers: float) -> None:
        """Let more customers in; `math.inf` for an endless stream."""
        with self._changed:
            self._waiting += customers
            self._changed.notify_all()

    def close_the_door(self) -> None:
        """Nobody comes any more; those inside are served."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def dismiss(self) -> None:
        """Nobody comes any more, and those who still wait outside leave; those inside are served."""
        with self._changed:
            self._waiting = 0.0
        self.close_the_door()

    def stop(self) -> None:
        """Leave everything as it is, receipts without an answer included."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def next_customer(self) -> bool:
        """Wait for the next customer; False if none will come."""
        with self._changed:
            while not self.stopped:
                now = time.monotonic()
                if self._waiting <= 0 and self._closed:
                    return False
                if self._waiting > 0 and now >= self._next_at:
                    self._waiting -= 1
                    self._next_at = max(self._next_at, now - CATCH_UP_S) + self._interval_s
                    return True
                self._changed.wait(self._next_at - now if self._waiting > 0 else None)
            return False

    def pause(self, seconds: float) -> None:
        """Wait, unless the trade is stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped, seconds)


class Tally:
    """Counts of all terminals together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.published = 0
        """Receipts, however often each was sent."""
        self.printed: list[tuple[str, str]] = []
        """POS and receipt id of each receipt whose final reply says so."""
        self.rejected = 0
        self.retries = 0
        self.duplicates = 0
        """Replies that only repeated an earlier one, as the bridge marks them."""
        self.errors: Counter[str] = Counter()
        self._latencies_s: list[float] = []

    @property
    def answered(self) -> int:
        """Receipts with a final reply."""
        return len(self.printed) + self.rejected

    def note_published(self) -> None:
        """A receipt was sent for the first time."""
        with self._lock:
            self.published += 1

    def note_retry(self) -> None:
        """A receipt was sent again."""
        with self._lock:
            self.retries += 1

    def note_duplicate(self) -> None:
        """A reply came that the bridge calls a duplicate."""
        with self._lock:
            self.duplicates += 1

    def note_final(self, reply: dict[str, Any], latency_s: float) -> None:
        """A final reply came, so long after the receipt was first sent."""
        with self._lock:
            self._latencies_s.append(latency_s)
            if reply["status"] == "printed":
                self.printed.append((reply["pos_id"], reply["receipt_id"]))
            else:
                self.rejected += 1
                self.errors[reply["error"]["code"]] += 1

    def report(self) -> dict[str, Any]:
        """Every count, and the latencies up to the final replies."""
        with self._lock:
            return {
                "published": self.published,
                "printed": len(self.printed),
                "rejected": self.rejected,
                "duplicates": self.duplicates,
                "retries": self.retries,
                "unanswered": self.published - len(self.printed) - self.rejected,
                "errors": dict(self.errors),
                "latencies": latencies(self._latencies_s),
            }


def latencies(seconds: Sequence[float]) -> dict[str, float | None]:
    """Percentiles (nearest rank) and the maximum in ms; None where nothing was measured."""
    ranked = sorted(seconds)
    marks = {f"p{percent}_ms": ceil(len(ranked) * percent / 100) - 1 for percent in PERCENTILES}
    marks["max_ms"] = len(ranked) - 1
    return {name: round(ranked[rank] * 1000, 1) if ranked else None for name, rank in marks.items()}


class Terminal:
    """One POS terminal with its cashier, in a thread of its own."""

    def __init__(self, pos_id: str, settings: TerminalSettings, trade: Trade, tally: Tally) -> None:
        self._receipt_topic = settings.bridge.topics.receipt(pos_id)
        self._reply_topic = settings.bridge.topics.reply(pos_id)
        self._retry_after_s = settings.retry_after_s
        self._shop = Shop(pos_id, settings.seed)
        self._trade = trade
        self._tally = tally
        self._client = settings.bridge.client()
        self._thread = threading.Thread(target=self._run, name=pos_id, daemon=True)

    def open(self) -> None:
        """Connect and begin to serve; BrokerAway if there is no broker to begin with."""
        self._connect()
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait until it has no more to do; False if it still has."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def close(self) -> None:
        """Leave the broker."""
        self._client.close()

    def _run(self) -> None:
        while self._trade.next_customer():
            self._serve(self._shop.receipt())

    def _serve(self, receipt: dict[str, Any]) -> None:
        payload = json.dumps(receipt, ensure_ascii=False).encode()
        started = time.monotonic()
        self._tally.note_published()
        while not self._trade.stopped:
            if self._published(payload) and (reply := self._final_reply(receipt["receipt_id"])):
                self._tally.note_final(reply, time.monotonic() - started)
                return
            self._tally.note_retry()

    def _published(self, payload: bytes) -> bool:
        """Publish, on a new connection if need be; False, after a moment, while there is no broker."""
        try:
            if not self._client.connected:
                self._connect()
            self._client.publish(self._receipt_topic, payload)
        except BrokerAway:
            self._trade.pause(RECONNECT_S)
            return False
        return True

    def _connect(self) -> None:
        self._client.connect()
        self._client.subscribe([self._reply_topic])

    def _final_reply(self, receipt_id: str) -> dict[str, Any] | None:
        """The last word on this receipt; None if the bridge, or the broker, falls silent first."""
        deadline = time.monotonic() + self._retry_after_s
        while not self._trade.stopped and self._client.connected and (left := deadline - time.monotonic()) > 0:
            message = self._client.get(min(left, STOP_POLL_S))
            if message is None:
                continue
            reply: dict[str, Any] = json.loads(message.payload)
            if reply.get("duplicate"):
                self._tally.note_duplicate()
            if reply.get("receipt_id") != receipt_id:
                continue
            if reply["final"]:
                return reply
            # "buffered": it is safe there, and only slow.
            deadline = time.monotonic() + self._retry_after_s
        return None


class Terminals:
    """All of a shop's terminals, `pos-1` and up; a context manager."""

    def __init__(self, settings: TerminalSettings, trade: Trade) -> None:
        self.tally = Tally()
        self._trade = trade
        self._terminals = [
            Terminal(f"pos-{number}", settings, trade, self.tally) for number in range(1, settings.count + 1)
        ]

    def open(self) -> None:
        """Connect them all; BrokerAway if there is no broker."""
        try:
            for terminal in self._terminals:
                terminal.open()
        except BrokerAway:
            self.close()
            raise

    def wait(self, timeout_s: float) -> bool:
        """Wait until every customer is served and no more come; False if that takes longer."""
        deadline = time.monotonic() + timeout_s
        return all(terminal.join(deadline - time.monotonic()) for terminal in self._terminals)

    def close(self) -> None:
        """Stop the trade and leave the broker."""
        self._trade.stop()
        self.wait(STOP_TIMEOUT_S)
        for terminal in self._terminals:
            terminal.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""A POS terminal that keeps its own record: it reconnects for ever, and repeats until it has a final reply.

A broker that is killed may lose what it has acknowledged since its last save, so a PUBACK is no reason to
stop asking: the README tells this to everyone who programs a POS. While the broker is spared the terminals
are *patient*: they send once and wait, so that whatever the bridge lost would stay lost. The client is the
program's own, which says when a connection is lost; the tests' `MqttClient` would come back unnoticed.
"""

import json
import math
import threading
import time
from random import Random
from typing import Final

from chaos.records import CONFLICT, Question, Reply, Sale, Send, Till
from chaos.trade import Trade

from kkt_bridge.errors import BrokerAway
from kkt_bridge.mqtt.client import BrokerClient, Received

OPEN_MAX: Final = 3
"""Customers served at once: a till with self-checkout beside it."""

THINK_S: Final = 0.05
"""Between two customers, on average."""

PATIENCE_S: Final = 2.0
"""Without a word for so long, a terminal asks again."""

PATIENCE_BUFFERED_S: Final = 5.0
RETRY_REFUSED_S: Final = 0.7
"""When what was refused for now is tried again."""

TICK_S: Final = 0.02
RECENT: Final = 40
"""Sales back to which a refund or a contradiction may reach."""

TWICE_SHARE, LATE_REPEAT_SHARE, EARLY_QUERY_SHARE, QUERY_SHARE = 0.12, 0.05, 0.08, 0.3


class Terminal(threading.Thread):
    """One terminal in a thread of its own; `till` is its record, to be read when it has ended."""

    def __init__(self, pos_id: str, branch: str, address: tuple[str, int], trade: Trade, rng: Random) -> None:
        super().__init__(name=pos_id, daemon=True)
        self.till = Till(pos_id)
        self._branch = f"{branch}/pos/{pos_id}"
        self._client = BrokerClient(*address)
        self._trade = trade
        self._rng = rng
        self._open: list[Sale] = []
        self._printed: list[Sale] = []
        self._refunded: list[Sale] = []
        self._next_customer_at = 0.0
        self._sales_stopped = False
        self._patient = False
        self._in_order = False
        self._again: list[Sale] = []
        self._leaving = threading.Event()
        self._recheck = 0
        self.answered = 0
        """Requests with a verdict, so far."""
        self.answered_at: list[float] = []
        """When each of them got it, by the monotonic clock."""

    # -- for the campaign's thread ---------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests without a verdict."""
        return len(self._open) + self._recheck

    def stop_sales(self) -> None:
        """Nobody comes any more; those inside are served."""
        self._sales_stopped = True

    def be_patient(self) -> None:
        """From now on send each request once, as long as the line holds."""
        self._patient = True

    def ask_all_again(self, count: int) -> None:
        """Send so many requests of long ago once more, and wait for their verdicts; sales must have stopped."""
        self._recheck = count

    def ask_everything_again(self, *, printed: bool) -> None:
        """Send every request once more that was printed, or was not, in the order made; sales must have stopped.

        This is what a shop does after the bridge has lost its journal: what was printed first, as whether anything else
        is to be refused (a second refund, other content) depends on it.
        """
        self._in_order = printed
        self._again = [sale for sale in self.till.all() if sale.is_printed == printed]
        self._recheck = len(self._again)

    def resume_sales(self) -> None:
        """Customers come again."""
        self._in_order = False
        self._sales_stopped = False

    def leave(self) -> None:
        """End the thread, when it comes round."""
        self._leaving.set()

    # -- the thread ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to leave."""
        while not self._leaving.is_set():
            try:
                self._step()
            except BrokerAway:
                self._note_broken()
                self._leaving.wait(self._rng.uniform(0.05, 0.3))
        self._client.close()

    def _step(self) -> None:
        if not self._client.connected:
            self._connect()
        self._listen()
        if self._recheck:
            self._begin_recheck()
        now = time.monotonic()
        if not self._sales_stopped and len(self._open) < OPEN_MAX and now >= self._next_customer_at:
            self._next_customer_at = now + self._rng.expovariate(1 / THINK_S)
            self._serve(self._trade.next(self._printed[-RECENT:], self._refunded[-RECENT:]))
        for sale in [sale for sale in self._open if now >= sale.ask_again_at]:
            asks = not self._in_order and sale.kind == "sale" and self._rng.random() < QUERY_SHARE
            self._ask(sale, "query" if asks else "receipt")

    def _connect(self) -> None:
        self._note_broken()
        self._client.connect()
        self._client.subscribe([f"{self._branch}/reply/#"])
        self.till.connections += 1
        for sale in self._open:
            # Whoever was cut off asks at once, but not all in the same moment.
            sale.ask_again_at = min(sale.ask_again_at, time.monotonic() + self._rng.uniform(0, 1))

    def _note_broken(self) -> None:
        self.till.broken_at.setdefault(self.till.connections, time.time())

    def _serve(self, sale: Sale) -> None:
        shelf = self.till.conflicts if sale.expected == CONFLICT else self.till.sales
        if sale.receipt_id in shelf:
            return  # this contradiction was sent already
        shelf[sale.receipt_id] = sale
        if sale.kind == "refund":
            # Only one refund of the whole can be right.
            self._printed.remove(self.till.sales[sale.request["original_receipt_id"]])
        self._open.append(sale)
        sale.connection = self.till.connections
        sale.patient = self._patient
        self._ask(sale, "receipt")
        if self._rng.random() < TWICE_SHARE:
            self._ask(sale, "receipt")
        elif sale.kind == "sale" and not sale.patient and self._rng.random() < EARLY_QUERY_SHARE:
            self._ask(sale, "query")

    def _ask(self, sale: Sale, what: Question) -> None:
        """Publish, and note whether the broker has it. BrokerAway if that is unknown."""
        self._ask_again_in(sale, math.inf if sale.patient else PATIENCE_S)
        content = sale.request if what == "receipt" else {"receipt_id": sale.receipt_id}
        send = Send(time.time(), what)
        sale.sends.append(send)
        self._client.publish(
            f"{self._branch}/{what}",
            json.dumps(content, ensure_ascii=False).encode(),
            response_topic=sale.response_topic,
            correlation=sale.correlation,
        )
        send.acknowledged = True

    def _begin_recheck(self) -> None:
        """Take up again some of what was finished; nothing about it may have changed."""
        done = [sale for sale in self.till.all() if not sale.is_open]
        chosen, self._again = self._again or self._rng.sample(done, min(self._recheck, len(done))), []
        for sale in chosen:
            self._reopen(sale)
        self._recheck = 0

    def _reopen(self, sale: Sale) -> None:
        sale.wanted = len(sale.verdicts) + 1
        sale.ask_again_at = time.monotonic()
        self._open.append(sale)

    # -- replies -----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        message = self._client.get(TICK_S)
        while message is not None:
            self._hear(message)
            message = self._client.get(0)

    def _hear(self, message: Received) -> None:
        reply = Reply(time.time(), json.loads(message.payload), message.correlation)
        shelf = self.till.conflicts if reply.code == CONFLICT else self.till.sales
        sale = shelf.get(reply.content["receipt_id"])
        if sale is None or reply.content["pos_id"] != self.till.pos_id:
            self.till.strange.append(message.payload.decode())
            return
        sale.replies.append(reply)
        if reply.is_verdict:
            self._close(sale)
        elif reply.code == "not_found":
            self._ask_again_in(sale, 0)
        elif reply.code:
            self._ask_again_in(sale, RETRY_REFUSED_S)
        else:
            self._ask_again_in(sale, math.inf if sale.patient else PATIENCE_BUFFERED_S)

    def _ask_again_in(self, sale: Sale, about_s: float) -> None:
        sale.ask_again_at = time.monotonic() + about_s * self._rng.uniform(0.8, 1.2)

    def _close(self, sale: Sale) -> None:
        if sale.is_open or sale not in self._open:
            return
        self._open.remove(sale)
        self.answered += 1
        self.answered_at.append(time.monotonic())
        if sale.wanted > 1:
            return
        if sale.is_printed and sale.request["type"] == "sale":
            self._printed.append(sale)
        if sale.is_printed and sale.kind == "refund":
            self._refunded.append(self.till.sales[sale.request["original_receipt_id"]])
        if not self._sales_stopped and self._rng.random() < LATE_REPEAT_SHARE:
            self._reopen(sale)

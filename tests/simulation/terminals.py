"""POS terminals and an operator: they publish, repeat, garble, ask, and remember what they were told."""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import dataclass, field
from typing import Any

from support.clocks import ManualClock
from support.invalid_receipts import InvalidKind, invalid_kinds
from support.receipts import encoded, item, seeded_ids

from kkt_bridge.receipts.amounts import parse_kopecks
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.registers.virtual.fiscal_document import FiscalDocument
from kkt_bridge.wire.topics import Topics
from simulation.broker import Broker, QueuedMessage
from simulation.packets import CORRELATION_DATA
from simulation.registers import is_mixed

PATIENCE_S = 5.0
"""How long a terminal waits for a final reply before it says the same again."""

RETRIES_MAX = 60

CONTRADICTION = b"contradiction"
"""Correlation data of what contradicts a receipt; its total is always the same."""
CONTRADICTING_TOTAL = "7.00"


def _invalid_payloads() -> list[InvalidKind]:
    with seeded_ids(0):
        return [kind for kind in invalid_kinds() if len(kind.payload) < 4096 and kind.code != "pos_mismatch"]


INVALID_PAYLOADS = _invalid_payloads()
"""Payloads that must be refused, each in its own way."""


@dataclass(eq=False)
class Sale:
    """A receipt as its terminal sees it."""

    pos: str
    receipt_id: str
    request: dict[str, Any]
    payload: bytes
    total: int
    patient: bool
    """True if the terminal repeats it until a final reply has come."""
    kkt: str
    copies: list[QueuedMessage] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)
    next_try: float = 0.0
    tries: int = 0
    conflict: bytes | None = None
    """Other content that was sent under the same id."""
    done: bool = False
    """True once the terminal is content: told that it is printed, or refused for good."""

    @property
    def key(self) -> str:
        """The idempotency key."""
        return f"{self.pos}:{self.receipt_id}"

    @property
    def requisite(self) -> str:
        """By which its document is recognised."""
        return requisite_1192(ReceiptKey(self.pos, self.receipt_id))

    def hear(self, reply: dict[str, Any]) -> None:
        """Take note of a reply, or of the answer to a question."""
        self.replies.append(reply)
        code = (reply["error"] or {}).get("code")
        if reply["final"] and code != "idempotency_conflict":
            self.done = reply["status"] == "printed" or not reply["error"]["retryable"]

    @property
    def is_due(self) -> bool:
        """Return whether the terminal will say it again."""
        return self.patient and not self.done and self.tries < RETRIES_MAX

    @property
    def reached_the_bridge(self) -> bool:
        """Return whether some copy of it is with the bridge, or certain to get there."""
        return any(not queued.lost for queued in self.copies)


class Terminal:
    """A POS terminal."""

    def __init__(
        self, name: str, *, topics: Topics, broker: Broker, clock: ManualClock, rng: random.Random, kkt: list[str]
    ) -> None:
        self.name = name
        self.sales: dict[str, Sale] = {}
        self.invalid: list[QueuedMessage] = []
        self.retained: dict[str, Sale] = {}
        """Messages published as retained, and never as a sale."""
        self.queries: list[tuple[str, QueuedMessage]] = []
        self.heard: list[dict[str, Any]] = []
        """Every reply on its topic, in order."""
        self.to_sell = 0
        self.next_due: float | None = None
        """When it will say something again."""
        self._due: list[Sale] = []
        self._topics = topics
        self._broker = broker
        self._clock = clock
        self._rng = rng
        self._kkt = kkt

    def new_id(self) -> str:
        """A receipt id of its own making."""
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def act(self) -> None:
        """Do one thing."""
        sales = list(self.sales.values())
        actions = [(self._sell, 5.0 if self.to_sell else 0.0)]
        if sales:
            actions += [(self.repeat_an_old_one, 1.0), (self._ask, 0.5), (self._contradict, 0.4), (self._refund, 0.5)]
        actions += [(self._send_invalid, 0.5), (self._ask_about_unknown, 0.1)]
        (action,) = self._rng.choices([action for action, _ in actions], [weight for _, weight in actions])
        action()

    def repeat_what_is_due(self) -> None:
        """Say again what had no final answer for long enough."""
        for sale in self._due:
            if sale.next_try <= self._clock.monotonic():
                self._send(sale)
        self._look_what_is_due()

    def _look_what_is_due(self) -> None:
        self._due = [sale for sale in self.sales.values() if sale.is_due]
        self.next_due = min((sale.next_try for sale in self._due), default=None)

    def hear(self, content: dict[str, Any]) -> None:
        """A reply has come."""
        self.heard.append(content)
        if (sale := self.sales.get(content["receipt_id"])) is not None:
            sale.hear(content)
            self._look_what_is_due()

    # -- its actions ----------------------------------------------------------------------------------------

    def _sell(self) -> None:
        if self.to_sell:
            self.to_sell -= 1
            self._send(self._new_sale("sale"))

    def sell_at_once(self, count: int) -> None:
        """Sell so much more than the day had."""
        for _ in range(count):
            self._send(self._new_sale("sale"))

    def sell_by_the_map(self) -> None:
        """Sell on the register that the bridge's settings name for this terminal."""
        self._send(self._new_sale("sale", kkt=None))

    def _refund(self) -> None:
        original = self._rng.choice(list(self.sales.values()))
        self._send(self._new_sale("refund", original_receipt_id=original.receipt_id))

    def _new_sale(self, kind: str, **more: Any) -> Sale:
        kopecks = self._rng.choice([1000, 1000, 1000, 2500])
        amount = f"{kopecks // 100}.{kopecks % 100:02d}"
        kkt = self._rng.choice(self._kkt)
        request = {
            "receipt_id": self.new_id(),
            "pos_id": self.name,
            "type": kind,
            "items": [item(price=amount, total=amount)],
            "payments": [{"type": "cash", "amount": amount}],
            "kkt": kkt,
            **more,
        }
        if kind == "sale" and self._rng.random() < 0.1:
            request |= {
                "type": "correction",
                "correction": {"operation": "sale", "kind": "voluntary", "date": "2026-01-20"},
            }
        sale = Sale(
            self.name, request["receipt_id"], request, encoded(request), kopecks, self._rng.random() < 0.75, kkt
        )
        self.sales[sale.receipt_id] = sale
        return sale

    def repeat_an_old_one(self) -> None:
        """Send again what it has sent at any time."""
        if self.sales:
            self._send(self._rng.choice(list(self.sales.values())))

    def retain_one(self) -> None:
        """Publish a receipt as retained, long before a bridge subscribes."""
        sale = self._new_sale("sale")
        self.retained[sale.receipt_id] = self.sales.pop(sale.receipt_id)
        topic = self._topics.receipt(self.name)
        self._broker.kept[topic] = QueuedMessage(topic, sale.payload, about=sale, retained=True)

    def flood(self, count: int) -> None:
        """Publish rubbish, as fast as it can."""
        for _ in range(count):
            self._send_invalid()

    def repeat_all(self) -> None:
        """Send again everything that it ever sent."""
        for sale in self.sales.values():
            if sale.copies:
                sale.done, sale.tries = False, 0
                self._send(sale)

    def repeat_contradictions(self) -> None:
        """Send again what contradicted a receipt: a bridge that had forgotten that one may have printed this."""
        for sale in self.sales.values():
            if sale.conflict is not None:
                self._send_contradiction(sale.conflict)

    def _contradict(self) -> None:
        sale = self._rng.choice(list(self.sales.values()))
        other = sale.request | {"items": [item(name="Other", price=CONTRADICTING_TOTAL, total=CONTRADICTING_TOTAL)]}
        other |= {"payments": [{"type": "cash", "amount": CONTRADICTING_TOTAL}]}
        sale.conflict = encoded(other)
        self._send_contradiction(sale.conflict)

    def _send_contradiction(self, payload: bytes) -> None:
        self._publish(self._topics.receipt(self.name), payload, None, {CORRELATION_DATA: CONTRADICTION})

    def _ask(self) -> None:
        self._query(self._rng.choice(list(self.sales)))

    def _ask_about_unknown(self) -> None:
        self._query(self.new_id())

    def _query(self, receipt_id: str) -> None:
        queued = self._publish(self._topics.query(self.name), json.dumps({"receipt_id": receipt_id}).encode(), None)
        if queued is not None:
            self.queries.append((receipt_id, queued))

    def _send_invalid(self) -> None:
        kind = self._rng.choice(INVALID_PAYLOADS)
        queued = self._publish(self._topics.receipt(self.name), kind.payload, kind.name)
        if queued is not None:
            self.invalid.append(queued)

    def _send(self, sale: Sale) -> None:
        sale.next_try = self._clock.monotonic() + PATIENCE_S
        sale.tries += 1
        queued = self._publish(self._topics.receipt(self.name), sale.payload, sale)
        if queued is not None:
            sale.copies.append(queued)
        self._look_what_is_due()

    def _publish(
        self, topic: str, payload: bytes, about: Any, properties: dict[int, Any] | None = None
    ) -> QueuedMessage | None:
        queued = QueuedMessage(topic, payload, properties or {}, about)
        return queued if self._broker.take(queued) else None


class Operator:
    """Somebody with the command line."""

    def __init__(self, *, topics: Topics, broker: Broker, rng: random.Random) -> None:
        self._topics = topics
        self._broker = broker
        self._rng = rng
        self._last_word = ""
        self.paused = False
        """True while the bridge has said that it is paused, and nobody has ordered anything else since."""
        self.commands: dict[str, tuple[str, QueuedMessage]] = {}
        self.results: dict[str, list[dict[str, Any]]] = {}
        self.passed: set[tuple[str, int]] = set()
        """Documents, by FN and FD number, of which it said that they are another sale under a receipt's mark."""

    def order(self, name: str, args: dict[str, Any] | None = None) -> str | None:
        """Publish a command; its id, or None if the broker is not there."""
        command_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        message = {"command_id": command_id, "issued_by": "operator", "args": args or {}}
        queued = QueuedMessage(self._topics.command(name), json.dumps(message).encode(), about=("command", command_id))
        if not self._broker.take(queued):
            return None
        self.commands[command_id] = (name, queued)
        if name in {"pause", "resume"}:
            self._last_word, self.paused = command_id, False
        return command_id

    def settle(
        self, sale: Sale, doubt: dict[str, Any], documents: list[tuple[str, FiscalDocument]]
    ) -> tuple[str, dict[str, Any]]:
        """Say what became of a receipt in doubt: which document is its own, or that there is none. Returns the order.

        A document with its mark may be another sale: another program's, or one of a terminal that used its id for two,
        the second of which was taken by a bridge that had forgotten the first.
        """
        total = parse_kopecks(doubt["total"])
        marked = [(fn, document) for fn, document in documents if document.body.requisite_1192 == sale.requisite]
        own = [(fn, document) for fn, document in marked if not is_mixed(document) and document.body.total == total]
        who = {"receipt_id": sale.receipt_id, "pos_id": sale.pos, "reason": "looked at the papers"}
        if not own:
            self.passed.update((fn, document.fd_number) for fn, document in marked)
            return self._ordered(who | {"print_again": True, "doubt": doubt["doubt"]})
        ((fn, document),) = own
        adopted = {
            "fn_number": fn,
            "fd_number": document.fd_number,
            "fiscal_sign": document.fiscal_sign,
            "datetime": document.at.isoformat(),
            "shift_number": document.shift_number,
            "receipt_number": document.receipt_number,
        }
        return self._ordered(who | {"adopt": adopted})

    def _ordered(self, args: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        self.order("settle", args)
        return "settle", args

    def hear(self, content: dict[str, Any]) -> None:
        """A result has come."""
        if content["command_id"] is not None:
            if content["command_id"] == self._last_word and content["ok"]:
                self.paused = self.commands[self._last_word][0] == "pause"
            self.results.setdefault(content["command_id"], []).append(content)

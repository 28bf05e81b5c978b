"""Every message of the contract: its topic, model, direction, QoS, retain flag, meaning and example.

The JSON Schema files and the AsyncAPI document are made from this table, so a message is added by adding its
model, its example and a row. A command whose arguments are known gets a row of its own beside `command`, with
`_TOPICS.command("sync")` for its topic and a model that narrows `args`: the more literal topic is the one that counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from kkt_bridge.receipts.model import Receipt
from kkt_bridge.wire import messages
from kkt_bridge.wire.examples import EXAMPLES
from kkt_bridge.wire.topics import Topics

DEFAULT_ROOT: Final = "kkt/v1"

COMMANDS: Final = (
    "status",
    "sync",
    "receipt",
    "buffer-list",
    "dlq-list",
    "dlq-requeue",
    "dlq-discard",
    "shift-open",
    "shift-close",
    "x-report",
    "pause",
    "resume",
    "reprint",
)
"""The names that a command's topic may end in."""

_TOPICS: Final = Topics(DEFAULT_ROOT, "{bridge}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A message and the topic it travels on. `direction` is seen from the bridge."""

    name: str
    """Of the schema file, and in camel case of the channel."""
    topic: str
    """With `{parameters}`; the path where the carrier is HTTP."""
    model: type[BaseModel]
    direction: Literal["in", "out"]
    summary: str
    carrier: Literal["mqtt", "http"] = "mqtt"
    qos: Literal[0, 1, 2] = 1
    retain: bool = False
    answer: str | None = None
    """The name of the message that answers this one."""
    id_field: str | None = None
    """The field that a message and its answer have in common."""

    @property
    def example(self) -> Mapping[str, Any]:
        """The message as it may stand in a payload."""
        return EXAMPLES[self.name]


def _state(name: str, model: type[BaseModel], summary: str) -> Entry:
    return Entry(f"state-{name.split('/', maxsplit=1)[0]}", _TOPICS.state(name), model, "out", summary, retain=True)


def _event(kind: str, model: type[BaseModel], summary: str) -> Entry:
    return Entry(f"event-{kind}", _TOPICS.event(kind), model, "out", summary)


CATALOGUE: Final = (
    Entry(
        "receipt-request",
        _TOPICS.receipt("{pos}"),
        Receipt,
        "in",
        "A POS terminal asks for a receipt; (pos_id, receipt_id) is the idempotency key.",
        answer="reply",
        id_field="receipt_id",
    ),
    Entry(
        "query",
        _TOPICS.query("{pos}"),
        messages.Query,
        "in",
        "A POS terminal asks what became of a receipt.",
        answer="reply",
        id_field="receipt_id",
    ),
    Entry(
        "reply",
        _TOPICS.reply("{pos}"),
        messages.Reply,
        "out",
        "The bridge tells a POS terminal what became of a receipt.",
        id_field="receipt_id",
    ),
    Entry(
        "command",
        _TOPICS.command("{name}"),
        messages.Command,
        "in",
        "An operator asks the bridge to do something.",
        answer="command-result",
        id_field="command_id",
    ),
    Entry(
        "command-result",
        _TOPICS.command_result("{name}"),
        messages.CommandResult,
        "out",
        "The bridge tells an operator what came of a command.",
        id_field="command_id",
    ),
    _state("online", messages.Online, "The bridge is there, or it is not; also the last will."),
    _state("health", messages.HealthState, "How the bridge is, with a reason for each part that is not healthy."),
    _state("buffer", messages.BufferState, "How full the buffer is, how old its content, and whether more is taken."),
    _state("breaker", messages.BreakerState, "The circuit breaker before the OFD."),
    _state("sync", messages.SyncState, "How the delivery of documents to the OFD goes."),
    _state("kkt/{kkt}", messages.KktState, "A fiscal register and its fiscal storage."),
    _event("receipt", messages.ReceiptEvent, "Receipts took steps in their life; committed together, told together."),
    _event("breaker", messages.BreakerEvent, "The circuit breaker before the OFD changed its state."),
    _event("network", messages.NetworkEvent, "The bridge changed its mind about its way to the OFD."),
    _event("shift", messages.ShiftEvent, "A shift was opened or closed on a register."),
    _event("command", messages.CommandEvent, "An operator's command was carried out or refused."),
    Entry(
        "ofd-document",
        "/ofd/v1/receipt",
        messages.OfdDocument,
        "out",
        "The bridge hands a fiscal document to the OFD.",
        carrier="http",
    ),
)
"""The whole contract, in reading order."""

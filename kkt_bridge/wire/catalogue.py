"""Every message of the contract: its topic, model, direction, QoS, retain flag, meaning and example.

The JSON Schema files and the AsyncAPI document are made from this table, so a message is added by adding its
model, its example and a row. Each command has a row of its own beside `command`, which holds for all of them: of two
topics the more literal one counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import BaseModel, Field, create_model

from kkt_bridge.receipts.model import Receipt, Strict
from kkt_bridge.wire import messages
from kkt_bridge.wire.commands import COMMANDS
from kkt_bridge.wire.examples import EXAMPLES
from kkt_bridge.wire.topics import Topics

DEFAULT_ROOT: Final = "kkt/v1"

_TOPICS: Final = Topics(DEFAULT_ROOT, "{bridge}")


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A message and the topic it travels on."""

    name: str
    """Of the schema file, and in camel case of the channel."""
    topic: str
    """With `{parameters}`; the path where the carrier is HTTP."""
    model: type[BaseModel]
    summary: str
    answer: str | None = None
    """The name of the message that answers this one: every message to the bridge is answered."""
    retain: bool = False

    @property
    def direction(self) -> Literal["in", "out"]:
        """Seen from the bridge."""
        return "out" if self.answer is None else "in"

    @property
    def carrier(self) -> Literal["mqtt", "http"]:
        """The protocol that it travels by."""
        return "http" if self.topic.startswith("/") else "mqtt"

    @property
    def id_field(self) -> str | None:
        """The field that a message and its answer have in common."""
        return _ID_FIELDS.get(self.answer or self.name)

    @property
    def example(self) -> Mapping[str, Any]:
        """The message as it may stand in a payload."""
        return EXAMPLES[self.name]


_ID_FIELDS: Final = MappingProxyType({"reply": "receipt_id", "command-result": "command_id"})
"""By the name of the answer."""


def _state(name: str, model: type[BaseModel], summary: str) -> CatalogueEntry:
    entry_name = f"state-{name.split('/', maxsplit=1)[0]}"
    return CatalogueEntry(entry_name, _TOPICS.state(name), model, summary, retain=True)


def _event(kind: str, model: type[BaseModel], summary: str) -> CatalogueEntry:
    return CatalogueEntry(f"event-{kind}", _TOPICS.event(kind), model, summary)


def _command(name: str, args: type[Strict]) -> CatalogueEntry:
    needs_args = any(field.is_required() for field in args.model_fields.values())
    field = Field() if needs_args else Field(default_factory=args)
    model = create_model(f"Command {name}", __base__=messages.Command, args=(args, field))
    topic, summary = _TOPICS.command(name), _COMMAND_SUMMARIES[name]
    return CatalogueEntry(f"command-{name}", topic, model, summary, "command-result")


_COMMAND_SUMMARIES: Final = MappingProxyType(
    {
        "status": "An operator asks for all state messages in one answer.",
        "sync": "An operator has pending documents sent to the OFD now.",
        "receipt": "An operator asks for the whole history of one receipt.",
        "buffer-list": "An operator asks for the pending receipts, a page at a time.",
        "dlq-list": "An operator asks for the dead letters, a page at a time.",
        "dlq-requeue": "An operator has one dead letter, or all, sent to the OFD again.",
        "dlq-discard": "An operator discards a dead letter and says why.",
        "shift-open": "An operator opens a shift on a register.",
        "shift-close": "An operator closes the shift of a register.",
        "x-report": "An operator has a register print a report of the shift so far.",
        "pause": "An operator has the bridge stop taking receipts.",
        "resume": "An operator has the bridge take receipts again.",
        "reprint": "An operator has a register print a copy, which is never a second fiscal document.",
        "settle": "An operator says what became of a receipt of which its register cannot tell.",
    }
)

CATALOGUE: Final = (
    CatalogueEntry(
        "receipt-request",
        _TOPICS.receipt("{pos}"),
        Receipt,
        "A POS terminal asks for a receipt; (pos_id, receipt_id) is the idempotency key.",
        "reply",
    ),
    CatalogueEntry(
        "query", _TOPICS.query("{pos}"), messages.Query, "A POS terminal asks what became of a receipt.", "reply"
    ),
    CatalogueEntry(
        "reply", _TOPICS.reply("{pos}"), messages.Reply, "The bridge tells a POS terminal what became of a receipt."
    ),
    CatalogueEntry(
        "command",
        _TOPICS.command("{name}"),
        messages.Command,
        "An operator asks the bridge to do something.",
        "command-result",
    ),
    *(_command(name, args) for name, args in COMMANDS.items()),
    CatalogueEntry(
        "command-result",
        _TOPICS.command_result("{name}"),
        messages.CommandResult,
        "The bridge tells an operator what came of a command.",
    ),
    _state("online", messages.Online, "The bridge is there, or it is not; also the last will."),
    _state("health", messages.HealthState, "How the bridge is, with a reason for each part that is not healthy."),
    _state("buffer", messages.BufferState, "How full the buffer is, how old its content, and whether more is taken."),
    _state("breaker", messages.BreakerState, "The circuit breaker before the OFD."),
    _state("sync", messages.SyncState, "How the delivery of documents to the OFD goes."),
    _state("kkt/{kkt}", messages.KktState, "A fiscal register and its fiscal storage."),
    _state("alerts", messages.AlertsState, "What wants a person now, and what to do about it."),
    _event("receipt", messages.ReceiptEvent, "Receipts took steps in their life; committed together, told together."),
    _event("breaker", messages.BreakerEvent, "The circuit breaker before the OFD changed its state."),
    _event("network", messages.NetworkEvent, "The bridge changed its mind about its way to the OFD."),
    _event("alert", messages.AlertEvent, "Something wants a person, or no longer does."),
    _event("shift", messages.ShiftEvent, "A shift was opened or closed on a register."),
    _event("command", messages.CommandEvent, "An operator's command was carried out or refused."),
    CatalogueEntry(
        "ofd-document", "/ofd/v1/receipt", messages.OfdDocument, "The bridge hands a fiscal document to the OFD."
    ),
)
"""The whole contract, in reading order."""

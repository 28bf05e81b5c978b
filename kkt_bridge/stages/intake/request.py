"""What a message asks for: decoded here, once, and never again."""

import logging
import re
from dataclasses import dataclass, replace

from kkt_bridge.mqtt.inbox import AckToken, Incoming
from kkt_bridge.receipts.identity import ReceiptKey, canonical_digest
from kkt_bridge.receipts.model import IDENTIFIER_PATTERN, RECEIPT_ID_PATTERN, Receipt
from kkt_bridge.stages.intake import refusals
from kkt_bridge.wire.decode import Undecodable, decode_message, decode_receipt, too_large
from kkt_bridge.wire.messages import Command, Error, Query
from kkt_bridge.wire.topics import NAME_CHARS_MAX, RequestKind, Route, Topics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A message without its payload: what it asks for, or why it cannot be understood."""

    token: AckToken
    kind: RequestKind
    name: str
    """The POS of a receipt or query, or the command's name, of at most `NAME_CHARS_MAX` characters."""
    answer_topic: str | None
    """None where no broker would take an answer."""
    correlation: bytes | None
    redelivered: bool
    retained: bool
    digest: bytes
    """16 bytes of topic and payload: what a redelivery repeats."""
    id: str | None = None
    """The receipt's or command's id, as far as the payload holds one that can be read."""
    content: Receipt | Query | Command | None = None
    canonical: bytes = b""
    """The canonical form of a receipt."""
    error: Error | None = None
    """Why there is no content."""

    @property
    def sender(self) -> str:
        """Who sent it: the POS, or `command` of an operator."""
        return "command" if self.kind == "command" else self.name

    @property
    def ids(self) -> dict[str, str | None]:
        """For a line in the log."""
        return {} if self.kind == "command" else {"receipt_id": self.id, "pos_id": self.name}

    @property
    def key(self) -> ReceiptKey | None:
        """The receipt that it is about, if it names one as the contract wants it."""
        if self.kind == "command" or self.id is None or re.fullmatch(RECEIPT_ID_PATTERN, self.id) is None:
            return None
        return ReceiptKey(self.name, self.id)

    @property
    def content_digest(self) -> bytes:
        """Of a receipt: what an equal one shares with it, whatever its spelling."""
        return canonical_digest(self.canonical)

    def without_content(self) -> "Request":
        """What is needed to refuse it, and no more."""
        return replace(self, content=None, canonical=b"")


def understand(topics: Topics, message: Incoming) -> Request | None:
    """What the message asks for; None if it is on no topic of a request. Never an exception."""
    route = topics.route(message.topic)
    if route is None:
        log.debug("a message on %.100s asks for nothing", message.topic)
        return None
    request = Request(
        token=message.token,
        kind=route.kind,
        name=route.name[:NAME_CHARS_MAX],
        answer_topic=topics.answer_topic(route, message.response_topic),
        correlation=message.correlation,
        redelivered=message.redelivered,
        retained=message.retained,
        digest=message.digest,
    )
    try:
        return _decoded(request, route, message)
    except Undecodable as bad:
        return replace(request, id=bad.message_id, error=bad.error)
    except Exception:
        log.exception("a message on %.100s could not be read; it is answered and set aside", message.topic)
        return replace(request, error=refusals.error("internal"))


def _decoded(request: Request, route: Route, message: Incoming) -> Request:
    if message.excess is not None:
        id_field = "command_id" if route.kind == "command" else "receipt_id"
        raise too_large(message.excess.length, message.payload, id_field)
    payload = message.payload
    match route.kind:
        case "receipt":
            receipt = decode_receipt(payload, route.name)
            return replace(request, id=receipt.receipt_id, content=receipt, canonical=receipt.canonical())
        case "query":
            query = decode_message(Query, payload, "receipt_id")
            if re.fullmatch(IDENTIFIER_PATTERN, route.name) is None:
                return replace(request, id=query.receipt_id, error=refusals.error("unfit_pos"))
            return replace(request, id=query.receipt_id, content=query)
        case "command":
            command = decode_message(Command, payload, "command_id")
            return replace(request, id=command.command_id, content=command)

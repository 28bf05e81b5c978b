"""A terminal's record of a receipt: its requests, the broker's acknowledgements, all replies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kkt_bridge.receipts.identity import ReceiptKey

PRINTED = "printed"
CONFLICT = "idempotency_conflict"

Question = Literal["receipt", "query"]


@dataclass(slots=True)
class Send:
    """One publish, by the wall clock; `acknowledged` is the broker's PUBACK."""

    at: float
    what: Question
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it came, by the wall clock."""

    at: float
    content: Mapping[str, Any]
    correlation: bytes | None

    @property
    def code(self) -> str | None:
        """The error's code, if it is a refusal."""
        return self.content["error"]["code"] if self.content["error"] else None

    @property
    def is_verdict(self) -> bool:
        """Return whether the request ends here: a refusal that asks for a later try is no verdict."""
        error = self.content["error"]
        return bool(self.content["final"]) and not (error and error["retryable"])

    @property
    def verdict(self) -> str:
        """`printed`, or the code of the refusal."""
        return self.code or self.content["status"]

    def comparable(self) -> dict[str, Any]:
        """The part that is the same in every verdict: all but the word that it is a repeat, and the OFD's time."""
        content = {name: value for name, value in self.content.items() if name != "duplicate"}
        if content["hlc"] is not None:
            content["hlc"] = {name: value for name, value in content["hlc"].items() if name != "server_time"}
        return content


@dataclass(slots=True, eq=False)
class Sale:
    """One request of a terminal, good or bad, and its whole conversation."""

    pos_id: str
    request: dict[str, Any]
    kind: str
    expected: str
    """The only verdict that is right: `printed`, or an error code."""
    response_topic: str | None = None
    correlation: bytes | None = None
    patient: bool = False
    """Sent once: what the broker has acknowledged must come through by itself while the line holds."""
    connection: int = 0
    """The terminal's connection on which it was sent first."""
    sends: list[Send] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    wanted: int = 1
    """How many verdicts the terminal waits for; more than one where it asks again on purpose."""
    ask_again_at: float = 0.0
    """By the monotonic clock."""

    @property
    def receipt_id(self) -> str:
        """The request's own id."""
        return str(self.request["receipt_id"])

    @property
    def key(self) -> ReceiptKey:
        """The key of the receipt."""
        return ReceiptKey(self.pos_id, self.receipt_id)

    @property
    def verdicts(self) -> list[Reply]:
        """The replies that end it."""
        return [reply for reply in self.replies if reply.is_verdict]

    @property
    def is_open(self) -> bool:
        """Return whether the terminal still waits."""
        return len(self.verdicts) < self.wanted

    @property
    def is_printed(self) -> bool:
        """Return whether a verdict says so."""
        return any(reply.verdict == PRINTED for reply in self.verdicts)

    @property
    def was_acknowledged(self) -> bool:
        """Return whether the broker took it at least once."""
        return any(send.acknowledged for send in self.sends if send.what == "receipt")


@dataclass(slots=True)
class Till:
    """Everything one terminal remembers."""

    pos_id: str
    sales: dict[str, Sale] = field(default_factory=dict)
    """By receipt id."""
    conflicts: dict[str, Sale] = field(default_factory=dict)
    """Other content under a known id, by receipt id."""
    strange: list[str] = field(default_factory=list)
    """Replies that nobody can have asked for."""
    connections: int = 0
    broken_at: dict[int, float] = field(default_factory=dict)
    """When each connection was seen to be lost, by the wall clock."""

    def all(self) -> Iterator[Sale]:
        """Every request."""
        yield from self.sales.values()
        yield from self.conflicts.values()

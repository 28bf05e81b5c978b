"""The base of invariants."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from kkt_bridge.registers.virtual.fiscal_document import FiscalDocument
    from simulation.broker import QueuedMessage
    from simulation.world import World


class Invariant:
    """Something that must always hold. Each sees what it overrides."""

    name = ""
    outlives_journal = False
    """True if it holds too where the bridge has woken up with less than it knew."""

    def __init__(self, world: World) -> None:
        self.world = world

    def acknowledged(self, queued: QueuedMessage | None) -> None:
        """A PUBACK leaves the bridge, for this message; for none of this connection's where it is None."""

    def told(self, topic: list[str], content: dict[str, Any]) -> None:
        """The broker has this message of the bridge; the topic below its branch, in levels."""

    def answered(self, correlation: bytes, content: dict[str, Any]) -> None:
        """The broker has this answer to a message with correlation data."""

    def finish(self) -> None:
        """The day is over, everything is healed and at rest."""

    def is_another_sale(self, fn: str, document: FiscalDocument) -> bool:
        """Return whether an operator looked at it, and said that it is another sale under a receipt's mark."""
        return (fn, document.fd_number) in self.world.operator.passed

    def recorded_refusal(self, queued: QueuedMessage) -> dict[str, Any] | None:
        """The reply with which the journal says that this very message was refused; None where it says nothing."""
        digest = blake2b(queued.topic.encode() + b"\0" + queued.payload, digest_size=16).digest()
        rows = self.world.rows("SELECT reply FROM refusals WHERE digest = ?", digest)
        return json.loads(rows[0][0]) if rows else None

    def fail(self, what: str) -> NoReturn:
        """It does not hold."""
        self.world.fail(self.name, what)

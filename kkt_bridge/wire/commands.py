"""The operators' commands: their names and what each takes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import Field

from kkt_bridge.receipts.model import PRINTABLE, Identifier, ReceiptId, Strict, line

PageSize = Annotated[int, Field(ge=1, le=200)]


class NoArgs(Strict):
    """`status`, `pause`, `resume`: nothing."""


class SyncArgs(Strict):
    """`sync`: with `force`, also through an open breaker and past waiting back-offs."""

    force: bool = False


class ReceiptArgs(Strict):
    """`receipt`: which one; `pos_id` where two POS used the same id."""

    receipt_id: ReceiptId
    pos_id: Identifier | None = None


class PageArgs(Strict):
    """`buffer-list`, `dlq-list`: a page, behind the cursor that the last one ended with."""

    limit: PageSize = 50
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


class RequeueArgs(Strict):
    """`dlq-requeue`: one letter, or all."""

    receipt_id: ReceiptId | None = None
    pos_id: Identifier | None = None
    all: bool = False


class DiscardArgs(Strict):
    """`dlq-discard`: one letter, and why."""

    receipt_id: ReceiptId
    pos_id: Identifier | None = None
    reason: Annotated[str, line(500), PRINTABLE]


class RegisterArgs(Strict):
    """`shift-open`, `shift-close`, `x-report`: on which register; may be left out where there is one."""

    kkt: Identifier | None = None


class ReprintArgs(Strict):
    """`reprint`: a copy of this document, or of the last."""

    kkt: Identifier | None = None
    fd_number: Annotated[int, Field(ge=1)] | None = None


COMMANDS: Final[Mapping[str, type[Strict]]] = MappingProxyType(
    {
        "status": NoArgs,
        "sync": SyncArgs,
        "receipt": ReceiptArgs,
        "buffer-list": PageArgs,
        "dlq-list": PageArgs,
        "dlq-requeue": RequeueArgs,
        "dlq-discard": DiscardArgs,
        "shift-open": RegisterArgs,
        "shift-close": RegisterArgs,
        "x-report": RegisterArgs,
        "pause": NoArgs,
        "resume": NoArgs,
        "reprint": ReprintArgs,
    }
)
"""Every command and the model of its `args`."""

"""The operators' commands: their names and what each takes."""

from collections.abc import Mapping
from datetime import MAXYEAR, MINYEAR, datetime
from types import MappingProxyType
from typing import Annotated, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

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


def _moment(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None and MINYEAR < at.year < MAXYEAR:
            return text
    except ValueError:
        pass
    raise ValueError('expected a time with an offset such as "2026-11-22T14:03:00+03:00"')


_ON_PAPER: Final = ("fn_number", "fiscal_sign", "datetime", "shift_number", "receipt_number")


class AdoptedDocument(Strict):
    """A fiscal document: by its number alone on the storage in the register, with all else on one that is gone."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {name: list(_ON_PAPER) for name in _ON_PAPER}})

    fd_number: Annotated[int, Field(ge=1, le=2**32 - 1)]
    fn_number: Annotated[str, Field(pattern=r"^[0-9]{16}$")] | None = None
    fiscal_sign: Annotated[str, Field(pattern=r"^[0-9]{1,10}$")] | None = None
    datetime: (
        Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"}), AfterValidator(_moment)] | None
    ) = None
    """As on the paper, with the shop's offset."""
    shift_number: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    receipt_number: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        missing = [name for name in _ON_PAPER if getattr(self, name) is None]
        if missing and len(missing) < len(_ON_PAPER):
            raise PydanticCustomError(
                "document_in_part",
                "required too: a document on a storage that is gone is told whole, with {all}",
                {"field": missing[0], "all": ", ".join(_ON_PAPER)},
            )
        return self


class PassedDocument(Strict):
    """A fiscal document that cannot be read: it is none of ours, and what follows may be printed."""

    fn_number: Annotated[str, Field(pattern=r"^[0-9]{16}$")]
    fd_number: Annotated[int, Field(ge=1, le=2**32 - 1)]


class SettleArgs(Strict):
    """`settle`: what became of a receipt in doubt, and how one knows; either `adopt` or `print_again`.

    Or, instead of a receipt, `pass_document`: what an unreadable document is not.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["receipt_id", "adopt"],
                    "properties": {
                        "receipt_id": {"type": "string"},
                        "adopt": {"type": "object"},
                        "print_again": {"const": False},
                        "pass_document": {"type": "null"},
                    },
                },
                {
                    "required": ["receipt_id", "print_again", "doubt"],
                    "properties": {
                        "receipt_id": {"type": "string"},
                        "print_again": {"const": True},
                        "doubt": {"type": "integer"},
                        "adopt": {"type": "null"},
                        "pass_document": {"type": "null"},
                    },
                },
                {
                    "required": ["pass_document"],
                    "properties": {
                        "receipt_id": {"type": "null"},
                        "pos_id": {"type": "null"},
                        "adopt": {"type": "null"},
                        "print_again": {"const": False},
                        "doubt": {"type": "null"},
                        "pass_document": {"type": "object"},
                    },
                },
            ]
        }
    )

    receipt_id: ReceiptId | None = None
    pos_id: Identifier | None = None
    adopt: AdoptedDocument | None = None
    print_again: bool = False
    doubt: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    """Which attempt to print it has left no document, as `state/kkt` shows it: an order may come late."""
    pass_document: PassedDocument | None = None
    """Where `state/kkt` says that an unreadable document is in the way: a person looked, and it is none of ours."""
    reason: Annotated[str, line(500), PRINTABLE]

    @model_validator(mode="after")
    def _one_decision(self) -> Self:
        if self.pass_document is not None:
            others = ("receipt_id", "pos_id", "adopt", "print_again", "doubt")
            if said := [name for name in others if getattr(self, name)]:
                raise PydanticCustomError(
                    "one_decision", "a document that is passed is nobody's: leave this out", {"field": said[0]}
                )
            return self
        if self.receipt_id is None:
            raise PydanticCustomError("which_receipt", "required: which receipt", {"field": "receipt_id"})
        if (self.adopt is not None) == self.print_again:
            raise PydanticCustomError(
                "one_decision", "say either which document it is, or print_again: true", {"field": "adopt"}
            )
        if self.print_again and self.doubt is None:
            raise PydanticCustomError(
                "which_doubt",
                "required with print_again: the number of the doubt as `settle list` shows it, so that an order that "
                "comes late cannot print a receipt that was printed meanwhile",
                {"field": "doubt"},
            )
        return self


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
        "settle": SettleArgs,
    }
)
"""Every command and the model of its `args`."""

"""Why a request is refused: for every reason its code, what its sender reads, and whether it may be sent again.

What is wrong with single fields is said where they are decoded (`kkt_bridge.wire.decode`).
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from kkt_bridge.wire.messages import CommandError, Error, FaultyField

NOTHING_TAKEN: Final = "nothing was taken: mended, it may always be sent again under the same id"


class Reason(NamedTuple):
    """A row of the table. `text` is a template of `str.format`."""

    code: str
    text: str
    retryable: bool = False


REASONS: Final[Mapping[str, Reason]] = MappingProxyType(
    {
        "invalid_json": Reason("invalid_json", "{problem}; " + NOTHING_TAKEN),
        "invalid_receipt": Reason("invalid_receipt", "{problem}; " + NOTHING_TAKEN),
        "pos_mismatch": Reason("pos_mismatch", "{problem}; " + NOTHING_TAKEN),
        "too_large": Reason(
            "too_large", "{length} bytes are too many for a request, at most {most} fit; " + NOTHING_TAKEN
        ),
        "paused": Reason(
            "paused", "the bridge is paused by its operator; nothing was taken, try again later", retryable=True
        ),
        "buffer_full": Reason(
            "buffer_full",
            "the buffer holds {capacity} receipts that the OFD does not have yet; nothing was taken, "
            "try again under the same receipt_id",
            retryable=True,
        ),
        "storage_unavailable": Reason(
            "storage_unavailable",
            "the bridge cannot write to its disk; nothing was taken, try again later under the same id",
            retryable=True,
        ),
        "fn_exhausted": Reason(
            "fn_exhausted",
            "the fiscal storage of {kkt} takes no more documents; nothing was taken, have it replaced",
            retryable=True,
        ),
        "unknown_kkt": Reason("unknown_kkt", "no register {kkt} here; there is {there_is}"),
        "unmapped_pos": Reason(
            "unknown_kkt", "POS {pos} is mapped to no register: name one in kkt, or map it; there is {there_is}"
        ),
        "original_not_found": Reason(
            "original_not_found", "no sale {original} is known here: check the id, or leave it out"
        ),
        "original_not_synced": Reason(
            "original_not_synced",
            "the sale {original} is not at the OFD yet; nothing was taken, try again later",
            retryable=True,
        ),
        "refund_exceeds_original": Reason(
            "refund_exceeds_original", "of the sale {original} {left} can still be refunded, not more"
        ),
        "idempotency_conflict": Reason(
            "idempotency_conflict",
            "receipt {receipt_id} was taken before with other content, and stands as it was; "
            "a different sale needs a new receipt_id",
        ),
        "retained": Reason(
            "invalid_receipt",
            "a retained message is no sale: it comes again at every connection, long after it was meant; nothing was "
            "taken: clear it (publish an empty retained message on this topic) and publish without retain",
        ),
        "unfit_pos": Reason(
            "pos_mismatch",
            "the topic's POS is no identifier: expected 1 to 64 of A-Z a-z 0-9 _ . - and a letter or digit first",
        ),
        "kkt_rejected": Reason(
            "kkt_rejected", "{problem}; nothing was printed: put it right and sell again under a new receipt_id"
        ),
        "not_found": Reason(
            "not_found",
            "no receipt {receipt_id} was ever taken from {pos_id}; "
            "sending it again under the same receipt_id is safe and prints nothing twice",
            retryable=True,
        ),
        "internal": Reason(
            "invalid_receipt",
            "the bridge failed on this message (see its log); nothing was taken, do not send these bytes again",
        ),
        "unknown_command": Reason("unknown_command", "there is {there_is}"),
        "retained_command": Reason(
            "invalid_command",
            "a retained command is not carried out: it would be again at every connection; clear it (publish an empty "
            "retained message on this topic) and publish without retain",
        ),
        "command_conflict": Reason(
            "idempotency_conflict",
            "the command_id was used before, by a command {name}: make a new one for each",
        ),
    }
)
"""Every reason by its name."""


def error(reason: str, *, fields: Iterable[tuple[str, str]] = (), **values: Any) -> Error:
    """Return the refusal of a receipt or a query; `fields` are paths with what is wrong there."""
    code, text, retryable = REASONS[reason]
    shown = [FaultyField(path=path, message=message) for path, message in fields]
    return Error.model_validate(
        {"code": code, "message": text.format(**values), "retryable": retryable, "fields": shown}
    )


def command_error(reason: str, **values: Any) -> CommandError:
    """Return the refusal of a command."""
    code, text, _ = REASONS[reason]
    return CommandError(code=code, message=text.format(**values))


def of_command(refusal: Error) -> CommandError:
    """Return the same refusal in the words of commands."""
    code = "invalid_command" if refusal.code == "invalid_receipt" else refusal.code
    return CommandError(code=code, message=refusal.message, fields=refusal.fields)


def of_query(refusal: Error) -> Error:
    """Return the same refusal for a query, by which nothing could have been taken."""
    return _reworded(refusal, "the query was not understood: mend it and ask again")


def beside_a_receipt(refusal: Error) -> Error:
    """Return the same refusal for a request under whose id a receipt was taken before."""
    return _reworded(refusal, "the receipt taken before under this id stands as it was: query it")


def _reworded(refusal: Error, advice: str) -> Error:
    return refusal.model_copy(update={"message": refusal.message.replace(NOTHING_TAKEN, advice)})

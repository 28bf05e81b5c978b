"""The document as the OFD gets it: put together once, when it was printed, and kept as bytes."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import to_json

from kkt_bridge.ffd.document import ffd_document, plain_quantities
from kkt_bridge.journal.document_queue import documents_without_body, fix_body, last_document, note_unfit
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.records import DocumentWithoutBody
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.ffd_codes import TaxSystem
from kkt_bridge.receipts.fiscal_mark import FiscalMark
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.model import RECENT


@dataclass(frozen=True, slots=True)
class RegisterRequisites:
    """The requisites that a register's settings add to its documents."""

    tax_system: TaxSystem = "osn"
    """For receipts that name none."""
    sender_email: str | None = None
    """Tag 1117; None where it is not set and left out."""


NO_DOCUMENT: Final = "no document for the OFD can be put together, which is tried again at the next start"

BODIES_MAX: Final = 64
"""Bodies made in one commit: all others who write wait for it."""

FIELDS_TOLD_MAX: Final = 5
"""Fields of a receipt that the log names as the reason why it cannot be read."""

log = logging.getLogger(__name__)


def body_or_none(unfixed: DocumentWithoutBody, requisites: RegisterRequisites) -> bytes | None:
    """Return the body of `POST /ofd/v1/receipt`: `{"receipt", "fiscal", "hlc", "ffd"}`; request and mark byte for byte.

    None, with a line in the log, where none can be put together. `requisites` are the register's.
    """
    ids = unfixed.key._asdict()
    try:
        receipt = RECENT.parse(unfixed.request)
        ffd: dict[str, Any] = ffd_document(
            receipt,
            FiscalMark.model_validate_json(unfixed.mark),
            tax_system=requisites.tax_system,
            requisite=requisite_1192(unfixed.key),
            sender_email=requisites.sender_email,
        )
        clock = {"wall_ms": unfixed.hlc.wall_ms, "counter": unfixed.hlc.counter, "server_time": None}
        return b'{"receipt":%b,"fiscal":%b,"hlc":%b,"ffd":%b}' % (
            unfixed.request.encode(),
            unfixed.mark.encode(),
            to_json(clock),
            plain_quantities(to_json(ffd)),
        )
    except ValidationError as error:
        # Told without what stands in the fields: the buyer's address may be among them.
        log.error("%s: its receipt cannot be read (%s)", NO_DOCUMENT, _refused_fields(error), extra=ids)  # noqa: TRY400
        return None
    except Exception:
        # Whatever it is: a document that exists must be recorded, and must not hold up those behind it.
        log.exception(NO_DOCUMENT, extra=ids)
        return None


def _refused_fields(error: ValidationError) -> str:
    faults = error.errors(include_input=False, include_context=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:FIELDS_TOLD_MAX])


class MissingBodies:
    """Makes the bodies of documents that came without one, before anything can change them."""

    def __init__(self, journal: Journal, requisites: Mapping[str, RegisterRequisites]) -> None:
        self._journal = journal
        self._requisites = requisites
        self._done_to = 0
        """Up to this document, all have a body or cannot have one."""
        self.unsendable: Mapping[str, int] = {}
        """Documents that cannot have one, by register; empty until that was looked into. Others may read it."""

    def make(self) -> None:
        """Make those that are missing behind the last document looked at. Errors: StorageUnavailable."""
        if not self.unsendable:
            self.unsendable = dict.fromkeys(self._requisites, 0)
        last = self._journal.read(last_document)
        if last <= self._done_to:
            return
        while unfixed := self._journal.read(lambda at: documents_without_body(at, self._done_to, BODIES_MAX)):
            bodies = [body_or_none(each, self._requisites.get(each.kkt, RegisterRequisites())) for each in unfixed]
            self._journal.write(partial(_keep_bodies, unfixed, bodies))
            self._done_to = unfixed[-1].document
            for each, body in zip(unfixed, bodies, strict=True):
                if body is None and not each.is_dead:
                    # Anew each time: others may be reading.
                    self.unsendable = {**self.unsendable, each.kkt: self.unsendable.get(each.kkt, 0) + 1}
        self._done_to = max(self._done_to, last)


def _keep_bodies(unfixed: list[DocumentWithoutBody], bodies: list[bytes | None], tx: Transaction) -> None:
    for each, body in zip(unfixed, bodies, strict=True):
        if body is None:
            note_unfit(tx, each.document, "it cannot be put together; see the log")
        else:
            fix_body(tx, each.document, body)

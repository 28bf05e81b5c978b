"""The kinds of differences that an audit finds, and the advice for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from kkt_bridge.audit.journal_claims import Claim

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "damaged_journal": "stop the bridge and start it: it moves the journal aside and says what to do",
        "counts_differ": "the capacity of the buffer is reckoned by it: keep a `kkt-bridge backup` for an examination",
        "damaged_storage": "restore the file of the virtual storage from a backup; a real one is for its service",
        "fd_gap": "a fiscal storage never skips a number: restore its file, or have the register examined",
        "unread_storage": "give the file of a storage that was replaced with --fn FILE",
        "printed_twice": "refund one of the two by hand, and keep the journal and the storages for an examination",
        "missing_document": "the storage lost it, or it is another one: give the file of the old one with --fn FILE",
        "document_differs": "compare with the paper, and have it put right with a correction receipt",
        "unknown_document": "another program printed it, or its receipt was lost with a journal: find it by the paper",
        "unrecorded_document": "stop the bridge, before it is printed again, and keep the journal for an examination",
        "no_register": "give the register back its name in the settings, or settle what waits there while it has it",
        "in_doubt": "the lane settles it by asking the register; `kkt-bridge status` and `settle` where it cannot",
        "not_at_ofd": "ask the OFD; a document that it lost can be handed in again from the fiscal storage",
        "unrecorded_delivery": "nothing to do: it is sent once more under the same key, and recorded then",
        "ofd_differs": "two fiscal documents under one key: ask the OFD which one it has, refund the other",
        "unknown_at_ofd": "its receipt was lost with a journal, or another bridge prints on this storage: look there",
        "ofd_out_of_order": "nothing to do for the documents; tell it to whoever keeps this program",
    }
)
"""Advice by kind."""

AWAITED: Final = "have its POS repeat the receipt: it is answered with this document, which then goes to the OFD"
"""The same for a document of which a rebuilt journal knows that its receipt was lost."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that does not agree, with as much of its names as is known."""

    kind: str
    what: str
    pos_id: str | None = None
    receipt_id: str | None = None
    kkt: str | None = None
    fn_number: str | None = None
    fd_number: int | None = None
    is_note: bool = False
    """Worth telling, and as it should be."""
    hint: str | None = None
    """Advice that replaces that of the kind."""

    @property
    def advice(self) -> str:
        """Return what to do about it."""
        return self.hint or KINDS[self.kind]

    def names(self) -> str:
        """Return receipt, register, storage and number in one line."""
        receipt = f"{self.pos_id}:{self.receipt_id}" if self.receipt_id else None
        storage = f"FN {self.fn_number}" if self.fn_number else None
        number = f"FD {self.fd_number}" if self.fd_number is not None else None
        return " ".join(part for part in (receipt, self.kkt, storage, number) if part)


def difference_of(claim: Claim, kind: str, what: str, *, is_note: bool = False) -> Difference:
    """Return a difference about a receipt and the document that the journal claims for it."""
    return Difference(kind, what, *claim.key, claim.kkt, claim.fn_number, claim.fd_number, is_note=is_note)

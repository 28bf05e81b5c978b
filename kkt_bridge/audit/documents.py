"""Journal against fiscal storages: is there one document for each receipt that is said to be printed, and no other?"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from kkt_bridge.audit.differences import AWAITED, Difference, difference_of
from kkt_bridge.audit.journal_claims import Claim
from kkt_bridge.audit.scratch_database import ScratchDatabase, claim_of
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.receipts.ffd_codes import CORRECTION_FORM, RECEIPT_FORM
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.lifecycle import Status

_DOCUMENT: Final = "d.kkt, d.fn_number, d.fd_number, d.form, d.operation, d.total, d.requisite, d.fiscal_sign"


def repeated_documents(scratch: ScratchDatabase) -> Iterator[Difference]:
    """Find receipts that were printed twice."""
    query = (
        "SELECT requisite FROM stored WHERE requisite IS NOT NULL GROUP BY requisite HAVING count(*) > 1 "
        "ORDER BY min(rowid)"
    )
    for (requisite,) in scratch.rows(query):
        places = list(
            scratch.rows("SELECT kkt, fn_number, fd_number FROM stored WHERE requisite = ? ORDER BY rowid", requisite)
        )
        claim = next((claim for claim, _ in scratch.claims(_CLAIM_OF, requisite)), None)
        all_of_them = ", ".join(_place(fn_number, fd_number) for _, fn_number, fd_number in places)
        yield _about_document("printed_twice", f"one receipt, {all_of_them}", places[0], claim)


def claimed_documents(scratch: ScratchDatabase) -> Iterator[Difference]:
    """Find receipts that the journal says were printed, and whose documents are missing or differ.

    The storages were read after the journal.
    """
    for claim, (requisite,) in scratch.claims(_WITHOUT_MARK):
        there = _elsewhere(scratch, requisite) or "no storage has a document of it"
        what = f"the journal says {claim.status}, and does not know its document: {there}"
        yield Difference("missing_document", what, *claim.key, claim.kkt)
    for claim, document in scratch.claims(_UNLIKE):
        if document[2] is None:
            elsewhere = _elsewhere(scratch, requisite_1192(claim.key))
            there = f"; there is {elsewhere}" if elsewhere else ""
            what = f"the journal says {claim.status}, the storage has no such document{there}"
            yield difference_of(claim, "missing_document", what)
            continue
        for wrong in _mismatches(claim, *document[3:]):
            yield _about_document("document_differs", wrong, document[:3], claim)
    for kkt, fn_number, count in scratch.rows(_UNREAD):
        what = f"{count} receipts of the journal were printed on it, and nothing was given to check them by"
        yield Difference("unread_storage", what, kkt=kkt, fn_number=fn_number)


def unclaimed_documents(scratch: ScratchDatabase) -> Iterator[Difference]:
    """Find documents in the storages that the journal does not know. It was read once more after them."""
    for row in scratch.rows(_UNCLAIMED, Status.BUFFERED, Status.REJECTED):
        document, (requisite, awaited), claim = row[:3], row[3:5], row[5:]
        if claim[0] is not None:
            known = claim_of(claim)
            what = f"the journal says {known.status}, the document exists"
            yield _about_document("unrecorded_document", what, document, known)
        elif awaited is not None:
            what = "its receipt was lost with a journal, and has not come again"
            yield replace(_about_document("unknown_document", what, document), hint=AWAITED)
        else:
            what = f"the journal has no receipt with its requisite 1192, {requisite}"
            yield _about_document("unknown_document", what, document)


def receipts_in_doubt(scratch: ScratchDatabase, *, running: bool) -> Iterator[Difference]:
    """Find receipts in doubt; beside a running bridge they are notes."""
    for claim, _ in scratch.claims(_IN_DOUBT, Status.PRINTING, Status.PRINTING):
        what = "was being printed all the time" if running else "was being printed when the bridge ended"
        yield Difference("in_doubt", what, *claim.key, claim.kkt, is_note=running)


def _mismatches(
    claim: Claim, form: int, operation: str | None, total: int | None, requisite: str | None, sign: str | None
) -> Iterator[str]:
    expected = CORRECTION_FORM if claim.type == "correction" else RECEIPT_FORM
    ours = requisite_1192(claim.key)
    if form != expected:
        yield f"form {form}, the journal says {claim.type}"
    if claim.operation is not None and operation != claim.operation:
        yield f"operation {operation}, the journal says {claim.operation}"
    if total != claim.total:
        shown = "none" if total is None else format_kopecks(total)
        yield f"total {shown}, the journal says {format_kopecks(claim.total)}"
    if requisite != ours:
        yield f"requisite 1192 {requisite or 'none'}, the receipt's is {ours}"
    if claim.fiscal_sign is not None and sign != claim.fiscal_sign:
        yield f"fiscal sign {sign}, the journal says {claim.fiscal_sign}"


def _elsewhere(scratch: ScratchDatabase, requisite: str) -> str:
    places = scratch.rows("SELECT fn_number, fd_number FROM stored WHERE requisite = ? ORDER BY rowid", requisite)
    return ", ".join(_place(fn_number, fd_number) for fn_number, fd_number in places)


def _place(fn_number: str, fd_number: int) -> str:
    return f"FD {fd_number} of FN {fn_number}"


def _about_document(kind: str, what: str, document: tuple[Any, ...], claim: Claim | None = None) -> Difference:
    return Difference(kind, what, *(claim.key if claim else (None, None)), *document)


_CLAIM_OF: Final = "SELECT {claim:a} FROM {after} AS a WHERE a.requisite = ?"
_WITHOUT_MARK: Final = """
SELECT {claim:b}, b.requisite FROM before AS b
WHERE b.status IN {printed} AND (b.fn_number IS NULL OR b.fd_number IS NULL) ORDER BY b.rowid
"""
_UNREAD: Final = """
SELECT kkt, fn_number, count(*) FROM before
WHERE status IN {printed} AND fd_number IS NOT NULL AND fn_number NOT IN (SELECT fn_number FROM storages)
GROUP BY kkt, fn_number
"""
_UNLIKE: Final = f"""
SELECT {{claim:b}}, {_DOCUMENT}
FROM before AS b LEFT JOIN stored AS d ON d.fn_number = b.fn_number AND d.fd_number = b.fd_number
WHERE b.status IN {{printed}} AND b.fd_number IS NOT NULL AND b.fn_number IN (SELECT fn_number FROM storages)
    AND (
        d.fd_number IS NULL
        OR d.form != iif(b.type = 'correction', {CORRECTION_FORM}, {RECEIPT_FORM})
        OR (b.operation IS NOT NULL AND d.operation IS NOT b.operation)
        OR d.total IS NOT b.total
        OR d.requisite IS NOT b.requisite
        OR (b.fiscal_sign IS NOT NULL AND d.fiscal_sign IS NOT b.fiscal_sign)
    )
ORDER BY b.rowid
"""  # noqa: S608 (constants)
_UNCLAIMED: Final = """
SELECT d.kkt, d.fn_number, d.fd_number, d.requisite, r.requisite, {claim:a}
FROM stored AS d
LEFT JOIN {after} AS a ON a.requisite = d.requisite
LEFT JOIN {after}_recovered AS r ON r.requisite = d.requisite
WHERE d.requisite IS NOT NULL AND (a.requisite IS NULL OR a.status IN (?, ?))
ORDER BY d.rowid
"""
_IN_DOUBT: Final = """
SELECT {claim:a} FROM {after} AS a JOIN before AS b ON b.requisite = a.requisite
WHERE a.status = ? AND b.status = ? ORDER BY a.rowid
"""

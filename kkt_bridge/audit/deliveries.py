"""Journal against OFD: does it have what the journal says it has, once, in order, and nothing else of ours?"""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from kkt_bridge.audit.differences import Difference, difference_of
from kkt_bridge.audit.journal_claims import Claim
from kkt_bridge.audit.scratch_database import PRINTED, ScratchDatabase
from kkt_bridge.receipts.lifecycle import Status

UNKNOWN_AT_OFD: Final = """
FROM ofd_documents AS o LEFT JOIN {after} AS a ON a.key = o.key LEFT JOIN before AS b ON b.key = o.key
WHERE a.key IS NULL AND b.key IS NULL AND o.fn_number IN (
    SELECT fn_number FROM storages UNION SELECT fn_number FROM {after} WHERE fn_number IS NOT NULL
)
"""
"""Documents of our fiscal storages at the OFD that the journal does not know."""


def claimed_deliveries(scratch: ScratchDatabase) -> Iterator[Difference]:
    """Find what the journal says is at the OFD, and is not. The OFD was asked after the journal was read."""
    for claim, (fn_number, fd_number) in scratch.claims(_CLAIMED, Status.SYNCED):
        if fd_number is None:
            yield difference_of(claim, "not_at_ofd", "the journal says synced, the OFD does not have it")
        else:
            yield difference_of(claim, "ofd_differs", f"the OFD has FD {fd_number} of FN {fn_number}")


def unclaimed_deliveries(scratch: ScratchDatabase) -> Iterator[Difference]:
    """Find what the OFD has of our storages, and the journal does not say so. It was read once more after the OFD."""
    for claim, _ in scratch.claims(_UNRECORDED, Status.SYNCED):
        if claim.status in PRINTED:
            what = f"the OFD has it, the journal says {claim.status}"
            yield difference_of(claim, "unrecorded_delivery", what, is_note=True)
        else:
            what = f"the OFD has a document of it, the journal says {claim.status}"
            yield difference_of(claim, "ofd_differs", what)
    for key, fn_number, fd_number in scratch.rows(_UNKNOWN):
        pos_id, _, receipt_id = key.partition(":")
        what = "the OFD has it, the journal has no such receipt"
        yield Difference("unknown_at_ofd", what, pos_id, receipt_id, fn_number=fn_number, fd_number=fd_number)


def late_arrivals(scratch: ScratchDatabase) -> Iterator[Difference]:
    """Find documents that came to the OFD behind younger ones of their storage, without a failure of their own."""
    arrivals = scratch.claims(_ARRIVALS)
    for _, of_storage in groupby(arrivals, key=lambda arrival: arrival[1][0]):
        newest: Claim | None = None
        for claim, _ in of_storage:
            if newest is not None and _overtaken(claim, newest):
                yield difference_of(claim, "ofd_out_of_order", f"it came to the OFD after FD {newest.fd_number}")
            if newest is None or (claim.fd_number or 0) > (newest.fd_number or 0):
                newest = claim


def _overtaken(claim: Claim, newest: Claim) -> bool:
    """Return whether it was recorded before that one, and had nothing to wait out."""
    assert claim.document is not None
    assert claim.fd_number is not None
    return claim.fd_number < (newest.fd_number or 0) and claim.document < (newest.document or 0) and claim.attempts == 0


_CLAIMED: Final = """
SELECT {claim:b}, o.fn_number, o.fd_number FROM before AS b LEFT JOIN ofd_documents AS o ON o.key = b.key
WHERE (o.key IS NULL AND b.status = ?)
    OR (o.key IS NOT NULL AND b.fn_number IS NOT NULL
        AND (o.fn_number IS NOT b.fn_number OR o.fd_number IS NOT b.fd_number))
ORDER BY b.rowid
"""
# Where the OFD has another document under the key, that is the difference, and nothing is merely unrecorded.
_UNRECORDED: Final = """
SELECT {claim:a} FROM ofd_documents AS o JOIN {after} AS a ON a.key = o.key
WHERE a.status != ?
    AND (a.fn_number IS NULL OR (a.fn_number IS o.fn_number AND a.fd_number IS o.fd_number))
ORDER BY o.arrival
"""
_UNKNOWN: Final = (
    f"SELECT o.key, o.fn_number, o.fd_number {UNKNOWN_AT_OFD} AND NOT EXISTS (SELECT 1 FROM {{after}}_recovered AS r "  # noqa: S608 (constants)
    "WHERE r.fn_number = o.fn_number AND r.fd_number = o.fd_number) ORDER BY o.arrival"
)
_ARRIVALS: Final = """
SELECT {claim:a}, o.fn_number FROM ofd_documents AS o JOIN {after} AS a ON a.key = o.key
WHERE a.fd_number IS NOT NULL AND a.document IS NOT NULL ORDER BY o.fn_number, o.arrival
"""

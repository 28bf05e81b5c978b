"""Journal against OFD: does it have what the journal says it has, once, in order, and nothing else of ours?"""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from kkt_bridge.audit.differences import Difference
from kkt_bridge.audit.journal_claims import Claim
from kkt_bridge.audit.snapshot import PRINTED, ScratchDatabase
from kkt_bridge.receipts.lifecycle import Status

UNKNOWN_ENTRIES: Final = """
FROM entries AS e LEFT JOIN {after} AS a ON a.key = e.key LEFT JOIN before AS b ON b.key = e.key
WHERE a.key IS NULL AND b.key IS NULL AND e.fn_number IN (
    SELECT fn_number FROM storages UNION SELECT fn_number FROM {after} WHERE fn_number IS NOT NULL
)
"""
"""What the OFD has of our fiscal storages, and the journal knows nothing of."""


def claimed_deliveries(ledger: ScratchDatabase) -> Iterator[Difference]:
    """What the journal says is at the OFD. The OFD was asked after the journal was read."""
    for claim, (fn_number, fd_number) in ledger.claims(_CLAIMED, Status.SYNCED):
        if fd_number is None:
            yield _about(claim, "not_at_ofd", "the journal says synced, the OFD does not have it")
        else:
            yield _about(claim, "ofd_differs", f"the OFD has FD {fd_number} of FN {fn_number}")


def unclaimed_deliveries(ledger: ScratchDatabase) -> Iterator[Difference]:
    """What the OFD has of our fiscal storages. The journal was read after the OFD was asked."""
    for claim, _ in ledger.claims(_UNRECORDED):
        if claim.status in PRINTED:
            what = f"the OFD has it, the journal says {claim.status}"
            yield _about(claim, "unrecorded_delivery", what, is_note=True)
        else:
            what = f"the OFD has a document of it, the journal says {claim.status}"
            yield _about(claim, "ofd_differs", what)
    for key, fn_number, fd_number in ledger.rows(_UNKNOWN):
        pos_id, _, receipt_id = key.partition(":")
        what = "the OFD has it, the journal has no such receipt"
        yield Difference("unknown_at_ofd", what, pos_id, receipt_id, fn_number=fn_number, fd_number=fd_number)


def late_arrivals(ledger: ScratchDatabase) -> Iterator[Difference]:
    """Documents that came to the OFD behind younger ones of their storage, without a failure of their own."""
    arrivals = ledger.claims(_ARRIVALS)
    for _, of_storage in groupby(arrivals, key=lambda arrival: arrival[1][0]):
        newest: Claim | None = None
        for claim, _ in of_storage:
            if newest is not None and _overtaken(claim, newest):
                yield _about(claim, "ofd_out_of_order", f"it came to the OFD after FD {newest.fd_number}")
            if newest is None or (claim.fd_number or 0) > (newest.fd_number or 0):
                newest = claim


def _overtaken(claim: Claim, newest: Claim) -> bool:
    """Whether it was recorded before that one, and had nothing to wait out."""
    assert claim.document is not None
    assert claim.fd_number is not None
    return claim.fd_number < (newest.fd_number or 0) and claim.document < (newest.document or 0) and claim.attempts == 0


def _about(claim: Claim, kind: str, what: str, *, is_note: bool = False) -> Difference:
    return Difference(kind, what, *claim.key, claim.kkt, claim.fn_number, claim.fd_number, is_note=is_note)


_CLAIMED: Final = """
SELECT {claim:b}, e.fn_number, e.fd_number FROM before AS b LEFT JOIN entries AS e ON e.key = b.key
WHERE (e.key IS NULL AND b.status = ?)
    OR (e.key IS NOT NULL AND b.fn_number IS NOT NULL
        AND (e.fn_number IS NOT b.fn_number OR e.fd_number IS NOT b.fd_number))
ORDER BY b.rowid
"""
# Where the OFD has another document under the key, that is the difference, and nothing is merely unrecorded.
_UNRECORDED: Final = """
SELECT {claim:a} FROM entries AS e JOIN {after} AS a ON a.key = e.key
WHERE a.status != 'synced'
    AND (a.fn_number IS NULL OR (a.fn_number IS e.fn_number AND a.fd_number IS e.fd_number))
ORDER BY e.arrival
"""
_UNKNOWN: Final = (
    f"SELECT e.key, e.fn_number, e.fd_number {UNKNOWN_ENTRIES} AND NOT EXISTS (SELECT 1 FROM {{after}}_recovered AS r "  # noqa: S608 (constants)
    "WHERE r.fn_number = e.fn_number AND r.fd_number = e.fd_number) ORDER BY e.arrival"
)
_ARRIVALS: Final = """
SELECT {claim:a}, e.fn_number FROM entries AS e JOIN {after} AS a ON a.key = e.key
WHERE a.fd_number IS NOT NULL AND a.document IS NOT NULL ORDER BY e.fn_number, e.arrival
"""

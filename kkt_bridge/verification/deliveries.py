"""Journal against OFD: does it have what the journal says it has, once, in order, and nothing else of ours?"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from kkt_bridge.journal.inventory import Claim, Inventory
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.verification.books import Difference, OfdEntry
from kkt_bridge.verification.papers import PRINTED


def claimed_deliveries(inventory: Inventory, entries: Mapping[str, OfdEntry]) -> Iterator[Difference]:
    """What the journal says is at the OFD. The OFD was asked after the journal was read."""
    for claim in inventory.claims.values():
        entry = entries.get(key_of(claim))
        if entry is None:
            if claim.status == Status.SYNCED:
                yield _about(claim, "not_at_ofd", "the journal says synced, the OFD does not have it")
        elif claim.fn_number is not None and (entry.fn_number, entry.fd_number) != (claim.fn_number, claim.fd_number):
            yield _about(claim, "ofd_differs", f"the OFD has FD {entry.fd_number} of FN {entry.fn_number}")


def unclaimed_deliveries(inventory: Inventory, entries: Sequence[OfdEntry], ours: set[str]) -> Iterator[Difference]:
    """What the OFD has of our fiscal storages. The journal was read after the OFD was asked."""
    claims = {key_of(claim): claim for claim in inventory.claims.values()}
    for entry in entries:
        claim = claims.get(entry.key)
        if claim is not None:
            yield from _unrecorded(claim)
        elif entry.fn_number in ours and (entry.fn_number, entry.fd_number) not in inventory.recovered.values():
            pos_id, _, receipt_id = entry.key.partition(":")
            what = "the OFD has it, the journal has no such receipt"
            yield Difference(
                "unknown_at_ofd", what, pos_id, receipt_id, fn_number=entry.fn_number, fd_number=entry.fd_number
            )


def _unrecorded(claim: Claim) -> Iterator[Difference]:
    if claim.status in {Status.PRINTED, Status.DEAD}:
        what = f"the OFD has it, the journal says {claim.status}"
        yield _about(claim, "unrecorded_delivery", what, is_note=True)
    elif claim.status not in PRINTED:
        yield _about(claim, "ofd_differs", f"the OFD has a document of it, the journal says {claim.status}")


def late_arrivals(inventory: Inventory, entries: Sequence[OfdEntry]) -> Iterator[Difference]:
    """Documents that came to the OFD behind younger ones of their storage, without a failure of their own."""
    claims = {key_of(claim): claim for claim in inventory.claims.values()}
    arrivals = sorted(entries, key=lambda entry: (entry.fn_number, entry.order))
    for _, of_storage in groupby(arrivals, key=lambda entry: entry.fn_number):
        newest: Claim | None = None
        for entry in of_storage:
            claim = claims.get(entry.key)
            if claim is None or claim.fd_number is None or claim.document is None:
                continue  # purged: what it went through is not known any more
            if newest is not None and _overtaken(claim, newest):
                yield _about(claim, "ofd_out_of_order", f"it came to the OFD after FD {newest.fd_number}")
            if newest is None or claim.fd_number > (newest.fd_number or 0):
                newest = claim


def _overtaken(claim: Claim, newest: Claim) -> bool:
    """Whether it was recorded before that one, and had nothing to wait out."""
    assert claim.document is not None
    assert claim.fd_number is not None
    return claim.fd_number < (newest.fd_number or 0) and claim.document < (newest.document or 0) and claim.attempts == 0


def key_of(claim: Claim) -> str:
    """The key under which the OFD knows a receipt."""
    return f"{claim.pos_id}:{claim.receipt_id}"


def _about(claim: Claim, kind: str, what: str, *, is_note: bool = False) -> Difference:
    return Difference(
        kind, what, claim.pos_id, claim.receipt_id, claim.kkt, claim.fn_number, claim.fd_number, is_note=is_note
    )

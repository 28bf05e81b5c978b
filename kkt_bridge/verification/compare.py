"""All books against each other: books in, differences and sums out, nothing read and nothing written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kkt_bridge.journal.inventory import Inventory
from kkt_bridge.verification.books import Difference, OfdEntry, StorageBook
from kkt_bridge.verification.deliveries import claimed_deliveries, late_arrivals, unclaimed_deliveries
from kkt_bridge.verification.papers import (
    Papers,
    claimed_papers,
    claims_by_requisite,
    doubts,
    repeated_papers,
    storage_differences,
    unclaimed_papers,
)
from kkt_bridge.verification.sums import Sums, sum_up


@dataclass(frozen=True, slots=True)
class Books:
    """What was read, in this order: journal, storages, OFD, journal again.

    A bridge that runs goes on meanwhile. So what the journal claimed at first must be found in what was read after,
    and what was found must be known to the journal as it was at last: nothing in between is a difference.
    """

    before: Inventory
    storages: Sequence[StorageBook]
    ofd: Sequence[OfdEntry] | None
    """None where it could not be asked."""
    after: Inventory
    running: bool
    """Whether a bridge was at work."""


def differences(books: Books) -> Iterator[Difference]:
    """Everything that does not agree."""
    papers = Papers(books.storages)
    yield from storage_differences(papers)
    yield from repeated_papers(papers, claims_by_requisite(books.after))
    yield from claimed_papers(books.before, papers)
    yield from unclaimed_papers(books.after, papers)
    yield from doubts(books.before, books.after, running=books.running)
    yield from _counts(books.after)
    if books.ofd is not None:
        ours = papers.storages | {claim.fn_number for claim in books.after.claims.values() if claim.fn_number}
        yield from claimed_deliveries(books.before, {entry.key: entry for entry in books.ofd})
        yield from unclaimed_deliveries(books.after, books.ofd, ours)
        yield from late_arrivals(books.after, books.ofd)


def sums(books: Books) -> Sums:
    """How many there are of each."""
    at_ofd = None if books.ofd is None else {entry.key for entry in books.ofd}
    return sum_up(books.before, Papers(books.storages), at_ofd, running=books.running)


def _counts(inventory: Inventory) -> Iterator[Difference]:
    kept, true = inventory.kept_counts, inventory.true_counts
    for kkt, kind in sorted(kept.keys() | true.keys()):
        if kept.get((kkt, kind), 0) != true.get((kkt, kind), 0):
            what = f"{kind}: the counter says {kept.get((kkt, kind), 0)}, there are {true.get((kkt, kind), 0)}"
            yield Difference("counts_differ", what, kkt=kkt)

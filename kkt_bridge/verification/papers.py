"""Journal against fiscal storages: is there one document for each receipt that is said to be printed, and no other?"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kkt_bridge.journal.inventory import Claim, Inventory, Key
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.verification.books import (
    AWAITED,
    CORRECTION_FORM,
    RECEIPT_FORM,
    Difference,
    StorageBook,
    StoredDocument,
)

PRINTED = frozenset({Status.PRINTED, Status.SYNCED, Status.DEAD})
"""A receipt with one of these has a fiscal document, says the journal."""


@dataclass(frozen=True, slots=True)
class Place:
    """A document and the storage that it stands in."""

    book: StorageBook
    document: StoredDocument

    def differs(self, kind: str, what: str, claim: Claim | None = None) -> Difference:
        """A difference about this document."""
        return Difference(
            kind,
            what,
            pos_id=claim.pos_id if claim else None,
            receipt_id=claim.receipt_id if claim else None,
            kkt=self.book.kkt,
            fn_number=self.book.fn_number,
            fd_number=self.document.fd_number,
        )

    def __str__(self) -> str:
        return f"FD {self.document.fd_number} of FN {self.book.fn_number}"


class Papers:
    """Every document of every storage, by number and by requisite."""

    def __init__(self, books: Sequence[StorageBook]) -> None:
        self.books = books
        self.storages = {book.fn_number for book in books}
        self.by_number = {
            (book.fn_number, document.fd_number): Place(book, document) for book in books for document in book.documents
        }
        self.by_requisite: dict[str, list[Place]] = defaultdict(list)
        for place in self.by_number.values():
            if place.document.requisite is not None:
                self.by_requisite[place.document.requisite].append(place)
        self.foreign = sum(
            place.document.requisite is None and place.document.form in {RECEIPT_FORM, CORRECTION_FORM}
            for place in self.by_number.values()
        )

    def of(self, key: Key) -> list[Place]:
        """The documents that carry this receipt's requisite; there should be one at most."""
        return self.by_requisite.get(requisite_1192(*key), [])


def storage_differences(papers: Papers) -> Iterator[Difference]:
    """What is wrong with the storages themselves."""
    for book in papers.books:
        for number in book.unreadable:
            yield Difference(
                "damaged_storage", f"document {number} cannot be read", kkt=book.kkt, fn_number=book.fn_number
            )
        expected = 1
        for document in book.documents:
            if document.fd_number != expected and not book.unreadable:
                what = f"after FD {expected - 1} comes FD {document.fd_number}"
                yield Place(book, document).differs("fd_gap", what)
            expected = document.fd_number + 1


def repeated_papers(papers: Papers, names: Mapping[str, Claim]) -> Iterator[Difference]:
    """Receipts that were printed twice. `names` are the receipts of the journal by requisite."""
    for requisite, places in papers.by_requisite.items():
        if len(places) > 1:
            all_of_them = ", ".join(map(str, places))
            yield places[0].differs("printed_twice", f"one receipt, {all_of_them}", names.get(requisite))


def claimed_papers(inventory: Inventory, papers: Papers) -> Iterator[Difference]:
    """What the journal says was printed: is it there, and as it says? The storages were read after the journal."""
    unread: dict[tuple[str, str], int] = defaultdict(int)
    for claim in inventory.claims.values():
        if claim.status not in PRINTED:
            continue
        if claim.fn_number is None or claim.fd_number is None:
            yield from _without_mark(claim, papers)
        elif claim.fn_number not in papers.storages:
            unread[claim.kkt, claim.fn_number] += 1
        else:
            yield from _claimed_paper(claim, papers)
    for (kkt, fn_number), count in unread.items():
        what = f"{count} receipts of the journal were printed on it, and nothing was given to check them by"
        yield Difference("unread_storage", what, kkt=kkt, fn_number=fn_number)


def _without_mark(claim: Claim, papers: Papers) -> Iterator[Difference]:
    there = ", ".join(map(str, papers.of(claim.key))) or "no storage has a document of it"
    what = f"the journal says {claim.status}, and does not know its document: {there}"
    yield Difference("missing_document", what, claim.pos_id, claim.receipt_id, claim.kkt)


def _claimed_paper(claim: Claim, papers: Papers) -> Iterator[Difference]:
    assert claim.fn_number is not None
    assert claim.fd_number is not None
    place = papers.by_number.get((claim.fn_number, claim.fd_number))
    if place is not None:
        for wrong in _mismatches(claim, place.document):
            yield place.differs("document_differs", wrong, claim)
        return
    elsewhere = ", ".join(map(str, papers.of(claim.key)))
    what = f"the journal says {claim.status}, the storage has no such document"
    yield Difference(
        "missing_document",
        f"{what}; there is {elsewhere}" if elsewhere else what,
        claim.pos_id,
        claim.receipt_id,
        claim.kkt,
        claim.fn_number,
        claim.fd_number,
    )


def _mismatches(claim: Claim, document: StoredDocument) -> Iterator[str]:
    form = CORRECTION_FORM if claim.type == "correction" else RECEIPT_FORM
    requisite = requisite_1192(*claim.key)
    if document.form != form:
        yield f"form {document.form}, the journal says {claim.type}"
    if claim.operation is not None and document.operation != claim.operation:
        yield f"operation {document.operation}, the journal says {claim.operation}"
    if document.total != claim.total:
        total = "none" if document.total is None else format_kopecks(document.total)
        yield f"total {total}, the journal says {format_kopecks(claim.total)}"
    if document.requisite != requisite:
        yield f"requisite 1192 {document.requisite or 'none'}, the receipt's is {requisite}"
    if claim.fiscal_sign is not None and document.fiscal_sign != claim.fiscal_sign:
        yield f"fiscal sign {document.fiscal_sign}, the journal says {claim.fiscal_sign}"


def unclaimed_papers(inventory: Inventory, papers: Papers) -> Iterator[Difference]:
    """What the storages hold: does the journal know it? The journal was read after the storages."""
    names = claims_by_requisite(inventory)
    for requisite, places in papers.by_requisite.items():
        claim = names.get(requisite)
        for place in places:
            if claim is None:
                yield _unknown(place, requisite, awaited=requisite in inventory.recovered)
            elif claim.status in {Status.BUFFERED, Status.REJECTED}:
                what = f"the journal says {claim.status}, the document exists"
                yield place.differs("unrecorded_document", what, claim)


def _unknown(place: Place, requisite: str, *, awaited: bool) -> Difference:
    if awaited:
        what = "its receipt was lost with a journal, and has not come again"
        return replace(place.differs("unknown_document", what), hint=AWAITED)
    return place.differs("unknown_document", f"the journal has no receipt with its requisite 1192, {requisite}")


def doubts(before: Inventory, after: Inventory, *, running: bool) -> Iterator[Difference]:
    """Receipts that nobody knows of whether they were printed; beside a running bridge a note."""
    for claim in after.claims.values():
        known = before.claims.get(claim.key)
        if claim.status == Status.PRINTING and known is not None and known.status == Status.PRINTING:
            what = "was being printed all the time" if running else "was being printed when the bridge ended"
            yield Difference("in_doubt", what, claim.pos_id, claim.receipt_id, claim.kkt, is_note=running)


def claims_by_requisite(inventory: Inventory) -> dict[str, Claim]:
    """The receipts of the journal by what is printed on their documents."""
    return {requisite_1192(*key): claim for key, claim in inventory.claims.items()}

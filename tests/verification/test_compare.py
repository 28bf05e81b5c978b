"""Books read one after the other while the bridge goes on: what happened in between is no difference."""

from dataclasses import replace

from kkt_bridge.journal.inventory import Claim, Inventory
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.verification.books import OfdEntry, StorageBook, StoredDocument
from kkt_bridge.verification.compare import Books, differences, sums

FN = "9999078900000001"
CLAIM = Claim(
    pos_id="pos-1",
    receipt_id="0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11",
    kkt="kkt-1",
    status=Status.SYNCED,
    type="sale",
    total=1000,
    operation="sale",
    fn_number=FN,
    fd_number=1,
    fiscal_sign="1",
    attempts=0,
    document=1,
)
BUFFERED = replace(CLAIM, status=Status.BUFFERED, fn_number=None, fd_number=None, fiscal_sign=None, document=None)
PRINTING = replace(BUFFERED, status=Status.PRINTING)
PRINTED = replace(CLAIM, status=Status.PRINTED)
DOCUMENT = StoredDocument(1, 3, "sale", 1000, requisite_1192(*CLAIM.key), "1")
ENTRY = OfdEntry("pos-1:0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11", FN, 1, 1)


def inventory(*claims):
    counts = {(claim.kkt, str(claim.status)): 1 for claim in claims}
    return Inventory({claim.key: claim for claim in claims}, {}, counts, counts)


def books(before, document, entry, after, *, running=True):
    return Books(
        inventory(*filter(None, [before])),
        [StorageBook("kkt-1", FN, list(filter(None, [document])))],
        list(filter(None, [entry])),
        inventory(*filter(None, [after])),
        running,
    )


def kinds(*what, **how):
    return [found.kind for found in differences(books(*what, **how)) if not found.is_note]


def test_a_receipt_that_is_taken_printed_and_sent_while_the_books_are_read():
    """In whatever state each book shows it: the journal, then storage, OFD, journal."""
    for before, document, entry, after in [
        (None, None, None, BUFFERED),
        (None, None, None, PRINTED),
        (None, None, None, CLAIM),
        (None, DOCUMENT, None, PRINTING),
        (None, DOCUMENT, ENTRY, CLAIM),
        (BUFFERED, None, None, CLAIM),
        (BUFFERED, None, ENTRY, CLAIM),
        (PRINTING, DOCUMENT, None, PRINTED),
        (PRINTING, None, None, PRINTED),
        (PRINTED, DOCUMENT, None, CLAIM),
        (PRINTED, DOCUMENT, ENTRY, CLAIM),
        (PRINTED, DOCUMENT, ENTRY, PRINTED),
    ]:
        assert kinds(before, document, entry, after) == [], (before, document, entry, after)


def test_what_was_claimed_at_first_must_be_found_after_it():
    assert kinds(PRINTED, None, None, CLAIM) == ["missing_document"]
    assert kinds(CLAIM, DOCUMENT, None, CLAIM) == ["not_at_ofd"]


def test_what_was_found_must_be_known_at_last():
    assert kinds(None, DOCUMENT, None, None) == ["unknown_document"]
    assert kinds(None, None, ENTRY, None) == ["unknown_at_ofd"]
    assert kinds(BUFFERED, DOCUMENT, None, BUFFERED) == ["unrecorded_document"]


def test_a_doubt_is_one_only_if_it_lasts_and_a_difference_only_where_nobody_is_at_work():
    assert kinds(PRINTING, None, None, PRINTING, running=False) == ["in_doubt"]
    (note,) = differences(books(PRINTING, None, None, PRINTING))
    assert (note.kind, note.is_note) == ("in_doubt", True)
    assert list(differences(books(BUFFERED, None, None, PRINTING))) == []


def test_beside_a_running_bridge_the_sums_are_of_one_moment():
    told = str(sums(books(BUFFERED, DOCUMENT, ENTRY, CLAIM)))
    assert told == "taken 1 = printed 0 + waiting 1; printed 0 = fiscal documents 0 = at the OFD 0"
    told = str(sums(books(BUFFERED, DOCUMENT, ENTRY, BUFFERED, running=False)))
    assert "printed 0 ≠ fiscal documents 1" in told

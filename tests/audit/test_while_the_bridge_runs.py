"""Journal, storages and OFD are read one after the other while the bridge goes on: that alone is no difference."""

from datetime import UTC, datetime

import pytest
from support.stages import a_mark

from kkt_bridge.audit.journal_claims import Claim, JournalClaims
from kkt_bridge.audit.scratch_database import OfdDocument, ScratchDatabase
from kkt_bridge.audit.sums import sum_up
from kkt_bridge.audit.verify import differences
from kkt_bridge.receipts.ffd_codes import RECEIPT_FORM
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.registers.base import StoredDocument

FN = "9999078900000001"
CLAIM = Claim(
    key=ReceiptKey("pos-1", "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11"),
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
BUFFERED = CLAIM._replace(status=Status.BUFFERED, fn_number=None, fd_number=None, fiscal_sign=None, document=None)
PRINTING = BUFFERED._replace(status=Status.PRINTING)
PRINTED = CLAIM._replace(status=Status.PRINTED)
DOCUMENT = StoredDocument(
    fn_number=FN,
    fd_number=1,
    form=RECEIPT_FORM,
    operation="sale",
    total=1000,
    requisite=requisite_1192(CLAIM.key),
    at=datetime(2026, 11, 22, 14, 3, tzinfo=UTC),
    shift_number=1,
    mark=a_mark(1, FN).model_copy(update={"fiscal_sign": "1"}),
)
AT_OFD = OfdDocument("pos-1:0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11", FN, 1, 1)


def claims_of(*claims):
    counts = {(claim.kkt, str(claim.status)): 1 for claim in claims}
    return JournalClaims(claims, (), counts, counts)


class Storage:
    """A fiscal storage with these documents."""

    kkt, fn_number = "kkt-1", FN

    def __init__(self, *documents):
        self._documents = documents

    def documents(self):
        return iter(self._documents)


def scratch_with(before, document, entry, after):
    scratch = ScratchDatabase()
    scratch.add_claims(claims_of(*filter(None, [before])))
    assert scratch.add_storage(Storage(*filter(None, [document]))) == []
    scratch.add_ofd_documents(filter(None, [entry]))
    scratch.add_claims(claims_of(*filter(None, [after])), again=True)
    return scratch


def found_in(*what, running=True):
    with scratch_with(*what) as scratch:
        return list(differences(scratch, {"kkt-1"}, running=running))


def kinds(*what, **how):
    return [found.kind for found in found_in(*what, **how) if not found.is_note]


def told_by(*what, running=True):
    with scratch_with(*what) as scratch:
        return str(sum_up(scratch, running=running))


def test_a_receipt_that_is_taken_printed_and_sent_while_the_books_are_read():
    """In whatever state each book shows it: the journal, then storage, OFD, journal."""
    for before, document, entry, after in [
        (None, None, None, BUFFERED),
        (None, None, None, PRINTED),
        (None, None, None, CLAIM),
        (None, DOCUMENT, None, PRINTING),
        (None, DOCUMENT, AT_OFD, CLAIM),
        (BUFFERED, None, None, CLAIM),
        (BUFFERED, None, AT_OFD, CLAIM),
        (PRINTING, DOCUMENT, None, PRINTED),
        (PRINTING, None, None, PRINTED),
        (PRINTED, DOCUMENT, None, CLAIM),
        (PRINTED, DOCUMENT, AT_OFD, CLAIM),
        (PRINTED, DOCUMENT, AT_OFD, PRINTED),
    ]:
        assert kinds(before, document, entry, after) == [], (before, document, entry, after)


def test_what_was_claimed_at_first_must_be_found_after_it():
    assert kinds(PRINTED, None, None, CLAIM) == ["missing_document"]
    assert kinds(CLAIM, DOCUMENT, None, CLAIM) == ["not_at_ofd"]


def test_what_was_found_must_be_known_at_last():
    assert kinds(None, DOCUMENT, None, None) == ["unknown_document"]
    assert kinds(None, None, AT_OFD, None) == ["unknown_at_ofd"]
    assert kinds(BUFFERED, DOCUMENT, None, BUFFERED) == ["unrecorded_document"]


def test_a_doubt_is_one_only_if_it_lasts_and_a_difference_only_where_nobody_is_at_work():
    assert kinds(PRINTING, None, None, PRINTING, running=False) == ["in_doubt"]
    (note,) = found_in(PRINTING, None, None, PRINTING)
    assert (note.kind, note.is_note) == ("in_doubt", True)
    assert found_in(BUFFERED, None, None, PRINTING) == []


def test_beside_a_running_bridge_the_sums_are_of_one_moment():
    told = told_by(BUFFERED, DOCUMENT, AT_OFD, CLAIM)
    assert told == "taken 1 = printed 0 + waiting 1; printed 0 = fiscal documents 0 = at the OFD 0"
    told = told_by(BUFFERED, DOCUMENT, AT_OFD, BUFFERED, running=False)
    assert "printed 0 ≠ fiscal documents 1" in told


def test_what_the_journal_does_not_know_is_counted_as_such():
    assert told_by(None, DOCUMENT, AT_OFD, None, running=False) == (
        "taken 0 = printed 0 ≠ fiscal documents 1 (1 unknown) ≠ at the OFD 1 (1 unknown)"
    )


def test_where_the_ofd_has_another_document_under_the_key_nothing_is_merely_unrecorded():
    other = AT_OFD._replace(fd_number=2)
    assert [found.kind for found in found_in(PRINTED, DOCUMENT, other, PRINTED)] == ["ofd_differs"]


def test_what_waits_for_a_register_that_the_settings_do_not_have_is_told():
    """It was renamed, say: no lane prints for the old name, and none sends its documents."""
    (found,) = found_in(BUFFERED._replace(kkt="kkt-9"), None, None, BUFFERED._replace(kkt="kkt-9"))
    assert (found.kind, found.kkt, found.what.split(",")[0]) == (
        "no_register",
        "kkt-9",
        "1 receipts are buffered there",
    )


def test_an_ofd_that_breaks_off_in_the_middle_of_its_answer_is_not_half_believed():
    def broken():
        yield AT_OFD
        raise ValueError("the answer ends here")

    with scratch_with(CLAIM, DOCUMENT, None, CLAIM) as scratch:
        scratch.ofd_known = False
        with pytest.raises(ValueError, match="ends here"):
            scratch.add_ofd_documents(broken())
        assert list(differences(scratch, {"kkt-1"}, running=False)) == []
        assert "at the OFD: not checked" in str(sum_up(scratch, running=False))

"""`verify` finds nothing where all agree, and names each falsified receipt or document with the remedy."""

import json

import pytest
from support.receipts import receipt, small_receipt
from support.registers import print_on
from support.simulated_ofd import OfdClient
from support.stages import InProcessBridge, a_print_job, meddle

from kkt_bridge.audit.differences import KINDS
from kkt_bridge.audit.verify import audit
from kkt_bridge.errors import JournalError, StorageUnreadable
from kkt_bridge.journal.recovered import REMARK
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.registers.virtual.fiscal_document import RECEIPT, Body
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.registers.virtual.storage_file import read_documents
from kkt_bridge.simulators.ofd import OfdSimulator


def report_on(shop, *extra, running=False):
    return audit(shop.settings, shop.folder / "journal.db", extra, running=running)


def differences(shop, *extra, **how):
    return report_on(shop, *extra, **how).differences


def kinds(shop, *extra, **how):
    return [difference.kind for difference in differences(shop, *extra, **how)]


def the_one(shop, kind, *extra):
    """The only difference, which must be of this kind."""
    (difference,) = differences(shop, *extra)
    assert difference.kind == kind
    assert difference.advice
    assert "\n" not in difference.what + difference.advice
    return difference


def line_of(shop, request, register="kkt-1"):
    """Where a receipt's document stands in its register's file."""
    requisite = requisite_1192(ReceiptKey(request["pos_id"], request["receipt_id"]))
    documents = list(read_documents(shop.folder / f"{register}.fn"))
    return next(number for number, document in enumerate(documents) if document.body.requisite_1192 == requisite)


def rewrite(shop, change, register="kkt-1"):
    """Change the lines of a register's file."""
    path = shop.folder / f"{register}.fn"
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def falsify(shop, request, **values):
    """Put other values into a receipt's stored document."""

    def change(lines):
        number = line_of(shop, request)
        lines[number] = json.dumps(json.loads(lines[number]) | values).encode() + b"\n"

    rewrite(shop, change)


def in_journal(shop, request, assignments, table="receipts", status=None):
    """Change a receipt's row behind the program's back, and the counters with it."""
    where = f"WHERE receipt_id = '{request['receipt_id']}'"
    if table == "documents":
        where = f"WHERE receipt = (SELECT id FROM receipts {where})"
    meddle(shop.folder, f"UPDATE {table} SET {assignments} {where}")
    if status:
        meddle(
            shop.folder,
            "DELETE FROM figures WHERE kkt != ''",
            "INSERT INTO figures SELECT kkt, status, count(*) FROM receipts GROUP BY kkt, status",
        )


def test_where_all_agree_there_is_no_difference(shop, sold):
    report = report_on(shop)
    assert (report.findings, report.not_checked) == ([], [])
    assert str(report.sums) == "taken 4 = printed 4 = fiscal documents 4 = at the OFD 4"


def test_a_bridge_that_never_sold_anything(shop):
    report = report_on(shop)
    assert report.findings == []
    assert str(report.sums) == "taken 0 = printed 0 = fiscal documents 0 = at the OFD 0"


def test_what_is_on_its_way_is_no_difference(shop, sold, ofd):
    OfdClient(ofd.url).set_faults(outage=True)
    waiting, refused = receipt(), small_receipt(original_receipt_id=sold[0]["receipt_id"])
    shop.sell(receipt())
    shop.print_all()
    shop.sync.run()
    shop.occupy()
    shop.sell(waiting)
    shop.sell(refused)
    assert report_on(shop).findings == []
    told = str(report_on(shop).sums)
    assert told == ("taken 6 = printed 5 + waiting 1; printed 5 = fiscal documents 5 = at the OFD 4 + to be sent 1")


def test_the_sums_name_what_was_refused_and_what_is_dead(shop, sold, ofd):
    shop.break_register(refuse_next=1)
    shop.sell(receipt())
    shop.print_all()
    dead = receipt()
    OfdClient(ofd.url).set_faults(refuse_keys=[f"pos-1:{dead['receipt_id']}"])
    shop.sell(dead)
    shop.print_all()
    shop.sync.run()
    assert (report_on(shop).findings, str(report_on(shop).sums)) == (
        [],
        "taken 6 = printed 5 + rejected 1; printed 5 = fiscal documents 5 = at the OFD 4 + dead letters 1",
    )


def test_purged_receipts_are_held_to_it_like_all_others(shop, sold, purge):
    purge()
    report = report_on(shop)
    assert report.findings == []
    assert str(report.sums) == "taken 4 = printed 4 = fiscal documents 4 = at the OFD 4"
    rewrite(shop, lambda lines: lines.pop())
    difference = the_one(shop, "missing_document")
    assert difference.receipt_id == sold[2]["receipt_id"]


def test_printed_twice(shop, sold):
    print_on(shop.registers["kkt-1"], a_print_job(sold[0]))
    difference = the_one(shop, "printed_twice")
    assert (difference.pos_id, difference.receipt_id) == ("pos-1", sold[0]["receipt_id"])
    assert difference.what.count("FD ") == 2
    assert "fiscal documents 5" in str(report_on(shop).sums)
    assert "≠" in str(report_on(shop).sums)


def test_printed_twice_on_two_registers(shop, sold):
    print_on(shop.registers["kkt-2"], a_print_job(sold[0]))
    assert the_one(shop, "printed_twice").receipt_id == sold[0]["receipt_id"]


def test_missing_document(shop, sold):
    rewrite(shop, lambda lines: lines.pop())
    difference = the_one(shop, "missing_document")
    assert difference.names().startswith(f"pos-1:{sold[2]['receipt_id']} kkt-1 FN 9999")
    assert "no such document" in difference.what


def test_a_missing_document_that_is_somewhere_else(shop, sold):
    in_journal(shop, sold[0], "fd_number = 70", "documents")
    difference, other = differences(shop)
    assert (difference.kind, difference.fd_number, other.kind) == ("missing_document", 70, "ofd_differs")
    assert "there is FD " in difference.what


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"total": 1}, "total 0.01, the journal says 200.50"),
        ({"operation": "refund"}, "operation refund, the journal says sale"),
        ({"form": 31}, "form 31, the journal says sale"),
        ({"fiscal_sign": "0000000001"}, "fiscal sign 0000000001, the journal says "),
    ],
)
def test_document_differs(shop, sold, values, said):
    falsify(shop, sold[0], **values)
    difference = the_one(shop, "document_differs")
    assert difference.receipt_id == sold[0]["receipt_id"]
    assert said in difference.what


def test_a_correction_is_held_to_its_operation(shop, sold):
    falsify(shop, sold[1], operation="refund")
    assert "operation refund, the journal says sale" in the_one(shop, "document_differs").what


def test_a_document_of_another_receipt_under_the_number(shop, sold):
    falsify(shop, sold[0], requisite_1192="AAAAAAAAAAAAAAAA")
    unlike, unknown = differences(shop)
    assert (unlike.kind, unknown.kind) == ("document_differs", "unknown_document")
    assert "requisite 1192 AAAAAAAAAAAAAAAA, the receipt's is " in unlike.what


def test_unknown_document(shop, sold):
    printed = print_on(shop.registers["kkt-1"], a_print_job())
    difference = the_one(shop, "unknown_document")
    assert (difference.kkt, difference.fd_number) == ("kkt-1", printed.mark.fd_number)


def test_documents_of_another_program_are_merely_counted(shop, sold):
    shop.registers["kkt-1"].close()
    storage = FiscalStorage(shop.folder / "kkt-1.fn")
    at = list(read_documents(shop.folder / "kkt-1.fn"))[-1].at
    storage.open(None, at)
    storage.make_receipt(Body(RECEIPT, "sale", "sale", 100, None, {"change": 0}), at)
    storage.close()
    report = report_on(shop)
    assert report.findings == []
    assert str(report.sums).endswith("at the OFD 4; 1 documents of other programs")


@pytest.mark.parametrize("status", ["buffered", "rejected"])
def test_unrecorded_document(shop, sold, ofd, status):
    in_journal(shop, sold[0], f"status = '{status}', document = NULL", status=status)
    found = {difference.kind: difference for difference in differences(shop)}
    assert set(found) == {"unrecorded_document", "ofd_differs"}
    assert f"the journal says {status}" in found["unrecorded_document"].what
    assert found["unrecorded_document"].receipt_id == sold[0]["receipt_id"]


def test_a_hole_in_the_numbers_of_a_storage(shop, sold):
    at = line_of(shop, sold[0])
    rewrite(shop, lambda lines: lines.pop(at))
    gap, missing = differences(shop)
    assert (gap.kind, gap.fd_number, gap.kkt) == ("fd_gap", at + 2, "kkt-1")
    assert missing.kind == "missing_document"


def test_a_document_that_cannot_be_read_any_more(shop, sold):
    def spoil(lines):
        lines[line_of(shop, sold[0])] = b"\xff" * 50 + b"\n"

    rewrite(shop, spoil)
    assert kinds(shop) == ["damaged_storage", "missing_document"]


def test_a_torn_last_line_was_never_answered_for(shop, sold):
    with (shop.folder / "kkt-1.fn").open("ab") as file:
        file.write(b'{"fd_number":9')
    assert kinds(shop) == []


def test_a_storage_that_was_replaced_is_asked_for(shop, sold):
    shop.registers["kkt-1"].close()
    old = (shop.folder / "kkt-1.fn").rename(shop.folder / "old.fn")
    difference = the_one(shop, "unread_storage")
    assert (difference.kkt, difference.what.split()[0]) == ("kkt-1", "3")
    assert "--fn FILE" in difference.advice
    assert differences(shop, old) == []


def test_two_files_of_one_storage_prove_nothing(shop, sold):
    copy = shop.folder / "copy.fn"
    copy.write_bytes((shop.folder / "kkt-1.fn").read_bytes())
    with pytest.raises(StorageUnreadable, match="two of the files are of this storage"):
        report_on(shop, copy)
    assert kinds(shop, shop.folder / "kkt-1.fn") == [], "the same file again"


@pytest.mark.parametrize("content", [None, b"", b"notes\n"])
def test_a_file_that_is_no_storage_is_named(shop, sold, content):
    if content is not None:
        (shop.folder / "x.fn").write_bytes(content)
    with pytest.raises(StorageUnreadable, match=r"x\.fn: "):
        report_on(shop, shop.folder / "x.fn")


def test_in_doubt(shop, sold):
    doubtful = receipt()
    shop.break_register(lose_answer_next=1)
    shop.sell(doubtful)
    shop.lane.step()
    in_journal(shop, doubtful, "status = 'printing', fn_before = '1', fd_before = 1", status="printing")
    difference = the_one(shop, "in_doubt")
    assert difference.receipt_id == doubtful["receipt_id"]
    report = report_on(shop, running=True)
    assert (report.differences, [note.kind for note in report.notes]) == ([], ["in_doubt"])


def test_counts_differ(shop, sold):
    meddle(shop.folder, "UPDATE figures SET value = 9 WHERE name = 'synced' AND kkt = 'kkt-1'")
    difference = the_one(shop, "counts_differ")
    assert difference.what == "synced: the counter says 9, there are 3"


def test_not_at_ofd(shop, sold, ofd):
    in_journal(shop, sold[0], "receipt_id = '00000000-0000-4000-8000-000000000000'")
    assert sorted(kinds(shop)) == ["document_differs", "not_at_ofd", "unknown_at_ofd", "unknown_document"]


def test_an_ofd_that_lost_its_books(shop, sold):
    empty = OfdSimulator()
    empty.start()
    try:
        look_at_ofd(shop, empty.url)
        assert kinds(shop) == ["not_at_ofd"] * 4
        assert str(report_on(shop).sums).endswith("≠ at the OFD 0")
    finally:
        empty.stop()


def look_at_ofd(shop, url):
    shop.settings = shop.settings.model_copy(update={"ofd": shop.settings.ofd.model_copy(update={"url": url})})


def test_a_lost_answer_of_the_ofd_is_worth_a_note(shop, sold, ofd):
    OfdClient(ofd.url).set_faults(drop_answers_next=2)
    shop.sell(receipt())
    shop.print_all()
    shop.sync.run()
    report = report_on(shop)
    assert report.differences == []
    assert [note.kind for note in report.notes] == ["unrecorded_delivery"]


def test_ofd_differs(shop, sold):
    in_journal(shop, sold[3], "fd_number = 1", "documents")
    found = [difference for difference in differences(shop) if difference.kind == "ofd_differs"]
    assert [difference.receipt_id for difference in found] == [sold[3]["receipt_id"]]


def test_what_other_shops_hand_in_is_not_ours_to_judge(shop, sold, ofd, tmp_path):
    other = InProcessBridge(tmp_path / "other", registers=("kkt-9",), ofd={"url": ofd.url})
    other.sell(receipt())
    other.print_all()
    other.sync.run()
    other.kill()
    assert report_on(shop).findings == []


def overtaken(shop):
    """Two sales, of which the second came to the OFD before the first; the first one's request."""
    first, second = receipt(), receipt()
    for request in (first, second):
        shop.sell(request)
    shop.print_all()
    in_journal(shop, first, "delivery = 'waiting', not_before_steady_ms = 99000000000", "documents")
    shop.sync.run()
    in_journal(shop, first, "delivery = 'ready', not_before_steady_ms = 0", "documents")
    shop.sync.run_for(60)
    return first


def test_ofd_out_of_order(shop, sold, ofd):
    first = overtaken(shop)
    difference = the_one(shop, "ofd_out_of_order")
    assert difference.receipt_id == first["receipt_id"]
    in_journal(shop, first, "attempts = 1", "documents")
    assert differences(shop) == [], "it waited out a failure of its own"


def test_what_was_recovered_may_have_waited_out_a_failure_that_the_lost_journal_knew(shop, sold, ofd):
    first = overtaken(shop)
    the_one(shop, "ofd_out_of_order")
    in_journal(shop, first, f"error = '{REMARK}'", "steps")
    assert differences(shop) == []


@pytest.mark.parametrize("answer", ["away", "of another kind"])
def test_an_ofd_that_does_not_tell_is_not_checked_and_is_no_difference(shop, sold, ofd, answer):
    url = "http://127.0.0.1:9" if answer == "away" else f"{ofd.url}/elsewhere"
    look_at_ofd(shop, url)
    report = report_on(shop)
    assert report.differences == []
    assert len(report.not_checked) == 1
    assert "at the OFD: not checked" in str(report.sums)


def test_a_damaged_journal_still_lets_the_storages_be_checked(shop, sold):
    print_on(shop.registers["kkt-1"], a_print_job(sold[0]))
    shop.kill()
    with (shop.folder / "journal.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    try:
        assert kinds(shop) == ["damaged_journal", "printed_twice"]
        assert report_on(shop).sums is None
    finally:
        for path in shop.folder.glob("journal.db*"):
            path.unlink()
        shop._start()


def test_where_there_is_no_journal_nothing_can_be_checked(tmp_path):
    shop = InProcessBridge(tmp_path)
    shop.kill()
    with pytest.raises(JournalError, match="there is no journal"):
        audit(shop.settings, tmp_path / "nowhere.db", [], running=False)


def test_a_journal_of_another_release_is_not_judged(shop):
    meddle(shop.folder, "PRAGMA user_version = 99")
    with pytest.raises(JournalError, match=r"has schema 99, this program reads \d: use the newer"):
        report_on(shop)
    meddle(shop.folder, "PRAGMA user_version = 1")


def test_every_kind_says_what_to_do():
    assert all(KINDS.values())


def test_a_password_in_the_address_of_the_ofd_is_not_told(shop, sold):
    look_at_ofd(shop, "http://user:secret@127.0.0.1:9")
    (told,) = report_on(shop).not_checked
    assert "secret" not in told
    assert "***@127.0.0.1:9" in told

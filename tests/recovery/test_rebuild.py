"""`verify --rebuild`: a damaged journal comes back with all that is left of it, and nothing is printed twice."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
from support.killed import killed_at
from support.receipts import receipt, small_receipt
from support.registers import print_on
from support.simulated_ofd import OfdClient
from support.stages import InProcessBridge, a_print_job, check_counts, meddle, rows

from kkt_bridge.audit.verify import audit
from kkt_bridge.errors import JournalDamaged, JournalError, JournalInUse, JournalLost, StorageUnreadable
from kkt_bridge.journal.database import Database
from kkt_bridge.journal.quarantine import REPLACED, quarantine, quarantined_files
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.recovery.backup import back_up
from kkt_bridge.recovery.rebuild import rebuild
from kkt_bridge.recovery.restore import restore
from kkt_bridge.registers.virtual.fiscal_document import Registration
from kkt_bridge.registers.virtual.storage_file import read_documents

PAGE = 4096


def lose(shop):
    """Take the journal away, as a dead disk does."""
    shop.kill()
    for path in shop.folder.glob("journal.db*"):
        if not path.name.endswith(".lock"):
            path.unlink()


def spoil(shop, *tables):
    """Stop, and overwrite these tables' pages with rubbish; the next start moves the journal aside."""
    shop.kill()
    path = shop.folder / "journal.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = [number for table in tables for number in pages_of(connection, table)]
    overwrite(path, pages)
    with pytest.raises(JournalDamaged):
        shop._start()


def pages_of(connection, table):
    """The root page of a table, which holds all its rows while there are few."""
    return [connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", [table]).fetchone()[0]]


def overwrite(path, pages):
    with path.open("r+b") as file:
        for number in pages:
            file.seek((number - 1) * PAGE)
            file.write(b"\xa5" * PAGE)


def rebuilt(shop, *extra):
    """Make the journal anew, and start the next process on it."""
    told = rebuild(shop.settings, shop.folder / "journal.db", extra, shop.clock)
    shop._start()
    check_counts(shop.journal, shop.folder)
    return told


def go_on(shop):
    """Whatever waits is printed and sent."""
    shop.print_all()
    shop.sync.run()


def agreed(shop):
    report = audit(shop.settings, shop.folder / "journal.db", [], running=False)
    assert report.differences == []
    return str(report.sums)


def repeat_all(shop, requests):
    before = len(shop.documents()) + len(shop.documents("kkt-2"))
    for request in requests:
        shop.sell(request, pos=request["pos_id"])
    shop.print_all()
    assert len(shop.documents()) + len(shop.documents("kkt-2")) == before, "printed twice"


def test_from_the_storages_alone_every_repeat_is_answered_and_none_printed(shop, sold):
    told_before = {reply["receipt_id"]: reply["fiscal"] for pos in ("pos-1", "pos-2") for reply in shop.replies(pos)}
    lose(shop)
    told = rebuilt(shop)
    assert (told.damaged, told.receipts, told.awaited) == (None, 0, 4)
    found = audit(shop.settings, shop.folder / "journal.db", [], running=False).differences
    assert [difference.kind for difference in found] == ["unknown_document"] * 4
    assert all("have its POS repeat the receipt" in difference.advice for difference in found)
    repeat_all(shop, sold)
    replies = [*shop.replies("pos-1"), *shop.replies("pos-2")]
    assert {reply["receipt_id"]: reply["fiscal"] for reply in replies} == told_before
    assert all(reply["duplicate"] for reply in replies)
    go_on(shop)
    assert agreed(shop) == "taken 4 = printed 4 = fiscal documents 4 = at the OFD 4"


def test_of_two_different_sales_with_one_mark_a_repeat_is_answered_with_the_later_one(shop, sold):
    """The first was passed by a person as another sale, else the receipt would not have been printed after it."""
    request = small_receipt(pos_id="pos-1")
    other = small_receipt({"price": "11.00", "total": "11.00"}, payments=[{"type": "cash", "amount": "11.00"}])
    own = a_print_job(request)
    print_on(shop.registers["kkt-1"], replace(a_print_job(other), requisite=own.requisite))
    printed = print_on(shop.registers["kkt-1"], own)
    lose(shop)
    rebuilt(shop)
    repeat_all(shop, [request])
    assert shop.replies("pos-1")[-1]["fiscal"]["fd_number"] == printed.mark.fd_number


def test_the_order_does_not_go_back_behind_the_newest_document(shop, sold):
    lose(shop)
    shop.clock.jump(-86_400 * 365 * 10)
    rebuilt(shop)
    newest_ms = max(document.at.timestamp() for document in shop.documents()) * 1000
    assert shop.journal.hlc_wall_ms > newest_ms
    shop.sell(sold[0])
    (reply,) = shop.replies()
    assert reply["hlc"]["wall_ms"] > newest_ms


def test_a_journal_whose_every_row_is_readable_comes_back_whole(shop, sold, ofd):
    """Damaged is only a table that nothing is saved from."""
    OfdClient(ofd.url).set_faults(outage=True)
    unsent, waiting = receipt(), receipt()
    shop.sell(unsent)
    shop.print_all()
    shop.sell(waiting)
    outbox = [(message.topic, message.payload) for message in shop.outbox()]
    history = shop.steps()
    spoil(shop, "refusals")
    told = rebuilt(shop)
    assert (told.receipts, told.waiting, told.awaited, told.lost, told.unread_tables) == (6, 1, 0, [], [])
    assert [(message.topic, message.payload) for message in shop.outbox()] == outbox, "what nobody was told yet"
    assert shop.steps() == history
    OfdClient(ofd.url).set_faults()
    shop.clock.advance(400)
    go_on(shop)
    assert agreed(shop) == "taken 6 = printed 6 = fiscal documents 6 = at the OFD 6"
    repeat_all(shop, [*sold, unsent, waiting])


def test_what_was_printed_by_the_storage_but_not_by_the_journal_is_told_to_its_pos(shop, sold):
    """The crash that damaged the file came between the document and the commit."""
    late = receipt()
    shop.break_register(lose_answer_next=1)
    shop.sell(late)
    shop.lane.step()
    assert shop.status(late) == "printing"
    spoil(shop, "refusals")
    told = rebuilt(shop)
    assert (told.found_printed, told.waiting) == (1, 0)
    reply = shop.replies()[-1]
    assert (reply["receipt_id"], reply["status"]) == (late["receipt_id"], "printed")
    assert reply["fiscal"]["fd_number"] == shop.documents()[-1].fd_number
    go_on(shop)
    assert agreed(shop) == "taken 5 = printed 5 = fiscal documents 5 = at the OFD 5"


def test_a_doubt_that_the_given_storages_cannot_settle_stays_one(shop, sold):
    doubtful = receipt()
    shop.sell(doubtful)
    shop.lane.step()
    meddle(shop.folder, "UPDATE receipts SET status = 'printing', document = NULL WHERE status = 'printed'")
    meddle(shop.folder, "UPDATE receipts SET fn_before = '9999000000000042' WHERE status = 'printing'")
    meddle(shop.folder, "DELETE FROM documents WHERE delivery = 'ready'")
    path = shop.folder / "kkt-1.fn"
    spoil(shop, "refusals")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    told = rebuilt(shop)
    assert (told.waiting, told.unread_storages) == (1, ["9999000000000042"])
    assert shop.status(doubtful) == "printing"


@pytest.mark.parametrize(
    ("tables", "waiting_survives"),
    [
        (["documents"], True),
        (["steps"], True),
        (["outbox", "figures", "settings"], True),
        (["receipts"], False),
        (["requests"], False),
        (["receipts", "requests"], False),
        (["sqlite_autoindex_receipts_1"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_whatever_is_damaged_nothing_is_printed_twice_and_what_is_readable_is_kept(
    shop, sold, ofd, tables, waiting_survives
):
    OfdClient(ofd.url).set_faults(outage=True)
    unsent, waiting = receipt(), receipt()
    shop.sell(unsent)
    shop.print_all()
    shop.sell(waiting)
    spoil(shop, *tables)
    told = rebuilt(shop)
    assert (told.waiting == 1) == waiting_survives
    lost = [f"pos-1:{waiting['receipt_id']}"]
    # Without its row, a body on no storage may have been refused: it is named and not printed.
    assert told.lost == ([] if waiting_survives or tables == ["receipts", "requests"] else lost)
    OfdClient(ofd.url).set_faults()
    shop.clock.advance(400)
    go_on(shop)
    repeat_all(shop, [*sold, unsent])
    shop.sell(waiting)
    go_on(shop)
    assert agreed(shop) == "taken 6 = printed 6 = fiscal documents 6 = at the OFD 6"


@pytest.mark.parametrize("given_up", ["expired", "discarded"])
def test_a_letter_that_was_given_up_does_not_come_back_to_life(shop, sold, ofd, given_up):
    OfdClient(ofd.url).set_faults(refuse_keys=[f"pos-1:{(dead := receipt())['receipt_id']}"])
    shop.sell(dead)
    go_on(shop)
    assert shop.status(dead) == "dead"
    meddle(shop.folder, f"UPDATE documents SET delivery = '{given_up}' WHERE delivery = 'dead'")
    spoil(shop, "receipts", "refusals")
    rebuilt(shop)
    assert shop.status(dead) == "dead"
    assert shop.rows("SELECT delivery FROM documents ORDER BY id DESC LIMIT 1") == [(given_up,)]
    OfdClient(ofd.url).set_faults()
    go_on(shop)
    assert shop.status(dead) == "dead"


def test_a_receipt_is_never_printed_with_the_content_of_another(shop):
    one, other = receipt(), small_receipt()
    for request in (one, other):
        shop.sell(request)
    (first, text), (second, other_text) = shop.rows("SELECT receipt, body FROM requests ORDER BY receipt")
    shop.kill()
    with closing(sqlite3.connect(shop.folder / "journal.db", isolation_level=None)) as connection:
        connection.execute("UPDATE requests SET body = ? WHERE receipt = ?", [other_text, first])
        connection.execute("UPDATE requests SET body = ? WHERE receipt = ?", [text, second])
    shop._start()
    spoil(shop, "refusals")
    told = rebuilt(shop)
    assert (told.waiting, len(told.lost)) == (0, 2)
    shop.print_all()
    assert shop.rows("SELECT count(*) FROM receipts") == [(0,)]


def test_a_bad_first_page_costs_nothing(shop, sold):
    shop.kill()
    meddle(shop.folder, "PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite(shop.folder / "journal.db", [1])
    with pytest.raises(JournalDamaged, match="not a database"):
        shop._start()
    told = rebuilt(shop)
    assert (told.receipts, told.awaited, told.unread_tables) == (4, 0, [])
    assert agreed(shop) == "taken 4 = printed 4 = fiscal documents 4 = at the OFD 4"


def test_one_bad_page_costs_its_rows_alone(shop):
    shop.admission.capacity = 1000
    for _ in range(400):
        shop.sell(small_receipt())
    shop.kill()
    path = shop.folder / "journal.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    leaves = leaf_pages(path, "receipts")
    assert len(leaves) > 10
    overwrite(path, [leaves[3], leaves[4], leaves[8]])
    with pytest.raises(JournalDamaged):
        shop._start()
    told = rebuilt(shop)
    a_page = 400 / len(leaves)
    assert 400 - 4 * a_page < told.receipts < 400 - 2 * a_page
    assert len(told.lost) == 400 - told.receipts, "their bodies are still there, and name them"
    assert told.unread_tables == ["receipts"]
    assert shop.rows("SELECT count(*) FROM receipts WHERE status = 'buffered'") == [(told.receipts,)]


def leaf_pages(path, table):
    """The leaves of a table's tree of two levels, in the order of its keys (SQLite file format, section 1.6)."""
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", [table]).fetchone()
    content = path.read_bytes()
    page = content[(root - 1) * PAGE : root * PAGE]
    assert page[0] == 5, "an interior page"
    cells = int.from_bytes(page[3:5], "big")
    places = [int.from_bytes(page[12 + 2 * n : 14 + 2 * n], "big") for n in range(cells)]
    return [int.from_bytes(page[place : place + 4], "big") for place in places]


def test_purged_receipts_come_back_too(shop, sold, purge):
    purge()
    spoil(shop, "refusals")
    told = rebuilt(shop)
    assert (told.tombstones, told.receipts, told.awaited) == (4, 0, 0)
    repeat_all(shop, sold)
    assert agreed(shop) == "taken 4 = printed 4 = fiscal documents 4 = at the OFD 4"


def test_a_storage_that_was_replaced_is_given_by_its_file(shop, sold):
    shop.kill()
    old = (shop.folder / "kkt-1.fn").rename(shop.folder / "old.fn")
    shop._start()
    lose(shop)
    told = rebuilt(shop, old)
    assert told.awaited == 4
    shop.sell(sold[0])
    assert shop.replies()[0]["fiscal"]["kkt"] == "kkt-1"


def test_a_pause_does_not_come_back(shop, sold):
    shop.admission.set_paused(shop.journal, paused=True)
    spoil(shop, "refusals")
    rebuilt(shop)
    assert not shop.admission.paused


def test_on_an_old_copy_what_its_rows_hold_and_what_the_storages_hold_becomes_one_journal(shop, sold):
    """A receipt that waits in the copy was printed since; another was taken and printed since."""
    shop.break_register(offline=True)
    waiting, later = receipt(), receipt()
    shop.sell(waiting)
    back_up(shop.folder / "journal.db", shop.folder / "copy.db", held=True, replace=False)
    shop.heal_register()
    shop.sell(later)
    shop.print_patiently()
    shop.sync.run()
    told_before = {reply["receipt_id"]: reply["fiscal"] for reply in shop.replies() if reply["fiscal"]}
    shop.kill()
    content = (shop.folder / "journal.db").read_bytes()
    restore(shop.folder / "journal.db", shop.folder / "copy.db", "store-017")
    told = rebuilt(shop)
    assert (told.damaged, told.receipts, told.found_printed, told.awaited) == ("journal.db", 5, 1, 1)
    kept = sorted(shop.folder.glob("journal.db.replaced-*"))
    assert [path.name for path in kept][-1] == told.moved[0]
    assert content in {path.read_bytes() for path in kept}, "what the copy took the place of"
    assert shop.status(waiting) == "printed"
    repeat_all(shop, [*sold, waiting, later])
    shop.sync.run()
    told_again = {reply["receipt_id"]: reply["fiscal"] for reply in shop.replies() if reply["fiscal"]}
    assert told_again == told_before
    assert agreed(shop) == "taken 6 = printed 6 = fiscal documents 6 = at the OFD 6"


def test_of_a_journal_beside_which_another_ones_log_stands_nothing_is_made(shop, sold):
    back_up(shop.folder / "journal.db", shop.folder / "copy.db", held=True, replace=False)
    shop.sell(receipt())
    log = (shop.folder / "journal.db-wal").read_bytes()
    shop.kill()
    (shop.folder / "journal.db").write_bytes((shop.folder / "copy.db").read_bytes())
    (shop.folder / "journal.db-wal").write_bytes(log)
    with pytest.raises(JournalError, match="the log of another file"):
        rebuild(shop.settings, shop.folder / "journal.db", [], shop.clock)
    assert (shop.folder / "journal.db-wal").read_bytes() == log
    restore(shop.folder / "journal.db", shop.folder / "copy.db", "store-017")
    shop._start()


def test_an_empty_journal_that_took_the_place_of_a_lost_one_is_replaced_and_kept(shop, sold):
    lose(shop)
    (shop.folder / "journal.db.lock").unlink()  # as the bridge's refusal tells whoever means it
    shop._start()
    shop.kill()
    assert rebuilt(shop).awaited == 4
    assert len(list(shop.folder.glob("journal.db.replaced-*"))) == 1
    repeat_all(shop, sold)


def test_a_damaged_journal_is_moved_aside_by_the_rebuild_itself(shop, sold):
    shop.kill()
    overwrite(shop.folder / "journal.db", [1])
    told = rebuilt(shop)
    assert told.damaged is not None
    assert (shop.folder / told.damaged).exists()


def test_the_damaged_file_is_only_read(shop, sold):
    spoil(shop, "documents")
    (moved,) = quarantined_files(shop.folder / "journal.db")
    before = moved.read_bytes()
    rebuilt(shop)
    assert moved.read_bytes() == before
    left = {path.name for path in shop.folder.iterdir() if "rebuild" in path.name}
    assert left == set()


def test_of_several_damaged_journals_the_newest_counts(shop, sold):
    spoil(shop, "refusals")
    rebuilt(shop)
    later = receipt()
    shop.sell(later)
    spoil(shop, "refusals")
    told = rebuilt(shop)
    assert (told.receipts, told.waiting) == (5, 1)


def test_while_a_bridge_runs_nothing_is_rebuilt(shop, sold):
    with pytest.raises(JournalInUse):
        rebuild(shop.settings, shop.folder / "journal.db", [], shop.clock)


def test_without_anything_left_there_is_nothing_to_make_it_from(tmp_path):
    shop = InProcessBridge(tmp_path)
    lose(shop)
    with pytest.raises(JournalError, match="nothing is left to make it from: only if a new, empty one"):
        rebuild(shop.settings, tmp_path / "journal.db", [], shop.clock)
    assert not (tmp_path / "journal.db").exists()


def test_a_storage_that_cannot_be_read_stops_the_rebuild_before_it_begins(shop, sold):
    lose(shop)
    (shop.folder / "kkt-2.fn").write_bytes(b"rubbish\n")
    with pytest.raises(StorageUnreadable, match=r"kkt-2\.fn"):
        rebuild(shop.settings, shop.folder / "journal.db", [], shop.clock)
    assert not (shop.folder / "journal.db").exists()
    (shop.folder / "kkt-2.fn").unlink()
    rebuilt(shop)


def test_no_event_is_told_twice_where_nobody_knows_how_far_they_were_told(shop, sold):
    steps = shop.rows("SELECT max(id) FROM steps")[0][0]
    spoil(shop, "settings")
    rebuilt(shop)
    assert shop.rows("SELECT value FROM settings WHERE name = 'steps_published'") == [(str(steps),)]


def test_a_repeat_is_a_new_commit_behind_all_old_ids(shop, sold):
    newest = rows(shop.folder, "SELECT max(id) FROM steps")[0][0]
    spoil(shop, "figures")
    rebuilt(shop)
    shop.sell(receipt())
    assert shop.rows("SELECT max(id) FROM receipts")[0][0] > newest
    assert json.loads(shop.outbox()[0].payload)


def test_how_far_each_storage_is_known_is_known_to_the_new_journal(shop, sold):
    """So the first turn reads nothing twice, and a storage that loses documents from now on is found out."""
    last = {kkt: shop.registers[kkt].status() for kkt in ("kkt-1", "kkt-2")}
    lose(shop)
    rebuilt(shop)
    assert {kkt: shop.journal.fd_mark(status.fn_number) for kkt, status in last.items()} == {
        kkt: status.last_fd_number for kkt, status in last.items()
    }


def test_a_storage_that_lost_documents_is_not_known_less_far_than_before(shop, sold):
    status = shop.registers["kkt-1"].status()
    known = shop.journal.fd_mark(status.fn_number)
    path = shop.folder / "kkt-1.fn"
    spoil(shop, "refusals")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    rebuilt(shop)
    assert shop.journal.fd_mark(status.fn_number) == known == status.last_fd_number


def test_killed_at_any_move_of_files_a_rebuild_can_be_repeated_and_loses_nothing(shop, sold):
    """Before it is done there is the old journal, or none and a refusal; afterwards the new one."""
    shop.kill()
    journal = shop.folder / "journal.db"
    first = {path.name: path.read_bytes() for path in shop.folder.iterdir() if path.is_file()}
    refused, number, was_killed = 0, 0, True
    while was_killed:
        for path in shop.folder.glob("journal.db*"):
            path.unlink()
        for name, content in first.items():
            (shop.folder / name).write_bytes(content)
        work = partial(rebuild, shop.settings, journal, [], shop.clock)
        was_killed = killed_at(number, work, {"os.rename"})
        try:
            shop._start()
        except JournalLost:
            refused += 1
            rebuild(shop.settings, journal, [], shop.clock)
            shop._start()
        assert not shop.rows("SELECT 1 FROM receipts WHERE status != 'synced'"), number
        repeat_all(shop, sold)
        shop.kill()
        number += 1
    shop._start()
    assert number > 2
    assert refused


@pytest.mark.parametrize("status", ["buffered", "printing"])
def test_a_receipt_whose_mark_stands_on_another_sale_is_not_printed_by_the_journal_made_anew(shop, sold, status):
    request = small_receipt()
    shop.break_register(offline=True)
    shop.restart()
    shop.sell(request)
    shop.heal_register()
    job = a_print_job(receipt())
    print_on(
        shop.registers["kkt-1"],
        replace(job, requisite=requisite_1192(ReceiptKey(request["pos_id"], request["receipt_id"]))),
    )
    if status == "printing":
        shop.print_all()
    assert shop.status(request) == status
    before = len(shop.documents())
    shop.kill()
    rebuilt(shop)
    shop.print_patiently(3)
    assert shop.lane.view.problem == "unsettled_doubt"
    assert "which is another sale" in shop.lane.view.detail
    assert len(shop.documents()) == before


def an_old_damaged_file_and_a_receipt_that_waits(shop):
    """A journal was damaged long ago and made anew; since then a receipt was taken that is only in the journal."""
    spoil(shop, "refusals")
    (damaged,) = quarantined_files(shop.folder / "journal.db")
    damaged.rename(damaged.with_name("journal.db.damaged-20200913T122640Z"))
    rebuilt(shop)
    shop.break_register(offline=True)
    waiting = receipt()
    shop.sell(waiting)
    log = shop.folder / "journal.db-wal"
    content = log.read_bytes()
    shop.kill()
    log.write_bytes(content)  # as it stays behind where the machine stops
    shop.heal_register()
    return waiting


def test_a_journal_that_a_restore_moved_aside_counts_before_one_that_was_damaged_long_ago(shop, sold):
    waiting = an_old_damaged_file_and_a_receipt_that_waits(shop)
    # What a restore does first; then the power fails. The log is still where it was.
    newest = "journal.db.replaced-20260101T000000Z"
    (shop.folder / "journal.db").rename(shop.folder / newest)
    log = (shop.folder / "journal.db-wal").read_bytes()
    with pytest.raises(JournalLost, match=f"{newest} was moved aside by a restore that did not end"):
        shop._start()
    assert (shop.folder / f"{newest}-wal").read_bytes() == log
    assert not (shop.folder / "journal.db.damaged-20200913T122640Z-wal").exists()
    told = rebuilt(shop)
    assert (told.damaged, told.waiting) == (newest, 1)
    assert told.last_write_ms is not None
    go_on(shop)
    assert shop.status(waiting) == "synced"


def test_the_log_of_a_later_journal_is_not_put_beside_an_older_file(shop, sold):
    an_old_damaged_file_and_a_receipt_that_waits(shop)
    (shop.folder / "journal.db").unlink()
    assert (shop.folder / "journal.db-wal").stat().st_size
    with pytest.raises(JournalDamaged, match=r"journal\.db\.damaged-20200913T122640Z beside it was damaged"):
        shop._start()
    assert not (shop.folder / "journal.db.damaged-20200913T122640Z-wal").exists()
    told = rebuilt(shop)
    assert any(".stray-" in name for name in told.moved), "it is kept"


def test_an_empty_journal_that_was_replaced_does_not_hide_the_one_with_rows(shop, sold):
    waiting = an_old_damaged_file_and_a_receipt_that_waits(shop)
    journal = shop.folder / "journal.db"
    quarantine(journal, mark=REPLACED)
    empty = Database(f"sqlite:///{journal}", anew=True)
    empty.open()
    empty.close()
    quarantine(journal, mark=REPLACED)
    assert rebuilt(shop).waiting == 1
    go_on(shop)
    assert shop.status(waiting) == "synced"


@pytest.mark.parametrize("is_given", [False, True])
def test_what_an_old_storage_may_hold_is_left_to_a_person_unless_it_was_read(shop, is_given):
    """A copy has a receipt waiting that was printed before the storage was exchanged."""
    first, waiting = receipt(), receipt()
    shop.sell(first)
    shop.print_all()
    shop.break_register(offline=True)
    shop.restart()
    shop.sell(waiting)
    copy = shop.folder / "copy.db"
    back_up(shop.folder / "journal.db", copy, held=True, replace=False)
    shop.heal_register()
    shop.print_patiently(2)
    old = shop.folder / "kkt-1.fn.old"
    shop.kill()
    (shop.folder / "kkt-1.fn").rename(old)
    registration = old.read_bytes().splitlines(keepends=True)[0]
    number = Registration.of(next(read_documents(old))).fn_number
    (shop.folder / "kkt-1.fn").write_bytes(registration.replace(number.encode(), b"9999000000000042"))
    shop._start()
    lose(shop)
    restore(shop.folder / "journal.db", copy, shop.settings.bridge_id)
    rebuilt(shop, *([old] if is_given else []))
    shop.print_patiently(2)
    assert shop.documents() == [], "it is not printed again"
    assert shop.status(waiting) == ("printed" if is_given else "printing")
    assert shop.lane.view.problem == (None if is_given else "unsettled_doubt")

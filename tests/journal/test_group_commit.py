"""Many callers, one commit: each gets its own result or its own error, and nothing is kept by halves."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from support.clocks import ManualClock
from support.stages import a_receipt, kill, meddle, new_journal, rows

from kkt_bridge.errors import JournalDamaged, JournalError, StorageUnavailable
from kkt_bridge.journal.journal import COMMIT_OPERATIONS_MAX, Journal
from kkt_bridge.journal.outbox import messages_after
from kkt_bridge.journal.receipts import insert_receipt

THREADS = 16


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def journal(tmp_path, clock):
    opened = new_journal(tmp_path, clock)
    yield opened
    opened.close()


def note(payload):
    """An operation that leaves one row, and returns its payload."""

    def operation(tx):
        tx.publish("topic", payload)
        return payload

    return operation


def failing(payload=b"never kept"):
    def operation(tx):
        tx.publish("topic", payload)
        raise KeyError("this operation's own fault")

    return operation


def kept(folder):
    return [payload for (payload,) in rows(folder, "SELECT payload FROM outbox ORDER BY id")]


def commits(folder):
    return rows(folder, "SELECT value FROM figures WHERE kkt = '' AND name = 'commit_no'")[0][0]


def crowd(journal, operations):
    """Have threads write all these at once: they come in while the gate is held, so they share commits."""
    with ThreadPoolExecutor(len(operations)) as pool:
        with journal._gate:
            futures = [pool.submit(journal.write, operation) for operation in operations]
            deadline = threading.Event()
            while len(journal._waiting) < len(operations):
                assert not deadline.wait(0.001)
        return [future.exception() or future.result() for future in futures]


def fill_disk(journal):
    """Let the file not grow by a page: SQLite's own way to run out of disk."""
    connection = journal._database.writer.connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")


def make_room(journal):
    journal._database.writer.connection.execute("PRAGMA max_page_count = 1073741823")


def large(tx):
    for _ in range(50):
        tx.publish("topic", bytes(4000))


def test_a_lone_write_is_kept_and_gives_its_result(journal, tmp_path):
    assert journal.write(note(b"1")) == b"1"
    assert kept(tmp_path) == [b"1"]
    assert commits(tmp_path) == 1


def test_a_crowd_shares_a_commit(journal, tmp_path):
    payloads = [b"%d" % number for number in range(THREADS)]
    assert crowd(journal, [note(payload) for payload in payloads]) == payloads
    assert sorted(kept(tmp_path)) == sorted(payloads)
    assert commits(tmp_path) == 1


def test_a_commit_holds_so_many_operations_and_no_more(journal, tmp_path):
    for number in range(2 * COMMIT_OPERATIONS_MAX + 1):
        journal.post(note(b"%d" % number))
    journal.flush()
    assert kept(tmp_path) == [b"%d" % number for number in range(2 * COMMIT_OPERATIONS_MAX + 1)]
    assert commits(tmp_path) == 3


def test_many_threads_lose_nothing(journal, tmp_path):
    def write_some(thread):
        return [journal.write(note(b"%d:%d" % (thread, number))) for number in range(20)]

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(write_some, range(THREADS)))
    written = [payload for payloads in results for payload in payloads]
    assert sorted(kept(tmp_path)) == sorted(written)
    assert commits(tmp_path) <= len(written)
    for thread, payloads in enumerate(results):
        assert [one for one in kept(tmp_path) if one.startswith(b"%d:" % thread)] == payloads, "each in its own order"


def test_a_failing_operation_does_not_take_the_others_along(journal, tmp_path):
    results = crowd(journal, [note(b"1"), failing(), note(b"2"), failing(), note(b"3")])
    assert sorted(result for result in results if isinstance(result, bytes)) == [b"1", b"2", b"3"]
    assert sum(isinstance(result, KeyError) for result in results) == 2
    assert sorted(kept(tmp_path)) == [b"1", b"2", b"3"]


def test_a_failing_operation_leaves_nothing(journal, tmp_path):
    with pytest.raises(KeyError):
        journal.write(failing())
    assert kept(tmp_path) == []
    assert journal.write(note(b"after")) == b"after"


def test_a_posted_operation_goes_with_the_next_commit(journal, tmp_path):
    journal.post(note(b"posted"))
    assert kept(tmp_path) == []
    journal.write(note(b"written"))
    assert kept(tmp_path) == [b"posted", b"written"]
    assert commits(tmp_path) == 1


def test_what_was_posted_is_written_at_the_close(tmp_path, clock):
    journal = new_journal(tmp_path, clock)
    journal.post(note(b"posted"))
    journal.close()
    assert kept(tmp_path) == [b"posted"]


def test_what_was_posted_may_be_lost_in_a_kill(tmp_path, clock):
    journal = new_journal(tmp_path, clock)
    journal.post(note(b"posted"))
    kill(journal)
    assert kept(tmp_path) == []


def test_flushing_nothing_costs_nothing(journal, tmp_path):
    journal.flush()
    assert rows(tmp_path, "SELECT * FROM figures") == []


def test_a_failing_posted_operation_does_not_hurt_the_writer(journal, tmp_path):
    journal.post(failing())
    assert journal.write(note(b"1")) == b"1"
    assert kept(tmp_path) == [b"1"]


# -- the disk --------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_and_keeps_nothing(journal, tmp_path):
    journal.write(note(b"before"))
    fill_disk(journal)
    with pytest.raises(StorageUnavailable, match="the journal's disk does not take it"):
        journal.write(large)
    assert kept(tmp_path) == [b"before"]


def test_a_full_disk_is_shown_until_it_has_room_again(journal, tmp_path):
    fill_disk(journal)
    with pytest.raises(StorageUnavailable):
        journal.write(large)
    assert "full" in journal.failing
    make_room(journal)
    journal.write(large)
    assert journal.failing is None
    assert len(kept(tmp_path)) == 50


def test_reading_goes_on_while_the_disk_is_full(journal):
    journal.write(note(b"before"))
    fill_disk(journal)
    with pytest.raises(StorageUnavailable):
        journal.write(large)
    assert journal.read(lambda connection: connection.execute(text("SELECT payload FROM outbox")).all()) == [
        (b"before",)
    ]


def test_a_full_disk_changes_neither_counts_nor_clocks(journal):
    journal.write(lambda tx: tx.counts.update({("kkt-1", "buffered"): 1}))
    before = journal.counts(), journal._state.clock
    fill_disk(journal)

    def operation(tx):
        tx.tick()
        tx.counts.update({("kkt-1", "buffered"): 1})
        large(tx)

    with pytest.raises(StorageUnavailable):
        journal.write(operation)
    assert (journal.counts(), journal._state.clock) == before


def test_a_crowd_before_a_full_disk_is_refused_together(journal, tmp_path):
    fill_disk(journal)
    results = crowd(journal, [large, note(b"1"), large])
    assert all(isinstance(result, StorageUnavailable) for result in results)
    assert kept(tmp_path) == []
    make_room(journal)
    assert crowd(journal, [note(b"1"), note(b"2")]) == [b"1", b"2"]


def test_posted_operations_wait_for_a_full_disk(journal, tmp_path):
    fill_disk(journal)
    journal.post(large)
    journal.flush()
    assert journal.failing
    assert kept(tmp_path) == []
    make_room(journal)
    journal.write(note(b"written"))
    assert kept(tmp_path) == [bytes(4000)] * 50 + [b"written"]


def test_a_disk_that_fails_while_each_commits_for_itself_is_shown_too(journal):
    fill_disk(journal)

    def fails_once_together(tx):
        if tx.messages:
            raise KeyError("not in company")
        large(tx)

    results = crowd(journal, [note(b"1"), fails_once_together])
    assert isinstance(results[1], StorageUnavailable)
    assert journal.failing is not None


def test_a_broken_constraint_is_our_fault_not_the_disks(journal):
    def operation(tx):
        for _ in range(2):
            tx.connection.connection.execute("INSERT INTO settings VALUES ('one', 'key')")

    with pytest.raises(JournalError, match="the journal refused: UNIQUE constraint failed") as raised:
        journal.write(operation)
    assert type(raised.value) is JournalError
    assert journal.write(note(b"after")) == b"after"


def test_a_file_damaged_under_a_running_bridge_is_shown(journal, tmp_path):
    for _ in range(20):
        journal.write(large)
    journal._database.writer.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file = tmp_path / "journal.db"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + bytes(len(content) - 4096))
    journal._database.writer.connection.execute("PRAGMA shrink_memory")
    with pytest.raises(JournalDamaged):
        journal.write(note(b"1"))
    assert "damaged" in (journal.failing or "")


# -- who is told -------------------------------------------------------------------------------------------


def test_listeners_hear_of_commits_and_of_nothing_else(journal):
    heard = []
    journal.listen(heard.append)
    with pytest.raises(KeyError):
        journal.write(failing())
    journal.write(note(b"1"))
    assert [[message.payload for message in touched.messages] for touched in heard] == [[b"1"]]


def test_a_listener_that_fails_changes_nothing_for_those_who_wrote(journal, tmp_path):
    def listener(_touched):
        raise OSError("the bell is gone")

    journal.listen(listener)
    assert journal.write(note(b"alone")) == b"alone"
    assert crowd(journal, [note(b"1"), note(b"2")]) == [b"1", b"2"]
    assert sorted(kept(tmp_path)) == [b"1", b"2", b"alone"]


def test_a_file_changed_by_a_stranger_is_read_as_it_is(journal, tmp_path):
    """An operator's shell, with the bridge running."""
    journal.write(note(b"1"))
    meddle(tmp_path, "DELETE FROM outbox")
    journal.write(note(b"2"))
    assert kept(tmp_path) == [b"2"]


def test_an_operation_may_be_run_again_and_is_kept_once(journal, tmp_path):
    runs = []

    def counted(tx):
        runs.append(1)
        tx.publish("topic", b"once")

    crowd(journal, [counted, failing()])
    assert len(runs) == 2
    assert kept(tmp_path) == [b"once"]


def test_the_journal_takes_any_kind_of_result(journal):
    assert Journal.write(journal, lambda _tx: None) is None


# -- wishes ----------------------------------------------------------------------------------------------


def test_a_wish_is_granted_in_the_commit_that_brings_the_register_a_receipt(journal):
    request_lease = journal.request_lease("kkt-1", lambda tx: tx.commit_no)
    journal.write(note(b"of no register"))
    assert request_lease.result is None
    brought = journal.write(lambda tx: (insert_receipt(tx, a_receipt()), tx.commit_no)[1])
    assert journal.withdraw_lease(request_lease)
    assert request_lease.result == brought


def test_a_wish_is_granted_once_and_only_to_its_register(journal):
    granted = []
    request_lease = journal.request_lease("kkt-1", lambda _tx: granted.append("kkt-1"))
    journal.request_lease("kkt-2", lambda _tx: granted.append("kkt-2"))
    for _ in range(2):
        journal.write(lambda tx: insert_receipt(tx, a_receipt()))
    journal.withdraw_lease(request_lease)
    assert granted == ["kkt-1"]


def test_a_wish_that_was_withdrawn_is_not_granted(journal):
    granted = []
    assert journal.withdraw_lease(journal.request_lease("kkt-1", granted.append))
    journal.write(lambda tx: insert_receipt(tx, a_receipt()))
    assert granted == []


def test_a_wish_that_fails_takes_no_receipt_along(journal):
    request_lease = journal.request_lease("kkt-1", failing())
    journal.write(lambda tx: insert_receipt(tx, a_receipt()))
    assert journal.counts()["kkt-1", "buffered"] == 1
    assert (journal.withdraw_lease(request_lease), request_lease.result) == (True, None)


def test_what_a_wish_did_is_gone_with_a_commit_that_fails(journal):
    request_lease = journal.request_lease("kkt-1", lambda tx: tx.publish("t", b"1"))
    with pytest.raises(KeyError):
        journal.write(lambda tx: (insert_receipt(tx, a_receipt()), failing()(tx)))
    assert (journal.withdraw_lease(request_lease), request_lease.result) == (True, None)
    assert journal.read(lambda c: messages_after(c, 0, 10)) == []


def test_a_wish_that_is_being_granted_can_be_neither_withdrawn_nor_taken_for_granted(journal):
    seen = []
    request_lease = journal.request_lease(
        "kkt-1", lambda _tx: seen.append((journal.withdraw_lease(request_lease), request_lease.result)) or "granted"
    )
    journal.write(lambda tx: insert_receipt(tx, a_receipt()))
    assert seen == [(False, None)]
    assert (journal.withdraw_lease(request_lease), request_lease.result) == (True, "granted")


def test_who_withdraws_a_wish_does_not_wait_for_the_disk(journal):
    request_lease = journal.request_lease("kkt-1", lambda _tx: None)
    with journal._gate:
        assert journal.withdraw_lease(request_lease)

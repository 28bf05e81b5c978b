"""Stage 1 before a disk that takes nothing: refused at once, acknowledged when the refusal itself is safe."""

import json
import uuid

import pytest
from support.receipts import encoded, item, receipt
from support.stages import TOPICS, InProcessBridge, break_disk, check_counts, meddle, mend_disk, run

from kkt_bridge.stages.intake.intake import BATCH_MAX, STORAGE_RETRY_S


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path)
    yield opened
    mend_disk(opened.journal)
    check_counts(opened.journal, tmp_path)
    opened.kill()


def spoken(shop):
    """What went out past the journal."""
    return [json.loads(message.payload) for message in shop.line.take()]


def codes(replies):
    return [reply["error"]["code"] if reply["error"] else None for reply in replies]


def test_a_receipt_is_refused_past_the_journal_and_not_acknowledged(shop):
    break_disk(shop.journal)
    request = receipt()
    shop.sell(request, correlation=b"7", response_topic=f"{TOPICS.branch}/pos/pos-1/mine")
    (message,) = shop.line.take()
    assert (message.topic, message.correlation) == (f"{TOPICS.branch}/pos/pos-1/mine", b"7")
    reply = json.loads(message.payload)
    assert (reply["receipt_id"], reply["status"], reply["final"]) == (request["receipt_id"], "rejected", True)
    assert codes([reply]) == ["storage_unavailable"]
    assert reply["error"]["retryable"]
    assert "nothing was taken" in reply["error"]["message"]
    assert shop.line.acknowledged == []


def test_refusals_are_recorded_when_the_disk_is_back_and_then_acknowledged(shop):
    break_disk(shop.journal)
    requests = [receipt() for _ in range(3)]
    mids = [shop.sell(request) for request in requests]
    assert shop.intake.step() == STORAGE_RETRY_S
    assert shop.line.acknowledged == []
    mend_disk(shop.journal)
    assert shop.intake.step() == 0.0
    assert shop.line.acknowledged == mids
    assert [step[0] for step in shop.steps()] == [request["receipt_id"] for request in requests]
    assert shop.journal.pending() == 0
    assert shop.intake.step() is None


def test_nothing_refused_is_printed_later(shop):
    break_disk(shop.journal)
    request = receipt()
    shop.sell(request)
    mend_disk(shop.journal)
    shop.intake.step()
    shop.sell(request, redelivered=True)
    assert codes(shop.replies()[-1:]) == ["storage_unavailable"]
    shop.print_all()
    assert shop.replies()[-1]["status"] == "rejected"
    assert shop.journal.pending() == 0


def test_a_new_try_after_the_disk_is_back_is_taken(shop):
    break_disk(shop.journal)
    request = receipt()
    shop.sell(request)
    mend_disk(shop.journal)
    shop.intake.step()
    shop.sell(request)
    assert shop.status(request) == "buffered"


def test_what_comes_when_the_disk_is_back_is_taken_behind_the_refusals(shop):
    """An acknowledgement must not overtake an earlier one."""
    break_disk(shop.journal)
    first = shop.sell(receipt())
    second = shop.sell(receipt())
    mend_disk(shop.journal)
    third = shop.sell(receipt())
    assert shop.line.acknowledged == [first, second, third]
    assert codes(spoken(shop)) == ["storage_unavailable"] * 2
    assert shop.journal.pending() == 1


def test_a_disk_that_fails_again_and_again_makes_no_busy_loop(shop):
    for _ in range(3):
        break_disk(shop.journal)
        shop.sell(receipt())
        assert run(shop.intake.step) == STORAGE_RETRY_S
        mend_disk(shop.journal)
        assert run(shop.intake.step) is None
    assert shop.line.acknowledged == [1, 2, 3]
    assert shop.journal.pending() == 0


@pytest.mark.parametrize("printed", [False, True])
def test_a_repeat_of_what_was_taken_is_answered_from_what_can_be_read(shop, printed):
    request = receipt()
    shop.sell(request)
    if printed:
        shop.print_all()
    break_disk(shop.journal)
    shop.sell(request)
    (reply,) = spoken(shop)
    assert (reply["status"], reply["duplicate"], reply["error"]) == ("printed" if printed else "buffered", True, None)
    mend_disk(shop.journal)
    shop.intake.step()
    assert shop.line.acknowledged == [1, 2]
    assert shop.status(request) == ("printed" if printed else "buffered")
    assert not any(codes(shop.replies())), "no refusal is recorded for it"


def test_a_query_is_answered_from_what_can_be_read(shop):
    request = receipt()
    shop.sell(request)
    shop.print_all()
    break_disk(shop.journal)
    shop.query(request["receipt_id"])
    (reply,) = spoken(shop)
    assert (reply["status"], reply["duplicate"]) == ("printed", False)


def test_other_content_under_a_taken_key_is_refused_not_answered_with_the_first(shop):
    request = receipt()
    shop.sell(request)
    break_disk(shop.journal)
    shop.sell(receipt(receipt_id=request["receipt_id"], items=[item()], payments=[{"type": "cash", "amount": "10"}]))
    assert codes(spoken(shop)) == ["storage_unavailable"]


def test_a_command_is_refused_in_its_own_words(shop):
    break_disk(shop.journal)
    command_id = str(uuid.uuid4())
    shop.command("sync", command_id)
    (message,) = shop.line.take()
    result = json.loads(message.payload)
    assert message.topic == TOPICS.command_result("sync")
    assert (result["command_id"], result["ok"], result["error"]["code"]) == (command_id, False, "storage_unavailable")
    mend_disk(shop.journal)
    shop.intake.step()
    assert shop.rows("SELECT * FROM commands") == []


@pytest.mark.parametrize("payload", [b"", b"not JSON", b'{"receipt_id": 1}'])
def test_rubbish_is_answered_and_acknowledged_all_the_same(shop, payload):
    break_disk(shop.journal)
    mid = shop.sell(payload)
    assert codes(spoken(shop)) == ["storage_unavailable"]
    mend_disk(shop.journal)
    shop.intake.step()
    assert shop.line.acknowledged == [mid]


def test_thousands_that_wait_for_the_disk_are_recorded_a_batch_at_a_time(shop):
    """Each is refused once; of it is kept what must be written, and neither decoded nor answered again."""
    break_disk(shop.journal)
    mids = [shop.arrive(TOPICS.receipt("pos-1"), receipt()) for _ in range(1000)]
    while shop.inbox.arrived.is_set():
        assert shop.intake.step() == STORAGE_RETRY_S
    assert codes(spoken(shop)) == ["storage_unavailable"] * len(mids)
    for _ in range(3):
        assert shop.intake.step() == STORAGE_RETRY_S
    assert shop.line.published == []
    assert all(each.request.content is None for each in shop.intake._unrecorded.values())
    mend_disk(shop.journal)
    commits_before = shop.journal._state.clock.commit_no
    while shop.intake.step() == 0.0:
        pass
    assert shop.line.acknowledged == mids
    assert shop.journal._state.clock.commit_no - commits_before == -(-len(mids) // BATCH_MAX)
    assert shop.rows("SELECT count(*) FROM refusals") == [(len(mids),)]


def test_a_redelivery_while_the_disk_takes_nothing_is_answered_and_recorded_once(shop):
    break_disk(shop.journal)
    request = encoded(receipt())
    first = shop.sell(request)
    again = shop.sell(request, redelivered=True)
    told, repeated = spoken(shop)
    assert told == repeated
    mend_disk(shop.journal)
    shop.intake.step()
    assert shop.line.acknowledged == [first, again]
    assert len(shop.steps()) == 1


def test_a_journal_that_cannot_even_write_the_refusal_is_like_a_full_disk(shop, tmp_path):
    """Whatever is wrong with it: the POS is answered, nothing is acknowledged, and nothing turns in circles."""
    meddle(tmp_path, "CREATE TRIGGER broken BEFORE INSERT ON refusals BEGIN SELECT RAISE(ABORT, 'a bug'); END")
    mids = [shop.arrive(TOPICS.receipt("pos-1"), payload) for payload in (b"rubbish", b"more of it")]
    assert shop.intake.step() == STORAGE_RETRY_S
    assert codes(spoken(shop)) == ["storage_unavailable"] * 2
    assert shop.intake.step() == STORAGE_RETRY_S
    assert shop.line.acknowledged == []
    meddle(tmp_path, "DROP TRIGGER broken")
    assert run(shop.intake.step) is None
    assert shop.line.acknowledged == mids


def test_a_stray_message_is_acknowledged_when_the_disk_is_back(shop):
    break_disk(shop.journal)
    shop.arrive("stray", b"")
    shop.sell(receipt())
    mend_disk(shop.journal)
    shop.intake.step()
    assert shop.line.acknowledged == [1, 2]


def test_the_trouble_is_shown(shop, caplog):
    break_disk(shop.journal)
    shop.sell(receipt())
    assert shop.journal.failing is not None
    assert "the journal takes nothing" in caplog.text
    assert "Traceback" not in caplog.text
    mend_disk(shop.journal)
    shop.intake.step()
    assert shop.journal.failing is None


def test_what_was_committed_before_the_disk_failed_is_not_refused(shop, tmp_path):
    """A batch that could not be taken together, and a disk that fails half way through taking it one by one."""
    taken, poison, last = receipt(), receipt(), receipt()
    meddle(
        tmp_path,
        f"CREATE TRIGGER poison BEFORE INSERT ON receipts WHEN NEW.receipt_id = '{poison['receipt_id']}' "
        "BEGIN SELECT RAISE(ABORT, 'a bug'); END",
    )
    commits = []

    def break_after_the_first(_touched):
        commits.append(1)
        break_disk(shop.journal)

    shop.journal.listen(break_after_the_first)
    mids = [shop.arrive(TOPICS.receipt("pos-1"), request) for request in (taken, poison, last)]
    shop.intake.step()
    assert commits == [1]
    assert shop.line.acknowledged == mids[:1]
    assert {reply["receipt_id"] for reply in spoken(shop)} == {poison["receipt_id"], last["receipt_id"]}
    shop.journal._listeners.clear()
    mend_disk(shop.journal)
    shop.intake.step()
    assert shop.line.acknowledged == mids
    assert shop.status(taken) == "buffered"
    assert shop.journal.pending() == 1


def test_a_damaged_journal_refuses_as_a_full_disk_does(shop, tmp_path):
    for _ in range(5):
        shop.sell(receipt())
    writer = shop.journal._database.writer.connection
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file = tmp_path / "journal.db"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + bytes(len(content) - 4096))
    writer.execute("PRAGMA shrink_memory")
    request = receipt()
    shop.sell(encoded(request))
    assert codes(spoken(shop)) == ["storage_unavailable"]
    assert shop.line.acknowledged == [1, 2, 3, 4, 5]
    assert shop.journal.failing is not None
    file.write_bytes(content)
    writer.execute("PRAGMA shrink_memory")


def test_a_question_is_answered_by_the_row_alone_where_the_rest_of_the_receipt_cannot_be_read(shop, tmp_path):
    request = receipt()
    shop.sell(request)
    meddle(tmp_path, "DROP TABLE requests")
    break_disk(shop.journal)
    shop.query(request["receipt_id"])
    assert [reply["status"] for reply in spoken(shop)] == ["buffered"]

"""The schema's history is frozen, and the rows of a journal of schema 1 mean the same in the newest one."""

import hashlib
import sqlite3
from contextlib import closing
from importlib.resources import files

import pytest
from support.clocks import NOON_MS, ManualClock
from support.stages import a_mark, check_counts, new_journal, rows

from kkt_bridge.clock import Hlc
from kkt_bridge.journal.commands import find_command, open_commands
from kkt_bridge.journal.document_queue import dead_letters, documents_without_body, ready_documents
from kkt_bridge.journal.migrate import known_schema, migrations
from kkt_bridge.journal.outbox import history_of, messages_after, steps_after, with_sales
from kkt_bridge.journal.print_queue import tasks_in_doubt
from kkt_bridge.journal.receipts import find_receipt, find_refunded_sale, find_refusal
from kkt_bridge.journal.recovered import find_recovered
from kkt_bridge.journal.settings import get_setting
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import Status

SHA256 = {
    "0001_journal.sql": "64fb1dc7b729b493902c2bd46341108eeb0ef81e5c38e6861de70cd380e1ae38",
    "0002_marks_of_storages.sql": "9a4a0acdd4ffc1ffa6c9df8b0cde7bc5c35d2f03f2564ab1204260ed98b4732c",
    "0003_bodies.sql": "ddbbcf4899082e1743e2faa1b4072e2c752e988e1b2310a93948085756d6a528",
    "0004_refusals_by_pos.sql": "a5bd8ebb6ddb597b8e47291961103c38c81a107367553c4b69bf370c44710fe2",
    "0005_sums_of_refused_steps.sql": "b33d402bdf1ae0c5c0b51364eb64714a6177486085a5b879f2fc5472a52039de",
}
"""Of each migration's text, by the name of its file."""

FN = "9999078900000001"
PENDING, PRINTING, PRINTED, REJECTED, DEAD = (f"{n}b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11" for n in range(1, 6))
PURGED = "6b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11"
DIGEST = bytes(range(16))
COMMIT = 1 << 16
"""What the ids of one commit begin at, divided by its number."""


def receipt(number, receipt_id, status, document=None, fd_before=None):
    """A row of `receipts` in schema 1."""
    ended = 4000 if status in {"rejected", "dead"} else None
    return {
        "id": number * COMMIT + 1,
        "receipt_id": receipt_id,
        "pos_id": "pos-1",
        "kkt": "kkt-1",
        "status": status,
        "digest": DIGEST,
        "type": "sale",
        "total": 1000,
        "original_receipt_id": None,
        "reply_topic": "t/reply",
        "correlation": b"\x00c",
        "notified": 1,
        "hlc_wall_ms": NOON_MS + number,
        "hlc_counter": number,
        "server_time": None,
        "received_ms": NOON_MS,
        "received_steady_ms": 1000 * number,
        "fn_before": None if fd_before is None else FN,
        "fd_before": fd_before,
        "document": document,
        "printed_ms": None if document is None else NOON_MS + 5,
        "ended_steady_ms": ended,
        "error_code": "kkt_rejected" if status == "rejected" else None,
        "error_message": "no paper of that width" if status == "rejected" else None,
    }


def document(number, of, fd_number, delivery):
    """A row of `documents` in schema 1."""
    is_dead = delivery == "dead"
    return {
        "id": number,
        "receipt": of,
        "kkt": "kkt-1",
        "fn_number": FN,
        "fd_number": fd_number,
        "mark": a_mark(fd_number).model_dump_json(),
        "warnings": '["printed without the buyer"]',
        "delivery": delivery,
        "attempts": 3 if is_dead else 0,
        "strikes": 2 if is_dead else 0,
        "not_before_steady_ms": 0,
        "reason": "refused" if is_dead else None,
        "last_error": "422 no" if is_dead else None,
        "failed_ms": NOON_MS + 9 if is_dead else None,
    }


TOMBSTONE = {
    "receipt_id": bytes.fromhex(PURGED.replace("-", "")),
    "pos_id": "pos-1",
    "storage": 1,
    "status": 0,
    "type": 0,
    "digest": DIGEST,
    "total": 1000,
    "original_receipt_id": None,
    "hlc_wall_ms": NOON_MS,
    "hlc_counter": 7,
    "received_after_ms": 0,
    "printed_after_ms": 900,
    "server_after_s": 60,
    "fd_number": 2,
    "fiscal_sign": 12819546253,
    "dated_after_s": 1795345380 - NOON_MS // 1000,
    "shift_number": 1,
    "receipt_number": 2,
    "change": 0,
}
FIRST_ROWS = {
    "receipts": [
        receipt(1, PENDING, "buffered"),
        receipt(2, PRINTING, "printing", fd_before=4),
        receipt(3, PRINTED, "printed", 3 * COMMIT + 2),
        receipt(4, REJECTED, "rejected"),
        receipt(5, DEAD, "dead", 5 * COMMIT + 2),
    ],
    "requests": [{"receipt": number * COMMIT + 1, "body": f'{{"body": {number}}}'} for number in range(1, 6)],
    "documents": [
        document(3 * COMMIT + 2, 3 * COMMIT + 1, 3, "ready"),
        document(5 * COMMIT + 2, 5 * COMMIT + 1, 4, "dead"),
    ],
    "steps": [
        {
            "id": 3 * COMMIT + 3,
            "receipt": 3 * COMMIT + 1,
            "receipt_id": PRINTED,
            "pos_id": "pos-1",
            "kkt": "kkt-1",
            "from_status": "printing",
            "to_status": "printed",
            "fd_number": 3,
            "error": "looked at",
            "at_ms": NOON_MS,
            "at_steady_ms": 3000,
        },
        {
            "id": 6 * COMMIT,
            "receipt_id": "x",
            "pos_id": "pos-2",
            "to_status": "rejected",
            "at_ms": 1,
            "at_steady_ms": 2,
        },
    ],
    "outbox": [
        {
            "id": 3 * COMMIT + 4,
            "topic": "t/reply",
            "payload": b'{"status":"printed"}',
            "correlation": b"\x00c",
            "is_event": 0,
            "created_steady_ms": 3000,
        }
    ],
    "refusals": [{"digest": DIGEST, "reply": b'{"status":"rejected"}', "refused_steady_ms": 4000}],
    "storages": [
        {
            "id": 1,
            "kkt": "kkt-1",
            "kkt_serial": "0000000000012345",
            "registration_number": "0000000001047959",
            "fn_number": FN,
            "utc_offset_min": 180,
        }
    ],
    "tombstones": [TOMBSTONE],
    "commands": [
        {
            "id": number * COMMIT + 9,
            "command_id": command_id,
            "name": "pause",
            "issued_by": "ops",
            "args": "{}",
            "reply_topic": "t/result",
            "only_asks": 0,
            "taken_ms": NOON_MS,
            "finished_steady_ms": None if result is None else 4000,
            "result": result,
        }
        for number, command_id, result in [(1, "c-1", '{"ok":true}'), (2, "c-2", None)]
    ],
    "figures": [
        *({"kkt": "kkt-1", "name": row, "value": 1} for row in ("buffered", "printing", "printed", "rejected", "dead")),
        {"kkt": "kkt-1", "name": "dlq", "value": 1},
        {"kkt": "", "name": "hlc_wall_ms", "value": NOON_MS + 100},
        {"kkt": "", "name": "hlc_counter", "value": 1},
        {"kkt": "", "name": "steady_ms", "value": 5000},
        {"kkt": "", "name": "commit_no", "value": 6},
    ],
    "settings": [{"name": "paused", "value": "1"}],
    "recovered": [
        {
            "requisite": "OLPLZILVASWPIRRT",
            "kkt": "kkt-2",
            "fn_number": "9999078900000002",
            "fd_number": 8,
            "form": 3,
            "operation": "sale",
            "total": 1000,
            "mark": a_mark(8, "9999078900000002", "kkt-2").model_dump_json(),
        }
    ],
}
"""Rows in every table of schema 1, as a bridge of that time wrote them."""


@pytest.fixture
def journal(tmp_path):
    """A journal of schema 1 with rows in every table, opened by today's program."""
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        for statement in migrations()[0].statements:
            connection.execute(statement)
        for table, table_rows in FIRST_ROWS.items():
            for row in table_rows:
                places = ", ".join(f":{name}" for name in row)
                connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", row)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert tables == set(FIRST_ROWS)
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    journal = new_journal(tmp_path, ManualClock())
    yield journal
    journal.close()


def found(journal, receipt_id):
    return journal.read(lambda c: find_receipt(c, ReceiptKey("pos-1", receipt_id)))


def test_no_migration_is_ever_changed():
    folder = files("kkt_bridge.journal.migrations")
    texts = {
        entry.name: hashlib.sha256(entry.read_bytes()).hexdigest()
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    }
    assert texts.items() >= SHA256.items(), (
        "a migration has run on journals that exist, and none runs twice: leave its file as it was, and put the change "
        "into a new file with the next number"
    )
    assert texts.keys() == SHA256.keys(), "a new migration: put the checksum of its text here"


def test_the_receipts_of_schema_1_are_what_they_were(journal, tmp_path):
    assert rows(tmp_path, "PRAGMA user_version") == [(known_schema(),)]
    for number, (receipt_id, status) in enumerate(
        [
            (PENDING, Status.BUFFERED),
            (PRINTING, Status.PRINTING),
            (PRINTED, Status.PRINTED),
            (REJECTED, Status.REJECTED),
            (DEAD, Status.DEAD),
        ],
        start=1,
    ):
        stored = found(journal, receipt_id)
        assert (stored.status, stored.kkt, stored.total, stored.digest) == (status, "kkt-1", 1000, DIGEST)
        assert (stored.hlc, stored.correlation) == (Hlc(NOON_MS + number, number), b"\x00c")
    printed = found(journal, PRINTED)
    assert (printed.mark, printed.warnings) == (a_mark(3).model_dump_json(), '["printed without the buyer"]')
    rejected = found(journal, REJECTED)
    assert (rejected.error_code, rejected.error_message) == ("kkt_rejected", "no paper of that width")
    (doubtful,) = journal.read(lambda c: tasks_in_doubt(c, "kkt-1"))
    assert (doubtful.key.receipt_id, doubtful.fn_before, doubtful.fd_before) == (PRINTING, FN, 4)
    assert doubtful.body == '{"body": 2}'
    assert journal.counts() == {
        ("kkt-1", row): 1 for row in ("buffered", "printing", "printed", "rejected", "dead", "dlq")
    }
    check_counts(journal, tmp_path)


def test_the_tombstones_of_schema_1_answer_as_before(journal):
    purged = found(journal, PURGED)
    assert (purged.status, purged.id, purged.digest, purged.type) == (Status.SYNCED, None, DIGEST, "sale")
    assert (purged.mark, purged.warnings) == (a_mark(2).model_dump_json(), "[]")
    assert (purged.printed_ms, purged.server_time) == (NOON_MS + 900, NOON_MS // 1000 + 60)
    assert journal.read(lambda c: find_refunded_sale(c, ReceiptKey("pos-1", PURGED))).total == 1000


def test_the_documents_of_schema_1_go_on_their_way_to_the_ofd(journal):
    unfixed = {each.document: each for each in journal.read(lambda c: documents_without_body(c, 0, 9))}
    assert unfixed.keys() == {3 * COMMIT + 2, 5 * COMMIT + 2}
    assert unfixed[3 * COMMIT + 2].request == '{"body": 3}'
    assert journal.read(lambda c: ready_documents(c, "kkt-1", 0, 9)) == []  # none goes out before its body is fixed
    (letter,) = journal.read(lambda c: dead_letters(c, "kkt-1", 0, 9))
    assert (letter.key.receipt_id, letter.reason, letter.last_error) == (DEAD, "refused", "422 no")
    assert (letter.attempts, letter.strikes, letter.failed_ms) == (3, 2, NOON_MS + 9)


def test_the_storages_of_schema_1_are_known_up_to_their_last_document_and_no_doubt_is_passed(journal):
    assert journal.fd_mark(FN) == 4


def test_what_was_said_and_done_under_schema_1_is_kept(journal):
    (message,) = journal.read(lambda c: messages_after(c, 0, 9))
    assert (message.topic, message.payload, message.correlation) == ("t/reply", b'{"status":"printed"}', b"\x00c")
    (step,) = journal.read(lambda c: history_of(c, 3 * COMMIT + 1))
    assert (step.from_status, step.to_status, step.fd_number, step.error) == ("printing", "printed", 3, "looked at")
    told = journal.read(lambda c: with_sales(c, steps_after(c, 0, 9)))
    assert [(each.type, each.total) for each in told] == [("sale", 1000), (None, None)]
    assert journal.read(lambda c: find_refusal(c, DIGEST)) == b'{"status":"rejected"}'
    assert journal.read(lambda c: find_command(c, "c-1")).result == '{"ok":true}'
    assert [each.command_id for each in journal.read(lambda c: open_commands(c, 0, 9))] == ["c-2"]
    assert journal.read(lambda c: get_setting(c, "paused")) == "1"
    recovered = journal.read(lambda c: find_recovered(c, "OLPLZILVASWPIRRT"))
    assert (recovered.kkt, recovered.total, recovered.mark) == ("kkt-2", 1000, a_mark(8, "9999078900000002", "kkt-2"))


def test_the_clocks_of_schema_1_go_on(journal):
    assert journal.hlc_wall_ms == NOON_MS + 100
    assert journal.steady_ms() == 5000
    assert journal.write(lambda tx: tx.commit_no) > 6

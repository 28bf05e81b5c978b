"""What is left of a receipt answers for it as the whole did, and takes no more room than it must."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clocks import NOON_MS, ManualClock
from support.stages import ZONE, a_mark, a_receipt, meddle, new_journal, rows

from kkt_bridge.journal.document_queue import dead_letter, dead_letters, discard, ready_documents, record_sent
from kkt_bridge.journal.print_queue import lease, record_printed, record_rejected
from kkt_bridge.journal.receipts import find_receipt, find_receipts, find_refunded_sale, insert_receipt
from kkt_bridge.journal.retention import PurgeLimits, purge_receipts
from kkt_bridge.receipts.amounts import KOPECKS_MAX, format_kopecks
from kkt_bridge.receipts.fiscal_mark import qr_text
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.stages import replies

EVERYTHING = PurgeLimits(*[2**62] * 4)
OPERATIONS = ("sale", "refund", "purchase", "purchase_refund")
TYPES = (*OPERATIONS, "correction")
ROWS = 2000
BYTES_MAX = 130
"""A tombstone in the file, its share of half-empty pages included."""

kopecks = st.integers(min_value=0, max_value=KOPECKS_MAX)
small = st.integers(min_value=0, max_value=2**31)
words = st.text(max_size=40)
names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,15}\Z")
times = st.integers(min_value=0, max_value=4 * NOON_MS)
moments = st.builds(
    lambda seconds, offset: datetime.fromtimestamp(seconds, UTC).astimezone(timezone(timedelta(minutes=offset))),
    st.integers(min_value=0, max_value=2**33),
    st.integers(min_value=-14 * 60, max_value=14 * 60),
)


@st.composite
def marks(draw, kind, total, kkt):
    """What any register of today may say of a document."""
    operation = draw(st.sampled_from(OPERATIONS)) if kind == "correction" else kind
    fn_number, fd_number = draw(st.from_regex(r"\A[0-9]{16}\Z")), draw(st.integers(min_value=1, max_value=2**32))
    sign, at = draw(st.from_regex(r"\A[0-9]{1,10}\Z")), draw(moments).isoformat()
    return a_mark(fd_number, fn_number, kkt).model_copy(
        update={
            "kkt_serial": draw(words),
            "registration_number": draw(words),
            "fiscal_sign": sign,
            "datetime": at,
            "shift_number": draw(small),
            "receipt_number": draw(small),
            "type": kind,
            "total": format_kopecks(total),
            "change": format_kopecks(draw(kopecks)),
            "qr": qr_text(
                datetime=at,
                total=total,
                fn_number=fn_number,
                fd_number=fd_number,
                fiscal_sign=sign,
                operation=operation,
            ),
        }
    )


@st.composite
def lives(draw):
    """A receipt, what its register said of it, and how it ended."""
    kind, total, kkt = draw(st.sampled_from(TYPES)), draw(kopecks), draw(names)
    new = a_receipt(
        receipt_id=str(uuid.UUID(int=draw(st.integers(min_value=0, max_value=2**128 - 1)))),
        pos_id=draw(names),
        kkt=kkt,
        type=kind,
        total=total,
        digest=draw(st.binary(min_size=16, max_size=16)),
        original_receipt_id=draw(st.none() | st.uuids().map(str)) if kind == "refund" else None,
    )
    return {
        "new": new,
        "mark": draw(marks(kind, total, kkt)),
        "warnings": draw(st.lists(st.sampled_from(["not_on_paper", "text_replaced"]), unique=True).map(tuple)),
        "end": draw(st.sampled_from(["sent", "discarded", "rejected"])),
        "error": (draw(st.sampled_from(["kkt_rejected", "fn_exhausted"])), draw(words)),
        "server_time": draw(st.none() | st.integers(min_value=0, max_value=2**40)),
        "walls": [draw(times), draw(times)],
    }


class Yard:
    """Where receipts are brought to their end and buried."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = ManualClock()
        self.journal = new_journal(folder, self.clock)

    def end(self, *, new, mark, warnings=(), end="sent", error=("kkt_rejected", "no"), server_time=17, walls=()):
        """Take a receipt to its end, with the wall clock set to anything on the way."""
        write, read = self.journal.write, self.journal.read
        walls = iter(walls)
        self.clock.wall_ms = next(walls, NOON_MS)
        write(lambda tx: insert_receipt(tx, new))
        (task,) = write(lambda tx: lease(tx, new.kkt, "9999078900000001", 1, 1))
        self.clock.wall_ms = next(walls, NOON_MS + 900)
        if end == "rejected":
            write(lambda tx: record_rejected(tx, task, *error))
            return
        write(lambda tx: record_printed(tx, task, mark, warnings, body=b"{}"))
        (due,) = read(lambda c: ready_documents(c, new.kkt, 0, 10))
        if end == "sent":
            write(lambda tx: record_sent(tx, due, server_time))
        else:
            write(lambda tx: dead_letter(tx, due, reason="refused", error="422"))
            (letter,) = read(lambda c: dead_letters(c, new.kkt, 0, 10))
            write(lambda tx: discard(tx, letter, "a reason"))

    def found(self, new):
        return self.journal.read(lambda c: find_receipt(c, new.key))

    def purge(self):
        ids = [row_id for (row_id,) in rows(self.folder, "SELECT id FROM receipts ORDER BY id")]
        self.journal.write(lambda tx: purge_receipts(tx, EVERYTHING, ids))
        assert rows(self.folder, "SELECT count(*) FROM receipts") == [(0,)]

    def stone(self, column):
        return rows(self.folder, f"SELECT {column} FROM tombstones")[0][0]


@pytest.fixture
def yard(tmp_path):
    made = Yard(tmp_path)
    yield made
    made.journal.close()


def reply(stored):
    return json.loads(replies.stored(stored, ZONE, duplicate=True).payload())


def check_it_answers_as_before(yard, new):
    """The record, its reply, and every way to find it."""
    before = yard.found(new)
    yard.purge()
    after = yard.found(new)
    assert after == replace(before, id=None, reply_topic=None, correlation=None)
    assert reply(after) == reply(before)
    assert yard.journal.read(lambda c: find_receipts(c, new.key.receipt_id)) == [after]


@pytest.fixture(scope="module")
def large_yard(tmp_path_factory):
    made = Yard(tmp_path_factory.mktemp("journal"))
    yield made
    made.journal.close()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(life=lives())
def test_a_repeat_is_answered_after_the_purge_as_before(large_yard, life):
    meddle(large_yard.folder, "DELETE FROM tombstones")
    large_yard.end(**life)
    check_it_answers_as_before(large_yard, life["new"])
    assert large_yard.stone("mark") is None, "nothing that can be derived is kept"


@pytest.mark.parametrize(
    "odd",
    [
        {"datetime": "2026-11-22T14:03:00Z"},
        {"datetime": "2026-11-22T14:03:00.250000+03:00"},
        {"datetime": "2026-11-22T14:03:00"},
        {"datetime": "2026-11-22 14:03:00+03:00"},
        {"datetime": "2026-11-22T14:03:00+03:00:30"},
        {"datetime": "by the register"},
        {"datetime": ""},
        {"type": "refund"},
        {"total": "10.01"},
        {"qr": ""},
        {"qr": "t=20261122T1403&s=10.00&fn=9999078900000001&i=7&fp=2819546253&n=9"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["sale", "correction"])
def test_a_mark_that_was_written_in_another_way_is_kept_as_it_was(yard, kind, odd):
    new = a_receipt(type=kind)
    yard.end(new=new, mark=a_mark(7).model_copy(update={"type": kind} | odd), warnings=("not_on_paper",))
    check_it_answers_as_before(yard, new)
    assert json.loads(yard.stone("mark"))["fd_number"] == 7


def test_a_mark_of_a_later_release_is_kept_whole(yard):
    new = a_receipt()
    yard.end(new=new, mark=a_mark(7))
    text = json.dumps({**a_mark(7).model_dump(), "paper": "blue"})
    meddle(yard.folder, f"UPDATE documents SET mark = '{text}'")
    check_it_answers_as_before(yard, new)
    assert yard.found(new).mark == text


def test_two_pos_with_one_id_have_a_tombstone_each(yard):
    one, other = a_receipt(), a_receipt(pos_id="pos-2", total=500)
    other = replace(other, key=ReceiptKey("pos-2", one.key.receipt_id))
    for number, new in enumerate((one, other), start=2):
        yard.end(new=new, mark=a_mark(number))
    yard.purge()
    found = yard.journal.read(lambda c: find_receipts(c, one.key.receipt_id))
    assert {(stored.key.pos_id, stored.total) for stored in found} == {("pos-1", 1000), ("pos-2", 500)}
    assert yard.found(one).key.pos_id == "pos-1"


@pytest.mark.parametrize("receipt_id", ["not a UUID", "0B9F6C52-6A1E-4C07-9D1C-0A4F4E1B5A11", "a" * 16, "a" * 32, ""])
def test_an_id_that_no_message_can_have_breaks_nothing(yard, receipt_id):
    """A journal may be older than the rule, and a purge that stumbles over one row would never end."""
    assert yard.journal.read(lambda c: find_receipt(c, ReceiptKey("pos-1", receipt_id))) is None
    new = a_receipt(receipt_id=receipt_id, type="refund", original_receipt_id=receipt_id)
    yard.end(new=new, mark=a_mark(7).model_copy(update={"type": "refund"}))
    check_it_answers_as_before(yard, new)


def test_refunds_are_summed_over_tombstones_except_the_rejected(yard):
    sale = a_receipt(total=5000)
    yard.end(new=sale, mark=a_mark(2))
    for number, (total, end) in enumerate([(1200, "sent"), (700, "rejected"), (90, "discarded")], start=3):
        refund = a_receipt(type="refund", total=total, original_receipt_id=sale.key.receipt_id)
        yard.end(new=refund, mark=a_mark(number), end=end)
    yard.purge()
    original = yard.journal.read(lambda c: find_refunded_sale(c, sale.key))
    assert (original.total, original.refunded) == (5000, 1290)


def test_registers_are_noted_once(yard):
    for number in range(2, 7):
        yard.end(new=a_receipt(), mark=a_mark(number))
        yard.end(new=a_receipt(), mark=None, end="rejected")
        yard.purge()
    yard.end(new=a_receipt(), mark=a_mark(2, "9999078900000002"))
    yard.purge()
    storages = rows(yard.folder, "SELECT kkt, fn_number, utc_offset_min FROM storages ORDER BY id")
    assert storages == [("kkt-1", "9999078900000001", 180), ("kkt-1", "", 0), ("kkt-1", "9999078900000002", 180)]


def test_a_tombstone_is_small(yard):
    """Of receipts as they are: a second to print, minutes to the OFD; laid down in the order of nobody's ids."""
    write = yard.journal.write
    taken = [a_receipt(digest=uuid.uuid4().bytes) for _ in range(ROWS)]
    for first in range(0, ROWS, 50):
        batch = taken[first : first + 50]
        write(lambda tx, batch=batch: [insert_receipt(tx, new) for new in batch])
        yard.clock.advance(1)
        tasks = write(lambda tx: lease(tx, "kkt-1", "9999078900000001", 1, 50))

        def print_them(tx, tasks=tasks, first=first):
            for number, task in enumerate(tasks, start=first + 2):
                at = datetime.fromtimestamp(yard.clock.now_ms() // 1000, ZONE).isoformat()
                mark = a_mark(number).model_copy(update={"datetime": at, "shift_number": 300})
                record_printed(tx, task, mark.model_copy(update={"qr": true_qr(mark)}), (), body=b"{}")

        write(print_them)
        yard.clock.advance(120)
        now_s = yard.clock.now_ms() // 1000
        due = yard.journal.read(lambda c: ready_documents(c, "kkt-1", 0, 50))
        write(lambda tx, due=due, now_s=now_s: [record_sent(tx, each, now_s) for each in due])
        ids = [each.id for each in due]
        write(lambda tx, ids=ids: purge_receipts(tx, EVERYTHING, ids))
    assert rows(yard.folder, "SELECT count(*), count(mark) FROM tombstones") == [(ROWS, 0)]
    (size,) = rows(yard.folder, "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'tombstones%'")[0]
    assert size / ROWS <= BYTES_MAX


def true_qr(mark):
    return qr_text(
        datetime=mark.datetime,
        total=1000,
        fn_number=mark.fn_number,
        fd_number=mark.fd_number,
        fiscal_sign=mark.fiscal_sign,
        operation="sale",
    )

"""The fiscal storage in its file: numbers, signs, what it remembers, what it does with a broken file."""

import json
import os
import resource
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
from registers.bench import ZONE

from kkt_bridge.registers.virtual.fiscal_document import (
    Body,
    FiscalDocument,
    Registration,
    fiscal_sign,
    registration_check,
    registration_of,
)
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage, Shift
from kkt_bridge.registers.virtual.rules import Refusal
from kkt_bridge.registers.virtual.storage_file import StorageDamaged, StorageError, StorageInUse, read_documents

NOON = datetime(2026, 11, 22, 12, 3, 17, 250_000, tzinfo=ZONE)
WHOLE_NOON = NOON.replace(second=0, microsecond=0)
OURS = registration_of("kkt-1")
SALE = Body(3, "sale", "sale", 10_000, "ABCDEFGHIJKLMNOP", {"lines": [{"name": "Мыло"}]})


def opened(path, now=NOON):
    storage = FiscalStorage(path)
    storage.open(OURS, now)
    return storage


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kkt.fn"


@pytest.fixture
def storage(path):
    made = opened(path)
    yield made
    made.close()


def written(path, receipts=3):
    """A file with a registration, an open shift and so many receipts; its bytes."""
    storage = opened(path)
    storage.open_shift({}, NOON)
    for _ in range(receipts):
        storage.make_receipt(SALE, NOON)
    storage.close()
    return path.read_bytes()


def code_of(call, *arguments):
    with pytest.raises(Refusal) as refusal:
        call(*arguments)
    return refusal.value.code


# Identity and signs


@pytest.mark.parametrize(
    ("record", "inn", "serial", "check"),
    [
        ("0000000005", "7702203276", "000000000002", "008570"),
        ("0000000001", "7704358518", "00106700000001", "058087"),
        ("0000000001", "500100732259", "00106700000001", "009612"),
    ],
)
def test_a_registration_number_ends_with_its_check_digits(record, inn, serial, check):
    assert registration_check(record, inn, serial) == check


def test_a_registration_is_made_of_the_id_and_holds_its_own_checks():
    assert registration_of("kkt-1") == OURS != registration_of("kkt-2")
    shops = {registration_of("kkt-1", shop=f"store-{number:03d}").fn_number for number in range(1000)}
    assert len(shops) == 1000
    assert {(len(number), number[:4]) for number in shops} == {(16, "9999")}
    assert OURS.fn_number.startswith("9999")
    number = OURS.registration_number
    assert len(number) == 16
    assert number[10:] == registration_check(number[:10], OURS.inn, OURS.kkt_serial)
    weights = (2, 4, 10, 3, 5, 9, 4, 6, 8)
    assert sum(int(digit) * by for digit, by in zip(OURS.inn, weights, strict=False)) % 11 % 10 == int(OURS.inn[9])
    assert registration_of("kkt-1", "9999078900000001").fn_number == "9999078900000001"


@pytest.mark.parametrize("number", ["8710000100000001", "999907890000001", "9999x78900000001"])
def test_only_numbers_of_test_storages_are_taken(number):
    with pytest.raises(ValueError, match="not a test FN number"):
        registration_of("kkt-1", number)


def test_a_sign_is_of_the_test_kind():
    at = datetime(2026, 1, 15, 12, 34, tzinfo=ZONE)
    assert fiscal_sign("9999078900005488", 7, Body(3, "sale", "sale", 30_000), at) == "3351635635"


# Documents


def test_the_first_document_is_the_registration(path, storage):
    first = next(read_documents(path))
    assert (first.fd_number, first.body.form, first.body.type) == (1, 1, "registration")
    assert Registration.of(first) == OURS
    assert first.at == WHOLE_NOON


def test_a_document_is_one_line_with_the_fields_that_others_read(path, storage):
    storage.open_shift({}, NOON)
    made = storage.make_receipt(SALE, NOON)
    line = path.read_bytes().splitlines(keepends=True)[2]
    assert json.loads(line) == {
        "fd_number": 3,
        "form": 3,
        "type": "sale",
        "operation": "sale",
        "total": 10_000,
        "datetime": "2026-11-22T12:03:00+03:00",
        "shift_number": 1,
        "receipt_number": 1,
        "fiscal_sign": made.fiscal_sign,
        "requisite_1192": "ABCDEFGHIJKLMNOP",
        "content": {"lines": [{"name": "Мыло"}]},
    }
    assert FiscalDocument.from_line(line) == made == storage.read(3)


def test_a_shift_is_kept_by_the_storage(storage):
    assert code_of(storage.make_receipt, SALE, NOON) == 0x02
    assert code_of(storage.close_shift, {}, NOON) == 0x02
    storage.open_shift({}, NOON)
    assert code_of(storage.open_shift, {}, NOON) == 0x02
    storage.make_receipt(SALE, NOON)
    assert storage.shift == Shift(1, WHOLE_NOON, 1)
    report = storage.close_shift({}, NOON)
    assert report.body.content["receipts"] == 1
    assert storage.shift == Shift(1, None, 1)


def test_receipts_end_with_the_day_of_the_shift(storage):
    storage.open_shift({}, NOON)
    day = WHOLE_NOON + timedelta(hours=24)
    storage.make_receipt(SALE, day - timedelta(seconds=1))
    assert code_of(storage.make_receipt, SALE, day) == 0x16
    assert storage.close_shift({}, day).fd_number == 4


def test_a_time_before_the_last_document_is_refused(storage):
    storage.open_shift({}, NOON)
    assert code_of(storage.make_receipt, SALE, NOON - timedelta(minutes=1)) == 0x07
    assert storage.make_receipt(SALE, WHOLE_NOON).fd_number == 3, "the same minute is not before"


# What is remembered


@pytest.mark.parametrize("receipts", [0, 1, 5])
@pytest.mark.parametrize("closed", [False, True])
def test_a_storage_opened_again_is_where_it_was(path, receipts, closed):
    storage = opened(path)
    for _ in range(3):
        storage.open_shift({}, NOON)
        for _ in range(receipts):
            storage.make_receipt(SALE, NOON)
        if closed or storage.shift.number < 3:
            storage.close_shift({}, NOON)
    before = (storage.registration, storage.expires, storage.last, storage.shift)
    storage.close()
    again = opened(path, NOON + timedelta(days=300))
    assert (again.registration, again.expires, again.last, again.shift) == before
    again.close()


def test_a_file_is_read_while_it_is_written(path, storage):
    storage.open_shift({}, NOON)
    reader = read_documents(path)
    assert next(reader).fd_number == 1
    storage.make_receipt(SALE, NOON)
    assert [document.fd_number for document in read_documents(path)] == [1, 2, 3]


def test_two_registers_do_not_share_a_file(path, storage):
    with pytest.raises(StorageInUse, match=f"{path}: another process"):
        opened(path)
    storage.open_shift({}, NOON)


# Broken files


def test_a_torn_last_line_is_cut_off_wherever_it_was_torn(path, caplog):
    whole = written(path)
    lines = whole.splitlines(keepends=True)
    kept = b"".join(lines[:-1])
    for torn in range(1, len(lines[-1])):
        path.write_bytes(kept + lines[-1][:torn])
        assert len(list(read_documents(path))) == 4
        storage = opened(path)
        assert (storage.last_fd_number, storage.shift.receipts) == (4, 2)
        assert storage.make_receipt(SALE, NOON).fd_number == 5
        storage.close()
        assert path.read_bytes() == whole
    assert "torn last document" in caplog.text


def test_a_registration_torn_at_birth_is_made_again(path):
    written(path, receipts=0)
    registration = path.read_bytes().splitlines(keepends=True)[0]
    for torn in range(len(registration)):
        path.write_bytes(registration[:torn])
        storage = opened(path)
        assert storage.last_fd_number == 1
        storage.close()
        assert path.read_bytes() == registration


@pytest.mark.parametrize("content", [b"hello", b"hello\n", b'{"fd_number":1}\n', b"\n", b'{"fd_number":1,"form":3,'])
def test_what_is_no_fiscal_storage_is_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(StorageDamaged, match=f"{path}: not a virtual fiscal storage"):
        opened(path)
    with pytest.raises(StorageDamaged, match=f"{path}: not a virtual fiscal storage"):
        list(read_documents(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize("registration", [{}, {"fn_number": "8710000100000001"}, None])
def test_a_registration_that_is_none_is_named(path, registration):
    values = json.loads(written(path, receipts=0).splitlines()[0])
    values["content"]["registration"] = registration
    path.write_text(json.dumps(values, separators=(",", ":")) + "\n")
    with pytest.raises(StorageDamaged, match=f"{path}: line 1: no"):
        opened(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: [*lines[:1], *lines[2:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines[:-1], b"{}\n"],
        lambda lines: [*lines[:-1], b"\x00" * 20 + b"\n"],
    ],
    ids=["a line lost", "a line twice", "another object", "zeros"],
)
def test_a_storage_with_documents_lost_or_spoilt_is_not_opened(path, spoil):
    lines = spoil(written(path).splitlines(keepends=True))
    path.write_bytes(b"".join(lines))
    with pytest.raises(StorageDamaged, match=rf"{path}: line \d"):
        opened(path)
    with pytest.raises(StorageDamaged, match=rf"{path}: line \d"):
        list(read_documents(path))
    assert path.read_bytes() == b"".join(lines)


def test_a_line_spoilt_in_the_middle_is_an_inner_failure_of_the_storage(path):
    lines = written(path).splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"x" * (len(lines[3]) - 1) + b"\n", *lines[4:]]))
    storage = opened(path)
    assert code_of(storage.read, 4) == 0x03
    assert storage.read(5) is not None
    storage.close()


def test_a_file_that_is_not_there_is_named(tmp_path):
    for call in (opened, lambda path: list(read_documents(path))):
        with pytest.raises(StorageError, match="No such file"):
            call(tmp_path / "nowhere" / "kkt.fn")
        with pytest.raises(StorageError, match="Is a directory"):
            call(tmp_path)


DISK_FULL = """
import os, resource, sys
from datetime import UTC, datetime
from pathlib import Path
from kkt_bridge.registers.virtual.fiscal_document import Body, registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.registers.virtual.rules import Refusal
path, now = Path(sys.argv[1]), datetime(2026, 11, 22, tzinfo=UTC)
storage = FiscalStorage(path)
storage.open(registration_of("kkt-1"), now)
storage.open_shift({}, now)
whole = path.stat().st_size
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for room in (0, 1, 100):
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole + room, hard))
    try:
        storage.make_receipt(Body(3, "sale", "sale", 1), now)
    except Refusal as refusal:
        assert refusal.code == 0x03, refusal
    else:
        raise AssertionError("there was no room")
    assert path.stat().st_size == whole
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert storage.make_receipt(Body(3, "sale", "sale", 1), now).fd_number == 3
storage.close()
"""


def test_a_document_that_the_disk_has_no_room_for_is_not_made(path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    subprocess.run([sys.executable, "-c", DISK_FULL, str(path)], check=True, timeout=60)
    assert [document.fd_number for document in read_documents(path)] == [1, 2, 3]


def test_a_disk_that_fails_to_sync_is_complained_of_and_loses_nothing(path, storage, monkeypatch, caplog):
    def failing(fd):
        raise OSError(5, "Input/output error")

    storage.open_shift({}, NOON)
    monkeypatch.setattr("os.fsync", failing)
    assert storage.close_shift({}, NOON).fd_number == 3
    assert f"{path}: a power cut now may lose fiscal documents" in caplog.text
    assert len(list(read_documents(path))) == 3


def test_a_disk_that_fails_to_read_is_named(path, monkeypatch):
    def failing(fd, length, offset):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.pread", failing)
    with pytest.raises(StorageError, match=f"{path}: cannot read the fiscal storage: Input/output error"):
        opened(path)
    monkeypatch.undo()
    opened(path).close()


def test_a_torn_line_that_could_not_be_cut_off_is_before_the_next_write(path, storage, monkeypatch):
    storage.open_shift({}, NOON)
    write = os.write

    def torn(fd, data):
        write(fd, data[:10])
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.write", torn)
    assert code_of(storage.make_receipt, SALE, NOON) == 0x03
    monkeypatch.undo()
    assert len(list(read_documents(path))) == 2
    assert storage.make_receipt(SALE, NOON).fd_number == 3
    assert [document.fd_number for document in read_documents(path)] == [1, 2, 3]

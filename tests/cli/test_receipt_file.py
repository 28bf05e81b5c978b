import json
import re
import uuid

import pytest
from support.receipts import encoded, receipt

from kkt_bridge.cli.receipt_file import NotReceipts, raw_receipt, read_receipts

ODD = b'{"receipt_id": "A",  "pos_id":"pos-2", "n": 1.10e400, "n": NaN, "big": ' + b"9" * 5000 + b', "s": "\\ud800"}'


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"%b\n%b\n", id="lines"),
        pytest.param(b"[%b, %b]", id="array"),
        pytest.param(b" [%b\n,%b] ", id="array with blanks"),
        pytest.param(b"%b%b", id="without anything between"),
        pytest.param(b"[%b]\r\n\r\n[%b]", id="arrays"),
    ],
)
def test_receipts_may_stand_in_any_order_of_json(content):
    first, second = encoded(receipt()), encoded(receipt(pos_id="pos-9"))

    read = read_receipts(content % (first, second), "pos-1")

    assert [(first, "pos-1"), (second, "pos-9")] == [(part.payload, part.pos) for part in read]


def test_what_is_complete_is_sent_as_it_was_written():
    (read,) = read_receipts(b"\n " + ODD + b"\n", "pos-1")

    assert read.payload == ODD
    assert read.pos == "pos-2"
    assert read.made_id is None


def test_a_missing_id_is_put_in_and_nothing_else_changes():
    (read,) = read_receipts(b'{ "pos_id" : "pos-3",\n"x": 1.0 }', "pos-1")

    assert read.made_id == str(uuid.UUID(read.made_id))
    assert f'{{"receipt_id": "{read.made_id}",  "pos_id" : "pos-3",\n"x": 1.0 }}'.encode() == read.payload


@pytest.mark.parametrize("content", [b"{}", b"{ }", b'{"type": "sale"}'])
def test_a_missing_pos_is_put_in(content):
    (read,) = read_receipts(content, "pos-7")

    assert json.loads(read.payload) == {
        "receipt_id": read.made_id, "pos_id": "pos-7", **json.loads(content)
    }  # fmt: skip
    assert read.pos == "pos-7"


@pytest.mark.parametrize("pos", ["a/b", "+", "", 1, None, ["pos-1"], "x" * 65, "pos\n"])
def test_a_pos_that_fits_no_topic_is_sent_on_that_of_the_arguments(pos):
    content = json.dumps(receipt(pos_id=pos)).encode()

    (read,) = read_receipts(content, "pos-5")

    assert (content, "pos-5") == (read.payload, read.pos)


def test_what_is_no_object_is_sent_as_it_is():
    read = read_receipts(b'[1, "x", null, [2, 3]]', "pos-1")

    assert [part.payload for part in read] == [b"1", b'"x"', b"null", b"[2, 3]"]


@pytest.mark.parametrize("content", [b"", b" \n", b"[]", b"[ ]\n"])
def test_a_file_may_hold_none(content):
    assert read_receipts(content, "pos-1") == []


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'{"a": 1', "line 1 column 8"),
        (b'{"a": 1}\n{"b": }', "line 2 column 7"),
        (b"[{},", "line 1 column 5"),
        (b"[{} {}]", "line 1 column 5: not JSON: expected a comma or the end of the array"),
        (b"[1,]", "line 1 column 4"),
        (b"hello", "line 1 column 1"),
        (b"\xef\xbb\xbf{}", "line 1 column 1"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xFF at offset 7"),
        (b"[" + b"[" * 100_000, "nested too deep"),
    ],
)
def test_a_broken_file_is_told_where_and_how_to_send_it_all_the_same(content, where):
    with pytest.raises(NotReceipts, match=re.escape(where)) as caught:
        read_receipts(content, "pos-1")

    assert "say --raw" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "pos", "topic"),
    [
        (b'{"pos_id": "pos-2"}', None, "pos-2"),
        (b'{"pos_id": "pos-2"}', "pos-3", "pos-3"),
        (b'{"pos_id": "a/b"}', None, "pos-1"),
        (b'{"pos_id": "pos-2"', None, "pos-1"),
        (b"\xff\x00", "pos-3", "pos-3"),
        (b"[" * 100_000, None, "pos-1"),
        (b"", None, "pos-1"),
    ],
)
def test_raw_is_any_bytes(content, pos, topic):
    read = raw_receipt(content, pos, "pos-1")

    assert (content, topic, None) == (read.payload, read.pos, read.made_id)

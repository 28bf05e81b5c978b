"""What an answer of the OFD means: the contract's table, and everything that a strange server may put into one."""

import gzip
import json
import zlib

import pytest

from kkt_bridge.ofd.classify import ANSWER_BYTES_MAX, TEXT_MAX, classify
from kkt_bridge.ofd.exchange import AnswerKind
from kkt_bridge.ofd.retry_after import RETRY_AFTER_MAX_S

NOON_S = 1_795_338_180
"""2026-11-22 09:03:00 GMT."""


def judged(status, body=b"{}", *, whole=True, now_s=NOON_S, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(status, named, body, whole=whole, now_s=now_s)


# -- 2xx ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 203, 207, 299])
@pytest.mark.parametrize("body", [b"{}", b'{"accepted": true}', b' \r\n{"a": [1, {"b": null}]}\n', b"", b" \r\n"])
def test_an_object_or_nothing_is_an_acceptance(status, body):
    assert judged(status, body).kind is AnswerKind.ACCEPTED


def test_no_content_is_an_acceptance_whatever_stands_behind_it():
    assert judged(204, b"<html>").kind is AnswerKind.ACCEPTED


@pytest.mark.parametrize(
    "body",
    [b"<!DOCTYPE html><title>Wi-Fi</title>", b"OK", b"[]", b"null", b"1", b'"ok"', b"{", b"{]", b"{a: 1}", b'{"a": 1',
     b'{"a": 1} trailing', b"[" * 60_000, b"\x00" * 100, b"\xff\xfe", b"function(){}", b"{% template %}"],
)  # fmt: skip
def test_anything_else_was_said_by_somebody_else(body):
    answer = judged(200, body, content_type="text/html")
    assert answer.kind is AnswerKind.NOT_THE_OFD
    assert answer.text.startswith("200, but not what an OFD says: text/html")


@pytest.mark.parametrize(
    "body",
    [
        '{"message": "Принято"}'.encode("cp1251"),
        b'\xef\xbb\xbf{"server_time": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"a": ' * 60_000 + b"1" + b"}" * 60_000,
    ],
    ids=["charset", "mark", "utf-16", "twice", "NaN", "digits", "deep"],
)
def test_a_careless_serializer_does_not_refuse_a_document(body):
    assert judged(200, body).kind is AnswerKind.ACCEPTED


def test_more_than_is_read_is_judged_by_its_beginning():
    assert judged(200, b'{ "log": "' + b"x" * ANSWER_BYTES_MAX, whole=False).kind is AnswerKind.ACCEPTED
    assert judged(200, b"{% page %}" + b"x" * ANSWER_BYTES_MAX, whole=False).kind is AnswerKind.NOT_THE_OFD
    assert judged(200, b"<html>" + b"x" * ANSWER_BYTES_MAX, whole=False).kind is AnswerKind.NOT_THE_OFD


@pytest.mark.parametrize(
    ("told", "understood"),
    [("1795345381", 1795345381), ("1795345381.9", 1795345381), ("0", 0), ("null", None), ("true", None), ("-1", None),
     ('"1795345381"', None), ("1e300", None), ("NaN", None), ("Infinity", None), ("9" * 20, None), ("9" * 5000, None)],
)  # fmt: skip
def test_the_ofds_time_is_in_seconds_or_not_told(told, understood):
    answer = judged(202, f'{{"server_time": {told}}}'.encode())
    assert (answer.kind, answer.server_time) == (AnswerKind.ACCEPTED, understood)


@pytest.mark.parametrize(("coding", "packed"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_answer_that_nobody_asked_for_is_understood(coding, packed):
    answer = judged(200, packed(b'{"server_time": 7}'), content_encoding=coding)
    assert (answer.kind, answer.server_time) == (AnswerKind.ACCEPTED, 7)


def test_a_bomb_is_unpacked_no_further_than_an_answer_is_read():
    bomb = gzip.compress(b"{" + b" " * 100_000_000 + b"}")
    assert judged(200, bomb, content_encoding="gzip").kind is AnswerKind.NOT_THE_OFD
    longer = gzip.compress(json.dumps({"log": "x" * 100_000_000}).encode())
    assert judged(200, longer, content_encoding="gzip").kind is AnswerKind.ACCEPTED


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "nonsense"])
def test_what_cannot_be_unpacked_is_no_acceptance(coding):
    assert judged(200, b"\x8b\x02garbage", content_encoding=coding).kind is AnswerKind.NOT_THE_OFD


# -- the other statuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        (AnswerKind.SLOW_DOWN, [408, 425, 429]),
        (AnswerKind.BRIDGE_REFUSED, [300, 301, 302, 303, 304, 307, 308, 401, 403, 404, 405, 407]),
        (AnswerKind.DOCUMENT_REFUSED, [400, 402, 406, 409, 410, 411, 413, 414, 415, 418, 422, 423, 431, 451, 499]),
        (AnswerKind.SERVICE_FAILED, [500, 501, 502, 503, 504, 507, 520, 599]),
        (AnswerKind.LINE_FAILED, [100, 101, 199, 600, 999]),
    ],
)
def test_a_status_means_what_the_contract_says(kind, statuses):
    for status in statuses:
        for body in (b"", b'{"error": "no"}', b"<html>", b"[" * 60_000):
            answer = judged(status, body)
            assert answer.kind is kind, status
            assert str(status) in answer.text


def test_the_text_is_one_short_line():
    text = judged(422, b"<html>\r\n\x1b[31m<b>No</b>\t" + b"x" * 10_000).text
    assert text.startswith("422 <html> [31m<b>No</b> x")
    assert len(text) <= TEXT_MAX
    assert text.isprintable()


def test_a_redirection_says_where_to():
    assert judged(302, b"", location="http://portal.example/login").text == "302 to http://portal.example/login"


# -- Retry-After --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503, 401, 302, 422])
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("901", RETRY_AFTER_MAX_S),
        ("86400", RETRY_AFTER_MAX_S),
        ("9" * 5000, RETRY_AFTER_MAX_S),
        ("Sun, 22 Nov 2026 09:04:00 GMT", 60.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2099 09:00:00 GMT", RETRY_AFTER_MAX_S),
        ("Sunday, 22-Nov-26 09:04:00 GMT", 60.0),
        ("Sun Nov 22 09:04:00 2026", 60.0),
        ("Sun, 22 Nov 2026 09:04:00 -0000", 60.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Sun, 99 Nov 2026 09:00:00 GMT", None),
    ],
)
def test_the_ofds_own_wish_is_heard(status, header, expected):
    assert judged(status, retry_after=header).retry_after_s == expected


@pytest.mark.parametrize("now_s", [0, NOON_S, NOON_S + 10 * 365 * 86_400], ids=["1970", "right", "in ten years"])
def test_a_date_is_judged_by_the_clock_that_wrote_it(now_s):
    answer = judged(503, now_s=now_s, retry_after="Sun, 22 Nov 2026 09:04:00 GMT", date="Sun, 22 Nov 2026 09:03:00 GMT")
    assert answer.retry_after_s == 60.0


@pytest.mark.parametrize("date", ["", "today", "Sun, 99 Nov 2026 09:03:00 GMT"])
def test_a_date_that_is_none_leaves_our_own_clock(date):
    assert judged(503, retry_after="Sun, 22 Nov 2026 09:04:00 GMT", date=date).retry_after_s == 60.0

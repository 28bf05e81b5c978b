"""Payload in, receipt or refusal out: every kind of bad input, every odd good one, and anything else there may be."""

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.invalid_receipts import WRONG, InvalidKind, invalid_kinds
from support.receipts import (
    POS,
    ValidKind,
    Verbatim,
    changed,
    encoded,
    full_receipt,
    item,
    odd_but_valid_kinds,
    paid,
    receipt,
    small_receipt,
)

from kkt_bridge.receipts.identity import content_digest
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.wire.decode import FAULTS_SHOWN_MAX, Undecodable, decode_message, decode_receipt
from kkt_bridge.wire.messages import Command, Query

INVALID = invalid_kinds()
VALID = odd_but_valid_kinds()
ID = "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11"

thorough = settings(max_examples=300, deadline=None)


def refusal_of(payload: bytes, pos: str = POS) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        decode_receipt(payload, pos)
    return caught.value


def decoded(request: dict[str, Any]) -> Receipt:
    return decode_receipt(encoded(request), request["pos_id"])


def named_id(payload: bytes) -> str | None:
    """The id that the reply must carry: the text of the request's own, wherever it can be read."""
    found = re.match(rb'\{"receipt_id": ("(?:[^"\\]|\\.)+")', payload)
    return str(json.loads(found[1]))[:64] if found else None


@pytest.mark.parametrize("kind", INVALID, ids=[kind.name for kind in INVALID])
def test_a_bad_request_is_refused_with_its_code_and_its_field(kind: InvalidKind) -> None:
    error = refusal_of(kind.payload).error
    assert error.code == kind.code
    paths = [fault.path for fault in error.fields]
    assert paths == [] if kind.path is None else kind.path in paths


def test_a_refusal_is_one_readable_line_that_says_what_to_do() -> None:
    jargon = re.compile("Input|should|Tuple|pattern|dictionary|instance", re.IGNORECASE)
    for kind in INVALID:
        error = refusal_of(kind.payload).error
        assert not error.retryable, kind.name
        for message in (error.message, *(fault.message for fault in error.fields)):
            assert message.isprintable(), kind.name
            assert len(message) < 400, kind.name
            assert jargon.search(message) is None, kind.name
        assert error.message.endswith("nothing was taken: mended, it may always be sent again under the same id")


@pytest.mark.parametrize("kind", VALID, ids=[kind.name for kind in VALID])
def test_an_odd_request_is_taken(kind: ValidKind) -> None:
    assert decode_receipt(kind.payload, POS).pos_id == POS


def test_there_are_enough_kinds_and_none_stands_twice() -> None:
    assert len({kind.name for kind in INVALID}) == len(INVALID) >= 75
    assert len({kind.name for kind in VALID}) == len(VALID)


def test_no_request_keeps_the_bridge_busy() -> None:
    heavy = encoded(receipt() | {str(number): 1 for number in range(20_000)})
    for payload in (heavy, *(kind.payload for kind in INVALID)):
        start = time.process_time()
        refusal_of(payload)
        assert time.process_time() - start < 1, payload[:200]


def test_the_example_of_the_contract() -> None:
    request = receipt(
        receipt_id=ID,
        items=[
            item(name="Оправа Ray-Ban RB5154", price="12990.00", quantity="1", total="12990.00"),
            item(name="Линза 1.6 HMC", price="2450.50", quantity=2, total="4901.00", unit="piece"),
        ],
        payments=[*paid("card", "10000.00"), *paid("cash", "8000.00")],
        cashier={"name": "Иванова А. П.", "inn": "500100732259"},
        customer={"contact": "buyer@example.com"},
    )
    found = decoded(request)
    assert (found.receipt_id, found.total, found.change) == (ID, 17891_00, 109_00)
    assert [(line.price, line.quantity, line.total) for line in found.items] == [
        (12990_00, 1_000_000, 12990_00),
        (2450_50, 2_000_000, 4901_00),
    ]
    assert found.items[0].payment_method == "full_payment"
    assert found.items[0].payment_subject == "commodity"
    assert found.items[0].unit == "piece"


@pytest.mark.parametrize(
    ("changes", "pos"),
    [
        ({"type": "refund", "original_receipt_id": ID}, POS),
        ({"kkt": "k" * 64}, POS),
        ({"kkt": "0a.Z_-"}, POS),
        ({"pos_id": "p" * 64}, "p" * 64),
    ],
)
def test_every_identifier_of_the_contract_is_taken(changes: dict[str, Any], pos: str) -> None:
    assert decode_receipt(encoded(small_receipt(**changes)), pos).pos_id == pos


@pytest.mark.parametrize("pos", ["", "касса", "a b", "-", "p" * 65])
def test_a_topic_with_an_unfit_pos_is_refused(pos: str) -> None:
    error = refusal_of(encoded(receipt(pos_id=pos)), pos).error
    assert (error.code, [fault.path for fault in error.fields]) == ("invalid_receipt", ["pos_id"])


def test_the_refusal_names_the_id_if_there_is_one() -> None:
    for kind in INVALID:
        if kind.code not in {"invalid_json", "too_large"}:
            assert refusal_of(kind.payload).message_id == named_id(kind.payload), kind.name


WITH_AN_ID = f'"receipt_id": "{ID}"'.encode()


@pytest.mark.parametrize(
    ("payload", "message_id"),
    [
        (b"{%b, %b}" % (WITH_AN_ID, b'"x": "' + b"x" * 300_000 + b'"'), ID),
        (b'{%b, "type": "sale", "type": "sale"}' % WITH_AN_ID, ID),
        (b'{"original_receipt_id": "other", %b, "x": NaN}' % WITH_AN_ID, ID),
        (b"\xef\xbb\xbf{%b}" % WITH_AN_ID, ID),
        (b'{"receipt_id" :\n"' + b"x" * 65 + b'", ', "x" * 64),
        ('{"receipt_id": "чек", '.encode(), "чек"),
        (b"{%b, %b}" % (WITH_AN_ID, WITH_AN_ID), None),
        (b'{"receipt_id": 1, %b}' % WITH_AN_ID, None),
        (b'{"name": "\\"receipt_id\\": \\"x\\", ', None),
        (b'{"receipt_id": "\xff"}', None),
        (b'{"receipt_id": "\\ud800"}', None),
        (b'{"receipt_id": "a\nb"}', None),
        (b'{"receipt_id": ""', None),
        (b'{"receipt_id": "cut', None),
        (b"{" + b" " * 4096 + WITH_AN_ID, None),
    ],
)
def test_what_is_not_read_as_json_is_refused_with_its_id_if_that_is_plain(
    payload: bytes, message_id: str | None
) -> None:
    refusal = refusal_of(payload)
    assert refusal.error.code in {"invalid_json", "too_large"}
    assert refusal.message_id == message_id


def test_a_command_that_is_no_json_is_refused_with_its_own_id() -> None:
    with pytest.raises(Undecodable) as caught:
        decode_message(Command, b'{"receipt_id": "r", "command_id": "c", "args": NaN}', "command_id")
    assert caught.value.message_id == "c"


def test_every_wrong_field_is_named_at_once() -> None:
    request = changed(changed(small_receipt(cashier={}), "items.0.price", "1,5"), "payments.0.type", "visa")
    error = refusal_of(encoded(request)).error
    assert [fault.path for fault in error.fields] == ["items.0.price", "payments.0.type", "cashier.name"]
    assert error.message.startswith("items.0.price: not an amount: ")
    assert "(and 2 more)" in error.message


def test_every_wrong_item_is_named_at_once() -> None:
    request = small_receipt(items=[item(vat="18"), item(), item(name=" ", total="1")])
    paths = [fault.path for fault in refusal_of(encoded(request)).error.fields]
    assert paths == ["items.0.vat", "items.2.name"]


def test_every_contradiction_is_named_at_once() -> None:
    request = small_receipt(original_receipt_id=ID, payments=paid("cash", "1"))
    paths = [fault.path for fault in refusal_of(encoded(request)).error.fields]
    assert paths == ["original_receipt_id", "payments"]


def test_what_is_wrong_with_too_many_elements_is_that_they_are_too_many() -> None:
    """Judged before any of the elements is: ten thousand of them cost as little as one."""
    error = refusal_of(encoded(small_receipt(payments=[{}] * 10_000))).error
    assert [(fault.path, fault.message) for fault in error.fields] == [
        ("payments", "expected 1 to 100 of them, not 10000")
    ]


def test_an_object_with_more_fields_than_any_message_has_is_not_read_further() -> None:
    assert "has 20000 fields" in refusal_of(encoded({str(number): 1 for number in range(20_000)})).error.message


def test_of_more_wrong_fields_than_anybody_mends_only_the_number_is_told() -> None:
    items = [item(vat="18")] * 16 + [{str(n): 1 for n in range(20)}] * 48
    error = refusal_of(encoded(small_receipt(items=items))).error
    assert (error.code, error.fields) == ("invalid_receipt", [])
    assert error.message.startswith("1216 fields are wrong")


def test_rubbish_in_an_array_is_judged_no_further_than_it_is_told() -> None:
    with pytest.raises(ValidationError) as caught:
        Receipt.model_validate(small_receipt(items=[{"a": 0}] * 500))
    assert FAULTS_SHOWN_MAX < caught.value.error_count() < 5 * FAULTS_SHOWN_MAX


@pytest.mark.parametrize("wrong", [(0, 499), (1, 5, 17, 65, 257), (256,), tuple(range(480, 500))])
def test_wherever_a_long_array_is_wrong_it_is_told_with_its_place(wrong: tuple[int, ...]) -> None:
    items = [item(vat="18") if place in wrong else item() for place in range(500)]
    error = refusal_of(encoded(small_receipt(items=items))).error
    assert [fault.path for fault in error.fields] == [f"items.{place}.vat" for place in wrong]


def test_the_answer_does_not_outgrow_the_question() -> None:
    error = refusal_of(encoded(small_receipt(items=[{}] * 500))).error
    assert len(error.fields) == FAULTS_SHOWN_MAX
    assert "(and at least 20 more)" in error.message
    long_name = refusal_of(encoded(receipt() | {"x" * 100_000: 1})).error
    assert len(long_name.model_dump_json()) < 1000


def test_the_name_of_an_unknown_field_is_shown_without_its_control_characters() -> None:
    error = refusal_of(encoded(receipt() | {"a\r\n\x1b[31m\u202eb": 1})).error
    assert error.fields[0].path == r"a\r\n\x1b[31m\u202eb"
    assert error.fields[0].message == "unknown field: check the spelling"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("receipt_id", "X", "expected a lower-case UUID such as 0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11"),
        ("type", "sell", "expected 'sale', 'refund', 'purchase', 'purchase_refund' or 'correction'"),
        ("items", [], "expected 1 to 500 of them, not 0"),
        ("items", {}, "expected an array"),
        ("items.0", 1, "expected an object"),
        ("items.0.name", "", "must not be empty"),
        ("items.0.name", "я" * 129, "at most 128 characters"),
        ("items.0.name", "\u200b", "must not be blank"),
        ("items.0.name", "ab\u202e", "control or direction-changing character U+202E at position 2"),
        ("items.0.name", 1, "expected a valid string"),
        (
            "items.0.price",
            "1,5",
            'not an amount: expected digits such as "199.9", at most 8 before the point and 2 after it',
        ),
        ("items.0.price", True, "not an amount: expected a string of digits or a number"),
        ("items.0.price", -1, "out of range: an amount is from 0 to 99999999.99"),
        ("items.0.price", Verbatim("0.001"), "too precise: an amount has at most 2 decimals"),
        ("items.0.quantity", 0, "must be above zero"),
        ("items.0.total", "12", "must be within 1 kopeck of price × quantity, which is about 10.00"),
        ("items.0.marking_code", "я", "expected 1 to 300 printable ASCII characters or GS (U+001D)"),
        ("payments.0.amount", "9", "together 9.00, less than the total 10.00"),
        ("cashier.inn", "1", "expected 10 or 12 digits"),
        ("cashier.inn", "500100732258", "the check digits do not fit: a digit is mistyped"),
        ("customer.contact", "abc", 'expected "+" and 5 to 15 digits, or an e-mail address'),
        ("customer.contact", "a\nb", "control or direction-changing character U+000A at position 1"),
        ("correction.date", "20.11.2026", 'expected a date such as "2026-11-22"'),
        ("correction.document_number", None, "required for an ordered correction"),
        ("kkt", "a/b", "expected 1 to 64 of A-Z a-z 0-9 _ . - and a letter or digit first"),
    ],
)
def test_the_words_of_a_fault(path: str, value: Any, message: str) -> None:
    (fault,) = refusal_of(encoded(changed(full_receipt(), path, value))).error.fields
    assert fault.message == message


def test_the_same_content_in_other_words_has_the_same_digest() -> None:
    plain = small_receipt(receipt_id=ID)
    spelled = small_receipt(
        {
            "price": Verbatim("1e1"),
            "quantity": Verbatim("1.000"),
            "total": 10,
            "payment_method": "full_payment",
            "payment_subject": "commodity",
            "unit": "piece",
            "marking_code": None,
        },
        receipt_id=ID,
        payments=paid("cash", "0010.0"),
        cashier=None,
        kkt=None,
    )
    assert content_digest(decoded(spelled).canonical()) == content_digest(decoded(plain).canonical())


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("receipt_id", ID),
        ("type", "refund"),
        ("items.0.name", "Другая"),
        ("items.0.price", "10.01"),
        ("items.0.vat", "20"),
        ("items.0.payment_subject", "service"),
        ("payments.0.amount", "10.01"),
        ("payments.0.type", "other"),
        ("cashier", {"name": "Иванова"}),
        ("kkt", "kkt-2"),
    ],
)
def test_other_content_has_another_digest(path: str, other: Any) -> None:
    plain = small_receipt()
    assert content_digest(decoded(changed(plain, path, other)).canonical()) != content_digest(
        decoded(plain).canonical()
    )


@pytest.mark.parametrize("kind", VALID, ids=[kind.name for kind in VALID])
def test_the_canonical_form_is_a_fixed_point(kind: ValidKind) -> None:
    assert_fixed_point(decode_receipt(kind.payload, POS))


def assert_fixed_point(taken: Receipt) -> None:
    again = decode_receipt(taken.canonical(), taken.pos_id)
    assert again == taken
    assert again.canonical() == taken.canonical()
    assert content_digest(again.canonical()) == content_digest(taken.canonical())


def assert_judged(payload: bytes) -> None:
    """Taken as what it says, or refused: nothing else may come of a payload."""
    try:
        taken = decode_receipt(payload, POS)
    except Undecodable:
        return
    assert_fixed_point(taken)


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b'{"receipt_id": NaN}'])
def test_a_query_that_cannot_be_read_is_refused(payload: bytes) -> None:
    with pytest.raises(Undecodable) as caught:
        decode_message(Query, payload, "receipt_id")
    assert (caught.value.error.code, caught.value.message_id) == ("invalid_json", None)


@pytest.mark.parametrize(
    ("query", "paths", "message_id"),
    [
        ({}, ["receipt_id"], None),
        ({"receipt_id": ID.upper()}, ["receipt_id"], ID.upper()),
        ({"receipt_id": "x" * 65}, ["receipt_id"], "x" * 64),
        ({"receipt_id": None}, ["receipt_id"], None),
        ({"receipt_id": ID, "pos_id": "pos-1"}, ["pos_id"], ID),
    ],
)
def test_a_query_is_judged_like_a_receipt(query: dict[str, Any], paths: list[str], message_id: str | None) -> None:
    with pytest.raises(Undecodable) as caught:
        decode_message(Query, encoded(query), "receipt_id")
    assert [fault.path for fault in caught.value.error.fields] == paths
    assert caught.value.message_id == message_id


def test_a_query_is_taken() -> None:
    assert decode_message(Query, encoded({"receipt_id": ID}), "receipt_id") == Query(receipt_id=ID)


def test_a_command_is_taken_with_and_without_arguments() -> None:
    bare = {"command_id": ID, "issued_by": "Иванова, смена 2"}
    assert decode_message(Command, encoded(bare), "command_id").args == {}
    full = decode_message(Command, encoded(bare | {"args": {"force": True, "limit": 5}}), "command_id")
    assert full.args == {"force": True, "limit": 5}


@pytest.mark.parametrize("depth", [30, 300, 900, 100_000])
def test_a_command_is_nested_no_deeper_than_can_be_stored(depth: int) -> None:
    arguments = b'{"a": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
    payload = encoded({"command_id": ID, "issued_by": "ops", "args": 0}).replace(b'"args": 0', b'"args": ' + arguments)
    if depth > 31:
        with pytest.raises(Undecodable, match="nested deeper than 32 levels"):
            decode_message(Command, payload, "command_id")
    else:
        assert json.loads(decode_message(Command, payload, "command_id").model_dump_json())


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"command_id": "1"}, "command_id"),
        ({"issued_by": " "}, "issued_by"),
        ({"issued_by": "a\nb"}, "issued_by"),
        ({"issued_by": "a" * 129}, "issued_by"),
        ({"issued_by": 7}, "issued_by"),
        ({"args": []}, "args"),
        ({"args": None}, "args"),
        ({"arguments": {}}, "arguments"),
    ],
)
def test_a_bad_command_is_refused_with_its_field(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(Undecodable) as caught:
        decode_message(Command, encoded({"command_id": ID, "issued_by": "ops"} | changes), "command_id")
    assert [fault.path for fault in caught.value.error.fields] == [path]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([value for _, values in WRONG for value in values if not isinstance(value, Verbatim)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)

paths = st.sampled_from([path for path, _ in WRONG])

kopecks = st.integers(min_value=0, max_value=99_999_999_99)


def roubles(amount: int) -> str:
    return f"{amount // 100}.{amount % 100:02d}"


@st.composite
def positions(draw: st.DrawFn) -> dict[str, Any]:
    price = draw(st.integers(min_value=0, max_value=100_000_00))
    micro = draw(st.integers(min_value=1, max_value=99_000_000))
    total = price * micro // 1_000_000 + draw(st.integers(min_value=0, max_value=1))
    return item(
        name=draw(st.text(alphabet=st.characters(exclude_categories=("C", "M", "Z")), min_size=1, max_size=128)),
        price=roubles(price),
        quantity=f"{micro // 1_000_000}.{micro % 1_000_000:06d}",
        total=roubles(total),
        payment_subject=draw(st.sampled_from(["service", 1, 33])),
        unit=draw(st.sampled_from(["gram", 0, 255])),
    )


@thorough
@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_but_a_refusal(payload: bytes) -> None:
    refusal_of(payload)


@thorough
@given(json_values)
def test_no_json_raises_anything_but_a_refusal(value: Any) -> None:
    refusal_of(json.dumps(value).encode())


@thorough
@given(paths, json_values)
def test_no_value_in_any_field_raises_anything_but_a_refusal(path: str, value: Any) -> None:
    payload = json.dumps(changed(full_receipt(), path, value)).encode()
    assert_judged(payload)


@thorough
@given(st.data())
def test_no_damage_to_a_good_request_raises_anything_but_a_refusal(data: st.DataObject) -> None:
    payload = bytearray(encoded(full_receipt()))
    for _ in range(data.draw(st.integers(min_value=1, max_value=4))):
        payload[data.draw(st.integers(min_value=0, max_value=len(payload) - 1))] = data.draw(st.integers(0, 255))
    assert_judged(bytes(payload))


@thorough
@given(st.lists(positions(), min_size=1, max_size=5), kopecks)
def test_what_is_taken_comes_back_from_its_canonical_form(lines: list[dict[str, Any]], change: int) -> None:
    total = sum(int(line["total"].replace(".", "")) for line in lines)
    given_cash = min(total + change, 99_999_999_99)
    taken = decoded(small_receipt(items=lines, payments=paid("cash", roubles(given_cash))))
    assert (taken.total, taken.change) == (total, given_cash - total)
    assert_fixed_point(taken)

"""Stage 1: what is decided about each message, and when the broker hears that it was."""

import itertools
import json
import uuid
from datetime import datetime

import pytest
from support.receipts import encoded, item, receipt, small_receipt
from support.stages import TOPICS, InProcessBridge, check_counts, meddle

from kkt_bridge.journal.receipts import REFUSALS_OF_POS_MAX
from kkt_bridge.mqtt.inbox import AckToken, Incoming
from kkt_bridge.receipts.identity import content_digest
from kkt_bridge.stages.intake.intake import BATCH_MAX, TRIM_AFTER
from kkt_bridge.wire.messages import ID_SOUGHT_BYTES


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path)
    yield opened
    check_counts(opened.journal, tmp_path)
    opened.kill()


def milliseconds(text):
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def last(replies):
    return replies[-1]


def error_of(reply):
    return reply["error"]["code"]


# -- taking ----------------------------------------------------------------------------------------------


def test_a_receipt_is_taken_without_a_word_and_acknowledged(shop):
    """The word is the register's: a POS hears `printed`, or `buffered` if that takes long."""
    request = receipt()
    mid = shop.sell(request)
    assert shop.status(request) == "buffered"
    assert shop.replies() == []
    assert shop.line.acknowledged == [mid]


def test_a_batch_is_one_commit_and_is_acknowledged_in_order(shop):
    mids = [shop.arrive(TOPICS.receipt("pos-1"), receipt()) for _ in range(BATCH_MAX)]
    commits_before = shop.journal._state.clock.commit_no
    assert shop.intake.step() == 0.0
    assert shop.journal._state.clock.commit_no == commits_before + 1
    assert shop.line.acknowledged == mids
    assert shop.intake.step() is None


def test_what_does_not_fit_into_a_batch_goes_into_the_next(shop):
    mids = [shop.arrive(TOPICS.receipt("pos-1"), receipt()) for _ in range(2 * BATCH_MAX + 1)]
    for expected in (BATCH_MAX, 2 * BATCH_MAX, 2 * BATCH_MAX + 1):
        shop.intake.step()
        assert len(shop.line.acknowledged) == expected
    assert shop.line.acknowledged == mids


def test_good_and_bad_are_acknowledged_together_in_their_order(shop):
    mids = [
        shop.arrive(TOPICS.receipt("pos-1"), payload)
        for payload in (receipt(), b"not JSON", receipt(), {"a": 1}, receipt())
    ]
    shop.intake.step()
    assert shop.line.acknowledged == mids
    assert [error_of(reply) for reply in shop.replies()] == ["invalid_json", "invalid_receipt"]
    assert shop.journal.pending() == 3


def test_the_order_of_arrival_is_the_order_of_printing(shop):
    requests = [receipt() for _ in range(5)]
    for request in requests:
        shop.arrive(TOPICS.receipt("pos-1"), request)
    shop.intake.step()
    shop.print_all()
    assert [reply["receipt_id"] for reply in shop.replies()] == [request["receipt_id"] for request in requests]


def test_a_stray_message_is_acknowledged_and_forgotten(shop):
    mid = shop.arrive("kkt/v1/another/pos/pos-1/receipt", receipt())
    shop.intake.step()
    assert shop.line.acknowledged == [mid]
    assert shop.outbox() == []
    assert shop.steps() == []


def test_a_message_whose_topic_was_no_text_is_acknowledged(shop):
    shop.inbox.put(Incoming(AckToken(1, 77, 1), "", b"{}", redelivered=False))
    shop.intake.step()
    assert shop.line.acknowledged == [77]


# -- a correction's date ---------------------------------------------------------------------------------


def correction_of(day):
    return small_receipt(type="correction", correction={"operation": "sale", "kind": "voluntary", "date": day})


def test_the_date_of_a_correction_is_judged_by_the_shops_calendar(shop):
    shop.clock.wall_ms = milliseconds("2026-11-28T23:59:59+03:00")
    shop.sell(tomorrows := correction_of("2026-11-29"))
    reply = last(shop.replies())
    assert (reply["status"], error_of(reply), reply["error"]["retryable"]) == ("rejected", "invalid_receipt", False)
    assert [field["path"] for field in reply["error"]["fields"]] == ["correction.date"]
    shop.clock.advance(1)
    shop.sell(tomorrows)
    assert shop.status(tomorrows) == "buffered"


def test_a_clock_that_was_set_back_refuses_no_correction_of_a_day_that_has_been(shop):
    shop.sell(receipt())
    shop.clock.jump(-30 * 86_400)
    shop.sell(request := correction_of("2026-11-20"))
    assert shop.status(request) == "buffered"


def test_a_correction_that_was_taken_is_repeated_whatever_the_clock_says(shop):
    request = correction_of("2026-11-20")
    shop.sell(request)
    shop.print_all()
    shop.clock.wall_ms = 0
    shop.sell(request)
    first, repeat = shop.replies()
    assert repeat == {**first, "duplicate": True}


# -- the same again --------------------------------------------------------------------------------------


@pytest.mark.parametrize("redelivered", [False, True])
def test_a_repeat_of_what_waits_is_told_so_and_taken_once(shop, redelivered):
    request = receipt()
    shop.sell(request)
    shop.sell(request, redelivered=redelivered)
    reply = last(shop.replies())
    assert (reply["status"], reply["final"], reply["duplicate"]) == ("buffered", False, True)
    assert shop.journal.pending() == 1


def test_a_repeat_of_what_is_printed_gets_the_stored_reply(shop):
    request = receipt()
    shop.sell(request)
    shop.print_all()
    shop.sell(request)
    first, repeat = shop.replies()
    assert repeat == {**first, "duplicate": True}
    assert len(shop.documents()) == 1


def test_a_repeat_of_what_was_rejected_gets_the_same_rejection(shop):
    request = receipt(items=[item(name="дефект")], payments=[{"type": "cash", "amount": "10.00"}])
    shop.break_register(refuse_names=["дефект"])
    shop.sell(request)
    shop.print_all()
    shop.heal_register()
    shop.sell(request)
    first, repeat = shop.replies()
    assert repeat == {**first, "duplicate": True}
    assert shop.documents() == []


def test_a_repeat_in_other_words_is_the_same(shop):
    """Spelling, order and defaults make no other receipt."""
    request = small_receipt()
    shop.sell(request)
    again = json.loads(json.dumps(request))
    again["items"][0] |= {"price": 10, "quantity": "1.0", "unit": "piece", "payment_method": "full_payment"}
    shop.sell(json.dumps(dict(reversed(again.items())), indent=1).encode())
    assert [reply["duplicate"] for reply in shop.replies()] == [True]


@pytest.mark.parametrize("printed", [False, True])
def test_another_content_under_the_same_key_is_a_conflict(shop, printed):
    request = receipt()
    shop.sell(request)
    if printed:
        shop.print_all()
    before = shop.stored(request["receipt_id"])
    shop.sell(
        receipt(receipt_id=request["receipt_id"], items=[item()] * 20, payments=[{"type": "cash", "amount": "200"}])
    )
    reply = last(shop.replies())
    assert (reply["status"], error_of(reply), reply["error"]["retryable"]) == (
        "rejected",
        "idempotency_conflict",
        False,
    )
    assert "a different sale needs a new receipt_id" in reply["error"]["message"]
    assert shop.stored(request["receipt_id"]) == before
    shop.print_all()
    assert len(shop.documents()) == 1


def test_the_same_id_from_another_pos_is_another_receipt(shop):
    request = receipt()
    shop.sell(request)
    shop.sell({**request, "pos_id": "pos-2"}, pos="pos-2")
    assert shop.journal.pending() == 2
    shop.print_all()
    assert len({document.body.requisite_1192 for document in shop.documents()}) == 2


def test_repeats_within_one_batch_are_taken_once(shop):
    request = encoded(receipt())
    for _ in range(5):
        shop.arrive(TOPICS.receipt("pos-1"), request)
    shop.intake.step()
    assert shop.journal.pending() == 1
    assert [reply["duplicate"] for reply in shop.replies()] == [True] * 4


# -- refusing --------------------------------------------------------------------------------------------


def test_a_refusal_is_answered_told_and_forgotten_as_a_receipt(shop):
    request = receipt(items=[])
    shop.sell(request)
    (reply,) = shop.replies()
    assert (reply["status"], reply["final"], error_of(reply)) == ("rejected", True, "invalid_receipt")
    assert (reply["receipt_id"], reply["pos_id"]) == (request["receipt_id"], "pos-1")
    assert shop.steps() == [(request["receipt_id"], None, "rejected")]
    assert shop.journal.pending() == 0
    mended = receipt(receipt_id=request["receipt_id"])
    shop.sell(mended)
    assert shop.status(mended) == "buffered"


def test_a_payload_too_broken_for_an_id_is_answered_all_the_same(shop):
    shop.sell(b"\xff\xfe")
    (reply,) = shop.replies()
    assert (reply["receipt_id"], error_of(reply)) == (None, "invalid_json")


def test_a_payload_that_is_no_json_is_answered_with_its_id_and_leaves_no_trace_of_it(shop):
    request = receipt()
    shop.sell(encoded(request)[:-1])
    (reply,) = shop.replies()
    assert (reply["receipt_id"], error_of(reply)) == (request["receipt_id"], "invalid_json")
    assert shop.steps() == [(request["receipt_id"], None, "rejected")]
    shop.sell(request)
    assert shop.status(request) == "buffered"


def test_a_redelivery_of_what_was_refused_gets_the_same_refusal(shop):
    """The broker repeats what it has no acknowledgement for: the POS was told, and has gone on."""
    shop.restart(buffer={"capacity": 1})
    shop.sell(receipt())
    late = receipt()
    shop.sell(late)
    refusal = last(shop.replies())
    assert error_of(refusal) == "buffer_full"
    shop.restart(buffer={"capacity": 10})
    shop.sell(late, redelivered=True)
    assert last(shop.replies()) == refusal
    assert shop.journal.pending() == 1


def test_what_was_too_large_to_be_kept_is_refused_and_its_redelivery_known(shop):
    topic = TOPICS.receipt("pos-1")
    whole = b'{"receipt_id": "mine", "x": "'.ljust(300_000)
    shop.inbox.put(Incoming(AckToken(1, 77, 1), topic, whole, redelivered=False).cut_to(ID_SOUGHT_BYTES))
    shop.intake.step()
    refusal = last(shop.replies())
    assert (error_of(refusal), refusal["receipt_id"]) == ("too_large", "mine")
    assert "300000 bytes" in refusal["error"]["message"]
    shop.inbox.put(Incoming(AckToken(1, 78, 1), topic, whole, redelivered=True).cut_to(ID_SOUGHT_BYTES))
    shop.intake.step()
    assert shop.replies() == [refusal, refusal]
    assert shop.line.acknowledged == [77, 78]


def test_a_new_publish_of_what_was_refused_is_judged_afresh(shop):
    shop.restart(buffer={"capacity": 1})
    shop.sell(receipt())
    late = receipt()
    shop.sell(late)
    shop.restart(buffer={"capacity": 10})
    shop.sell(late)
    assert shop.status(late) == "buffered"
    shop.sell(late, redelivered=True)
    assert last(shop.replies())["duplicate"]


def test_a_redelivery_of_other_bytes_is_judged_afresh(shop):
    request = receipt()
    shop.sell(receipt(receipt_id=request["receipt_id"], items=[]))
    shop.sell(request, redelivered=True)
    assert shop.status(request) == "buffered"


def test_a_redelivery_of_what_was_never_seen_is_taken(shop):
    request = receipt()
    shop.sell(request, redelivered=True)
    assert shop.status(request) == "buffered"


def test_a_refusal_on_one_topic_says_nothing_about_another(shop):
    payload = receipt(items=[])
    shop.sell(payload)
    shop.sell(payload, pos="pos-2", redelivered=True)
    (reply,) = shop.replies("pos-2")
    assert error_of(reply) == "pos_mismatch"


def test_the_text_of_an_id_comes_back_also_where_it_is_none(shop):
    for text, told in (("0B9F6C52-6A1E-4C07-9D1C-0A4F4E1B5A11",) * 2, ("17", "17"), ("x" * 100, "x" * 64)):
        shop.sell(receipt(receipt_id=text))
        assert last(shop.replies())["receipt_id"] == told
    assert [step[0] for step in shop.steps()][-1] == "x" * 64


def test_each_refusal_is_a_warning_in_the_log(shop, caplog):
    request = receipt(items=[])
    shop.sell(request)
    shop.command("reboot", str(uuid.uuid4()))
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage().split(":")[0] for record in warnings] == ["receipt refused", "command reboot refused"]
    assert (warnings[0].receipt_id, warnings[0].pos_id) == (request["receipt_id"], "pos-1")


# -- names that are none ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["receipt", "query"])
def test_a_name_of_absurd_length_is_refused_without_a_word_and_recorded_shortened(shop, kind):
    """No broker need take an answer on such a topic, and one that does not cuts the connection."""
    pos, payload = "p" * 65_000, receipt() if kind == "receipt" else {"receipt_id": str(uuid.uuid4())}
    mid = shop.arrive(f"{TOPICS.branch}/pos/{pos}/{kind}", payload)
    shop.intake.step()
    assert shop.line.acknowledged == [mid]
    assert shop.outbox() == []
    assert shop.rows("SELECT pos_id, to_status, error FROM steps") == [("p" * 64, "rejected", "pos_mismatch")]


@pytest.mark.parametrize("pos", ["касса", "a b", "-", "p" * 64])
def test_a_name_that_is_no_identifier_but_fits_a_topic_is_told_so(shop, pos):
    shop.query(str(uuid.uuid4()), pos=pos)
    (reply,) = shop.replies(pos)
    assert reply["pos_id"] == pos
    assert error_of(reply) == ("pos_mismatch" if pos[0] != "p" else "not_found")


def test_a_command_of_absurd_length_is_refused_and_told_shortened(shop):
    shop.command("c" * 65_000, str(uuid.uuid4()))
    assert [(event["name"], event["error"]) for event in shop.events("command")] == [("c" * 64, "unknown_command")]
    assert len(shop.outbox()) == 1


# -- retained --------------------------------------------------------------------------------------------


def test_a_retained_receipt_that_is_unknown_is_refused_and_never_printed(shop):
    """It comes at every new subscription, also when its refusal, or the receipt, was purged long ago."""
    request = receipt()
    for _ in range(2):
        shop.sell(request, retained=True)
        shop.rows("SELECT 1")
        shop.journal.write(lambda tx: tx.connection.exec_driver_sql("DELETE FROM refusals"))
    shop.print_all()
    assert [error_of(reply) for reply in shop.replies()] == ["invalid_receipt"] * 2
    assert not last(shop.replies())["error"]["retryable"]
    assert "clear it" in last(shop.replies())["error"]["message"]
    assert shop.documents() == []


def test_a_retained_repeat_of_a_known_receipt_gets_the_stored_reply(shop):
    request = receipt()
    shop.sell(request)
    shop.print_all()
    shop.sell(request, retained=True)
    first, repeat = shop.replies()
    assert repeat == {**first, "duplicate": True}


def test_a_retained_command_is_refused(shop):
    shop.arrive(
        TOPICS.command("pause"), {"command_id": str(uuid.uuid4()), "issued_by": "ops", "args": {}}, retained=True
    )
    shop.intake.step()
    (result,) = shop.sent_to(TOPICS.command_result("pause"))
    assert result["error"]["code"] == "invalid_command"
    assert "without retain" in result["error"]["message"]
    assert shop.rows("SELECT * FROM commands") == []


# -- a flood ---------------------------------------------------------------------------------------------


def test_a_flood_of_one_terminal_leaves_the_others_their_turn(shop):
    flood = [shop.arrive(TOPICS.receipt("pos-1"), b"rubbish %d" % number) for number in range(5 * BATCH_MAX)]
    request = receipt(pos_id="pos-2")
    honest = shop.arrive(TOPICS.receipt("pos-2"), request)
    shop.intake.step()
    assert shop.status(request) == "buffered", "in the first batch, although it came last"
    assert honest not in shop.line.acknowledged
    while shop.intake.step() == 0.0:
        pass
    assert shop.line.acknowledged == [*flood, honest], "in the order of arrival all the same"


def test_of_a_flood_of_refusals_only_the_newest_are_kept_and_a_redelivery_finds_them(shop):
    shop.restart(buffer={"capacity": 0})
    requests = [encoded(receipt()) for _ in range(REFUSALS_OF_POS_MAX + 2 * TRIM_AFTER)]
    for request in requests:
        shop.arrive(TOPICS.receipt("pos-1"), request)
    while shop.intake.step() == 0.0:
        pass
    ((kept,),) = shop.rows("SELECT count(*) FROM refusals")
    assert kept <= REFUSALS_OF_POS_MAX + TRIM_AFTER + BATCH_MAX
    shop.restart(buffer={"capacity": 10})
    for request in requests[-10:]:
        shop.sell(request, redelivered=True)
        assert error_of(last(shop.replies())) == "buffer_full"
    assert shop.journal.pending() == 0


def test_a_refusal_is_kept_as_long_as_its_acknowledgement_waits_for_earlier_messages(shop):
    """However many came after it from its POS: the broker may bring it again."""
    shop.restart(buffer={"capacity": 0})
    for number in range(REFUSALS_OF_POS_MAX + 4 * BATCH_MAX):
        shop.arrive(TOPICS.receipt("pos-2"), b"rubbish %d" % number)
    requests = [encoded(receipt()) for _ in range(REFUSALS_OF_POS_MAX + 2 * BATCH_MAX)]
    tokens = [shop.arrive(TOPICS.receipt("pos-1"), request) for request in requests]
    while len(shop.rows("SELECT id FROM refusals WHERE pos_id = 'pos-1'")) < len(requests):
        assert shop.intake.step() == 0.0
    assert tokens[0] not in shop.line.acknowledged
    shop.restart(buffer={"capacity": 10})
    shop.sell(requests[0], redelivered=True)
    assert error_of(last(shop.replies())) == "buffer_full"


def test_the_flood_is_named(shop):
    for number in range(600):
        shop.arrive(TOPICS.receipt("pos-1"), b"rubbish %d" % number)
    while shop.intake.step() == 0.0:
        pass
    shop.clock.advance(5)
    assert shop.admission.flood.pos == "pos-1"


@pytest.mark.parametrize(("others", "named"), [(0, None), (1, "pos-1")])
def test_much_that_is_not_refused_is_a_flood_only_while_others_wait(shop, others, named):
    request = encoded(receipt())
    for _ in range(600):
        shop.arrive(TOPICS.receipt("pos-1"), request)
    for _ in range(others):
        shop.arrive(TOPICS.receipt("pos-2"), receipt(pos_id="pos-2"))
    while shop.intake.step() == 0.0:
        pass
    shop.clock.advance(5)
    flood = shop.admission.flood
    assert (flood and flood.pos) == named


# -- where answers go ------------------------------------------------------------------------------------


def test_an_answer_goes_to_the_response_topic_with_its_correlation(shop):
    topic = f"{TOPICS.branch}/pos/pos-1/mine"
    shop.sell(receipt(items=[]), response_topic=topic, correlation=b"\x00\x01")
    (message,) = shop.outbox()
    assert (message.topic, message.correlation, message.is_event) == (topic, b"\x00\x01", False)


def test_the_final_answer_goes_where_the_request_wanted_it(shop):
    topic = f"{TOPICS.branch}/pos/pos-1/mine"
    shop.sell(receipt(), response_topic=topic, correlation=b"7")
    shop.print_all()
    reply = next(message for message in shop.outbox() if message.topic == topic)
    assert (json.loads(reply.payload)["status"], reply.correlation) == ("printed", b"7")
    assert shop.replies() == []


@pytest.mark.parametrize("leased", [False, True])
def test_a_repeat_moves_the_final_answer_to_itself(shop, leased):
    opener, request = receipt(pos_id="pos-2"), receipt()
    shop.sell(opener, pos="pos-2")
    shop.sell(request, correlation=b"first")
    if leased:
        shop.lane.step()
        assert shop.status(request) == "printing"
    shop.sell(request, response_topic=f"{TOPICS.branch}/pos/pos-1/second", correlation=b"second")
    shop.print_all()
    sent = [
        (message.topic.removeprefix(f"{TOPICS.branch}/pos/pos-1/"), message.correlation)
        for message in shop.outbox()
        if "/pos-1/" in message.topic
    ]
    assert sent == [("second", b"second"), ("second", b"second")], "buffered, and then printed"


@pytest.mark.parametrize(
    "topic",
    [
        "somewhere/else",
        "kkt/v1/store-017/pos/pos-1",
        "kkt/v1/store-017/pos/pos-10/reply",
        "kkt/v1/store-017/pos/pos-1/+",
        "kkt/v1/store-017/pos/pos-1/receipt",
        "kkt/v1/store-017/command/pause",
        "",
    ],
)
def test_a_response_topic_outside_of_the_fence_is_not_used(shop, topic):
    shop.sell(receipt(items=[]), response_topic=topic, correlation=b"7")
    (message,) = shop.outbox()
    assert (message.topic, message.correlation) == (TOPICS.reply("pos-1"), b"7")


# -- queries ---------------------------------------------------------------------------------------------


def test_a_query_is_answered_with_what_is_known(shop):
    request = receipt()
    shop.query(request["receipt_id"])
    shop.sell(request)
    shop.query(request["receipt_id"])
    shop.print_all()
    shop.query(request["receipt_id"])
    unknown, buffered, printed, again = shop.replies()
    assert (unknown["status"], unknown["final"], error_of(unknown)) == ("unknown", False, "not_found")
    assert (buffered["status"], buffered["final"], buffered["duplicate"]) == ("buffered", False, False)
    assert again == printed


def test_a_query_for_another_pos_receipt_finds_nothing(shop):
    request = receipt()
    shop.sell(request)
    shop.query(request["receipt_id"], pos="pos-2")
    (reply,) = shop.replies("pos-2")
    assert reply["status"] == "unknown"


def test_a_query_does_not_move_the_final_answer(shop):
    request = receipt()
    shop.sell(request, correlation=b"sale")
    shop.query(request["receipt_id"], correlation=b"query")
    shop.print_all()
    assert [message.correlation for message in shop.outbox() if "/pos/" in message.topic] == [b"query", b"sale"]


def test_a_query_that_asks_for_nothing_is_refused(shop):
    mid = shop.arrive(TOPICS.query("pos-1"), {"receipt": "?"})
    shop.intake.step()
    (reply,) = shop.replies()
    assert reply["status"] == "rejected"
    assert shop.line.acknowledged == [mid]


# -- commands --------------------------------------------------------------------------------------------


def results(shop, name):
    return shop.sent_to(TOPICS.command_result(name))


def test_a_command_is_taken_durably_and_answered_later(shop):
    command_id = str(uuid.uuid4())
    mid = shop.command("sync", command_id, force=True)
    assert shop.line.acknowledged == [mid]
    assert results(shop, "sync") == []
    assert shop.rows("SELECT command_id, name, issued_by, result FROM commands") == [(command_id, "sync", "ops", None)]


def test_an_unknown_command_is_refused_by_name(shop):
    shop.command("reboot", str(uuid.uuid4()))
    (result,) = results(shop, "reboot")
    assert (result["ok"], result["error"]["code"]) == (False, "unknown_command")
    assert "dlq-requeue" in result["error"]["message"]
    (event,) = shop.events("command")
    assert (event["name"], event["issued_by"], event["ok"], event["error"]) == (
        "reboot",
        "ops",
        False,
        "unknown_command",
    )


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b'{"command_id": "x", "issued_by": "ops"}', b'{"issued_by": "ops"}', b"x" * 300_000],
    ids=["empty", "array", "bad id", "no id", "too large"],
)
def test_a_broken_command_is_refused(shop, payload):
    shop.arrive(TOPICS.command("sync"), payload)
    shop.intake.step()
    (result,) = results(shop, "sync")
    assert not result["ok"]
    assert result["error"]["code"] in {"invalid_command", "invalid_json", "too_large"}
    assert shop.rows("SELECT * FROM commands") == []


def test_a_command_taken_twice_is_carried_out_once(shop):
    command_id = str(uuid.uuid4())
    for _ in range(2):
        shop.command("sync", command_id)
    assert shop.rows("SELECT count(*) FROM commands") == [(1,)]


def test_a_command_id_of_another_command_is_a_conflict(shop):
    command_id = str(uuid.uuid4())
    shop.command("pause", command_id)
    shop.command("resume", command_id)
    (result,) = results(shop, "resume")
    assert result["error"]["code"] == "idempotency_conflict"
    assert shop.rows("SELECT name FROM commands") == [("pause",)]


# -- no input ends a loop --------------------------------------------------------------------------------


def test_a_message_that_brings_out_a_bug_is_answered_and_the_others_are_taken(shop, tmp_path, caplog):
    """Here the journal itself refuses one receipt, as it would for a reason that nobody thought of."""
    poison = receipt()
    shop.kill()
    trigger = (
        "CREATE TRIGGER poison BEFORE INSERT ON receipts WHEN NEW.receipt_id = '{}' "
        "BEGIN SELECT RAISE(ABORT, 'a bug'); END"
    )
    meddle(tmp_path, trigger.format(poison["receipt_id"]))
    shop._start()
    good = [receipt(customer={"contact": "buyer@example.com"}) for _ in range(3)]
    mids = [shop.arrive(TOPICS.receipt("pos-1"), request) for request in (good[0], poison, good[1], good[2])]
    shop.intake.step()
    assert shop.line.acknowledged == mids
    (reply,) = shop.replies()
    assert (reply["receipt_id"], reply["status"]) == (poison["receipt_id"], "rejected")
    assert [shop.status(request) for request in good] == ["buffered"] * 3
    assert "buyer@example.com" not in caplog.text
    assert "Оправа" not in caplog.text


def test_all_kinds_of_requests_share_a_batch(shop):
    command_id = str(uuid.uuid4())
    request = receipt()
    shop.arrive(TOPICS.receipt("pos-1"), request)
    shop.arrive(TOPICS.query("pos-1"), {"receipt_id": request["receipt_id"]})
    shop.arrive(TOPICS.command("pause"), {"command_id": command_id, "issued_by": "ops"})
    shop.arrive("stray", b"")
    shop.intake.step()
    assert shop.line.acknowledged == [1, 2, 3, 4]
    assert [reply["status"] for reply in shop.replies()] == ["buffered"]


def test_idle_intake_waits_for_its_bell(shop):
    assert shop.intake.step() is None


def test_permutations_of_a_sale_its_repeat_and_its_query_never_print_twice(tmp_path):
    orders = sorted(set(itertools.permutations(("sale", "repeat", "query", "print", "print"))))
    for number, order in enumerate(orders):
        folder = tmp_path / str(number)
        shop = InProcessBridge(folder)
        request = receipt()
        for what in order:
            match what:
                case "print":
                    shop.print_all()
                case "query":
                    shop.query(request["receipt_id"])
                case _:
                    shop.sell(request)
        shop.print_all()
        assert len(shop.documents()) == 1
        assert sum(reply["status"] == "printed" and not reply["duplicate"] for reply in shop.replies()) >= 1
        shop.kill()


# -- a release with a newer model ------------------------------------------------------------------------


def as_an_earlier_release_took_it(shop, request, *, change):
    """The stored form without a value that today's model fills in, and the digest of that form."""
    ((body,),) = shop.rows("SELECT body FROM requests")
    older = json.loads(body)
    for line in older["items"]:
        del line["unit"]
    older |= change
    text = json.dumps(older, ensure_ascii=False, separators=(",", ":"))
    digest = content_digest(text.encode()).hex()
    quoted = text.replace("'", "''")
    shop.kill()
    meddle(
        shop.folder,
        f"UPDATE requests SET body = '{quoted}'",
        f"UPDATE receipts SET digest = x'{digest}'",
    )
    shop._start()


def test_a_receipt_that_an_earlier_release_took_without_a_field_that_has_a_default_now_is_known_again(shop):
    request = small_receipt()
    shop.sell(request)
    as_an_earlier_release_took_it(shop, request, change={})
    shop.sell(request)
    assert (last(shop.replies())["status"], last(shop.replies())["duplicate"]) == ("buffered", True)
    shop.print_all()
    assert len(shop.documents()) == 1


def test_another_content_than_an_earlier_release_took_is_still_a_conflict(shop):
    request = small_receipt()
    shop.sell(request)
    as_an_earlier_release_took_it(shop, request, change={"kkt": "kkt-2"})
    shop.sell(request)
    assert error_of(last(shop.replies())) == "idempotency_conflict"

"""The picture that the window draws: made of the contract's own messages, and of nothing else."""

import json

import pytest

from kkt_bridge.demo.paper import WIDTH, receipt_lines
from kkt_bridge.demo.picture import Picture
from kkt_bridge.demo.pulse import SLICE_S, SLICES_MAX, Pulse
from kkt_bridge.wire.catalogue import CATALOGUE
from kkt_bridge.wire.examples import EXAMPLES
from kkt_bridge.wire.topics import Topics

TOPICS = Topics("kkt/v1", "store-017")
NOW = 1000.0


def a_picture():
    return Picture(TOPICS)


def put(picture, topic, message, now=NOW):
    picture.take(f"{TOPICS.branch}/{topic}", json.dumps(message, ensure_ascii=False).encode(), now)


def words(picture):
    return [caption.text for caption in picture.captions]


def step(to, pos="pos-1", now=NOW):
    return {"steps": [EXAMPLES["event-receipt"]["steps"][0] | {"to": to, "pos_id": pos}]}


def test_asks_for_nothing_but_topics_of_the_contract():
    known = {entry.topic.format(bridge="store-017", pos="+", kkt="+", name="+") for entry in CATALOGUE}
    for topic in a_picture().subscriptions():
        assert any(one.startswith(topic.removesuffix("#")) for one in known), topic


def test_every_message_of_the_contract_has_its_place():
    picture = a_picture()
    for entry in CATALOGUE:
        if entry.carrier == "mqtt":
            topic = entry.topic.format(bridge="store-017", pos="pos-1", kkt="kkt-1", name="sync")
            picture.take(topic, json.dumps(entry.example).encode(), NOW)
    assert picture.online
    assert picture.buffer("pending") == 6
    assert picture.buffer("synced") == 120
    assert (picture.breaker, picture.network) == ("open", "offline")
    assert picture.registers["kkt-1"].fd_number == 412


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b"\xff", b'{"online": 1}', b'{"steps": [1]}', b"17"])
@pytest.mark.parametrize(
    "topic", ["state/online", "state/breaker", "state/kkt/kkt-1", "event/receipt", "pos/p/reply", "x", ""]
)
def test_what_is_not_understood_is_left_out(topic, payload):
    a_picture().take(f"{TOPICS.branch}/{topic}", payload, NOW)


def test_a_till_goes_from_asking_to_printed():
    picture = a_picture()
    put(picture, "pos/pos-1/receipt", EXAMPLES["receipt-request"])
    till = picture.tills["pos-1"]
    assert till.state == "asks"
    for to, state in (("buffered", "in line"), ("printing", "printing")):
        put(picture, "event/receipt", step(to))
        assert till.state == state
    put(picture, "pos/pos-1/reply", EXAMPLES["reply"])
    assert (till.state, till.fd_number, till.total, till.latency_ms) == ("printed", 412, "17891.00", 1293)
    put(picture, "event/receipt", step("printing"))
    assert till.state == "printed", "a step that comes after the reply is old news"


def test_a_till_that_is_told_to_wait_or_refused():
    picture = a_picture()
    put(picture, "pos/pos-1/reply", EXAMPLES["reply"] | {"status": "buffered", "final": False, "fiscal": None})
    assert picture.tills["pos-1"].state == "safe"
    error = {"code": "buffer_full", "message": "", "retryable": True}
    put(picture, "pos/pos-1/reply", EXAMPLES["reply"] | {"status": "rejected", "fiscal": None, "error": error})
    assert (picture.tills["pos-1"].state, picture.tills["pos-1"].error) == ("rejected", "buffer_full")
    assert words(picture) == ["pos-1: rejected, buffer_full"]


def test_the_paper_carries_the_goods_once():
    picture = a_picture()
    put(picture, "pos/pos-1/receipt", EXAMPLES["receipt-request"])
    put(picture, "pos/pos-1/reply", EXAMPLES["reply"])
    paper = [line.text for line in picture.registers["kkt-1"].paper]
    assert paper == [
        "ПРИХОД                ЧЕК 34",
        "Оправа Ray-Ban RB5154",
        "      1 x 12990.00 =12990.00",
        "Линза 1.6 HMC",
        "        2 x 2450.50 =4901.00",
        "ИТОГ               =17891.00",
        "БЕЗНАЛИЧНЫМИ       =10000.00",
        "НАЛИЧНЫМИ           =8000.00",
        "СДАЧА                =109.00",
        "ФД 412         ФП 2819546253",
        "- - - - - - - - - - - - - - ",
    ]
    put(picture, "pos/pos-1/reply", EXAMPLES["reply"] | {"duplicate": True})
    assert picture.registers["kkt-1"].lines_printed == len(paper)


def test_a_receipt_whose_request_was_not_seen_is_printed_without_goods():
    lines = receipt_lines(EXAMPLES["reply"]["fiscal"] | {"change": "0.00"}, None)
    assert [line.text.split()[0] for line in lines] == ["ПРИХОД", "ИТОГ", "ФД", "-"]


def test_no_line_is_wider_than_the_paper():
    item = {"name": "Ы" * 128, "price": "99999999.99", "quantity": "99999999.999999", "total": "99999999.99"}
    request = {"items": [item], "payments": [{"type": "card", "amount": "99999999.99"}]}
    fiscal = EXAMPLES["reply"]["fiscal"] | {"total": "99999999.99", "fd_number": 10**10, "type": "purchase_refund"}
    assert all(len(line.text) <= WIDTH for line in receipt_lines(fiscal, request))


def test_the_outage_is_told_in_words():
    picture = a_picture()
    breaker, network = EXAMPLES["event-breaker"], EXAMPLES["event-network"]
    put(picture, "event/breaker", breaker)
    put(picture, "event/network", network | {"to": "degraded"})
    put(picture, "event/network", network | {"from": "degraded"})
    put(picture, "event/breaker", breaker | {"from": "open", "to": "half_open"})
    put(picture, "event/breaker", breaker | {"from": "half_open", "to": "open"})
    put(picture, "event/breaker", breaker | {"from": "half_open", "to": "closed"})
    put(picture, "event/network", network | {"from": "offline", "to": "online"})
    assert words(picture) == [
        "Breaker open after 5 failures: the OFD is left in peace",
        "OFD is away: sales go on, documents wait",
        "One careful question to the OFD: no answer yet",
        "One careful question to the OFD, and it answers: the buffer drains",
        "The OFD is back: what waited is being delivered",
    ]
    assert (picture.breaker, picture.network) == ("closed", "online")


def test_a_filling_buffer_speaks_up_once_at_each_threshold():
    picture = a_picture()
    for percent in (79.9, 80, 85, 90, 89, 91, 100, 100, 10, 80):
        put(picture, "state/buffer", EXAMPLES["state-buffer"] | {"percent_full": percent})
    assert words(picture) == [
        "The buffer is 80 % full",
        "The buffer is 90 % full",
        "The buffer is 90 % full",
        "The buffer is full: new receipts are refused until the OFD takes one",
        "The buffer is 80 % full",
    ]


def test_shifts_presence_and_dead_letters_are_told():
    picture = a_picture()
    put(picture, "state/online", EXAMPLES["state-online"])
    put(picture, "state/online", EXAMPLES["state-online"])
    put(picture, "event/shift", EXAMPLES["event-shift"])
    put(picture, "event/receipt", step("dead"))
    put(picture, "state/online", EXAMPLES["state-online"] | {"online": False})
    assert words(picture) == [
        "The bridge is online",
        "Shift 12 is open on kkt-1",
        "A document of pos-1 is in the dead-letter queue: None",
        "The bridge is offline",
    ]


def test_the_countdown_is_reckoned_by_the_bridges_clock():
    picture = a_picture()
    assert picture.seconds_to_probe(NOW) is None
    put(picture, "state/breaker", EXAMPLES["state-breaker"])  # 39 s from its `at` to `next_probe_at`
    assert picture.seconds_to_probe(NOW + 9) == 30
    assert picture.seconds_to_probe(NOW + 99) == 0
    put(picture, "event/breaker", EXAMPLES["event-breaker"] | {"from": "open", "to": "half_open"})
    assert picture.seconds_to_probe(NOW) is None


def test_a_pulse_counts_by_slices_of_time():
    pulse = Pulse()
    assert pulse.latest(3, NOW) == [0, 0, 0]
    pulse.beat(2, NOW)
    pulse.beat(1, NOW + SLICE_S)
    assert pulse.latest(3, NOW + 2 * SLICE_S) == [0, 2, 1]
    assert pulse.latest(3, NOW + 4 * SLICE_S) == [1, 0, 0]
    assert pulse.per_second(NOW + 2 * SLICE_S) == 3 / 2
    assert pulse.latest(2, NOW + 1000) == [0, 0]
    assert len(pulse.latest(2 * SLICES_MAX, NOW + 2000)) == 2 * SLICES_MAX

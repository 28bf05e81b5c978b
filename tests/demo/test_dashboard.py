"""The dashboard that the window draws: made of the contract's own messages, and of nothing else."""

import json

import pytest

from kkt_bridge.demo.dashboard import SLICE_S, SLICES_MAX, Dashboard, Rate
from kkt_bridge.demo.paper import WIDTH, receipt_lines
from kkt_bridge.wire.catalogue import CATALOGUE
from kkt_bridge.wire.examples import EXAMPLES
from kkt_bridge.wire.topics import Topics

TOPICS = Topics("kkt/v1", "store-017")
NOW = 1000.0


def a_dashboard():
    return Dashboard(TOPICS)


def put(dashboard, topic, message, now=NOW):
    dashboard.take(f"{TOPICS.branch}/{topic}", json.dumps(message, ensure_ascii=False).encode(), now)


def words(dashboard):
    return [caption.text for caption in dashboard.captions]


def step(to, pos="pos-1", now=NOW):
    return {"steps": [EXAMPLES["event-receipt"]["steps"][0] | {"to": to, "pos_id": pos}]}


def test_asks_for_nothing_but_topics_of_the_contract():
    known = {entry.topic.format(bridge="store-017", pos="+", kkt="+", name="+") for entry in CATALOGUE}
    for topic in a_dashboard().subscriptions():
        assert any(one.startswith(topic.removesuffix("#")) for one in known), topic


def test_every_message_of_the_contract_has_its_place():
    dashboard = a_dashboard()
    for entry in CATALOGUE:
        if entry.carrier == "mqtt":
            topic = entry.topic.format(bridge="store-017", pos="pos-1", kkt="kkt-1", name="sync")
            dashboard.take(topic, json.dumps(entry.example).encode(), NOW)
    assert dashboard.online
    assert dashboard.buffer("pending") == 6
    assert dashboard.buffer("synced") == 120
    assert (dashboard.breaker, dashboard.network) == ("open", "offline")
    assert dashboard.registers["kkt-1"].fd_number == 412


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b"\xff", b'{"online": 1}', b'{"steps": [1]}', b"17"])
@pytest.mark.parametrize(
    "topic", ["state/online", "state/breaker", "state/kkt/kkt-1", "event/receipt", "pos/p/reply", "x", ""]
)
def test_what_is_not_understood_is_left_out(topic, payload):
    a_dashboard().take(f"{TOPICS.branch}/{topic}", payload, NOW)


def test_a_terminal_goes_from_asking_to_printed():
    dashboard = a_dashboard()
    put(dashboard, "pos/pos-1/receipt", EXAMPLES["receipt-request"])
    terminal = dashboard.terminals["pos-1"]
    assert terminal.state == "asks"
    for to, state in (("buffered", "in line"), ("printing", "printing")):
        put(dashboard, "event/receipt", step(to))
        assert terminal.state == state
    put(dashboard, "pos/pos-1/reply", EXAMPLES["reply"])
    assert (terminal.state, terminal.fd_number, terminal.total, terminal.latency_ms) == (
        "printed",
        412,
        "17891.00",
        1293,
    )
    put(dashboard, "event/receipt", step("printing"))
    assert terminal.state == "printed", "a step that comes after the reply is old news"


def test_a_terminal_that_is_told_to_wait_or_refused():
    dashboard = a_dashboard()
    put(dashboard, "pos/pos-1/reply", EXAMPLES["reply"] | {"status": "buffered", "final": False, "fiscal": None})
    assert dashboard.terminals["pos-1"].state == "safe"
    error = {"code": "buffer_full", "message": "", "retryable": True}
    put(dashboard, "pos/pos-1/reply", EXAMPLES["reply"] | {"status": "rejected", "fiscal": None, "error": error})
    assert (dashboard.terminals["pos-1"].state, dashboard.terminals["pos-1"].error) == ("rejected", "buffer_full")
    assert words(dashboard) == ["pos-1: rejected, buffer_full"]


def test_the_paper_carries_the_goods_once():
    dashboard = a_dashboard()
    put(dashboard, "pos/pos-1/receipt", EXAMPLES["receipt-request"])
    put(dashboard, "pos/pos-1/reply", EXAMPLES["reply"])
    paper = [line.text for line in dashboard.registers["kkt-1"].paper]
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
    put(dashboard, "pos/pos-1/reply", EXAMPLES["reply"] | {"duplicate": True})
    assert dashboard.registers["kkt-1"].lines_printed == len(paper)


def test_a_receipt_whose_request_was_not_seen_is_printed_without_goods():
    lines = receipt_lines(EXAMPLES["reply"]["fiscal"] | {"change": "0.00"}, None)
    assert [line.text.split()[0] for line in lines] == ["ПРИХОД", "ИТОГ", "ФД", "-"]


def test_no_line_is_wider_than_the_paper():
    item = {"name": "Ы" * 128, "price": "99999999.99", "quantity": "99999999.999999", "total": "99999999.99"}
    request = {"items": [item], "payments": [{"type": "card", "amount": "99999999.99"}]}
    fiscal = EXAMPLES["reply"]["fiscal"] | {"total": "99999999.99", "fd_number": 10**10, "type": "purchase_refund"}
    assert all(len(line.text) <= WIDTH for line in receipt_lines(fiscal, request))


def test_the_outage_is_told_in_words():
    dashboard = a_dashboard()
    breaker, network = EXAMPLES["event-breaker"], EXAMPLES["event-network"]
    put(dashboard, "event/breaker", breaker)
    put(dashboard, "event/network", network | {"to": "degraded"})
    put(dashboard, "event/network", network | {"from": "degraded"})
    put(dashboard, "event/breaker", breaker | {"from": "open", "to": "half_open"})
    put(dashboard, "event/breaker", breaker | {"from": "half_open", "to": "open"})
    put(dashboard, "event/breaker", breaker | {"from": "half_open", "to": "closed"})
    put(dashboard, "event/network", network | {"from": "offline", "to": "online"})
    assert words(dashboard) == [
        "Breaker open after 5 failures: the OFD is left in peace",
        "OFD is away: sales go on, documents wait",
        "One careful question to the OFD: no answer yet",
        "One careful question to the OFD, and it answers: the buffer drains",
        "The OFD is back: what waited is being delivered",
    ]
    assert (dashboard.breaker, dashboard.network) == ("closed", "online")


def test_a_filling_buffer_speaks_up_once_at_each_threshold():
    dashboard = a_dashboard()
    for percent in (79.9, 80, 85, 90, 89, 91, 100, 100, 10, 80):
        put(dashboard, "state/buffer", EXAMPLES["state-buffer"] | {"percent_full": percent})
    assert words(dashboard) == [
        "The buffer is 80 % full",
        "The buffer is 90 % full",
        "The buffer is 90 % full",
        "The buffer is full: new receipts are refused until the OFD takes one",
        "The buffer is 80 % full",
    ]


def test_shifts_presence_and_dead_letters_are_told():
    dashboard = a_dashboard()
    put(dashboard, "state/online", EXAMPLES["state-online"])
    put(dashboard, "state/online", EXAMPLES["state-online"])
    put(dashboard, "event/shift", EXAMPLES["event-shift"])
    put(dashboard, "event/receipt", step("dead"))
    put(dashboard, "state/online", EXAMPLES["state-online"] | {"online": False})
    assert words(dashboard) == [
        "The bridge is online",
        "Shift 12 is open on kkt-1",
        "A document of pos-1 is in the dead-letter queue: None",
        "The bridge is offline",
    ]


def test_the_countdown_is_reckoned_by_the_bridges_clock():
    dashboard = a_dashboard()
    assert dashboard.seconds_to_probe(NOW) is None
    put(dashboard, "state/breaker", EXAMPLES["state-breaker"])  # 39 s from its `at` to `next_probe_at`
    assert dashboard.seconds_to_probe(NOW + 9) == 30
    assert dashboard.seconds_to_probe(NOW + 99) == 0
    put(dashboard, "event/breaker", EXAMPLES["event-breaker"] | {"from": "open", "to": "half_open"})
    assert dashboard.seconds_to_probe(NOW) is None


def test_a_rate_counts_by_slices_of_time():
    rate = Rate()
    assert rate.latest(3, NOW) == [0, 0, 0]
    rate.count(2, NOW)
    rate.count(1, NOW + SLICE_S)
    assert rate.latest(3, NOW + 2 * SLICE_S) == [0, 2, 1]
    assert rate.latest(3, NOW + 4 * SLICE_S) == [1, 0, 0]
    assert rate.per_second(NOW + 2 * SLICE_S) == 3 / 2
    assert rate.latest(2, NOW + 1000) == [0, 0]
    assert len(rate.latest(2 * SLICES_MAX, NOW + 2000)) == 2 * SLICES_MAX

"""Topics: built, parsed, and fenced."""

import pytest

from kkt_bridge.wire.topics import Route, Topics

TOPICS = Topics("kkt/v1", "store-017")
RECEIPT = Route("receipt", "pos-1")
COMMAND = Route("command", "sync")


def test_the_topics_of_the_contract() -> None:
    assert TOPICS.receipt("pos-1") == "kkt/v1/store-017/pos/pos-1/receipt"
    assert TOPICS.query("pos-1") == "kkt/v1/store-017/pos/pos-1/query"
    assert TOPICS.reply("pos-1") == "kkt/v1/store-017/pos/pos-1/reply"
    assert TOPICS.command("sync") == "kkt/v1/store-017/command/sync"
    assert TOPICS.command_result("sync") == "kkt/v1/store-017/command/sync/result"
    assert TOPICS.state("online") == "kkt/v1/store-017/state/online"
    assert TOPICS.state("kkt/kkt-1") == "kkt/v1/store-017/state/kkt/kkt-1"
    assert TOPICS.event("receipt") == "kkt/v1/store-017/event/receipt"


@pytest.mark.parametrize(
    ("topic", "route"),
    [
        (TOPICS.receipt("pos-1"), Route("receipt", "pos-1")),
        (TOPICS.query("pos-1"), Route("query", "pos-1")),
        (TOPICS.command("dlq-list"), Route("command", "dlq-list")),
        (TOPICS.receipt(""), Route("receipt", "")),
        (TOPICS.receipt("касса 1"), Route("receipt", "касса 1")),
    ],
)
def test_a_request_is_recognised_by_its_topic(topic: str, route: Route) -> None:
    assert TOPICS.route(topic) == route


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "pos/pos-1/receipt",
        "command/sync",
        "kkt/v1/store-017",
        "kkt/v1/store-017/pos/pos-1",
        "kkt/v1/store-017/pos/pos-1/reply",
        "kkt/v1/store-017/pos/a/b/receipt",
        "kkt/v1/store-017/pos/pos-1/receipt/",
        "kkt/v1/store-017/command/sync/result",
        "kkt/v1/store-017/state/online",
        "kkt/v1/store-018/pos/pos-1/receipt",
        "kkt/v1/store-0170/pos/pos-1/receipt",
        "kkt/v2/store-017/pos/pos-1/receipt",
        "/kkt/v1/store-017/pos/pos-1/receipt",
        "KKT/v1/store-017/pos/pos-1/receipt",
    ],
)
def test_any_other_topic_asks_for_nothing(topic: str) -> None:
    assert TOPICS.route(topic) is None


def test_the_bridge_hears_its_own_requests_and_nothing_else() -> None:
    assert TOPICS.subscriptions() == [
        "kkt/v1/store-017/pos/+/receipt",
        "kkt/v1/store-017/pos/+/query",
        "kkt/v1/store-017/command/+",
    ]


@pytest.mark.parametrize(
    "response_topic",
    [
        "kkt/v1/store-017/pos/pos-1/mine",
        "kkt/v1/store-017/pos/pos-1/reply",
        "kkt/v1/store-017/pos/pos-1/replies/42",
        "kkt/v1/store-017/pos/pos-1/receipt/answer",
    ],
)
def test_a_pos_is_answered_where_it_asks_within_its_branch(response_topic: str) -> None:
    assert TOPICS.answer_topic(RECEIPT, response_topic) == response_topic
    assert TOPICS.answer_topic(Route("query", "pos-1"), response_topic) == response_topic


@pytest.mark.parametrize(
    "response_topic",
    [
        None,
        "",
        "kkt/v1/store-017/pos/pos-1",
        "kkt/v1/store-017/pos/pos-1/",
        "kkt/v1/store-017/pos/pos-1/receipt",
        "kkt/v1/store-017/pos/pos-1/query",
        "kkt/v1/store-017/pos/pos-1/+",
        "kkt/v1/store-017/pos/pos-1/#",
        "kkt/v1/store-017/pos/pos-1/a+b",
        "kkt/v1/store-017/pos/pos-1/a\x00b",
        "kkt/v1/store-017/pos/pos-10/reply",
        "kkt/v1/store-017/pos/pos-2/reply",
        "kkt/v1/store-017/pos/+/reply",
        "kkt/v1/store-017/state/online",
        "kkt/v1/store-017/command/sync",
        "kkt/v1/store-018/pos/pos-1/reply",
        "$SYS/broker",
        "home/light",
    ],
)
def test_a_pos_is_answered_on_the_fixed_topic_otherwise(response_topic: str | None) -> None:
    assert TOPICS.answer_topic(RECEIPT, response_topic) == TOPICS.reply("pos-1")
    assert TOPICS.answer_topic(Route("query", "pos-1"), response_topic) == TOPICS.reply("pos-1")


@pytest.mark.parametrize(
    "response_topic", ["kkt/v1/store-017/command/sync/result", "kkt/v1/store-017/command/ops/console-7"]
)
def test_an_operator_is_answered_where_it_asks_within_the_command_branch(response_topic: str) -> None:
    assert TOPICS.answer_topic(COMMAND, response_topic) == response_topic


@pytest.mark.parametrize(
    "response_topic",
    [
        None,
        "kkt/v1/store-017/command/",
        "kkt/v1/store-017/command/pause",
        "kkt/v1/store-017/command/#",
        "kkt/v1/store-017/command/+/result",
        "kkt/v1/store-017/commander/x",
        "kkt/v1/store-017/pos/pos-1/reply",
        "kkt/v1/store-017/state/online",
    ],
)
def test_an_operator_is_answered_on_the_fixed_topic_otherwise(response_topic: str | None) -> None:
    assert TOPICS.answer_topic(COMMAND, response_topic) == TOPICS.command_result("sync")


def test_a_pos_whose_name_begins_like_another_keeps_to_its_own_branch() -> None:
    ten = Route("receipt", "pos-10")
    assert TOPICS.answer_topic(ten, "kkt/v1/store-017/pos/pos-1/mine") == TOPICS.reply("pos-10")
    assert TOPICS.answer_topic(ten, "kkt/v1/store-017/pos/pos-10/mine") == "kkt/v1/store-017/pos/pos-10/mine"


def test_another_root_moves_everything() -> None:
    topics = Topics("shop/fiscal", "b")
    assert topics.reply("p") == "shop/fiscal/b/pos/p/reply"
    assert topics.route("shop/fiscal/b/command/sync") == COMMAND
    assert topics.route("kkt/v1/b/command/sync") is None

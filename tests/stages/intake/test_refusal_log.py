"""A warning for each refusal, and what a flood of them makes of the log."""

import pytest
from support.clocks import ManualClock

from kkt_bridge.mqtt.inbox import AckToken
from kkt_bridge.stages.intake.decide import Request
from kkt_bridge.stages.intake.flood import LINES_MAX, LINES_PER_SENDER, PERIOD_S, RefusalLog


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def refusals(clock):
    return RefusalLog(clock)


def a_request(name="pos-1", kind="receipt", receipt_id="0b9f"):
    return Request(
        token=AckToken(1, 1, 1),
        kind=kind,
        name=name,
        answer_topic=None,
        correlation=None,
        redelivered=False,
        retained=False,
        digest=b"",
        sender="command" if kind == "command" else name,
        id=receipt_id,
    )


def test_a_refusal_is_a_warning_with_its_code_and_its_ids(refusals, caplog):
    refusals.note(a_request(), "buffer_full", "the buffer holds 2 receipts")
    (record,) = caplog.records
    assert (record.levelname, record.receipt_id, record.pos_id) == ("WARNING", "0b9f", "pos-1")
    assert record.getMessage() == "receipt refused: buffer_full: the buffer holds 2 receipts"
    assert refusals.step() is None


def test_a_refused_command_is_named(refusals, caplog):
    refusals.note(a_request("reboot", "command"), "unknown_command", "there is sync")
    assert caplog.messages == ["command reboot refused: unknown_command: there is sync"]


def test_of_a_flood_the_first_lines_and_then_a_sum_are_told(refusals, clock, caplog):
    for _ in range(LINES_PER_SENDER + 30):
        refusals.note(a_request(), "invalid_json", "x")
    refusals.note(a_request("pos-2"), "invalid_json", "x")
    assert len(caplog.messages) == LINES_PER_SENDER + 1, "another POS has its own lines"
    assert refusals.step() == PERIOD_S
    clock.advance(PERIOD_S)
    assert refusals.step() is None
    assert caplog.messages[-1] == "30 more refused of pos-1 within a second"


def test_many_senders_together_fill_the_log_no_faster(refusals, clock, caplog):
    for number in range(LINES_MAX + 25):
        refusals.note(a_request(f"pos-{number}"), "invalid_json", "x")
    assert len(caplog.messages) == LINES_MAX
    clock.advance(PERIOD_S)
    refusals.note(a_request("pos-1"), "invalid_json", "x")
    assert caplog.messages[LINES_MAX] == "25 more refused of others within a second"
    assert len(caplog.messages) == LINES_MAX + 2

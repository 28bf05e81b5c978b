"""What a lane with nothing leased does next: a pure decision on the register's status and what waits for it."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from kkt_bridge.errors import InDoubt, ReceiptRefused, RegisterNotReady
from kkt_bridge.registers.base import RegisterStatus
from kkt_bridge.stages.printing.in_doubt import ATTEMPTS_MAX, AbsentFate, fate_of_absent
from kkt_bridge.stages.printing.lane import TRANSITIONS, State, Work, next_work

OPEN = RegisterStatus(
    model="Virtual KKT",
    serial="0000000000012345",
    registration_number="0000000001047959",
    fn_number="9999000000000001",
    fn_expires=date(2027, 12, 1),
    last_fd_number=7,
    mode="shift_open",
    shift_number=2,
    shift_opened_at=None,
    paper="ok",
    clock=datetime(2026, 11, 29, 12, tzinfo=UTC),
    problem=None,
)
CLOSED, EXPIRED = replace(OPEN, mode="shift_closed"), replace(OPEN, mode="shift_expired")
STUCK = replace(OPEN, problem="paper_out")


@pytest.mark.parametrize(
    ("status", "has_jobs", "shift_is_due", "has_receipts", "work"),
    [
        (STUCK, True, True, True, Work.STAND_STILL),
        (OPEN, True, True, True, Work.RUN_JOBS),
        (CLOSED, True, False, True, Work.RUN_JOBS),
        (EXPIRED, False, False, True, Work.CLOSE_SHIFT),
        (OPEN, False, True, True, Work.CLOSE_SHIFT),
        (OPEN, False, True, False, Work.CLOSE_SHIFT),
        (CLOSED, False, False, True, Work.OPEN_SHIFT),
        (CLOSED, False, False, False, Work.NOTHING),
        (OPEN, False, False, True, Work.PRINT),
        (OPEN, False, False, False, Work.NOTHING),
    ],
)
def test_what_comes_next(status, has_jobs, shift_is_due, has_receipts, work):
    assert next_work(status, has_jobs=has_jobs, shift_is_due=shift_is_due, has_receipts=has_receipts) is work


@pytest.mark.parametrize(
    ("error", "attempts", "fate"),
    [
        (None, 0, AbsentFate.RELEASE),
        (InDoubt("no answer"), 0, AbsentFate.RELEASE),
        (RegisterNotReady("paper_out", "no paper"), 0, AbsentFate.RELEASE),
        (ReceiptRefused("kkt_rejected", "no"), 0, AbsentFate.REJECT),
        (ReceiptRefused("fn_exhausted", "full"), 0, AbsentFate.RELEASE),
        (ZeroDivisionError(), ATTEMPTS_MAX - 1, AbsentFate.RELEASE),
        (ZeroDivisionError(), ATTEMPTS_MAX, AbsentFate.PARK),
    ],
)
def test_what_becomes_of_a_receipt_that_has_no_document(error, attempts, fate):
    assert fate_of_absent(error, attempts) is fate


def test_every_state_can_be_reached_and_none_but_a_check_comes_before_printing():
    assert set(TRANSITIONS) == set(State)
    before = {state for state, after in TRANSITIONS.items() if State.READY in after}
    assert before == {State.WAITING, State.IDLE}
    assert {state for state, after in TRANSITIONS.items() if State.WAITING in after} == {State.RESOLVING}

"""The states of a receipt: the table, and that nothing gets past it."""

import pytest

from kkt_bridge.errors import IllegalTransition
from kkt_bridge.receipts.lifecycle import PENDING, TRANSITIONS, Status, advance

ALL = [None, *Status]
LEGAL = [(current, target) for current in ALL for target in Status if target in TRANSITIONS[current]]
ILLEGAL = [(current, target) for current in ALL for target in Status if target not in TRANSITIONS[current]]


def test_the_table_in_words() -> None:
    words = {f"{current or 'taken'} → {target}" for current, target in LEGAL}
    assert words == {
        "taken → buffered",
        "buffered → printing",
        "buffered → rejected",
        "printing → printed",
        "printing → rejected",
        "printing → buffered",
        "printed → synced",
        "printed → dead",
        "dead → printed",
    }


@pytest.mark.parametrize(("current", "target"), LEGAL)
def test_a_legal_step_is_taken(current: Status | None, target: Status) -> None:
    assert advance(current, target) is target


@pytest.mark.parametrize(("current", "target"), ILLEGAL)
def test_an_illegal_step_is_refused_and_named(current: Status | None, target: Status) -> None:
    with pytest.raises(IllegalTransition) as caught:
        advance(current, target)
    assert str(caught.value) == f"a receipt may not go from {current or 'nothing'} to {target}"


def test_every_state_stands_in_the_table_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(ALL)
    assert {target for targets in TRANSITIONS.values() for target in targets} == set(Status)


def test_nothing_printed_is_ever_printed_again() -> None:
    reached, todo = set[Status](), [Status.PRINTED]
    while todo:
        state = todo.pop()
        reached.add(state)
        todo += TRANSITIONS[state] - reached
    assert reached == {Status.PRINTED, Status.SYNCED, Status.DEAD}


def test_what_fills_the_buffer_is_what_the_ofd_is_still_to_get() -> None:
    assert {Status.BUFFERED, Status.PRINTING, Status.PRINTED} == PENDING

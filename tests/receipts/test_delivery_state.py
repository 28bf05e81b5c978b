"""The states of a document on its way to the OFD fit those of its receipt."""

import pytest

from kkt_bridge.receipts.lifecycle import DELIVERY_TRANSITIONS, STATUS_OF, TRANSITIONS, DeliveryState, Status


def test_each_state_has_its_transitions_and_its_receipts_status():
    assert set(DELIVERY_TRANSITIONS) == {None, *DeliveryState}
    assert set(STATUS_OF) == set(DeliveryState)


@pytest.mark.parametrize("state", list(DeliveryState))
def test_a_step_of_the_document_is_one_that_its_receipt_may_take(state):
    for target in DELIVERY_TRANSITIONS[state]:
        before, after = STATUS_OF[state], STATUS_OF[target]
        assert before == after or after in TRANSITIONS[before]


def test_what_was_given_up_or_sent_never_goes_out_again():
    ends = {state for state in DeliveryState if not DELIVERY_TRANSITIONS[state]}
    assert ends == {DeliveryState.SENT, DeliveryState.DISCARDED, DeliveryState.EXPIRED}
    assert {STATUS_OF[state] for state in ends} == {Status.SYNCED, Status.DEAD}

"""What delivery does next is decided from how things stand: sync first, then pauses, then trials, then sending."""

import pytest

from kkt_bridge.stages.delivery.lane import LANE_TRANSITIONS, Lane, LaneState
from kkt_bridge.stages.delivery.next_action import Action, Situation, next_action
from kkt_bridge.stages.delivery.trial import TRIAL_TRANSITIONS, Trials, TrialState


@pytest.mark.parametrize(
    ("situation", "action"),
    [
        ({}, Action.SEND),
        ({"sendable": 5, "under_way": 8}, Action.SEND),
        ({"sync": "requested"}, Action.SYNC),
        ({"sync": "requested", "under_way": 1}, Action.AWAIT_ANSWERS),
        ({"sync": "running", "under_way": 1}, Action.SYNC),
        ({"sync": "requested", "paused_s": 9.0, "breaker": "open"}, Action.SYNC),
        ({"paused_s": 9.0, "trial": TrialState.TRYING}, Action.AWAIT_PAUSE_END),
        ({"breaker": "open", "trial_in_s": 30.0}, Action.AWAIT_TRIAL),
        ({"breaker": "open", "under_way": 1}, Action.AWAIT_ANSWERS),
        ({"breaker": "open"}, Action.BEGIN_TRIAL),
        ({"breaker": "half_open"}, Action.BEGIN_TRIAL),
        ({"is_suspicious": True}, Action.SEND),
        ({"is_suspicious": True, "sendable": 1}, Action.BEGIN_TRIAL),
        ({"is_suspicious": True, "sendable": 1, "trial_in_s": 1.0}, Action.AWAIT_TRIAL),
        ({"is_suspicious": True, "under_way": 1}, Action.AWAIT_ANSWERS),
        ({"trial": TrialState.TRYING}, Action.CONTINUE_TRIAL),
        ({"trial": TrialState.TRYING, "under_way": 1}, Action.AWAIT_ANSWERS),
        ({"trial": TrialState.CHECKING, "under_way": 1, "trial_in_s": 9.0}, Action.AWAIT_ANSWERS),
    ],
)
def test_the_table_of_actions(situation, action):
    assert next_action(Situation(**situation)) is action


@pytest.mark.parametrize(
    ("current", "target"), [(a, b) for a in LaneState for b in LaneState if b not in LANE_TRANSITIONS[a]]
)
def test_an_illegal_move_of_a_lane_fails_and_changes_nothing(current, target):
    lane = Lane("kkt-1", state=current)
    with pytest.raises(AssertionError):
        lane.become(target)
    assert lane.state is current


@pytest.mark.parametrize("current", [state for state in TrialState if TrialState.NONE not in TRIAL_TRANSITIONS[state]])
def test_a_trial_that_has_not_begun_cannot_end(current):
    trials = Trials()
    trials.state = current
    with pytest.raises(AssertionError):
        trials.end()
    assert trials.state is current

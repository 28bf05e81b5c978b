"""When and how the broker is dialled next: a table of pure values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkt_bridge.mqtt.redial import (
    INITIAL_WAIT_S,
    ON_CONNACK,
    ON_END,
    SILENCES_MAX,
    STABLE_S,
    TAKEN_OVER_WAIT_S,
    TRIAL_S,
    V311_REMEMBERED_S,
    VERSIONS,
    WAIT_MAX_S,
    ConnectionEnd,
    MqttVersion,
    Redial,
    RedialState,
)

V5, V311 = MqttVersion.V5, MqttVersion.V311
SPOKE_V5 = Redial.from_setting("auto").on_connack()


def after(redial, *endings, lasted_s=0.0):
    for ending in endings:
        redial = redial.on_end(ending, redial.not_before if redial.not_before > 0 else 0.0, lasted_s=lasted_s)
    return redial


def test_every_place_speaks_something_and_no_row_of_the_table_leads_nowhere():
    assert set(VERSIONS) | {RedialState.FIXED} == set(RedialState)
    assert all(start is not end for (start, _), end in ON_END.items())
    assert RedialState.FIXED not in {start for start, _ in ON_END}
    assert set(ON_CONNACK) <= set(VERSIONS)


def test_a_broker_that_says_it_does_not_know_mqtt_5_is_asked_in_3_1_1_at_once():
    redial = Redial.from_setting("auto").on_end(ConnectionEnd.UNSUPPORTED, 100.0)
    assert (redial.version, redial.not_before) == (V311, 100.0)


def test_two_that_know_neither_version_do_not_make_a_busy_loop():
    redial, waits = Redial.from_setting("auto"), []
    for _ in range(6):
        now = max(redial.not_before, 0.0)
        redial = redial.on_end(ConnectionEnd.UNSUPPORTED, now).on_end(ConnectionEnd.UNSUPPORTED, now)
        waits.append(redial.not_before - now)
    assert waits[0] >= INITIAL_WAIT_S
    assert waits[-1] == pytest.approx(WAIT_MAX_S)


def test_silence_makes_a_broker_an_old_one_only_when_it_comes_again():
    redial = Redial.from_setting("auto")
    for _ in range(SILENCES_MAX - 1):
        redial = after(redial, ConnectionEnd.SILENT)
        assert redial.version is V5
    assert after(redial, ConnectionEnd.SILENT).version is V311
    assert after(redial, ConnectionEnd.UNREACHABLE, ConnectionEnd.SILENT).version is V5, "not in a row"
    assert after(redial, ConnectionEnd.SILENT, ConnectionEnd.SILENT).version is V5, (
        "and it is silent in the old one too"
    )


AFTER_SILENCE = after(Redial.from_setting("auto"), *[ConnectionEnd.SILENT] * SILENCES_MAX)


def test_what_silence_led_to_is_a_trial_after_which_mqtt_5_is_asked_for_once_more():
    trial = AFTER_SILENCE.on_connack()
    assert (trial.version, trial.state) == (V311, RedialState.V311_ON_TRIAL)
    again = trial.on_end(ConnectionEnd.TRIAL_OVER, 100.0, lasted_s=TRIAL_S)
    assert (again.version, again.not_before) == (V5, 100.0)
    assert again.on_connack().state is RedialState.KNOWN_V5
    old = again.on_end(ConnectionEnd.SILENT, 105.0)
    assert (old.version, old.state) == (V311, RedialState.KNOWN_V311)
    assert old.on_connack().state is RedialState.KNOWN_V311, "only silence there is believed"
    assert old.on_connack().on_connect(105.0 + V311_REMEMBERED_S - 1).version is V311
    assert old.on_connack().on_connect(105.0 + V311_REMEMBERED_S + 1).version is V5


@pytest.mark.parametrize("ending", ConnectionEnd)
def test_however_a_trial_ends_the_next_dial_is_one_in_mqtt_5(ending):
    assert after(AFTER_SILENCE.on_connack(), ending).version is V5


@pytest.mark.parametrize(
    "ending", [ConnectionEnd.SILENT, ConnectionEnd.UNREACHABLE, ConnectionEnd.UNSUPPORTED, ConnectionEnd.REFUSED]
)
def test_an_attempt_that_silence_led_to_is_made_once_and_then_mqtt_5_is_tried(ending):
    redial = AFTER_SILENCE.on_end(ending, 50.0)
    assert redial.version is V5
    assert redial.not_before > 50.0


def test_an_old_broker_that_refuses_the_login_is_asked_for_mqtt_5_once_and_then_known():
    assert (
        after(
            AFTER_SILENCE, ConnectionEnd.REFUSED, ConnectionEnd.SILENT, ConnectionEnd.REFUSED, ConnectionEnd.REFUSED
        ).version
        is V311
    )


@pytest.mark.parametrize(
    "ending", [e for e in ConnectionEnd if e not in {ConnectionEnd.UNSUPPORTED, ConnectionEnd.UNREADABLE}]
)
def test_a_broker_that_has_spoken_mqtt_5_is_never_taken_for_an_old_one(ending):
    assert after(SPOKE_V5, *[ending] * 10).version is V5


def test_what_worked_is_remembered_for_a_while():
    old = Redial.from_setting("auto").on_end(ConnectionEnd.UNSUPPORTED, 0.0).on_connack()
    assert (
        after(old, ConnectionEnd.LOST, ConnectionEnd.SILENT, ConnectionEnd.UNREACHABLE, ConnectionEnd.REFUSED).version
        is V311
    )
    assert old.on_connect(V311_REMEMBERED_S - 1).version is V311
    assert old.on_connect(V311_REMEMBERED_S + 1).version is V5
    assert SPOKE_V5.on_connect(10 * V311_REMEMBERED_S) == SPOKE_V5


def test_a_packet_that_cannot_be_read_leads_over_the_old_protocol_and_back():
    downgrade = after(SPOKE_V5, ConnectionEnd.UNREADABLE)
    assert (downgrade.version, downgrade.state) == (V311, RedialState.V311_DOWNGRADE)
    assert after(downgrade.on_connack(), ConnectionEnd.LOST).state is RedialState.V311_DOWNGRADE, (
        "a lost connection there does not lead back to the poison"
    )
    back = downgrade.on_connack().on_end(ConnectionEnd.DOWNGRADE_OVER, 50.0)
    assert (back.version, back.state, back.not_before) == (V5, RedialState.KNOWN_V5, 50.0)


@pytest.mark.parametrize("ending", [ConnectionEnd.SILENT, ConnectionEnd.UNSUPPORTED, ConnectionEnd.UNREADABLE])
def test_a_downgrade_that_leads_nowhere_is_left(ending):
    assert after(SPOKE_V5, ConnectionEnd.UNREADABLE, ending).state is not RedialState.V311_DOWNGRADE


@pytest.mark.parametrize("choice", ["5", "3.1.1"])
def test_a_setting_is_kept_to(choice):
    redial = Redial.from_setting(choice).on_connack()
    for ending in ConnectionEnd:
        redial = after(redial, ending)
        assert redial.version is MqttVersion(choice)


def test_waits_double_and_a_stable_connection_begins_them_anew():
    redial = after(Redial.from_setting("auto"), *[ConnectionEnd.UNREACHABLE] * 10)
    assert redial.next_wait_s == WAIT_MAX_S
    redial = redial.on_connack().on_end(ConnectionEnd.LOST, 1000.0, lasted_s=STABLE_S + 1)
    assert redial.not_before == 1000.0 + INITIAL_WAIT_S
    redial = redial.on_end(ConnectionEnd.LOST, 2000.0, lasted_s=STABLE_S - 1)
    assert redial.not_before > 2000.0 + INITIAL_WAIT_S, "a short one is no success"


def test_another_client_with_our_name_is_not_raced():
    redial = SPOKE_V5.on_end(ConnectionEnd.TAKEN_OVER, 0.0, lasted_s=3600.0)
    assert redial.not_before == TAKEN_OVER_WAIT_S
    assert redial.on_end(ConnectionEnd.TAKEN_OVER, 100.0).not_before == 100.0 + TAKEN_OVER_WAIT_S


EVENTS = st.lists(
    st.one_of(st.just("connack"), st.just("connect"), st.tuples(st.sampled_from(ConnectionEnd), st.floats(0, 1e5)))
)


@given(st.sampled_from(["auto", "5", "3.1.1"]), EVENTS)
def test_whatever_happens_the_next_attempt_comes_and_spoken_mqtt_5_is_not_given_up(choice, events):
    redial, now, has_spoken_5 = Redial.from_setting(choice), 0.0, False
    for event in events:
        now = max(now + 1.0, redial.not_before)
        if event == "connack":
            redial = redial.on_connack()
            has_spoken_5 |= redial.version is V5
        elif event == "connect":
            redial = redial.on_connect(now)
        else:
            ending, lasted_s = event
            redial = redial.on_end(ending, now, lasted_s=lasted_s)
            has_spoken_5 &= ending is not ConnectionEnd.UNSUPPORTED
        assert now - 1e6 < redial.not_before <= now + TAKEN_OVER_WAIT_S * 2 or redial.not_before == float("-inf")
        assert INITIAL_WAIT_S <= redial.next_wait_s <= 2 * TAKEN_OVER_WAIT_S
        if choice != "auto":
            assert redial.version is MqttVersion(choice)
        elif has_spoken_5:
            assert redial.version is V5 or redial.state is RedialState.V311_DOWNGRADE

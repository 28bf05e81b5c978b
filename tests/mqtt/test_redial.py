"""When and how the broker is dialled next: a table of pure values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkt_bridge.mqtt.redial import (
    INITIAL_WAIT_S,
    OLD_FOR_S,
    PROTOCOLS,
    SILENCES_MAX,
    STABLE_S,
    TAKEN_OVER_WAIT_S,
    TRANSITIONS,
    TRIAL_S,
    WAIT_MAX_S,
    WELCOMED,
    ConnectionEnd,
    Protocol,
    Redial,
    RedialState,
)

MODERN, OLD = Protocol.MODERN, Protocol.OLD
SPOKE_MODERN = Redial.by("auto").welcomed()


def after(redial, *endings, lasted_s=0.0):
    for ending in endings:
        redial = redial.ended(ending, redial.not_before if redial.not_before > 0 else 0.0, lasted_s=lasted_s)
    return redial


def test_every_place_speaks_something_and_no_row_of_the_table_leads_nowhere():
    assert set(PROTOCOLS) | {RedialState.FIXED} == set(RedialState)
    assert all(start is not end for (start, _), end in TRANSITIONS.items())
    assert not {RedialState.FIXED} & {place for start, _ in TRANSITIONS for place in (start,)}
    assert set(WELCOMED) <= set(PROTOCOLS)


def test_a_broker_that_says_it_does_not_know_mqtt_5_is_asked_in_3_1_1_at_once():
    redial = Redial.by("auto").ended(ConnectionEnd.UNSUPPORTED, 100.0)
    assert (redial.protocol, redial.not_before) == (OLD, 100.0)


def test_two_that_know_neither_version_do_not_make_a_busy_loop():
    redial, waits = Redial.by("auto"), []
    for _ in range(6):
        now = max(redial.not_before, 0.0)
        redial = redial.ended(ConnectionEnd.UNSUPPORTED, now).ended(ConnectionEnd.UNSUPPORTED, now)
        waits.append(redial.not_before - now)
    assert waits[0] >= INITIAL_WAIT_S
    assert waits[-1] == pytest.approx(WAIT_MAX_S)


def test_silence_makes_a_broker_an_old_one_only_when_it_comes_again():
    redial = Redial.by("auto")
    for _ in range(SILENCES_MAX - 1):
        redial = after(redial, ConnectionEnd.SILENT)
        assert redial.protocol is MODERN
    assert after(redial, ConnectionEnd.SILENT).protocol is OLD
    assert after(redial, ConnectionEnd.UNREACHABLE, ConnectionEnd.SILENT).protocol is MODERN, "not in a row"
    assert after(redial, ConnectionEnd.SILENT, ConnectionEnd.SILENT).protocol is MODERN, (
        "and it is silent in the old one too"
    )


AFTER_SILENCE = after(Redial.by("auto"), *[ConnectionEnd.SILENT] * SILENCES_MAX)


def test_what_silence_led_to_is_a_trial_after_which_mqtt_5_is_asked_for_once_more():
    trial = AFTER_SILENCE.welcomed()
    assert (trial.protocol, trial.is_trial) == (OLD, True)
    again = trial.ended(ConnectionEnd.TRIAL_OVER, 100.0, lasted_s=TRIAL_S)
    assert (again.protocol, again.not_before) == (MODERN, 100.0)
    assert again.welcomed().place is RedialState.KNOWN_MODERN
    old = again.ended(ConnectionEnd.SILENT, 105.0)
    assert (old.protocol, old.is_trial) == (OLD, False)
    assert not old.welcomed().is_trial, "only silence there is believed"
    assert old.welcomed().dialling(105.0 + OLD_FOR_S - 1).protocol is OLD
    assert old.welcomed().dialling(105.0 + OLD_FOR_S + 1).protocol is MODERN


@pytest.mark.parametrize("ending", ConnectionEnd)
def test_however_a_trial_ends_the_next_dial_is_one_in_mqtt_5(ending):
    assert after(AFTER_SILENCE.welcomed(), ending).protocol is MODERN


@pytest.mark.parametrize(
    "ending", [ConnectionEnd.SILENT, ConnectionEnd.UNREACHABLE, ConnectionEnd.UNSUPPORTED, ConnectionEnd.REFUSED]
)
def test_an_attempt_that_silence_led_to_is_made_once_and_then_mqtt_5_is_tried(ending):
    redial = AFTER_SILENCE.ended(ending, 50.0)
    assert redial.protocol is MODERN
    assert redial.not_before > 50.0


def test_an_old_broker_that_refuses_the_login_is_asked_for_mqtt_5_once_and_then_known():
    assert (
        after(
            AFTER_SILENCE, ConnectionEnd.REFUSED, ConnectionEnd.SILENT, ConnectionEnd.REFUSED, ConnectionEnd.REFUSED
        ).protocol
        is OLD
    )


@pytest.mark.parametrize(
    "ending", [e for e in ConnectionEnd if e not in {ConnectionEnd.UNSUPPORTED, ConnectionEnd.UNREADABLE}]
)
def test_a_broker_that_has_spoken_mqtt_5_is_never_taken_for_an_old_one(ending):
    assert after(SPOKE_MODERN, *[ending] * 10).protocol is MODERN


def test_what_worked_is_remembered_for_a_while():
    old = Redial.by("auto").ended(ConnectionEnd.UNSUPPORTED, 0.0).welcomed()
    assert (
        after(old, ConnectionEnd.LOST, ConnectionEnd.SILENT, ConnectionEnd.UNREACHABLE, ConnectionEnd.REFUSED).protocol
        is OLD
    )
    assert old.dialling(OLD_FOR_S - 1).protocol is OLD
    assert old.dialling(OLD_FOR_S + 1).protocol is MODERN
    assert SPOKE_MODERN.dialling(10 * OLD_FOR_S) == SPOKE_MODERN


def test_a_packet_that_cannot_be_read_leads_over_the_old_protocol_and_back():
    detour = after(SPOKE_MODERN, ConnectionEnd.UNREADABLE)
    assert (detour.protocol, detour.is_detour) == (OLD, True)
    assert after(detour.welcomed(), ConnectionEnd.LOST).is_detour, (
        "a lost connection there does not lead back to the poison"
    )
    back = detour.welcomed().ended(ConnectionEnd.DETOUR_OVER, 50.0)
    assert (back.protocol, back.is_detour, back.not_before) == (MODERN, False, 50.0)


@pytest.mark.parametrize("ending", [ConnectionEnd.SILENT, ConnectionEnd.UNSUPPORTED, ConnectionEnd.UNREADABLE])
def test_a_detour_that_leads_nowhere_is_left(ending):
    assert not after(SPOKE_MODERN, ConnectionEnd.UNREADABLE, ending).is_detour


@pytest.mark.parametrize("choice", ["5", "3.1.1"])
def test_a_setting_is_kept_to(choice):
    redial = Redial.by(choice).welcomed()
    for ending in ConnectionEnd:
        redial = after(redial, ending)
        assert redial.protocol is Protocol(choice)


def test_waits_double_and_a_stable_connection_begins_them_anew():
    redial = after(Redial.by("auto"), *[ConnectionEnd.UNREACHABLE] * 10)
    assert redial.next_wait_s == WAIT_MAX_S
    redial = redial.welcomed().ended(ConnectionEnd.LOST, 1000.0, lasted_s=STABLE_S + 1)
    assert redial.not_before == 1000.0 + INITIAL_WAIT_S
    redial = redial.ended(ConnectionEnd.LOST, 2000.0, lasted_s=STABLE_S - 1)
    assert redial.not_before > 2000.0 + INITIAL_WAIT_S, "a short one is no success"


def test_another_client_with_our_name_is_not_raced():
    redial = SPOKE_MODERN.ended(ConnectionEnd.TAKEN_OVER, 0.0, lasted_s=3600.0)
    assert redial.not_before == TAKEN_OVER_WAIT_S
    assert redial.ended(ConnectionEnd.TAKEN_OVER, 100.0).not_before == 100.0 + TAKEN_OVER_WAIT_S


EVENTS = st.lists(
    st.one_of(st.just("welcomed"), st.just("dialling"), st.tuples(st.sampled_from(ConnectionEnd), st.floats(0, 1e5)))
)


@given(st.sampled_from(["auto", "5", "3.1.1"]), EVENTS)
def test_whatever_happens_the_next_attempt_comes_and_spoken_mqtt_5_is_not_given_up(choice, events):
    redial, now, has_spoken_5 = Redial.by(choice), 0.0, False
    for event in events:
        now = max(now + 1.0, redial.not_before)
        if event == "welcomed":
            redial = redial.welcomed()
            has_spoken_5 |= redial.protocol is MODERN
        elif event == "dialling":
            redial = redial.dialling(now)
        else:
            ending, lasted_s = event
            redial = redial.ended(ending, now, lasted_s=lasted_s)
            has_spoken_5 &= ending is not ConnectionEnd.UNSUPPORTED
        assert now - 1e6 < redial.not_before <= now + TAKEN_OVER_WAIT_S * 2 or redial.not_before == float("-inf")
        assert INITIAL_WAIT_S <= redial.next_wait_s <= 2 * TAKEN_OVER_WAIT_S
        if choice != "auto":
            assert redial.protocol is Protocol(choice)
        elif has_spoken_5:
            assert redial.protocol is MODERN or redial.is_detour

"""Retained state: on change, not too often, now and then, and all of it to every new connection."""

import pytest
from support.clocks import ManualClock
from support.stages import TOPICS, Line

from kkt_bridge.operations.retained_state import CHANGE_INTERVAL_S, RetainedState
from kkt_bridge.wire.messages import ComponentHealth, HealthState

INTERVAL_S = 30.0


class Bench:
    def __init__(self):
        self.clock = ManualClock()
        self.line = Line()
        self.retained_state = RetainedState(link=self.line, topics=TOPICS, interval_s=INTERVAL_S, clock=self.clock)

    def put(self, reason, name="health"):
        parts = {"journal": ComponentHealth(status="degraded", reason=reason)}
        self.retained_state.put(name, HealthState(status="degraded", components=parts, at=str(self.clock.monotonic())))

    def spoken(self):
        """The reasons that were published, by topic."""
        return [
            (
                message.topic.removeprefix(TOPICS.state("")),
                message.payload.split(b'"reason":"')[1].split(b'"')[0].decode(),
            )
            for message in self.line.take()
        ]


@pytest.fixture
def bench():
    return Bench()


def test_a_state_is_published_at_once_and_retained(bench):
    bench.put("full")
    (message,) = bench.line.take()
    assert (message.topic, message.retain) == (TOPICS.state("health"), True)


def test_no_change_is_no_news(bench):
    bench.put("full")
    bench.spoken()
    for _ in range(20):
        bench.clock.advance(1)
        bench.put("full")
        bench.retained_state.step()
    assert bench.spoken() == [], "its time alone makes no change"


def test_changes_are_published_at_most_once_a_second_and_the_last_one_wins(bench):
    bench.put("a")
    for reason in "bcd":
        bench.clock.advance(0.2)
        bench.put(reason)
    assert bench.spoken() == [("health", "a")]
    bench.clock.advance(0.39)
    bench.retained_state.step()
    assert bench.spoken() == []
    bench.clock.advance(0.01)
    bench.retained_state.step()
    assert bench.spoken() == [("health", "d")]


def test_a_long_state_between_short_ones_is_seen_even_when_they_come_in_step_with_the_interval(bench):
    bench.put("half-open")
    for _ in range(5):
        bench.clock.advance(0.005)
        bench.put("open")
        bench.clock.advance(CHANGE_INTERVAL_S)
        bench.put("half-open")
    spoken = bench.spoken()
    assert spoken[0] == ("health", "half-open")
    assert len(spoken) == 6
    assert set(spoken[1:]) == {("health", "open")}


def test_what_stood_long_does_not_delay_the_change_after_it(bench):
    bench.put("a")
    bench.clock.advance(INTERVAL_S)
    bench.put("b")
    assert bench.spoken() == [("health", "a"), ("health", "b")]


def test_topics_do_not_wait_for_each_other(bench):
    bench.put("a", "health")
    bench.put("b", "buffer")
    assert bench.spoken() == [("health", "a"), ("buffer", "b")]


def test_a_flood_of_changes_is_one_message_a_second(bench):
    for number in range(1000):
        bench.put(str(number))
        bench.retained_state.step()
        bench.clock.advance(0.01)
    assert 10 <= len(bench.spoken()) <= 11


def test_what_changed_and_changed_back_is_said_again(bench):
    """Somebody may have seen the change by another way."""
    bench.put("a")
    bench.put("b")
    bench.put("a")
    bench.clock.advance(CHANGE_INTERVAL_S)
    bench.retained_state.step()
    assert bench.spoken() == [("health", "a"), ("health", "a")]


def test_everything_is_said_again_every_so_often(bench):
    bench.put("a")
    for _ in range(int(3 * INTERVAL_S)):
        bench.clock.advance(1)
        bench.retained_state.step()
    assert bench.spoken() == [("health", "a")] * 4


def test_nothing_is_said_to_nobody_and_everything_to_a_new_connection(bench):
    bench.line.online = False
    bench.put("a")
    bench.put("b", "buffer")
    bench.clock.advance(100)
    bench.retained_state.step()
    assert bench.spoken() == []
    bench.line.online = True
    bench.retained_state.link_up()
    assert bench.spoken() == [("health", "a"), ("buffer", "b")]


def test_a_new_connection_hears_everything_even_if_it_was_just_said(bench):
    bench.put("a")
    bench.retained_state.link_up()
    assert bench.spoken() == [("health", "a"), ("health", "a")]


def test_a_change_while_the_link_was_down_is_said_once(bench):
    bench.put("a")
    bench.spoken()
    bench.line.online = False
    bench.put("b")
    bench.line.online = True
    bench.retained_state.link_up()
    bench.clock.advance(5)
    bench.retained_state.step()
    assert bench.spoken() == [("health", "b")]


def test_the_snapshot_shows_what_stands_there(bench):
    bench.put("a")
    bench.put("b")
    assert bench.retained_state.snapshot()["health"].components["journal"].reason == "b"

"""A thread that takes steps: it sleeps as long as they say, wakes when rung, and ends when told, whatever happens."""

import threading
import time

import pytest
from support.processes import wait_until

from kkt_bridge.runtime import bridge as bridge_module
from kkt_bridge.runtime.bridge import Worker
from kkt_bridge.runtime.service import Loop

SOON_S = 10.0


@pytest.fixture
def started():
    workers = []

    def start(*steps, **how):
        worker = Worker(Loop("test", *steps, **how))
        workers.append(worker)
        worker.start()
        return worker

    yield start
    for worker in workers:
        worker.stop()
        assert worker.join(SOON_S)


class Counted:
    """A step that notes when it was taken and says how long it wants to sleep."""

    def __init__(self, wait):
        self.taken = []
        self._wait = wait

    def __call__(self):
        self.taken.append(time.monotonic())
        return self._wait


def test_a_step_that_wants_to_sleep_for_ever_is_taken_once_until_it_is_woken(started):
    step = Counted(None)
    worker = started(step)
    wait_until(lambda: len(step.taken) == 1, SOON_S, "the first step")
    for taken in (2, 3):
        worker._loop.wakeup.set()
        wait_until(lambda taken=taken: len(step.taken) == taken, SOON_S, "a step after the bell")


def test_a_step_with_more_to_do_is_taken_again_at_once(started):
    step = Counted(0.0)
    started(step)
    wait_until(lambda: len(step.taken) > 100, SOON_S, "many steps")


def test_the_shortest_of_several_waits_counts(started):
    short, long = Counted(0.01), Counted(1000.0)
    started(long, short)
    wait_until(lambda: len(short.taken) > 5, SOON_S, "steps by the shorter wait")


def test_a_step_that_fails_rests_and_ends_nothing(started, caplog, monkeypatch):
    monkeypatch.setattr(bridge_module, "AFTER_A_BUG_S", 0.01)
    other = Counted(None)

    def bug():
        raise ZeroDivisionError

    started(bug, other)
    wait_until(lambda: len(other.taken) > 3, SOON_S, "steps in spite of the bug")
    assert "test failed; it goes on" in caplog.text


def test_a_ring_during_a_step_is_not_lost(started):
    entered, leave = threading.Event(), threading.Event()
    taken = []

    def step():
        taken.append(1)
        entered.set()
        leave.wait(SOON_S)

    worker = started(step)
    assert entered.wait(SOON_S)
    worker._loop.wakeup.set()
    leave.set()
    wait_until(lambda: len(taken) == 2, SOON_S, "the step that was rung for")


def test_a_bell_of_ones_own_is_used(started):
    wakeup, step = threading.Event(), Counted(None)
    started(step, wakeup=wakeup)
    wait_until(lambda: len(step.taken) == 1, SOON_S, "the first step")
    wakeup.set()
    wait_until(lambda: len(step.taken) == 2, SOON_S, "the step after the bell")


def test_it_ends_after_the_step_that_it_is_in(started):
    leave = threading.Event()
    worker = started(lambda: leave.wait(SOON_S) and None)
    worker.stop()
    assert not worker.join(0.05)
    leave.set()
    assert worker.join(SOON_S)


def test_a_stop_is_heard_even_if_a_step_silences_the_bell():
    """The intake's bell is cleared by its own step, just when the stop rings it."""
    wakeup = threading.Event()

    def step():
        worker.stop()
        wakeup.clear()

    worker = Worker(Loop("test", step, wakeup=wakeup))
    worker.start()
    assert worker.join(SOON_S)


def test_a_worker_that_never_started_has_ended():
    assert Worker(Loop("test", lambda: None)).join(0)
    assert Worker(Loop("test", lambda: None)).name == "test"

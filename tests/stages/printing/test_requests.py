"""What is asked of a lane: each request answered once, in order, whatever happens."""

import pytest

from kkt_bridge.errors import RegisterAway, RegisterNotReady
from kkt_bridge.stages.printing.requests import Requests


def failing(error):
    def job(_register):
        raise error

    return job


def jobs_of(*jobs):
    requests = Requests(RegisterNotReady)
    return requests, [requests.put(job) for job in jobs]


def on_the_register(job):
    return job("kkt")


def test_requests_are_answered_in_order_and_told_of():
    requests, futures = jobs_of(*(lambda register, n=n: (register, n) for n in range(3)))
    told = []
    assert requests.waiting
    requests.serve(on_the_register, told.append)
    assert not requests.waiting
    assert [future.result(0) for future in futures] == told == [("kkt", 0), ("kkt", 1), ("kkt", 2)]


def test_a_refusal_ends_only_its_own_request():
    requests, (refused, done) = jobs_of(failing(RegisterNotReady("busy", "wait")), lambda _register: "done")
    told = []
    requests.serve(on_the_register, told.append)
    assert isinstance(refused.exception(0), RegisterNotReady)
    assert (done.result(0), told) == ("done", [None, "done"])


def test_any_other_error_answers_its_request_and_leaves_the_others():
    requests, (lost, waiting) = jobs_of(failing(RegisterAway("gone")), lambda _register: "done")
    with pytest.raises(RegisterAway):
        requests.serve(on_the_register)
    assert isinstance(lost.exception(0), RegisterAway)
    assert not waiting.done()
    requests.refuse(RegisterNotReady("offline", "gone"))
    assert isinstance(waiting.exception(0), RegisterNotReady)


def test_a_request_that_nobody_waits_for_any_more_is_not_carried_out():
    done = []
    requests, (future,) = jobs_of(done.append)
    assert future.cancel()
    requests.serve(on_the_register)
    assert done == []

"""Jobs for a register: each done once, in order, and answered whatever happens."""

import pytest

from kkt_bridge.errors import RegisterAway, RegisterNotReady
from kkt_bridge.stages.lane_jobs import LaneJobs


def failing(error):
    def job(_register):
        raise error

    return job


def test_jobs_are_done_in_order_and_told_of():
    jobs, told = LaneJobs(), []
    futures = [jobs.put(lambda register, n=n: (register, n)) for n in range(3)]
    assert jobs
    jobs.do_all("kkt", told.append)
    assert not jobs
    assert [future.result(0) for future in futures] == told == [("kkt", 0), ("kkt", 1), ("kkt", 2)]


def test_a_register_that_is_not_ready_ends_only_that_job():
    jobs, told = LaneJobs(), []
    refused, done = jobs.put(failing(RegisterNotReady("busy", "wait"))), jobs.put(lambda _register: "done")
    jobs.do_all("kkt", told.append)
    assert isinstance(refused.exception(0), RegisterNotReady)
    assert (done.result(0), told) == ("done", [None, "done"])


def test_a_register_that_is_away_answers_the_job_and_leaves_the_others():
    jobs = LaneJobs()
    lost, waiting = jobs.put(failing(RegisterAway("gone"))), jobs.put(lambda _register: "done")
    with pytest.raises(RegisterAway):
        jobs.do_all("kkt", lambda _result: None)
    assert isinstance(lost.exception(0), RegisterAway)
    assert not waiting.done()
    jobs.refuse("offline", "gone")
    assert isinstance(waiting.exception(0), RegisterNotReady)


def test_a_job_that_nobody_waits_for_any_more_is_not_done():
    jobs, done = LaneJobs(), []
    assert jobs.put(done.append).cancel()
    jobs.do_all("kkt", lambda _result: None)
    assert done == []

"""The bare things that the bridge is held against: what they say they did, they did."""

import pytest
from support.simulated_ofd import OfdProcess

from benchmarks.load import BenchmarkError
from benchmarks.programs import run_json

DOCUMENTS = 6
TIMEOUT_S = 60.0


@pytest.fixture
def ofd(tmp_path):
    with OfdProcess(tmp_path) as started:
        yield started


def post(ofd):
    options = ("--url", ofd.url, "--count", str(DOCUMENTS), "--threads", "2")
    return run_json("the bare httpx loop", TIMEOUT_S, "benchmarks.references", "submissions", *options)


def test_the_bare_loop_delivers_every_document_that_it_counts(ofd):
    assert post(ofd)["documents"] == DOCUMENTS
    received = ofd.received()
    assert (received["total"], received["duplicates"], received["conflicts"]) == (DOCUMENTS, 0, [])


def test_a_bare_loop_that_is_refused_fails(ofd):
    ofd.set_faults(post_status=422)
    with pytest.raises(BenchmarkError, match="422"):
        post(ofd)

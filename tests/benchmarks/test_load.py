"""The load generator, which must never make a bridge look better than it is."""

from dataclasses import replace

import pytest

from benchmarks.load import BenchmarkError, Receipts, answered_id
from benchmarks.site import Site, load_echo

COUNT = 200
WINDOW = 16


def test_every_request_is_answered_and_timed(site: Site) -> None:
    with site.echo() as echo:
        counted = load_echo(echo.branch, replace(site.load(), terminals=4, window=WINDOW, count=COUNT))
        timed = load_echo(echo.branch, replace(site.load(), rate=200.0, warm_up_s=0.1, measure_s=0.4))
    assert counted.answered == counted.measured == COUNT
    assert 0 < counted.p50_ms <= counted.p99_ms <= counted.max_ms
    assert timed.answered >= 95  # half a second of 200 a second, the last ones waited for
    assert timed.rate == pytest.approx(200, rel=0.2)


def test_a_missing_answer_fails_the_run(site: Site) -> None:
    load = replace(site.load(), window=WINDOW, count=COUNT, answer_timeout_s=0.5)
    with pytest.raises(BenchmarkError, match=f"{WINDOW} answers are missing"):
        load_echo("kkt/v1/nobody", load)


def test_a_wrong_answer_fails_the_run(site: Site) -> None:
    with site.echo() as echo, pytest.raises(BenchmarkError, match="a wrong answer"):
        load_echo(echo.branch, replace(site.load(), count=COUNT, expect='"status":"printed"'))


def test_a_request_names_the_receipt_that_its_answer_is_about() -> None:
    receipt_id = b"0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11"
    payload = Receipts("pos-7").payload(receipt_id)
    assert b'"pos_id":"pos-7"' in payload
    assert answered_id(payload) == receipt_id
    assert answered_id(b"{}") is None

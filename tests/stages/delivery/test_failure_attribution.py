"""Who is at fault is decided by evidence over all documents: the OFD's answers by the contract's table, end to end."""

import pytest
from support.delivery import HOUR_S, documents, key, letters, printed, statuses
from support.stages import InProcessBridge, check_counts, meddle

from kkt_bridge.journal.document_queue import discard
from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer
from kkt_bridge.receipts.lifecycle import DeliveryState
from kkt_bridge.stages.delivery.disposition import Circumstances, Disposition, dispose


@pytest.fixture
def shop(tmp_path, ofd):
    opened = InProcessBridge(
        tmp_path,
        ofd={"url": ofd.url, "timeout_s": 2},
        pos={"pos-1": "kkt-1"},
        sync={"max_attempts": 4},
        buffer={"capacity": 1000},
    )
    yield opened
    check_counts(opened.journal, opened.folder)
    opened.kill()


@pytest.mark.parametrize(
    "fault",
    [
        {"post_status": 401},
        {"post_status": 404},
        {"post_status": 302},
        {"login_page": True},
        {"post_status": 500},
        {"post_status": 429},
        {"post_status": 429, "retry_after_s": 30},
        {"outage": True},
    ],
    ids=str,
)
def test_what_is_no_documents_fault_costs_none_and_all_goes_out_in_order_afterwards(shop, ofd, fault):
    ofd.set_faults(**fault)
    requests = printed(shop, 12)
    shop.sync.run_for(2 * HOUR_S, at_once=20)
    assert letters(shop) == []
    assert ofd.order(requests) == []
    ofd.set_faults()
    shop.sync.run_for(700, at_once=5)
    assert statuses(shop, requests) == ["synced"] * 12
    assert ofd.order(requests) == requests


def test_a_refused_bridge_is_told_until_a_document_is_taken(shop, ofd):
    ofd.set_faults(post_status=401)
    printed(shop, 2)
    shop.sync.run_for(HOUR_S, at_once=20)
    status = shop.sync.delivery.status
    assert "401" in status.bridge_refused
    assert status.takes_nothing_since is not None
    ofd.set_faults()
    shop.sync.run_for(130)
    status = shop.sync.delivery.status
    assert (status.bridge_refused, status.takes_nothing_since) == (None, None)


def test_a_failing_health_check_does_not_stop_what_posts_would_deliver(shop, ofd):
    ofd.set_faults(outage=True)
    requests = printed(shop, 5)
    shop.sync.run()
    assert shop.sync.breaker.state == "open"
    ofd.set_faults(health_status=500)
    shop.sync.run_for(400, at_once=5)
    assert statuses(shop, requests) == ["synced"] * 5
    assert ofd.order(requests) == requests


def test_a_service_that_refuses_every_document_is_left_alone_after_ten(shop, ofd):
    ofd.set_faults(post_status=422)
    requests = printed(shop, 30)
    shop.sync.run()
    assert statuses(shop, requests).count("dead") == 10
    assert "422" in shop.sync.delivery.status.refuses_all
    assert shop.sync.delivery.status.paused_until is not None
    ofd.set_faults()
    shop.sync.run_for(130)
    assert statuses(shop, requests)[10:] == ["synced"] * 20
    assert shop.sync.delivery.status.refuses_all is None


@pytest.mark.parametrize("health_path", ["/ofd/v1/health", ""])
def test_an_ofd_that_refused_everything_is_believed_again_when_all_that_it_refused_is_decided_on(
    tmp_path, ofd, health_path
):
    (tmp_path / "other").mkdir()
    shop = InProcessBridge(tmp_path / "other", ofd={"url": ofd.url, "timeout_s": 2, "health_path": health_path})
    ofd.set_faults(post_status=422)
    printed(shop, 10)
    shop.sync.run_for(HOUR_S, at_once=20)
    assert "422" in shop.sync.delivery.status.refuses_all, "the dead letters are there to show it"
    for letter in letters(shop):
        shop.journal.write(lambda tx, letter=letter: discard(tx, letter, "sent by hand"))
    shop.sync.run_for(30)
    assert shop.sync.delivery.status.refuses_all is None
    requests = printed(shop, 2)
    shop.sync.run()
    assert statuses(shop, requests) == ["dead"] * 2, "what comes next shows what is so now"
    assert shop.sync.delivery.status.refuses_all is None, "two are not ten"
    shop.kill()


def test_an_ofd_whose_health_check_fails_is_not_believed_again(shop, ofd):
    ofd.set_faults(post_status=422)
    printed(shop, 10)
    shop.sync.run()
    for letter in letters(shop):
        shop.journal.write(lambda tx, letter=letter: discard(tx, letter, "sent by hand"))
    ofd.set_faults(outage=True)
    shop.sync.run_for(HOUR_S, at_once=20)
    assert shop.sync.delivery.status.refuses_all is not None
    ofd.set_faults()
    shop.sync.run_for(200)
    assert shop.sync.delivery.status.refuses_all is None


def test_a_document_that_alone_is_misdirected_makes_nobody_believe_that_the_bridge_is_refused(shop, ofd, monkeypatch):
    bad, good = printed(shop, 2)
    answer = shop.sync.exchange.answer
    refused = OfdAnswer(AnswerKind.BRIDGE_REFUSED, "403", status=403)
    monkeypatch.setattr(
        shop.sync.exchange, "answer", lambda request: refused if request.key == key(bad) else answer(request)
    )
    while shop.status(bad) == "printed":
        shop.clock.advance(5)
        shop.sync.step()
    assert statuses(shop, [bad, good]) == ["dead", "synced"]
    assert shop.sync.delivery.status.bridge_refused is None


@pytest.mark.parametrize("restarts", [False, True])
def test_an_outage_costs_two_documents_at_most_however_seldom_one_is_made(shop, ofd, restarts):
    ofd.set_faults(post_status=500)
    requests = []
    for _ in range(4):
        requests += printed(shop)
        shop.sync.run_for(HOUR_S, at_once=20)
        if restarts:
            shop.restart()
    assert statuses(shop, requests) == ["dead", "dead", "printed", "printed"]
    ofd.set_faults()
    shop.sync.run_for(700, at_once=5)
    assert statuses(shop, requests) == ["dead", "dead", "synced", "synced"]


def test_a_limit_is_kept_to_and_costs_no_strike(shop, ofd):
    ofd.set_faults(post_status=429, retry_after_s=86_400)
    requests = printed(shop, 3)
    shop.sync.run()
    ofd.set_faults()
    shop.sync.run_for(890, at_once=10)
    assert statuses(shop, requests) == ["printed"] * 3
    shop.sync.run_for(20)
    assert statuses(shop, requests) == ["synced"] * 3


def test_a_forced_sync_in_an_outage_ends_after_a_few(shop, ofd):
    ofd.set_faults(outage=True)
    printed(shop, 30)
    shop.sync.run()
    result = shop.sync.order(force=True)
    assert (result.sent, result.failed, result.skipped) == (0, 5, 25)


def test_forced_syncs_in_an_outage_of_many_documents_kill_none(shop, ofd):
    ofd.set_faults(outage=True)
    requests = printed(shop, 6)
    for _ in range(20):
        shop.sync.order(force=True)
    assert statuses(shop, requests) == ["printed"] * 6
    assert max(strikes for _, _, strikes in documents(shop)) < 4


def test_a_bug_in_judging_costs_the_document_an_attempt_and_nobody_else(shop, monkeypatch):
    first, second = printed(shop, 2)
    evidence, real = shop.sync.uplink.evidence, shop.sync.uplink.evidence.took_others

    def took_others(document):
        if document == shop.rows("SELECT min(id) FROM documents")[0][0]:
            raise KeyError("a bug of ours")
        return real(document)

    monkeypatch.setattr(evidence, "took_others", took_others)
    shop.sync.run()
    assert statuses(shop, (first, second)) == ["printed", "synced"]
    assert documents(shop)[0] == ("waiting", 1, 0)


def test_a_question_that_the_exchange_loses_is_given_up_however_often_delivery_is_woken(shop, ofd):
    ofd.set_faults(outage=True)
    requests = printed(shop, 3)
    shop.sync.run()
    assert shop.sync.breaker.state == "open"
    ofd.set_faults()
    shop.clock.advance(60)
    submit, shop.sync.exchange.submit = shop.sync.exchange.submit, lambda *_: None
    shop.sync.step()
    shop.sync.exchange.submit = submit
    wait = shop.sync.step()  # woken by something else, while the question is under way
    assert wait is not None
    shop.clock.advance(wait)
    shop.sync.run_for(200)
    assert statuses(shop, requests) == ["synced"] * 3


def test_a_look_around_that_the_exchange_loses_is_waited_for_at_rest_and_given_up(shop, ofd):
    ofd.set_faults(outage=True)
    requests = printed(shop, 6)
    shop.sync.run()
    ofd.set_faults()
    shop.sync.run_for(70)
    assert (statuses(shop, requests), shop.sync.network.state) == (["synced"] * 6, "degraded")
    submit, shop.sync.exchange.submit = shop.sync.exchange.submit, lambda *_: None
    shop.clock.advance(60)
    shop.sync.step()
    shop.clock.advance(60)
    wait = shop.sync.step()  # the time of the next look has come, and the last one is not back
    assert wait is not None
    assert wait > 1
    shop.sync.exchange.submit = submit
    shop.clock.advance(wait)
    shop.sync.run_for(300)
    assert shop.sync.network.state == "online"


@pytest.mark.parametrize(
    ("kind", "known", "disposition"),
    [
        (AnswerKind.ACCEPTED, {}, Disposition(DeliveryState.SENT, "success")),
        (AnswerKind.NOT_THE_OFD, {"health_ok": True}, Disposition(DeliveryState.READY, "failure")),
        (AnswerKind.SLOW_DOWN, {"health_ok": True}, Disposition(DeliveryState.READY, "pause")),
        (AnswerKind.BRIDGE_REFUSED, {}, Disposition(DeliveryState.READY, "failure")),
        (
            AnswerKind.BRIDGE_REFUSED,
            {"took_others_since_refusal": True},
            Disposition(DeliveryState.DEAD, "nothing", strike=True, reason="refused"),
        ),
        (AnswerKind.DOCUMENT_REFUSED, {}, Disposition(DeliveryState.DEAD, "nothing", strike=True, reason="refused")),
        (AnswerKind.SERVICE_FAILED, {}, Disposition(DeliveryState.READY, "failure")),
        (AnswerKind.SERVICE_FAILED, {"health_ok": True}, Disposition(DeliveryState.WAITING, "failure", strike=True)),
        (AnswerKind.LINE_FAILED, {"took_others": True}, Disposition(DeliveryState.WAITING, "nothing", strike=True)),
        (AnswerKind.LINE_FAILED, {"is_forced": True}, Disposition(DeliveryState.WAITING, "failure", strike=True)),
        (
            AnswerKind.SERVICE_FAILED,
            {"health_ok": True, "service_fails": True},
            Disposition(DeliveryState.READY, "failure"),
        ),
        (
            AnswerKind.SERVICE_FAILED,
            {"health_ok": True, "strikes": 3},
            Disposition(DeliveryState.DEAD, "failure", strike=True, reason="max_attempts"),
        ),
        (
            AnswerKind.SERVICE_FAILED,
            {"is_forced": True, "service_fails": True, "strikes": 3},
            Disposition(DeliveryState.WAITING, "failure"),
        ),
    ],
)
def test_the_table_of_dispositions(kind, known, disposition):
    circumstances = Circumstances(**{"strikes": 0, "max_attempts": 4, **known})
    assert dispose(OfdAnswer(kind), circumstances) == disposition


def test_a_forced_sync_costs_one_document_where_every_document_is_refused(shop, ofd):
    ofd.set_faults(post_status=422)
    printed(shop, 40)
    shop.sync.run()
    assert len(letters(shop)) == 10
    result = shop.sync.order(force=True)
    assert (result.failed, result.skipped) == (1, 29)
    assert len(letters(shop)) == 11


def test_a_document_taken_amid_a_refusal_of_the_bridge_costs_one_document_at_most(shop, ofd, monkeypatch):
    requests = printed(shop, 20)
    ofd.set_faults(post_status=401)
    shop.sync.run_for(HOUR_S, at_once=20)  # by turns, most were tried
    once = iter([OfdAnswer(AnswerKind.ACCEPTED, "200", status=200)])
    answer = shop.sync.exchange.answer
    monkeypatch.setattr(
        shop.sync.exchange,
        "answer",
        lambda request: next(once, None) or answer(request) if request.target == "receipt" else answer(request),
    )
    shop.sync.run_for(HOUR_S, at_once=20)
    assert statuses(shop, requests).count("synced") == 1
    assert len(letters(shop)) <= 1
    ofd.set_faults()
    shop.sync.run_for(HOUR_S, at_once=20)
    assert statuses(shop, requests).count("synced") >= 19


def test_of_several_wishes_for_patience_the_longest_counts(shop):
    shop.sync.uplink.note(1, slow_down(600.0), Disposition(DeliveryState.READY, "pause"), sent_at=1, health_ok=None)
    shop.sync.uplink.note(2, slow_down(None), Disposition(DeliveryState.READY, "pause"), sent_at=2, health_ok=None)
    assert shop.sync.uplink.paused_s() == 600


def slow_down(wait_s):
    return OfdAnswer(AnswerKind.SLOW_DOWN, "429", retry_after_s=wait_s, status=429)


def test_registers_that_have_nothing_ready_take_nobodys_place(tmp_path, ofd):
    names = [f"kkt-{number}" for number in range(1, 11)]
    (tmp_path / "many").mkdir()
    shop = InProcessBridge(
        tmp_path / "many",
        registers=names,
        ofd={"url": ofd.url, "timeout_s": 2},
        pos={name.replace("kkt", "pos"): name for name in names},
    )
    bad = [one for number in range(1, 10) for one in printed(shop, 1, pos_id=f"pos-{number}")]
    meddle(shop.folder, "UPDATE documents SET delivery = 'waiting', not_before_steady_ms = 1000000000")
    good = printed(shop, 1, pos_id="pos-10")
    shop.sync.run()
    assert statuses(shop, good) == ["synced"]
    good = printed(shop, 1, pos_id="pos-10")
    assert shop.sync.order().sent == 1
    assert statuses(shop, bad) == ["printed"] * 9
    shop.kill()


def test_registers_with_a_backlog_take_turns_on_the_road(tmp_path, ofd):
    """Eight at a time: those behind them come before any of the eight comes again."""
    names = [f"kkt-{number:02}" for number in range(1, 11)]
    (tmp_path / "many").mkdir()
    shop = InProcessBridge(
        tmp_path / "many",
        registers=names,
        ofd={"url": ofd.url, "timeout_s": 2},
        pos={name.replace("kkt", "pos"): name for name in names},
    )
    backlog = {name: printed(shop, 3, pos_id=name.replace("kkt", "pos")) for name in names}
    for name in names:
        shop.sync.delivery._lanes.of(name).batch_size = 1
    shop.sync.step()
    begun = {name for name in names if ofd.order(backlog[name])}
    assert len(begun) == 8
    shop.sync.step()
    assert all(ofd.order(backlog[name]) for name in names), "the last two do not wait for the others' backlogs"
    shop.sync.run()
    assert all(ofd.order(requests) == requests for requests in backlog.values())
    shop.kill()


def test_an_outcome_that_cannot_be_written_down_costs_its_document_an_attempt_and_nobody_else(shop, ofd):
    requests = printed(shop, 3)
    row = shop.stored(requests[1]["receipt_id"]).id
    shop.sync.step()
    meddle(shop.folder, f"UPDATE receipts SET status = 'buffered' WHERE id = {row}")  # what `sent` cannot follow
    shop.sync.step()
    assert [statuses(shop, [request]) for request in (requests[0], requests[2])] == [["synced"], ["synced"]]
    assert documents(shop)[1] == ("waiting", 1, 0)
    ((error,),) = shop.rows("SELECT last_error FROM documents WHERE last_error IS NOT NULL")
    assert error.startswith("not written down: ")
    meddle(shop.folder, f"UPDATE receipts SET status = 'printed' WHERE id = {row}")
    shop.sync.run_for(20)
    assert statuses(shop, requests) == ["synced"] * 3
    assert ofd.order(requests) == requests


def test_an_outcome_that_cannot_be_written_down_takes_no_event_with_it(tmp_path, ofd):
    (tmp_path / "two").mkdir()
    shop = InProcessBridge(
        tmp_path / "two",
        registers=("kkt-1", "kkt-2"),
        ofd={"url": ofd.url, "timeout_s": 2, "health_path": ""},
        pos={"pos-1": "kkt-1", "pos-2": "kkt-2"},
        breaker={"fail_max": 1},
    )
    (good,), (bad,) = printed(shop), printed(shop, pos_id="pos-2")
    ofd.set_faults(error_keys=[key(bad)])
    shop.sync.step()
    meddle(shop.folder, f"UPDATE receipts SET status = 'buffered' WHERE id = {shop.stored(good['receipt_id']).id}")
    shop.sync.step()
    assert [(event["from"], event["to"]) for event in shop.events("breaker")] == [("closed", "open")]
    shop.kill()

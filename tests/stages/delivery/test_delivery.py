"""Stage 3: every printed document reaches the OFD, in order, whatever goes wrong on the way and however long."""

import uuid
from itertools import pairwise

import pytest
from support.delivery import HOUR_S, WEEK_S, documents, key, letters, printed, statuses
from support.receipts import receipt
from support.stages import TOPICS, InProcessBridge, break_disk, check_counts, meddle, mend_disk

from kkt_bridge.journal.document_queue import ready_documents, requeue
from kkt_bridge.stages.delivery.delivery import RETRY_S
from kkt_bridge.stages.delivery.sync_pass import SyncInProgress


@pytest.fixture
def open_shop(tmp_path, ofd):
    shops = []

    def opened(health_path="/ofd/v1/health", **settings):
        shop = InProcessBridge(
            tmp_path,
            ofd={"url": ofd.url, "timeout_s": 2, "health_path": health_path},
            pos={"pos-1": "kkt-1"},
            **settings,
        )
        shops.append(shop)
        return shop

    yield opened
    for shop in shops:
        mend_disk(shop.journal)
        check_counts(shop.journal, shop.folder)
        shop.kill()


@pytest.fixture
def shop(open_shop):
    return open_shop()


# -- sending ----------------------------------------------------------------------------------------------


def test_what_is_printed_goes_to_the_ofd_at_once_and_in_order(shop, ofd):
    requests = printed(shop, 40)
    shop.sync.run()
    assert statuses(shop, requests) == ["synced"] * 40
    assert ofd.order(requests) == requests
    assert {ofd.documents()[key(request)]["times"] for request in requests} == {1}
    assert shop.stored(requests[0]["receipt_id"]).server_time is not None


def test_an_idle_delivery_waits_to_be_woken(shop):
    assert shop.sync.run() is None
    printed(shop)
    assert shop.sync.run() is None
    assert shop.sync.delivery.outcomes.sent_total == 1


def test_a_lost_answer_leads_to_a_repeat_under_the_same_key(shop, ofd):
    ofd.set_faults(drop_answers_next=1)
    (request,) = printed(shop)
    shop.sync.run()
    assert shop.status(request) == "printed"
    shop.sync.run_for(60)
    assert shop.status(request) == "synced"
    assert ofd.documents()[key(request)]["times"] == 2
    assert len(shop.documents()) == 1


def test_a_kill_between_sending_and_recording_leads_to_a_repeat(shop, ofd):
    (request,) = printed(shop)
    break_disk(shop.journal)
    assert shop.sync.run() == RETRY_S
    assert ofd.documents()[key(request)]["times"] == 1
    mend_disk(shop.journal)
    shop.restart()
    shop.sync.run()
    assert shop.status(request) == "synced"
    assert ofd.documents()[key(request)]["times"] == 2


def test_an_outcome_is_kept_until_the_disk_takes_it(shop, ofd):
    requests = printed(shop, 3)
    break_disk(shop.journal)
    for _ in range(5):
        assert shop.sync.run() == RETRY_S
        shop.clock.advance(RETRY_S)
    mend_disk(shop.journal)
    shop.sync.run()
    assert statuses(shop, requests) == ["synced"] * 3
    assert {ofd.documents()[key(request)]["times"] for request in requests} == {1}


def test_documents_of_a_register_that_was_removed_are_still_owed(open_shop):
    shop = open_shop(registers=("kkt-1", "kkt-2"))
    (request,) = printed(shop, kkt="kkt-2")
    shop.kill()
    shop.settings = shop.settings.model_copy(update={"kkt": shop.settings.kkt[:1]})
    shop._start()
    shop.sync.run()
    assert shop.status(request) == "synced"


def test_a_body_holds_receipt_mark_order_and_document(shop, ofd):
    (request,) = printed(shop)
    shop.sync.run()
    full = ofd.received(full=True)["documents"]
    (body,) = [entry["body"] for entry in full if entry["key"] == key(request)]
    assert set(body) == {"receipt", "fiscal", "hlc", "ffd"}
    assert body["receipt"]["receipt_id"] == request["receipt_id"]
    assert body["fiscal"] == shop.replies()[0]["fiscal"]
    assert body["hlc"] == {"wall_ms": shop.replies()[0]["hlc"]["wall_ms"], "counter": 0, "server_time": None}


# -- an outage is nobody's fault ------------------------------------------------------------------------------


@pytest.mark.parametrize("health_path", ["/ofd/v1/health", ""])
def test_a_weeks_outage_costs_no_document_anything(open_shop, ofd, health_path):
    shop = open_shop(health_path, sync={"max_attempts": 3}, buffer={"capacity": 1000})
    ofd.set_faults(outage=True)
    requests = printed(shop, 10)
    shop.sync.run_for(WEEK_S, at_once=6 * HOUR_S)
    assert statuses(shop, requests) == ["printed"] * 10
    assert {strikes for _, _, strikes in documents(shop)} == {0}
    assert shop.sync.breaker.state == "open"
    ofd.set_faults()
    shop.sync.run_for(130)
    assert statuses(shop, requests) == ["synced"] * 10
    assert ofd.order(requests) == requests
    assert letters(shop) == []


def test_an_outage_opens_the_breaker_and_probes_are_few(shop, ofd):
    ofd.set_faults(outage=True)
    printed(shop, 20)
    shop.sync.run()
    assert shop.sync.breaker.state == "open"
    before = ofd.requests()
    shop.sync.run_for(600)
    assert 0 < ofd.requests() - before <= 9, "of ten probes, every third tries a document or a few"
    events = [(event["from"], event["to"]) for event in shop.events("breaker")]
    assert events[0] == ("closed", "open")
    assert set(events[1:]) == {("open", "half_open"), ("half_open", "open")}


def test_an_outage_that_ends_in_the_middle_lets_no_document_overtake(shop, ofd):
    requests = printed(shop, 4)
    ofd.set_faults(outage=True)
    before = ofd.requests()
    shop.sync.step()
    shop.sync.step()
    assert ofd.requests() == before + 1, "the next document waits until this one has arrived"
    ofd.set_faults()
    shop.sync.run()
    assert ofd.order(requests) == requests


def test_what_failed_is_written_down_before_another_overtakes_it(shop, ofd):
    first, second = printed(shop, 2)
    ofd.set_faults(error_keys=[key(first)])
    before = ofd.requests()
    shop.sync.step()
    assert ofd.requests() == before + 1
    shop.sync.step()
    assert ofd.requests() == before + 1, "the health check is asked whose fault it is"
    shop.sync.step()
    assert shop.rows("SELECT delivery, strikes FROM documents ORDER BY id") == [("waiting", 1), ("ready", 0)]
    shop.sync.run()
    assert ofd.order([first, second]) == [second]


def test_new_documents_do_not_hammer_an_open_breaker(shop, ofd):
    ofd.set_faults(outage=True)
    printed(shop, 6)
    shop.sync.run()
    before = ofd.requests()
    for _ in range(10):
        printed(shop)
        wait = shop.sync.run()
        assert wait is not None
    assert ofd.requests() == before


def test_the_ofds_own_wish_to_wait_is_kept(shop, ofd):
    (request,) = printed(shop)
    ofd.set_faults(outage=True, status=429, retry_after_s=120)
    shop.sync.run()
    ofd.set_faults()
    shop.sync.run_for(119)
    assert shop.status(request) == "printed"
    shop.sync.run_for(2)
    assert shop.status(request) == "synced"


# -- a poisonous document is its own fault --------------------------------------------------------------------


def test_a_refused_document_is_a_dead_letter_at_once_and_the_next_goes_on(shop, ofd):
    first, bad, last = printed(shop, 3)
    ofd.set_faults(refuse_keys=[key(bad)])
    shop.sync.run()
    assert statuses(shop, (first, bad, last)) == ["synced", "dead", "synced"]
    (letter,) = letters(shop)
    assert (letter.key.receipt_id, letter.reason, letter.attempts) == (bad["receipt_id"], "refused", 1)
    assert "422" in letter.last_error
    assert shop.sync.breaker.failures == 0


def test_a_document_that_alone_fails_is_dead_after_max_attempts(open_shop, ofd):
    shop = open_shop(sync={"max_attempts": 4})
    first, bad, last = printed(shop, 3)
    ofd.set_faults(error_keys=[key(bad)])
    shop.sync.run()
    assert statuses(shop, (first, bad, last)) == ["synced", "printed", "synced"], "it holds up nobody"
    shop.sync.run_for(60)
    assert shop.status(bad) == "dead"
    (letter,) = letters(shop)
    assert (letter.reason, letter.attempts, letter.strikes) == ("max_attempts", 4, 4)
    assert shop.sync.breaker.state == "closed"
    assert shop.events("breaker") == []


def test_waits_between_attempts_double(open_shop, ofd):
    shop = open_shop(sync={"max_attempts": 6, "backoff_initial_s": 8, "backoff_max_s": 30}, breaker={"fail_max": 100})
    (bad,) = printed(shop)
    ofd.set_faults(error_keys=[key(bad)])
    times = []
    for _ in range(300):
        before = shop.sync.delivery.outcomes.failed_total
        wait = shop.sync.run()
        if shop.sync.delivery.outcomes.failed_total > before:
            times.append(shop.clock.monotonic())
        shop.clock.advance(0.5 if wait is None else min(wait, 0.5))
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert len(waits) == 5
    for wait, whole in zip(waits, (8, 16, 30, 30, 30), strict=True):
        assert whole * 0.8 <= wait <= whole + 0.01


def test_many_poisonous_documents_do_not_close_the_road(open_shop, ofd):
    """Seen elsewhere: ten bad ones failing in a row open the breaker for everybody, for ever."""
    shop = open_shop(sync={"max_attempts": 5}, buffer={"capacity": 1000})
    bad = printed(shop, 10)
    ofd.set_faults(error_keys=[key(request) for request in bad])
    shop.sync.run()
    good = printed(shop, 10)
    shop.sync.run_for(300)
    assert statuses(shop, good) == ["synced"] * 10
    for _ in range(20):  # as others are taken, each of the bad ones is known for what it is
        good += printed(shop)
        shop.sync.run_for(30, at_once=10)
    assert statuses(shop, good[:20]) == ["synced"] * 20
    assert statuses(shop, bad) == ["dead"] * 10


@pytest.mark.parametrize("bad_ones", [1, 7])
def test_without_a_health_check_a_success_of_others_shows_that_the_ofd_is_alive(open_shop, ofd, bad_ones):
    shop = open_shop(health_path="", sync={"max_attempts": 4}, buffer={"capacity": 1000})
    bad = printed(shop, bad_ones)
    ofd.set_faults(error_keys=[key(request) for request in bad])
    good = []
    for _ in range(40):
        good += printed(shop)
        shop.sync.run_for(30, at_once=10)
    assert statuses(shop, bad) == ["dead"] * bad_ones
    assert statuses(shop, good[:30]) == ["synced"] * 30


def test_without_a_health_check_a_lone_failure_is_nobodys_fault(open_shop, ofd):
    """Nothing else is there to show whether the OFD is alive: no strike, no dead letter."""
    shop = open_shop(health_path="", sync={"max_attempts": 2})
    (bad,) = printed(shop)
    ofd.set_faults(error_keys=[key(bad)])
    shop.sync.run_for(HOUR_S, at_once=10)
    assert shop.status(bad) == "printed"
    assert documents(shop)[0][2] == 0


def test_a_lost_connection_counts_against_a_document_only_while_the_ofd_lives(open_shop, ofd):
    shop = open_shop(sync={"max_attempts": 3})
    printed(shop)
    ofd.set_faults(drop_answers_next=1)
    shop.sync.run()
    assert documents(shop) == [("waiting", 1, 1)]


def test_strikes_outlive_a_restart(open_shop, ofd):
    shop = open_shop(sync={"max_attempts": 3})
    (bad,) = printed(shop)
    ofd.set_faults(error_keys=[key(bad)])
    for _ in range(3):
        shop.sync.run_for(20)
        shop.restart()
    assert shop.status(bad) == "dead"


def test_a_requeued_letter_is_sent_again(shop, ofd):
    (bad,) = printed(shop)
    ofd.set_faults(refuse_keys=[key(bad)])
    shop.sync.run()
    ofd.set_faults()
    shop.journal.write(lambda tx: requeue(tx, letters(shop)[0]))
    shop.sync.run()
    assert shop.status(bad) == "synced"


def test_a_document_that_cannot_be_put_together_holds_up_nobody_and_is_still_owed(shop):
    """As where an earlier schema had no bodies, and this release has a stricter rule."""
    first, bad, last = printed(shop, 3)
    row = shop.stored(bad["receipt_id"]).id
    ((body,),) = shop.rows("SELECT body FROM requests WHERE receipt = ?", row)
    meddle(
        shop.folder,
        f"DELETE FROM bodies WHERE document = (SELECT id FROM documents WHERE receipt = {row})",
        f"UPDATE requests SET body = '{{}}' WHERE receipt = {row}",
    )
    assert shop.sync.delivery.status.unsendable == {}, "nobody has looked yet"
    shop.sync.run()
    assert statuses(shop, (first, bad, last)) == ["synced", "printed", "synced"]
    assert shop.sync.delivery.status.unsendable == {"kkt-1": 1}
    shop.restart()
    shop.sync.run()
    assert shop.sync.delivery.status.unsendable == {"kkt-1": 1}, "it is tried again with each start"
    meddle(shop.folder, f"UPDATE requests SET body = '{body}' WHERE receipt = {row}")
    shop.restart()
    shop.sync.run()
    assert statuses(shop, (first, bad, last)) == ["synced"] * 3
    assert shop.sync.delivery.status.unsendable == {"kkt-1": 0}


def test_a_network_that_came_back_is_believed_though_a_document_cannot_be_put_together(shop, ofd):
    bad, *others = printed(shop, 6)
    row = shop.stored(bad["receipt_id"]).id
    meddle(
        shop.folder,
        f"DELETE FROM bodies WHERE document = (SELECT id FROM documents WHERE receipt = {row})",
        f"UPDATE requests SET body = '{{}}' WHERE receipt = {row}",
    )
    ofd.set_faults(outage=True)
    shop.sync.run()
    ofd.set_faults()
    shop.sync.run_for(300)
    assert statuses(shop, others) == ["synced"] * 5
    assert shop.sync.network.state == "online"


@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_the_senders_address_of_the_register_goes_to_the_ofd_also_where_the_body_was_lost(open_shop, ofd, is_rebuilt):
    shop = open_shop()
    kkt = [each.model_copy(update={"sender_email": "shop@example.com"}) for each in shop.settings.kkt]
    shop.settings = shop.settings.model_copy(update={"kkt": kkt})
    shop.restart()
    request = receipt(customer={"contact": "buyer@example.com"})
    shop.sell(request)
    shop.print_all()
    if is_rebuilt:
        meddle(shop.folder, "DELETE FROM bodies")
        shop.restart()
    shop.sync.run()
    full = ofd.received(full=True)["documents"]
    (body,) = [entry["body"] for entry in full if entry["key"] == key(request)]
    assert body["ffd"]["receipt"]["sellerAddress"] == "shop@example.com"


def test_a_repeat_is_the_same_to_the_byte_whatever_the_settings_are_by_then(open_shop, ofd):
    shop = open_shop()
    (request,) = printed(shop)
    ofd.set_faults(drop_answers_next=1)
    shop.sync.run()
    (before,) = shop.rows("SELECT body FROM bodies")
    shop.kill()
    kkt = [each.model_copy(update={"tax_system": "usn_income"}) for each in shop.settings.kkt]
    shop.settings = shop.settings.model_copy(update={"kkt": kkt})
    shop._start()
    assert shop.rows("SELECT body FROM bodies") == [before]
    shop.sync.run_for(60)
    assert shop.status(request) == "synced"
    assert ofd.received()["conflicts"] == []
    assert shop.rows("SELECT count(*) FROM bodies") == [(0,)], "what the OFD has needs no body any more"


def test_documents_of_an_earlier_schema_get_their_body_before_anything_can_change_it(open_shop, ofd):
    shop = open_shop()
    requests = printed(shop, 3)
    bodies = shop.rows("SELECT body FROM bodies ORDER BY document")
    meddle(shop.folder, "DELETE FROM bodies")
    ofd.set_faults(outage=True)
    shop.sync.run()
    assert shop.rows("SELECT body FROM bodies ORDER BY document") == bodies
    ofd.set_faults()
    shop.sync.run_for(130)
    assert statuses(shop, requests) == ["synced"] * 3


# -- probing ------------------------------------------------------------------------------------------------------


def test_a_half_open_breaker_asks_the_health_check_first(shop, ofd):
    ofd.set_faults(outage=True)
    requests = printed(shop, 6)
    shop.sync.run()
    before = ofd.requests()
    shop.sync.run_for(59)
    ofd.set_faults()
    shop.sync.run_for(2)
    assert [(change.previous, change.current) for change in shop.sync.changes] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
    assert statuses(shop, requests) == ["synced"] * 6
    assert ofd.requests() == before + 6


def test_without_a_health_check_the_oldest_bad_document_is_not_the_eternal_trial(open_shop, ofd):
    shop = open_shop(health_path="", buffer={"capacity": 1000})
    ofd.set_faults(outage=True)
    bad, *good = printed(shop, 51)
    shop.sync.run()
    assert shop.sync.breaker.state == "open"
    ofd.set_faults(error_keys=[key(bad)])
    shop.sync.run_for(600, at_once=5)
    assert statuses(shop, good) == ["synced"] * 50
    assert shop.status(bad) == "printed"


def test_without_a_health_check_ten_bad_ones_in_front_are_passed(open_shop, ofd):
    shop = open_shop(health_path="", buffer={"capacity": 1000})
    ofd.set_faults(outage=True)
    requests = printed(shop, 40)
    bad, good = requests[:10], requests[10:]
    shop.sync.run()
    ofd.set_faults(error_keys=[key(request) for request in bad])
    shop.sync.run_for(2 * HOUR_S, at_once=60)
    assert statuses(shop, good) == ["synced"] * 30
    assert "synced" not in statuses(shop, bad)


def test_without_a_health_check_probes_end_an_outage(open_shop, ofd):
    shop = open_shop(health_path="")
    ofd.set_faults(outage=True)
    requests = printed(shop, 10)
    shop.sync.run_for(HOUR_S, at_once=30)
    ofd.set_faults()
    shop.sync.run_for(61)
    assert statuses(shop, requests) == ["synced"] * 10


@pytest.mark.parametrize("jump_s", [-365 * 24 * HOUR_S, 365 * 24 * HOUR_S])
def test_a_wall_clock_that_jumps_delays_nothing(shop, ofd, jump_s):
    ofd.set_faults(outage=True)
    requests = printed(shop, 6)
    shop.sync.run()
    shop.clock.jump(jump_s)
    ofd.set_faults()
    shop.sync.run_for(61)
    assert statuses(shop, requests) == ["synced"] * 6


def test_an_open_breaker_does_not_outlive_the_process(shop, ofd):
    ofd.set_faults(outage=True)
    requests = printed(shop, 6)
    shop.sync.run()
    ofd.set_faults()
    shop.restart()
    shop.sync.run()
    assert statuses(shop, requests) == ["synced"] * 6


# -- an operator's sync -------------------------------------------------------------------------------------------


def test_a_sync_sends_what_is_pending_and_counts(shop):
    requests = printed(shop, 5)
    result = shop.sync.order()
    assert (result.sent, result.failed, result.skipped) == (5, 0, 0)
    assert statuses(shop, requests) == ["synced"] * 5
    assert shop.sync.order().sent == 0


def test_a_sync_does_not_pass_an_open_breaker_and_says_so(shop, ofd):
    ofd.set_faults(outage=True)
    printed(shop, 6)
    shop.sync.run()
    result = shop.sync.order()
    assert (result.sent, result.failed, result.skipped) == (0, 0, 6)


def test_a_forced_sync_passes_an_open_breaker_and_closes_it(shop, ofd):
    ofd.set_faults(outage=True)
    requests = printed(shop, 6)
    shop.sync.run()
    ofd.set_faults()
    result = shop.sync.order(force=True)
    assert (result.sent, result.failed, result.skipped) == (6, 0, 0)
    assert statuses(shop, requests) == ["synced"] * 6
    assert shop.sync.breaker.state == "closed"


def test_a_forced_sync_ends_waits(shop, ofd):
    (bad,) = printed(shop)
    ofd.set_faults(error_keys=[key(bad)])
    shop.sync.run()
    assert documents(shop)[0][0] == "waiting"
    ofd.set_faults()
    assert shop.sync.order().sent == 0
    assert shop.sync.order(force=True).sent == 1


def test_a_plain_sync_sends_what_has_waited_long_enough(shop, ofd):
    (bad,) = printed(shop)
    ofd.set_faults(error_keys=[key(bad)])
    shop.sync.run()
    ofd.set_faults()
    shop.clock.advance(6)
    assert shop.sync.order().sent == 1


@pytest.mark.parametrize("health_path", ["/ofd/v1/health", ""])
def test_a_forced_attempt_always_counts(open_shop, ofd, health_path):
    shop = open_shop(health_path, sync={"max_attempts": 3})
    requests = printed(shop, 2)
    ofd.set_faults(outage=True)
    shop.sync.run()
    assert {strikes for _, _, strikes in documents(shop)} == {0}
    for failed in range(1, 4):
        result = shop.sync.order(force=True)
        assert (result.sent, result.failed, result.skipped) == (0, 2, 0), failed
    assert statuses(shop, requests) == ["dead"] * 2


def test_a_document_is_tried_once_in_a_round(shop, ofd):
    printed(shop, 2)
    ofd.set_faults(outage=True)
    before = ofd.requests()
    shop.sync.order(force=True)
    assert ofd.requests() == before + 2


def test_results_count_the_refused_as_failed_and_the_waiting_as_skipped(shop, ofd):
    good, refused, failing = printed(shop, 3)
    ofd.set_faults(refuse_keys=[key(refused)], error_keys=[key(failing)])
    result = shop.sync.order()
    assert (result.sent, result.failed, result.skipped) == (1, 2, 0)
    result = shop.sync.order()
    assert (result.sent, result.failed, result.skipped) == (0, 0, 1)
    assert shop.status(good) == "synced"


def test_a_second_sync_while_the_first_runs_is_refused_and_then_free(shop):
    printed(shop)
    first = shop.sync.delivery.request(force=False)
    with pytest.raises(SyncInProgress):
        shop.sync.delivery.request(force=True)
    shop.sync.run()
    assert first.result(0).sent == 1
    shop.sync.order()


def test_an_automatic_round_gives_way(shop, ofd):
    printed(shop, 40)
    shop.sync.step()
    assert shop.sync.delivery.in_progress
    result = shop.sync.order()
    assert result.sent + shop.sync.delivery.outcomes.sent_total >= 40
    assert not shop.sync.delivery.in_progress


def test_a_sync_on_a_failing_disk_ends_when_the_disk_is_back(shop):
    requests = printed(shop, 2)
    break_disk(shop.journal)
    waiting = shop.sync.delivery.request(force=True)
    shop.sync.run()
    assert not waiting.done()
    mend_disk(shop.journal)
    shop.sync.run()
    assert waiting.result(0).sent == 2
    assert statuses(shop, requests) == ["synced"] * 2


# -- what is told -----------------------------------------------------------------------------------------------------


def test_totals_and_the_last_success_are_kept(shop, ofd):
    good, bad = printed(shop, 2)
    ofd.set_faults(refuse_keys=[key(bad)])
    shop.sync.run()
    delivery = shop.sync.delivery
    assert (delivery.outcomes.sent_total, delivery.outcomes.failed_total) == (1, 1)
    assert delivery.outcomes.last_success_ms == shop.clock.now_ms()
    assert shop.status(good) == "synced"


def test_the_network_is_believed_slowly(shop, ofd):
    ofd.set_faults(outage=True)
    printed(shop, 6)
    shop.sync.run()
    assert shop.sync.network.state == "degraded"
    (event,) = shop.events("network")
    assert (event["from"], event["to"]) == ("online", "degraded")
    ofd.set_faults()
    shop.sync.run_for(61)
    assert shop.sync.network.state == "degraded", "not 90 s in it yet"
    for _ in range(5):
        printed(shop)
        shop.sync.run_for(10)
    assert shop.sync.network.state == "online"


def test_a_network_that_came_back_is_believed_also_when_there_is_nothing_to_send(shop, ofd):
    ofd.set_faults(outage=True)
    printed(shop, 6)
    shop.sync.run()
    ofd.set_faults()
    shop.sync.run_for(70)
    assert shop.journal.counts()["kkt-1", "printed"] == 0
    assert shop.sync.network.state == "degraded", "not 90 s in it yet"
    shop.sync.run_for(60)
    assert shop.sync.network.state == "online"
    assert shop.events("network")[-1]["to"] == "online"
    assert shop.sync.run() is None, "and then it rests"


@pytest.mark.parametrize("health_path", ["/ofd/v1/health", ""])
def test_an_ofd_that_answers_with_errors_is_degraded_not_offline(open_shop, ofd, health_path):
    shop = open_shop(health_path)
    ofd.set_faults(outage=True)
    printed(shop, 6)
    shop.sync.run_for(HOUR_S, at_once=20)
    assert shop.sync.network.state == "degraded"


def test_nobody_at_the_ofds_address_is_offline(tmp_path):
    shop = InProcessBridge(tmp_path)
    printed(shop, 3)
    shop.sync.run()
    assert shop.sync.network.state == "offline"
    shop.kill()


def test_nothing_is_remembered_of_documents_that_are_done(shop, ofd):
    refused, sent = printed(shop, 2)
    ofd.set_faults(error_keys=[key(refused), key(sent)])
    shop.sync.run()
    ofd.set_faults(refuse_keys=[key(refused)])
    shop.sync.run_for(20)
    assert statuses(shop, (refused, sent)) == ["dead", "synced"]
    evidence = shop.sync.uplink.evidence
    assert (evidence._failing, evidence._failed_at, evidence._misdirected) == ({}, {}, {})


def test_log_lines_name_the_receipt_and_nothing_of_the_customer(shop, ofd, caplog):
    caplog.set_level("INFO")
    (bad,) = printed(shop, customer={"contact": "buyer@example.com"})
    ofd.set_faults(refuse_keys=[key(bad)])
    shop.sync.run()
    (record,) = [record for record in caplog.records if "has not taken" in record.message]
    assert record.receipt_id == bad["receipt_id"]
    assert "buyer@example.com" not in caplog.text
    assert "Оправа" not in caplog.text


def test_two_pos_with_one_id_are_two_documents(shop, ofd):
    request = receipt(receipt_id=str(uuid.uuid4()))
    shop.sell(request)
    other = {**request, "pos_id": "pos-2"}
    shop.arrive(TOPICS.receipt("pos-2"), other)
    shop.intake.step()
    shop.print_all()
    shop.sync.run()
    received = ofd.documents()
    assert key(request) in received
    assert key(other) in received
    assert shop.journal.read(lambda connection: ready_documents(connection, "kkt-1", 0, 10)) == []

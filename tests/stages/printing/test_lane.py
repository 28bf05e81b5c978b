"""Stage 2: a lane prints its register's receipts in order, each once, and stands still where it cannot."""

from datetime import datetime, timedelta

import pytest
from support.receipts import item, receipt, small_receipt
from support.registers import print_on
from support.stages import (
    TOPICS,
    InProcessBridge,
    a_print_job,
    break_disk,
    check_counts,
    key_of,
    meddle,
    mend_disk,
    run,
)

from kkt_bridge.errors import RegisterNotReady
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.registers.virtual.fiscal_document import registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.registers.virtual.storage_file import read_documents
from kkt_bridge.stages.printing.lane import LEASE_MAX, RETRY_S

HOUR_S = 3600


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path)
    yield opened
    mend_disk(opened.journal)
    check_counts(opened.journal, tmp_path)
    opened.kill()


def sell(shop, count=1, **changes):
    """Take receipts; the requests."""
    requests = [receipt(**changes) for _ in range(count)]
    for request in requests:
        shop.sell(request, pos=request["pos_id"])
    return requests


def everything(shop, kkt="kkt-1"):
    """The forms of all documents in the fiscal storage: 1 registration, 2 and 5 shift, 3 receipt."""
    return [document.body.form for document in read_documents(shop.folder / f"{kkt}.fn")]


def a_bad_receipt():
    return small_receipt({"name": "дефект"})


# -- printing --------------------------------------------------------------------------------------------


def test_a_receipt_is_printed_with_its_digest_and_answered(shop):
    (request,) = sell(shop)
    shop.print_all()
    (document,) = shop.documents()
    assert document.body.requisite_1192 == requisite_1192(key_of(request))
    (reply,) = shop.replies()
    assert (reply["status"], reply["final"], reply["duplicate"], reply["warnings"]) == ("printed", True, False, [])
    assert (reply["fiscal"]["fd_number"], reply["fiscal"]["total"]) == (document.fd_number, "200.50")
    assert reply["printed_at"] == "2026-11-22T12:03:00.000+03:00"
    assert shop.status(request) == "printed"


def test_many_receipts_are_printed_in_order_with_numbers_without_gaps(shop):
    requests = sell(shop, 40)
    shop.print_all()
    assert [reply["receipt_id"] for reply in shop.replies()] == [request["receipt_id"] for request in requests]
    numbers = [reply["fiscal"]["fd_number"] for reply in shop.replies()]
    assert numbers == list(range(numbers[0], numbers[0] + 40))


def test_a_fast_register_shares_commits_and_a_slow_one_does_not_wait_for_company(shop):
    sell(shop, LEASE_MAX + 4)
    shop.lane.step()
    assert len(shop.documents()) == 1, "how fast it is is not yet known"
    shop.lane.step()
    assert len(shop.documents()) == 1 + LEASE_MAX
    before = shop.journal._state.clock.commit_no
    shop.print_all()
    assert shop.journal._state.clock.commit_no - before <= 2


def test_a_slow_register_leases_one_at_a_time(tmp_path):
    shop = InProcessBridge(tmp_path, print_time_s=1.5)
    sell(shop, 3)
    for printed in range(1, 4):
        shop.lane.step()
        assert len(shop.documents()) == printed
        assert shop.journal.counts()["kkt-1", "printing"] == (1 if printed < 3 else 0)
    assert shop.waited_s == [1.5] * 3
    shop.kill()


def test_before_the_first_byte_the_disk_knows(shop, monkeypatch):
    sell(shop)
    seen = []
    register = shop.registers["kkt-1"]
    printing = register.print_receipt

    def print_receipt(*what):
        seen.extend(shop.rows("SELECT status, fn_before, fd_before FROM receipts"))
        return printing(*what)

    monkeypatch.setattr(register, "print_receipt", print_receipt)
    shop.print_all()
    last_before = shop.documents()[0].fd_number - 1
    assert seen == [("printing", shop.lane.view.status.fn_number, last_before)]


def test_a_refused_receipt_is_rejected_and_the_next_one_is_printed(shop):
    shop.break_register(refuse_names=["дефект"])
    bad = a_bad_receipt()
    shop.sell(bad)
    (good,) = sell(shop)
    shop.print_all()
    assert (shop.status(bad), shop.status(good)) == ("rejected", "printed")
    rejected, _ = shop.replies()
    assert (rejected["status"], rejected["final"], rejected["error"]["code"]) == ("rejected", True, "kkt_rejected")
    assert not rejected["error"]["retryable"]
    assert "nothing was printed" in rejected["error"]["message"]
    assert len(shop.documents()) == 1


def test_paper_that_runs_out_under_a_document_is_a_success_with_a_warning(shop):
    shop.break_register(paper_out_after=0)
    (request,) = sell(shop)
    shop.print_all()
    (reply,) = shop.replies()
    assert (reply["status"], reply["warnings"]) == ("printed", ["not_on_paper"])
    shop.sell(request)
    assert shop.replies()[-1]["warnings"] == ["not_on_paper"]
    assert len(shop.documents()) == 1


def test_replaced_letters_are_told(shop):
    shop.sell(small_receipt({"name": "Линза 1.6 €"}))
    shop.print_all()
    assert shop.replies()[0]["warnings"] == ["text_replaced"]


def test_registers_do_not_wait_for_each_other(tmp_path):
    shop = InProcessBridge(tmp_path, registers=("kkt-1", "kkt-2"), pos={"pos-1": "kkt-1", "pos-2": "kkt-2"})
    shop.break_register("kkt-1", offline=True)
    (first,) = sell(shop)
    (second,) = sell(shop, pos_id="pos-2")
    shop.print_all()
    assert (shop.status(first), shop.status(second)) == ("buffered", "printed")
    shop.kill()


def test_an_idle_lane_commits_nothing_and_sleeps_until_the_next_look(shop):
    shop.print_all()
    before = shop.journal._state.clock.commit_no
    wait = shop.lane.step()
    assert 0 < wait <= shop.settings.telemetry.interval_s
    assert shop.journal._state.clock.commit_no == before


# -- standing still --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "problem"),
    [
        ({"offline": True}, "offline"),
        ({"busy": True}, "busy"),
        ({"paper_out": True}, "paper_out"),
        ({"fn_exhausted": True}, "fn_exhausted"),
    ],
)
def test_a_register_that_cannot_keeps_its_queue_and_goes_on_by_itself(shop, caplog, faults, problem):
    caplog.set_level("INFO")
    shop.break_register(**faults)
    requests = sell(shop, 3)
    assert shop.lane.step() == RETRY_S
    for _ in range(5):
        shop.clock.advance(RETRY_S)
        shop.lane.step()
    assert shop.lane.view.problem == problem
    assert [shop.status(request) for request in requests] == ["buffered"] * 3
    assert caplog.text.count("stands still") == 1, "said once, not every second"
    assert "is ready" not in caplog.text
    shop.heal_register()
    shop.print_patiently(2)
    assert shop.lane.view.problem is None
    assert [shop.status(request) for request in requests] == ["printed"] * 3
    assert caplog.text.count("is ready") == 1


def test_a_register_that_goes_away_in_the_middle_of_a_queue_loses_nothing(shop):
    requests = sell(shop, 5)
    shop.lane.step()
    shop.break_register(offline=True)
    shop.print_patiently(3)
    assert [shop.status(request) for request in requests] == ["printed", "printing", *["buffered"] * 3]
    shop.heal_register()
    shop.print_patiently(2)
    assert len(shop.documents()) == 5
    assert [reply["receipt_id"] for reply in shop.replies()] == [request["receipt_id"] for request in requests]


def test_paper_that_ran_out_is_known_at_once(shop):
    shop.break_register(paper_out_after=0)
    sell(shop)
    shop.print_all()
    assert shop.lane.view.problem == "paper_out"
    assert shop.lane.view.status.paper == "out"


def test_nothing_more_is_begun_when_the_paper_has_run_out(shop):
    """Also of what is leased already: the register is asked first, and says what it lacks."""
    requests = sell(shop, 6)
    shop.lane.step()
    assert shop.journal.counts()["kkt-1", "printing"] == 5
    shop.break_register(paper_out_after=1)
    shop.print_patiently(3)
    assert [shop.status(request) for request in requests] == ["printed"] * 3 + ["buffered"] * 3
    assert [reply["warnings"] for reply in shop.replies()] == [[], [], ["not_on_paper"]]
    assert shop.lane.view.problem == "paper_out"
    shop.heal_register()
    shop.print_patiently(2)
    assert [shop.status(request) for request in requests] == ["printed"] * 6


def test_a_register_that_is_busy_for_a_moment_is_asked_again(shop):
    (request,) = sell(shop)
    shop.break_register(busy_next=3)
    shop.print_patiently(5)
    assert shop.status(request) == "printed"
    assert len(shop.documents()) == 1


def test_a_lane_that_stands_still_does_not_spin(shop):
    shop.break_register(offline=True)
    shop.lane.step()
    assert shop.lane.step() == pytest.approx(RETRY_S)
    shop.clock.advance(0.4)
    assert shop.lane.step() == pytest.approx(RETRY_S - 0.4)


def test_a_fiscal_storage_file_held_by_another_program_is_a_register_that_is_away(shop, tmp_path):
    stranger = FiscalStorage(tmp_path / "kkt-1.fn")
    stranger.open(registration_of("kkt-1"), datetime.fromisoformat("2026-11-22T12:00:00+03:00"))
    (request,) = sell(shop)
    shop.print_all()
    assert shop.lane.view.problem == "offline"
    assert "another process has this fiscal storage open" in shop.lane.view.detail
    stranger.close()
    shop.print_patiently(2)
    assert shop.status(request) == "printed"


def test_a_document_left_open_by_another_program_is_cancelled(shop):
    shop.print_all()
    sell(shop)
    shop.print_all()
    register = shop.registers["kkt-1"]
    register._model.open_document("sale")
    (request,) = sell(shop)
    shop.clock.advance(shop.settings.telemetry.interval_s)
    shop.print_patiently(3)
    assert shop.status(request) == "printed"
    assert len(shop.documents()) == 2


def test_documents_of_another_program_in_between_do_not_disturb(shop):
    requests = sell(shop, 1)
    shop.print_all()
    register = shop.registers["kkt-1"]
    print_on(register, a_print_job())
    requests += sell(shop, 1)
    shop.print_all()
    assert len(shop.documents()) == 3
    assert [shop.status(request) for request in requests] == ["printed"] * 2


# -- age -------------------------------------------------------------------------------------------------


def test_a_receipt_too_old_when_its_turn_comes_is_rejected_unprinted(tmp_path):
    shop = InProcessBridge(tmp_path, print={"max_age_s": 60})
    shop.break_register(offline=True)
    (old,) = sell(shop)
    shop.clock.advance(50)
    (young,) = sell(shop)
    shop.clock.advance(10.5)
    shop.heal_register()
    shop.print_patiently(2)
    assert (shop.status(old), shop.status(young)) == ("rejected", "printed")
    reply = next(reply for reply in shop.replies() if reply["receipt_id"] == old["receipt_id"])
    assert reply["error"]["code"] == "kkt_rejected"
    assert "longer than 60 s" in reply["error"]["message"]
    assert len(shop.documents()) == 1
    shop.kill()


@pytest.mark.parametrize("jump_s", [1_000_000, -1_000_000])
def test_a_wall_clock_that_jumps_makes_no_receipt_old(tmp_path, jump_s):
    shop = InProcessBridge(tmp_path, print={"max_age_s": 60})
    (request,) = sell(shop)
    shop.clock.jump(jump_s)
    shop.print_patiently(2)
    assert shop.status(request) == "printed"
    shop.kill()


def test_without_a_limit_any_age_is_printed(shop):
    shop.break_register(offline=True)
    (request,) = sell(shop)
    shop.clock.advance(30 * 24 * HOUR_S)
    shop.heal_register()
    shop.print_patiently(3)
    assert shop.status(request) == "printed"


def test_a_body_of_another_release_does_not_stop_the_lane(shop, caplog):
    caplog.set_level("DEBUG")
    (unreadable,) = sell(shop, customer={"contact": "buyer@example.com"})
    (good,) = sell(shop)
    shop.kill()
    body = '{"receipt_id": "?", "customer": {"contact": "buyer@example.com"}}'
    meddle(shop.folder, f"UPDATE requests SET body = '{body}' WHERE receipt = (SELECT min(receipt) FROM requests)")
    shop._start()
    shop.print_all()
    assert (shop.status(unreadable), shop.status(good)) == ("rejected", "printed")
    (rejected, _) = shop.replies()
    assert "\n" not in rejected["error"]["message"]
    assert "buyer@example.com" not in rejected["error"]["message"] + caplog.text


# -- shifts ----------------------------------------------------------------------------------------------


def test_a_shift_is_opened_when_a_receipt_waits_for_it_and_not_before(shop):
    shop.print_all()
    assert everything(shop) == [1]
    sell(shop)
    shop.print_all()
    assert everything(shop) == [1, 2, 3]
    assert shop.events("shift") == [
        {"kkt": "kkt-1", "number": 1, "open": True, "fd_number": 2, "at": "2026-11-22T12:03:00.000+03:00"}
    ]


def run_until(shop, seconds):
    """Let time pass as a thread would: step, sleep as long as the lane says."""
    end = shop.clock.monotonic() + seconds
    for _ in range(100_000):
        wait = shop.lane.step()
        left = end - shop.clock.monotonic()
        if left <= 0:
            return
        shop.clock.advance(min(left, wait or 0))
    raise AssertionError("the lane does not sleep")


def test_a_shift_is_closed_before_it_is_a_day_old_also_when_idle(shop):
    sell(shop)
    shop.print_all()
    opened = shop.clock.now_ms()
    run_until(shop, 23.4 * HOUR_S)
    assert everything(shop) == [1, 2, 3]
    run_until(shop, 0.2 * HOUR_S)
    assert everything(shop) == [1, 2, 3, 5]
    closed = datetime.fromisoformat(shop.events("shift")[-1]["at"]).timestamp()
    assert timedelta(hours=23.4) <= timedelta(seconds=closed - opened / 1000) <= timedelta(hours=23.6)
    run_until(shop, 48 * HOUR_S)
    assert everything(shop) == [1, 2, 3, 5], "no shift is opened for nobody"
    assert [event["open"] for event in shop.events("shift")] == [True, False]


def test_a_busy_lane_changes_shifts_between_two_receipts(shop):
    requests = []
    for _ in range(60):
        requests += sell(shop)
        run_until(shop, HOUR_S)
    assert {shop.status(request) for request in requests} == {"printed"}
    shifts = [form for form in everything(shop) if form != 3]
    assert shifts[:5] == [1, 2, 5, 2, 5]
    ages = shop.rows("SELECT count(*) FROM receipts WHERE status = 'printed'")
    assert ages == [(60,)]


def test_a_queue_that_never_ends_does_not_keep_a_shift_open(tmp_path):
    """Nor does a register that is seldom asked how it is."""
    shop = InProcessBridge(tmp_path, print_time_s=0.5 * HOUR_S, telemetry={"interval_s": 30 * 24 * HOUR_S})
    sell(shop, 120)
    shop.print_all()
    receipts_in_shift = [0]
    for form in everything(shop):
        if form == 3:
            receipts_in_shift[-1] += 1
        elif form == 5:
            receipts_in_shift.append(0)
    assert sum(receipts_in_shift) == 120
    assert max(receipts_in_shift) <= 47, "23.5 h, half an hour each"
    shop.kill()


def test_an_expired_shift_is_closed_and_a_new_one_opened(shop):
    sell(shop)
    shop.print_all()
    shop.kill()
    shop.clock.advance(30 * HOUR_S)
    shop._start()
    (request,) = sell(shop)
    shop.print_all()
    assert everything(shop) == [1, 2, 3, 5, 2, 3]
    assert shop.status(request) == "printed"


def test_a_shift_that_expires_under_the_queue_is_changed(shop):
    """The register's clock goes faster than ours, and says so only when a receipt is begun."""
    sell(shop)
    shop.print_all()
    shop.break_register(clock_offset_s=25 * HOUR_S)
    (request,) = sell(shop)
    shop.print_patiently(3)
    assert shop.status(request) == "printed"
    assert everything(shop) == [1, 2, 3, 5, 2, 3]


def test_a_shift_that_another_program_closed_is_opened_again(shop):
    sell(shop)
    shop.print_all()
    shop.registers["kkt-1"].close_shift(None)
    (request,) = sell(shop)
    shop.print_patiently(3)
    assert shop.status(request) == "printed"
    assert everything(shop) == [1, 2, 3, 5, 2, 3]


def test_a_shift_event_is_not_lost_with_a_full_disk(shop):
    shop.print_all()
    (request,) = sell(shop)
    break_disk(shop.journal)
    shop.print_patiently(3)
    assert everything(shop)[:2] == [1, 2]
    mend_disk(shop.journal)
    shop.print_patiently(3)
    assert [event["number"] for event in shop.events("shift")] == [1]
    assert shop.status(request) == "printed"
    assert everything(shop) == [1, 2, 3]


# -- jobs ------------------------------------------------------------------------------------------------


def test_a_job_is_done_between_two_receipts(shop):
    sell(shop, 2)
    shop.lane.step()
    report = shop.lane.request(lambda register: register.close_shift(None))
    shop.print_all()
    assert (report.result(0).open, report.result(0).number) == (False, 1)
    assert everything(shop) == [1, 2, 3, 3, 5], "what was leased is printed first"
    assert [event["open"] for event in shop.events("shift")] == [True, False]


def test_a_job_that_the_register_refuses_fails_alone(shop):
    shop.print_all()
    refused = shop.lane.request(lambda register: register.close_shift(None))
    fine = shop.lane.request(lambda register: register.open_shift(None))
    shop.print_all()
    with pytest.raises(RegisterNotReady):
        refused.result(0)
    assert fine.result(0).open
    assert shop.lane.view.problem is None


def test_jobs_do_not_wait_for_a_register_that_is_away(shop):
    shop.break_register(offline=True)
    jobs = [shop.lane.request(lambda register: register.x_report()) for _ in range(3)]
    shop.lane.step()
    for job in jobs:
        with pytest.raises(RegisterNotReady, match="no answer"):
            job.result(0)


def test_a_job_always_gets_an_answer_even_if_the_disk_fails(shop):
    shop.print_all()
    break_disk(shop.journal)
    job = shop.lane.request(lambda register: register.open_shift(None))
    shop.lane.step()
    assert job.result(0).number == 1
    mend_disk(shop.journal)
    shop.print_patiently(2)
    assert [event["number"] for event in shop.events("shift")] == [1]


def test_a_job_with_a_bug_gets_an_answer_and_the_lane_goes_on(shop):
    shop.print_all()

    def bug(_register):
        raise ZeroDivisionError

    job = shop.lane.request(bug)
    shop.lane.step()
    assert shop.lane.view.problem == "internal_error"
    assert isinstance(job.exception(0), ZeroDivisionError)
    (request,) = sell(shop)
    shop.print_patiently(2)
    assert shop.status(request) == "printed"


def test_a_cancelled_job_is_not_done(shop):
    job = shop.lane.request(lambda register: register.open_shift(None))
    assert job.cancel()
    shop.print_all()
    assert everything(shop) == [1]


def test_a_copy_is_no_fiscal_document(shop):
    sell(shop)
    shop.print_all()
    job = shop.lane.request(lambda register: register.print_copy(None))
    shop.print_all()
    assert job.result(0) is None
    assert len(shop.documents()) == 1


# -- the view --------------------------------------------------------------------------------------------


def test_the_view_shows_the_register_as_it_last_answered(shop):
    assert (shop.lane.view.status, shop.lane.view.problem) == (None, "not_yet_reached")
    shop.break_register(clock_offset_s=90)
    sell(shop)
    shop.print_all()
    view = shop.lane.view
    assert (view.kkt, view.driver, view.problem, view.clock_drift_s) == ("kkt-1", "virtual", None, 90.0)
    assert view.last_fd_number == 3
    shop.clock.advance(shop.settings.telemetry.interval_s)
    shop.lane.step()
    assert shop.lane.view.status.mode == "shift_open"


def test_the_register_is_asked_how_it_is_every_so_often(shop, monkeypatch):
    shop.print_all()
    asked = []
    register = shop.registers["kkt-1"]
    status = register.status
    monkeypatch.setattr(register, "status", lambda: asked.append(shop.clock.monotonic()) or status())
    run_until(shop, 10 * shop.settings.telemetry.interval_s)
    assert 9 <= len(asked) <= 11


# -- closing ---------------------------------------------------------------------------------------------


def test_a_closed_lane_gives_back_what_it_had_not_begun(shop):
    requests = sell(shop, 5)
    shop.lane.step()
    assert shop.journal.counts()["kkt-1", "printing"] == 4
    shop.lane.close()
    assert shop.journal.counts()["kkt-1", "printing"] == 0
    shop.restart()
    shop.print_all()
    assert len(shop.documents()) == 5
    assert [reply["receipt_id"] for reply in shop.replies()] == [request["receipt_id"] for request in requests]


def test_a_lane_closed_on_a_full_disk_lets_go_of_its_register(shop):
    sell(shop, 2)
    shop.lane.step()
    break_disk(shop.journal)
    shop.lane.close()
    mend_disk(shop.journal)
    shop.restart()
    shop.print_all()
    assert len(shop.documents()) == 2


def test_items_of_every_shape_come_through(shop):
    items = [item(name=f"Товар {number}", quantity=number + 1, total=f"{10 * (number + 1)}") for number in range(20)]
    shop.sell(receipt(items=items, payments=[{"type": "card", "amount": "2100"}]))
    shop.print_all()
    (document,) = shop.documents()
    assert document.body.total == 210_000
    assert len(document.body.content["lines"]) == 20


def test_what_goes_to_a_response_topic_comes_with_its_correlation(shop):
    shop.sell(receipt(), correlation=b"\x01", response_topic=f"{TOPICS.branch}/pos/pos-1/mine")
    shop.print_all()
    (message,) = [message for message in shop.outbox() if message.topic.endswith("/mine")]
    assert message.correlation == b"\x01"


# -- resting ---------------------------------------------------------------------------------------------


def test_a_resting_lane_has_its_next_receipt_leased_in_the_commit_that_takes_it(shop):
    sell(shop)
    shop.print_all()
    before = shop.journal._state.clock.commit_no
    sell(shop)
    assert shop.journal.counts()["kkt-1", "printing"] == 1
    assert shop.rows("SELECT count(*) FROM receipts WHERE fd_before IS NULL") == [(0,)]
    shop.lane.step()
    assert len(shop.documents()) == 2
    assert shop.journal._state.clock.commit_no - before == 2


def test_what_was_leased_for_a_resting_lane_is_given_back_when_it_closes(shop):
    sell(shop)
    shop.print_all()
    sell(shop)
    shop.lane.close()
    assert (shop.journal.counts()["kkt-1", "printing"], shop.journal.counts()["kkt-1", "buffered"]) == (0, 1)


def test_nothing_is_leased_for_a_lane_whose_shift_is_closed_or_that_has_other_work(shop):
    sell(shop)
    shop.print_all()
    shop.lane.request(lambda register: register.close_shift(None))
    sell(shop)
    assert shop.journal.counts()["kkt-1", "printing"] == 0
    shop.print_all()
    assert len(shop.documents()) == 2
    run(shop.lane.step)
    shop.lane.request(lambda register: register.close_shift(None))
    run(shop.lane.step)
    sell(shop)
    assert shop.journal.counts()["kkt-1", "printing"] == 0


def test_a_commit_that_takes_long_keeps_no_lane_from_showing_how_its_register_is(shop):
    """As when the disk hangs in the very commit that leases: the lane looks at its register, and begins nothing."""
    sell(shop)
    shop.print_all()
    shop.lane._leases._lease_request.being_granted = True
    shop.break_register(paper_out=True)
    shop.clock.advance(60)
    assert shop.lane.step() < 1
    assert shop.lane.view.status.paper == "out"
    shop.lane._leases._lease_request.being_granted = False
    shop.heal_register()
    sell(shop)
    shop.print_all()
    assert len(shop.documents()) == 2

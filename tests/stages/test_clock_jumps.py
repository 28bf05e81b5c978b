"""The system clock jumps: order, shifts, back-offs and the breaker go by clocks that do not."""

from collections import Counter
from datetime import datetime

import pytest
from support.clocks import NOON_MS
from support.receipts import receipt
from support.stages import RETRY_S, InProcessBridge, check_counts, key_of

from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.registers.virtual.storage_file import read_documents

HOUR_S = 3600
DAY_S = 24 * HOUR_S
YEARS_S = 10 * 365.25 * DAY_S
JUMPS = {
    "a day on": DAY_S,
    "a day back": -DAY_S,
    "ten years on": YEARS_S,
    "ten years back": -YEARS_S,
    "to 1970": -NOON_MS / 1000,
}


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path)
    yield opened
    check_counts(opened.journal, tmp_path)
    opened.kill()


def sell(shop, count=1):
    requests = [receipt() for _ in range(count)]
    for request in requests:
        shop.sell(request)
    return requests


def forms(shop):
    return [document.body.form for document in read_documents(shop.folder / "kkt-1.fn")]


def let_pass(shop, seconds):
    """Let time pass as a thread would: step, sleep as long as the lane says."""
    end = shop.clock.monotonic() + seconds
    for _ in range(100_000):
        wait = shop.lane.step()
        left = end - shop.clock.monotonic()
        if left <= 0:
            return
        shop.clock.advance(min(left, RETRY_S if wait is None else wait))
    raise AssertionError("the lane does not sleep")


def check_in_order(shop, requests):
    """Each printed once, in the order of the sales, and told in that order."""
    assert {shop.status(request) for request in requests} == {"printed"}
    wanted = [requisite_1192(key_of(request)) for request in requests]
    assert [document.body.requisite_1192 for document in shop.documents()] == wanted
    finals = [reply["receipt_id"] for reply in shop.replies() if reply["final"]]
    assert finals == [request["receipt_id"] for request in requests]
    assert Counter(finals).most_common(1)[0][1] == 1
    order = shop.rows("SELECT receipt_id FROM receipts ORDER BY hlc_wall_ms, hlc_counter")
    assert [receipt_id for (receipt_id,) in order] == [request["receipt_id"] for request in requests]


@pytest.mark.parametrize("jump", JUMPS)
def test_receipts_go_on_in_their_order_whatever_the_clock_does(shop, jump):
    requests = sell(shop, 3)
    shop.print_all()
    requests += sell(shop, 2)
    shop.clock.jump(JUMPS[jump])
    requests += sell(shop, 2)
    shop.print_patiently(3)
    shop.clock.advance(shop.settings.telemetry.interval_s)
    requests += sell(shop, 2)
    shop.print_patiently(3)
    check_in_order(shop, requests)


@pytest.mark.parametrize("jump", JUMPS)
def test_there_and_back_again(shop, jump):
    requests = sell(shop, 2)
    shop.print_all()
    for seconds in (JUMPS[jump], -JUMPS[jump]):
        shop.clock.jump(seconds)
        requests += sell(shop, 2)
        shop.print_patiently(3)
        shop.clock.advance(shop.settings.telemetry.interval_s)
        shop.print_patiently(3)
    check_in_order(shop, requests)


@pytest.mark.parametrize("jump", JUMPS)
def test_also_over_a_restart(shop, jump):
    requests = sell(shop, 2)
    shop.print_all()
    requests += sell(shop, 1)
    shop.kill()
    shop.clock.jump(JUMPS[jump])
    shop._start()
    requests += sell(shop, 2)
    shop.print_patiently(4)
    check_in_order(shop, requests)


@pytest.mark.parametrize("jump", JUMPS)
def test_a_doubt_is_settled_whatever_the_clock_does_meanwhile(shop, jump):
    requests = sell(shop, 1)
    shop.break_register(lose_answer_next=1)
    shop.print_all()
    shop.clock.jump(JUMPS[jump])
    shop.print_patiently(3)
    requests += sell(shop, 1)
    shop.print_patiently(3)
    check_in_order(shop, requests)


# -- shifts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", ["a day on", "ten years on"])
def test_a_shift_that_a_jump_made_too_old_is_closed_and_another_opened(shop, jump):
    requests = sell(shop, 1)
    shop.print_all()
    shop.clock.jump(JUMPS[jump])
    requests += sell(shop, 1)
    shop.print_patiently(3)
    assert forms(shop) == [1, 2, 3, 5, 2, 3]
    check_in_order(shop, requests)


@pytest.mark.parametrize("jump", ["a day back", "ten years back", "to 1970"])
def test_a_clock_that_stands_still_does_not_keep_a_shift_open(shop, jump):
    """The register's clock waits for the system's to come back: by ours a shift grows old all the same."""
    sell(shop)
    shop.print_all()
    opened_at = shop.clock.monotonic()
    shop.clock.jump(JUMPS[jump])
    let_pass(shop, 23.4 * HOUR_S)
    assert forms(shop) == [1, 2, 3]
    let_pass(shop, 0.2 * HOUR_S)
    assert forms(shop) == [1, 2, 3, 5], f"{(shop.clock.monotonic() - opened_at) / HOUR_S:.1f} h after it was opened"
    requests = sell(shop)
    shop.print_patiently(2)
    assert {shop.status(request) for request in requests} == {"printed"}


def test_a_shift_older_than_this_process_is_closed_by_the_registers_clock(shop):
    sell(shop)
    shop.print_all()
    shop.kill()
    shop.clock.advance(20 * HOUR_S)
    shop._start()
    let_pass(shop, 3.4 * HOUR_S)
    assert forms(shop) == [1, 2, 3]
    let_pass(shop, 0.2 * HOUR_S)
    assert forms(shop) == [1, 2, 3, 5]


def test_a_new_shift_begins_with_an_age_of_its_own(shop):
    sell(shop)
    shop.print_all()
    shop.clock.jump(-YEARS_S)
    for _ in range(50):
        sell(shop)
        let_pass(shop, HOUR_S)
    lengths = [0]
    for form in forms(shop):
        if form == 3:
            lengths[-1] += 1
        elif form == 5:
            lengths.append(0)
    assert max(lengths) <= 25
    assert len(lengths) == 3, "50 hours are two shifts and the beginning of a third"


def test_another_programs_shift_is_not_counted_as_ours(shop):
    sell(shop)
    shop.print_all()
    let_pass(shop, 20 * HOUR_S)
    register = shop.registers["kkt-1"]
    register.close_shift(None)
    register.open_shift(None)
    let_pass(shop, 20 * HOUR_S)
    assert forms(shop) == [1, 2, 3, 5, 2], "it is 20 hours old, not 40"


def test_another_storages_shift_of_the_same_number_is_another_shift(shop):
    sell(shop)
    shop.print_all()
    let_pass(shop, 20 * HOUR_S)
    status = shop.lane.view.status
    shifts = shop.lane._shift
    assert shop.clock.monotonic() - shifts.opened_at >= 20 * HOUR_S
    changed = {field: getattr(status, field) for field in status.__slots__} | {
        "fn_number": "9999000000000042",
        "shift_opened_at": status.clock,
    }
    shifts.note(type(status)(**changed))
    assert shop.clock.monotonic() == shifts.opened_at


def test_a_register_that_does_not_tell_when_its_shift_was_opened_is_timed_by_us(shop):
    sell(shop)
    shop.print_all()
    status = shop.lane.view.status
    values = {field: getattr(status, field) for field in status.__slots__} | {"shift_opened_at": None}
    shifts = shop.lane._shift
    shifts.note(type(status)(**values))
    shop.clock.advance(5 * HOUR_S)
    shifts.note(type(status)(**values))
    assert shop.clock.monotonic() - shifts.opened_at == pytest.approx(5 * HOUR_S)


def test_shift_events_tell_of_every_change(shop):
    sell(shop)
    shop.print_all()
    shop.clock.jump(YEARS_S)
    sell(shop)
    shop.print_patiently(3)
    told = [(event["number"], event["open"]) for event in shop.events("shift")]
    assert told == [(1, True), (1, False), (2, True)]
    assert datetime.fromisoformat(shop.events("shift")[-1]["at"]).year == 2036


# -- the way to the OFD ------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", JUMPS)
def test_the_breaker_and_the_back_offs_do_not_notice(shop, jump):
    """The OFD is out of reach: the breaker opens, and is half open a minute later by a clock that does not jump."""
    sell(shop, 3)
    shop.print_all()
    sync = shop.sync
    sync.run_for(30)
    assert sync.breaker.state == "open"
    tried = shop.rows("SELECT sum(attempts) FROM documents")
    shop.clock.jump(JUMPS[jump])
    sync.run_for(20)
    assert sync.breaker.state == "open"
    assert shop.rows("SELECT sum(attempts) FROM documents") == tried, "not a try more because of a jump"
    changes = len(sync.changes)
    sync.run_for(60)
    assert [change.current for change in sync.changes[changes:]][:1] == ["half_open"], "and not one less"
    assert shop.rows("SELECT DISTINCT delivery FROM documents") == [("ready",)]

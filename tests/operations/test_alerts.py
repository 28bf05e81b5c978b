"""Alerts: raised once, cleared once, whatever happens to process, broker and disk in between."""

import json
from dataclasses import replace

from support.clocks import NOON_MS
from support.receipts import receipt
from support.stages import break_disk, mend_disk

from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.delivery import dead_letter, dead_letters, discard, ready_documents, record_sent
from kkt_bridge.journal.settings import set_setting
from kkt_bridge.mqtt.holds import Occurrences
from kkt_bridge.operations.alert_conditions import Finding
from kkt_bridge.operations.alert_table import CONDITIONS, Condition
from kkt_bridge.operations.alerts import WAITING_MAX, Alerts
from kkt_bridge.operations.clock_watch import STEADY_S

DAY_S = 86_400


def look(office, seconds=0.5):
    office.shop.clock.advance(seconds)
    office.telemetry.collect()
    office.shop.journal.flush()


def told(office):
    return [(event["alert"], event["state"], event["subject"]) for event in office.shop.events("alert")]


def leave_in_doubt(office, kkt="kkt-1"):
    """A receipt whose document the register does not show; healed by giving the register its eyes back."""
    shop = office.shop
    request = receipt(kkt=kkt)
    shop.sell(request)
    shop.break_register(kkt, lose_answer_next=1)
    shop.print_all(kkt)
    blind(office, kkt)
    shop.print_patiently(2)
    assert shop.lanes[kkt].view.problem == "unsettled_doubt"
    return request


def blind(office, kkt="kkt-1"):
    office.shop.registers[kkt].read_document = lambda _fd_number: None


# -- doubts --------------------------------------------------------------------------------------------------


def test_an_unsettled_doubt_is_raised_and_cleared_once(office):
    leave_in_doubt(office)
    for _ in range(5):
        look(office)
        office.shop.print_patiently(1)
    (event,) = office.shop.events("alert")
    assert (event["alert"], event["severity"], event["state"], event["subject"]) == (
        "unsettled_doubt",
        "critical",
        "raised",
        "kkt-1",
    )
    assert "kkt-1 prints nothing" in event["message"]
    assert "settle list" in event["what_to_do"]
    del office.shop.registers["kkt-1"].read_document
    office.shop.print_patiently(2)
    for _ in range(5):
        look(office)
    assert told(office) == [("unsettled_doubt", "raised", "kkt-1"), ("unsettled_doubt", "cleared", "kkt-1")]
    assert "it had lasted 0:00:0" in office.shop.events("alert")[1]["message"]


def test_it_is_recalled_after_a_restart_and_not_raised_again(office):
    leave_in_doubt(office)
    look(office)
    office.restart()
    for _ in range(3):
        look(office)
    assert len(told(office)) == 1, "not cleared before the register was asked"
    blind(office)
    office.shop.print_patiently(2)
    look(office)
    assert len(told(office)) == 1
    office.restart()
    office.shop.print_patiently(2)
    look(office)
    assert [state for _, state, _ in told(office)] == ["raised", "cleared"]


def test_a_register_that_goes_away_settles_no_doubt(office):
    leave_in_doubt(office)
    look(office)
    office.shop.break_register(offline=True)
    office.shop.print_patiently(3)
    look(office)
    assert office.shop.lane.view.problem == "offline"
    assert told(office) == [("unsettled_doubt", "raised", "kkt-1"), ("register_offline", "raised", "kkt-1")]


def test_each_register_has_an_alert_of_its_own(open_office):
    office = open_office(registers=("kkt-1", "kkt-2"))
    for kkt in ("kkt-1", "kkt-2"):
        leave_in_doubt(office, kkt)
        look(office)
    assert [subject for _, _, subject in told(office)] == ["kkt-1", "kkt-2"]


def test_the_alert_of_a_register_that_is_gone_is_cleared(open_office):
    office = open_office(registers=("kkt-1", "kkt-2"))
    leave_in_doubt(office, "kkt-2")
    look(office)
    office.shop.settings = office.shop.settings.model_copy(update={"kkt": office.shop.settings.kkt[:1]})
    office.restart()
    look(office)
    assert told(office)[1:] == [("unsettled_doubt", "cleared", "kkt-2"), ("orphaned_queue", "raised", "kkt-2")]
    assert "no longer configured" in office.shop.events("alert")[1]["message"]
    assert "1 receipt for kkt-2 waits" in office.shop.events("alert")[2]["message"]


def test_the_state_shows_the_doubts_and_how_many(office):
    assert (office.state("kkt/kkt-1")["doubts"], office.state("kkt/kkt-1")["doubts_total"]) == ([], 0)
    request = leave_in_doubt(office)
    state = office.state("kkt/kkt-1")
    assert state["doubts_total"] == 1
    (doubt,) = state["doubts"]
    assert (doubt["receipt_id"], doubt["pos_id"], doubt["total"]) == (request["receipt_id"], "pos-1", "200.50")
    assert (doubt["fn_number"], doubt["fd_number"]) == (state["fn_number"], 2)
    assert doubt["since"] == "2026-11-22T12:03:00.000+03:00"
    view = office.shop.lane.view
    office.shop.lane.view = type(view)(view.kkt, view.driver, doubts=view.doubts * 30)
    state = office.state("kkt/kkt-1")
    assert (len(state["doubts"]), state["doubts_total"]) == (10, 30)


# -- storage -------------------------------------------------------------------------------------------------


def test_a_failing_disk_is_told_of_when_it_works_again(office):
    look(office)
    break_disk(office.shop.journal)
    office.shop.sell(receipt())
    for _ in range(60):
        look(office)
    assert told(office) == []
    mend_disk(office.shop.journal)
    office.shop.journal.write(lambda tx: None)
    look(office)
    assert told(office) == [("storage", "raised", None), ("storage", "cleared", None)]
    raised, cleared = office.shop.events("alert")
    assert raised["at"] == "2026-11-22T12:03:01.000+03:00"
    assert cleared["at"] == "2026-11-22T12:03:31.000+03:00"
    assert "it had lasted 0:00:30" in cleared["message"]


def test_what_happens_while_the_disk_fails_is_told_with_its_own_time(office):
    look(office)
    break_disk(office.shop.journal)
    office.shop.sell(receipt())
    look(office)
    office.rival = "another client has taken the session"
    look(office)
    mend_disk(office.shop.journal)
    office.shop.journal.write(lambda tx: None)
    look(office, 10)
    times = {(event["alert"], event["state"]): event["at"][17:19] for event in office.shop.events("alert")}
    assert times == {("storage", "raised"): "01", ("rival", "raised"): "01", ("storage", "cleared"): "11"}


def test_an_alert_that_the_disk_refuses_is_kept(office):
    look(office)
    office.rival = "another client has taken the session"
    break_disk(office.shop.journal)
    look(office)
    look(office)
    mend_disk(office.shop.journal)
    office.shop.journal.write(lambda tx: None)
    look(office)
    assert told(office) == [("rival", "raised", None), ("storage", "raised", None), ("storage", "cleared", None)]


# -- clock and rival -----------------------------------------------------------------------------------------


def test_a_jump_is_raised_and_cleared_when_the_clock_has_been_steady(office):
    look(office)
    office.shop.clock.jump(DAY_S)
    look(office)
    assert told(office) == [("clock", "raised", None)]
    (event,) = office.shop.events("alert")
    assert event["severity"] == "warning"
    assert "jumped by +1 day, 0:00:00" in event["message"]
    assert office.state("health")["components"]["clock"]["status"] == "healthy"
    look(office, STEADY_S + 1)
    assert told(office)[1:] == [("clock", "cleared", None)]


def test_a_clock_known_to_be_wrong_is_degraded_health(office):
    office.shop.sell(receipt())
    look(office)
    office.shop.clock.jump(-DAY_S)
    look(office)
    health = office.state("health")
    assert health["components"]["clock"]["status"] == "degraded"
    assert "jumped by -1 day" in health["components"]["clock"]["reason"]
    look(office, 10 * STEADY_S)
    assert told(office) == [("clock", "raised", None)]
    office.shop.clock.jump(DAY_S)
    look(office)
    look(office, STEADY_S + 1)
    assert told(office)[1:] == [("clock", "cleared", None)]


def test_a_start_with_the_clock_behind_is_raised(office):
    office.shop.sell(receipt())
    office.shop.clock.wall_ms = NOON_MS - 3600_000
    office.restart()
    look(office)
    assert told(office) == [("clock", "raised", None)]
    assert "before the newest receipt" in office.shop.events("alert")[0]["message"]


def test_a_rival_is_raised_once_however_often_it_comes(office):
    """Two bridges take the session from each other every half minute: that is one story."""
    for _ in range(4):
        office.rival = "another client has taken the session kkt-bridge-store-017"
        look(office)
        office.rival = None
        for _ in range(60):
            look(office)
    assert told(office) == [("rival", "raised", None)]
    assert "kkt-bridge-store-017" in office.shop.events("alert")[0]["message"]
    for _ in range(200):
        look(office)
    assert told(office)[1:] == [("rival", "cleared", None)]


# -- cost ----------------------------------------------------------------------------------------------------


def test_nothing_is_written_where_nothing_changes(office):
    leave_in_doubt(office)
    look(office)
    before = office.shop.journal._state.clock.commit_no
    for _ in range(100):
        look(office)
    assert office.shop.journal._state.clock.commit_no == before


def test_a_disk_that_fails_is_left_alone(office, monkeypatch):
    look(office)
    break_disk(office.shop.journal)
    office.shop.sell(receipt())
    tries = []
    monkeypatch.setattr(office.shop.journal, "post", lambda _operation: tries.append(1))
    for _ in range(20):
        look(office)
    assert tries == [], "what waits here is bounded, what waits there is not"


def test_who_looks_does_not_wait_for_the_disk(office, monkeypatch):
    look(office)

    def write(_operation):
        raise AssertionError("the state of everything else waits for this")

    monkeypatch.setattr(office.shop.journal, "write", write)
    office.rival = "another client has taken the session"
    office.telemetry.collect()
    assert told(office) == []
    monkeypatch.undo()
    office.shop.journal.flush()
    assert told(office) == [("rival", "raised", None)]


def test_what_waits_for_the_disk_is_bounded(office):
    flips = iter(range(10_000))

    def flip(_fact):
        yield Finding(None, "odd" if next(flips) % 2 == 0 else None)

    shop = office.shop
    alerts = Alerts(
        journal=shop.journal,
        topics=office.retained_state._topics,
        registers=[],
        zone=shop.settings.zone,
        clock=shop.clock,
        conditions=[Condition("flip", object, "warning", flip, "wait", "even")],
    )
    alerts.update([object()])
    break_disk(shop.journal)
    shop.journal.flush()
    for _ in range(3 * WAITING_MAX):
        alerts.update([object()])
    mend_disk(shop.journal)
    shop.journal.write(lambda tx: None)
    alerts.update([object()])
    shop.journal.flush()
    assert len(shop.events("alert")) <= 1 + WAITING_MAX


def test_an_alert_of_another_release_is_forgotten(office):
    shop = office.shop
    kept = {"since": "2026-11-22T12:03:00.000+03:00", "since_ms": 0, "severity": "warning", "message": "odd"}
    values = [
        {"code": "of_another_release", "kkt": "kkt-9", **kept},
        {"code": "clock", "kkt": None, **kept, "of_another_release": 1},
        ["clock", None, 5],
        {"code": "clock", "kkt": None, **kept},
    ]
    shop.journal.write(lambda tx: set_alerts(tx, json.dumps(values)))
    look(office)
    assert told(office) == [("clock", "cleared", None)]


def set_alerts(tx, text):
    set_setting(tx, "alerts_raised", text)


def test_every_condition_has_a_name_of_its_own():
    names = [condition.code for condition in CONDITIONS]
    assert len(set(names)) == len(names)


# -- the set of what is raised -------------------------------------------------------------------------------


def raised(office):
    office.telemetry.collect()
    return json.loads(office.retained_state.snapshot()["alerts"].payload())["alerts"]


def test_the_set_says_what_since_when_and_what_to_do(office):
    assert raised(office) == []
    office.rival = "another client has taken the session"
    (alert,) = raised(office)
    assert alert == {
        "code": "rival",
        "severity": "critical",
        "since": "2026-11-22T12:03:00.000+03:00",
        "message": "another client has taken the session",
        "what_to_do": "find the other bridge or client that uses this bridge's name, and stop it or give it a name of "
        "its own",
        "kkt": None,
    }
    office.rival = None
    look(office, 300)
    assert raised(office) == []


def test_the_set_outlives_a_restart_with_its_times(office):
    leave_in_doubt(office)
    look(office, 1)
    before = raised(office)
    office.restart()
    look(office, 60)
    assert raised(office) == before


def test_the_worst_and_the_oldest_come_first(office):
    office.session = replace(office.session, unroutable=Occurrences(1, "kkt/v1/b"))
    look(office)
    office.rival = "another client"
    look(office)
    leave_in_doubt(office)
    look(office)
    assert [alert["code"] for alert in raised(office)] == ["rival", "unsettled_doubt", "unroutable"]


def test_the_set_is_shown_while_the_journal_takes_nothing(office):
    look(office)
    break_disk(office.shop.journal)
    office.shop.sell(receipt())
    look(office)
    assert [alert["code"] for alert in raised(office)] == ["storage"]
    mend_disk(office.shop.journal)
    office.shop.journal.write(lambda tx: None)
    look(office)
    assert raised(office) == []


def test_what_an_earlier_process_had_raised_is_no_news_when_the_journal_is_read_late(office, monkeypatch):
    office.rival = "another client"
    look(office)
    office.restart()
    read = office.shop.journal.read

    def unreadable(_query):
        raise StorageUnavailable("the disk is away")

    monkeypatch.setattr(office.shop.journal, "read", unreadable)
    look(office, 60)
    assert raised(office)[0]["code"] == "rival"
    monkeypatch.setattr(office.shop.journal, "read", read)
    look(office)
    assert [(code, state) for code, state, _ in told(office) if code == "rival"] == [("rival", "raised")]
    assert next(a for a in raised(office) if a["code"] == "rival")["since"] == "2026-11-22T12:03:00.500+03:00"


def test_what_becomes_worse_is_told_again_and_what_becomes_better_is_not(open_office):
    office = open_office(buffer={"capacity": 10})
    shop = office.shop
    for level, sales in ((80, 8), (90, 1), (100, 1)):
        for _ in range(sales):
            shop.sell(receipt())
        look(office)
        assert str(level if level < 100 else "full") in raised(office)[0]["message"]
    assert told(office) == [("buffer_fill", "raised", None)] * 3
    assert [event["severity"] for event in shop.events("alert")] == ["warning", "critical", "critical"]
    assert len({event["since"] for event in shop.events("alert")}) == 1, "one story"
    assert office.state("health")["components"]["buffer"]["status"] == "unhealthy"
    shop.print_all()
    documents = shop.journal.read(lambda connection: ready_documents(connection, "kkt-1", 0, 100))
    for document in documents[:2]:
        shop.journal.write(lambda tx, document=document: record_sent(tx, document, 1))
    look(office)
    assert raised(office)[0]["severity"] == "warning"
    assert len(told(office)) == 3
    for document in documents[2:6]:
        shop.journal.write(lambda tx, document=document: record_sent(tx, document, 1))
    look(office)
    assert told(office)[3:] == [("buffer_fill", "cleared", None)]


def test_dead_letters_are_raised_until_each_is_decided_on(office):
    shop = office.shop
    for _ in range(2):
        shop.sell(receipt())
    shop.print_all()
    for document in shop.journal.read(lambda connection: ready_documents(connection, "kkt-1", 0, 100)):
        shop.journal.write(lambda tx, document=document: dead_letter(tx, document, reason="refused", error="422"))
    look(office)
    (alert,) = raised(office)
    assert (alert["code"], alert["kkt"]) == ("dead_letters", "kkt-1")
    assert "2 fiscal documents of kkt-1 wait for a decision" in alert["message"]
    state = office.state("health")
    assert (state["status"], state["components"]["dead_letters"]["status"]) == ("degraded", "degraded")
    register = office.state("kkt/kkt-1")
    assert (register["ofd_unsent"], register["ofd_first_unsent_at"]) == (2, "2026-11-22T12:03:00.000+03:00")
    office.restart()
    look(office)
    assert len(told(office)) == 1
    for letter in shop.journal.read(lambda connection: dead_letters(connection, "kkt-1", 0, 10)):
        shop.journal.write(lambda tx, letter=letter: discard(tx, letter, "told the OFD by hand"))
    look(office)
    assert told(office)[1:] == [("dead_letters", "cleared", "kkt-1")]
    assert office.state("health")["components"]["dead_letters"]["status"] == "healthy"
    assert (office.state("kkt/kkt-1")["ofd_unsent"], office.state("kkt/kkt-1")["ofd_first_unsent_at"]) == (0, None)


def test_what_heals_by_itself_is_told_only_when_it_lasts(office):
    flag = {"on": True}

    def look_at(_fact):
        yield Finding("kkt-1", "busy" if flag["on"] else None)

    shop = office.shop
    alerts = Alerts(
        journal=shop.journal,
        topics=office.retained_state._topics,
        registers=["kkt-1"],
        zone=shop.settings.zone,
        clock=shop.clock,
        conditions=[Condition("busy", object, "warning", look_at, "wait", "free", after_s=60)],
    )
    alerts.update([object()])
    shop.clock.advance(59)
    alerts.update([object()])
    flag["on"] = False
    alerts.update([object()])
    flag["on"] = True
    shop.clock.advance(30)
    alerts.update([object()])
    shop.clock.advance(59)
    alerts.update([object()])
    assert alerts.state().alerts == []
    shop.clock.advance(1)
    alerts.update([object()])
    assert [alert.code for alert in alerts.state().alerts] == ["busy"]


def test_a_condition_that_fails_silences_no_other(office, caplog):
    def fail(_fact):
        raise KeyError("odd")
        yield

    shop = office.shop
    alerts = Alerts(
        journal=shop.journal,
        topics=office.retained_state._topics,
        registers=[],
        zone=shop.settings.zone,
        clock=shop.clock,
        conditions=[
            Condition("fails", object, "warning", fail, "wait", "over"),
            Condition("works", object, "warning", lambda _fact: iter([Finding(None, "bad")]), "wait", "over"),
        ],
    )
    for _ in range(5):
        alerts.update([object()])
    assert [alert.code for alert in alerts.state().alerts] == ["works"]
    assert alerts.broken == {"alert fails": "KeyError: 'odd'"}
    assert len([record for record in caplog.records if "cannot be looked at" in record.message]) == 1

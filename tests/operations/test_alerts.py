"""Alerts: raised once, cleared once, whatever happens to process, broker and disk in between."""

import json
from dataclasses import replace

from support.clocks import NOON_MS
from support.receipts import receipt
from support.stages import break_disk, mend_disk

from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.document_queue import dead_letter, dead_letters, discard, ready_documents, record_sent
from kkt_bridge.journal.settings import set_setting
from kkt_bridge.mqtt.refused_publications import Occurrences
from kkt_bridge.operations.alert_table import CONDITIONS, Condition, Finding
from kkt_bridge.operations.alerts import WAITING_MAX, Alerts
from kkt_bridge.operations.clock_watch import STEADY_S

DAY_S = 86_400


def look(ops, seconds=0.5):
    ops.shop.clock.advance(seconds)
    ops.telemetry.collect()
    ops.shop.journal.flush()


def told(ops):
    return [(event["alert"], event["state"], event["subject"]) for event in ops.shop.events("alert")]


def leave_in_doubt(ops, kkt="kkt-1"):
    """A receipt whose document the register does not show; healed by giving the register its eyes back."""
    shop = ops.shop
    request = receipt(kkt=kkt)
    shop.sell(request)
    shop.break_register(kkt, lose_answer_next=1)
    shop.print_all(kkt)
    blind(ops, kkt)
    shop.print_patiently(2)
    assert shop.lanes[kkt].view.problem == "unsettled_doubt"
    return request


def blind(ops, kkt="kkt-1"):
    ops.shop.registers[kkt].read_document = lambda _fd_number: None


# -- doubts --------------------------------------------------------------------------------------------------


def test_an_unsettled_doubt_is_raised_and_cleared_once(ops):
    leave_in_doubt(ops)
    for _ in range(5):
        look(ops)
        ops.shop.print_patiently(1)
    (event,) = ops.shop.events("alert")
    assert (event["alert"], event["severity"], event["state"], event["subject"]) == (
        "unsettled_doubt",
        "critical",
        "raised",
        "kkt-1",
    )
    assert "kkt-1 prints nothing" in event["message"]
    assert "settle list" in event["what_to_do"]
    del ops.shop.registers["kkt-1"].read_document
    ops.shop.print_patiently(2)
    for _ in range(5):
        look(ops)
    assert told(ops) == [("unsettled_doubt", "raised", "kkt-1"), ("unsettled_doubt", "cleared", "kkt-1")]
    assert "it had lasted 0:00:0" in ops.shop.events("alert")[1]["message"]


def test_it_is_recalled_after_a_restart_and_not_raised_again(ops):
    leave_in_doubt(ops)
    look(ops)
    ops.restart()
    for _ in range(3):
        look(ops)
    assert len(told(ops)) == 1, "not cleared before the register was asked"
    blind(ops)
    ops.shop.print_patiently(2)
    look(ops)
    assert len(told(ops)) == 1
    ops.restart()
    ops.shop.print_patiently(2)
    look(ops)
    assert [state for _, state, _ in told(ops)] == ["raised", "cleared"]


def test_a_register_that_goes_away_settles_no_doubt(ops):
    leave_in_doubt(ops)
    look(ops)
    ops.shop.break_register(offline=True)
    ops.shop.print_patiently(3)
    look(ops)
    assert ops.shop.lane.view.problem == "offline"
    assert told(ops) == [("unsettled_doubt", "raised", "kkt-1"), ("register_offline", "raised", "kkt-1")]


def test_each_register_has_an_alert_of_its_own(open_ops):
    ops = open_ops(registers=("kkt-1", "kkt-2"))
    for kkt in ("kkt-1", "kkt-2"):
        leave_in_doubt(ops, kkt)
        look(ops)
    assert [subject for _, _, subject in told(ops)] == ["kkt-1", "kkt-2"]


def test_the_alert_of_a_register_that_is_gone_is_cleared(open_ops):
    ops = open_ops(registers=("kkt-1", "kkt-2"))
    leave_in_doubt(ops, "kkt-2")
    look(ops)
    ops.shop.settings = ops.shop.settings.model_copy(update={"kkt": ops.shop.settings.kkt[:1]})
    ops.restart()
    look(ops)
    assert told(ops)[1:] == [("unsettled_doubt", "cleared", "kkt-2"), ("orphaned_queue", "raised", "kkt-2")]
    assert "no longer configured" in ops.shop.events("alert")[1]["message"]
    assert "1 receipt for kkt-2 waits" in ops.shop.events("alert")[2]["message"]


def test_the_state_shows_the_doubts_and_how_many(ops):
    assert (ops.state("kkt/kkt-1")["doubts"], ops.state("kkt/kkt-1")["doubts_total"]) == ([], 0)
    request = leave_in_doubt(ops)
    state = ops.state("kkt/kkt-1")
    assert state["doubts_total"] == 1
    (doubt,) = state["doubts"]
    assert (doubt["receipt_id"], doubt["pos_id"], doubt["total"]) == (request["receipt_id"], "pos-1", "200.50")
    assert (doubt["fn_number"], doubt["fd_number"]) == (state["fn_number"], 2)
    assert doubt["since"] == "2026-11-22T12:03:00.000+03:00"
    view = ops.shop.lane.view
    ops.shop.lane.view = type(view)(view.kkt, view.driver, doubts=view.doubts * 30)
    state = ops.state("kkt/kkt-1")
    assert (len(state["doubts"]), state["doubts_total"]) == (10, 30)


# -- storage -------------------------------------------------------------------------------------------------


def test_a_failing_disk_is_told_of_when_it_works_again(ops):
    look(ops)
    break_disk(ops.shop.journal)
    ops.shop.sell(receipt())
    for _ in range(60):
        look(ops)
    assert told(ops) == []
    mend_disk(ops.shop.journal)
    ops.shop.journal.write(lambda tx: None)
    look(ops)
    assert told(ops) == [("storage", "raised", None), ("storage", "cleared", None)]
    raised, cleared = ops.shop.events("alert")
    assert raised["at"] == "2026-11-22T12:03:01.000+03:00"
    assert cleared["at"] == "2026-11-22T12:03:31.000+03:00"
    assert "it had lasted 0:00:30" in cleared["message"]


def test_what_happens_while_the_disk_fails_is_told_with_its_own_time(ops):
    look(ops)
    break_disk(ops.shop.journal)
    ops.shop.sell(receipt())
    look(ops)
    ops.rival = "another client has taken the session"
    look(ops)
    mend_disk(ops.shop.journal)
    ops.shop.journal.write(lambda tx: None)
    look(ops, 10)
    times = {(event["alert"], event["state"]): event["at"][17:19] for event in ops.shop.events("alert")}
    assert times == {("storage", "raised"): "01", ("rival", "raised"): "01", ("storage", "cleared"): "11"}


def test_an_alert_that_the_disk_refuses_is_kept(ops):
    look(ops)
    ops.rival = "another client has taken the session"
    break_disk(ops.shop.journal)
    look(ops)
    look(ops)
    mend_disk(ops.shop.journal)
    ops.shop.journal.write(lambda tx: None)
    look(ops)
    assert told(ops) == [("rival", "raised", None), ("storage", "raised", None), ("storage", "cleared", None)]


# -- clock and rival -----------------------------------------------------------------------------------------


def test_a_jump_is_raised_and_cleared_when_the_clock_has_been_steady(ops):
    look(ops)
    ops.shop.clock.jump(DAY_S)
    look(ops)
    assert told(ops) == [("clock", "raised", None)]
    (event,) = ops.shop.events("alert")
    assert event["severity"] == "warning"
    assert "jumped by +1 day, 0:00:00" in event["message"]
    assert ops.state("health")["components"]["clock"]["status"] == "healthy"
    look(ops, STEADY_S + 1)
    assert told(ops)[1:] == [("clock", "cleared", None)]


def test_a_clock_known_to_be_wrong_is_degraded_health(ops):
    ops.shop.sell(receipt())
    look(ops)
    ops.shop.clock.jump(-DAY_S)
    look(ops)
    health = ops.state("health")
    assert health["components"]["clock"]["status"] == "degraded"
    assert "jumped by -1 day" in health["components"]["clock"]["reason"]
    look(ops, 10 * STEADY_S)
    assert told(ops) == [("clock", "raised", None)]
    ops.shop.clock.jump(DAY_S)
    look(ops)
    look(ops, STEADY_S + 1)
    assert told(ops)[1:] == [("clock", "cleared", None)]


def test_a_start_with_the_clock_behind_is_raised(ops):
    ops.shop.sell(receipt())
    ops.shop.clock.wall_ms = NOON_MS - 3600_000
    ops.restart()
    look(ops)
    assert told(ops) == [("clock", "raised", None)]
    assert "before the newest receipt" in ops.shop.events("alert")[0]["message"]


def test_a_rival_is_raised_once_however_often_it_comes(ops):
    """Two bridges take the session from each other every half minute: that is one story."""
    for _ in range(4):
        ops.rival = "another client has taken the session kkt-bridge-store-017"
        look(ops)
        ops.rival = None
        for _ in range(60):
            look(ops)
    assert told(ops) == [("rival", "raised", None)]
    assert "kkt-bridge-store-017" in ops.shop.events("alert")[0]["message"]
    for _ in range(200):
        look(ops)
    assert told(ops)[1:] == [("rival", "cleared", None)]


# -- cost ----------------------------------------------------------------------------------------------------


def test_nothing_is_written_where_nothing_changes(ops):
    leave_in_doubt(ops)
    look(ops)
    before = ops.shop.journal._state.clock.commit_no
    for _ in range(100):
        look(ops)
    assert ops.shop.journal._state.clock.commit_no == before


def test_a_disk_that_fails_is_left_alone(ops, monkeypatch):
    look(ops)
    break_disk(ops.shop.journal)
    ops.shop.sell(receipt())
    tries = []
    monkeypatch.setattr(ops.shop.journal, "post", lambda _operation: tries.append(1))
    for _ in range(20):
        look(ops)
    assert tries == [], "what waits here is bounded, what waits there is not"


def test_who_looks_does_not_wait_for_the_disk(ops, monkeypatch):
    look(ops)

    def write(_operation):
        raise AssertionError("the state of everything else waits for this")

    monkeypatch.setattr(ops.shop.journal, "write", write)
    ops.rival = "another client has taken the session"
    ops.telemetry.collect()
    assert told(ops) == []
    monkeypatch.undo()
    ops.shop.journal.flush()
    assert told(ops) == [("rival", "raised", None)]


def test_what_waits_for_the_disk_is_bounded(ops):
    flips = iter(range(10_000))

    def flip(_fact):
        yield Finding(None, "odd" if next(flips) % 2 == 0 else None)

    shop = ops.shop
    alerts = Alerts(
        journal=shop.journal,
        topics=ops.retained_state._topics,
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


def test_an_alert_of_another_release_is_forgotten(ops):
    shop = ops.shop
    kept = {"since": "2026-11-22T12:03:00.000+03:00", "since_ms": 0, "severity": "warning", "message": "odd"}
    values = [
        {"code": "of_another_release", "kkt": "kkt-9", **kept},
        {"code": "clock", "kkt": None, **kept, "of_another_release": 1},
        ["clock", None, 5],
        {"code": "clock", "kkt": None, **kept},
    ]
    shop.journal.write(lambda tx: set_alerts(tx, json.dumps(values)))
    look(ops)
    assert told(ops) == [("clock", "cleared", None)]


def set_alerts(tx, text):
    set_setting(tx, "alerts_raised", text)


def test_every_condition_has_a_name_of_its_own():
    names = [condition.code for condition in CONDITIONS]
    assert len(set(names)) == len(names)


# -- the set of what is raised -------------------------------------------------------------------------------


def raised(ops):
    ops.telemetry.collect()
    return json.loads(ops.retained_state.snapshot()["alerts"].payload())["alerts"]


def test_the_set_says_what_since_when_and_what_to_do(ops):
    assert raised(ops) == []
    ops.rival = "another client has taken the session"
    (alert,) = raised(ops)
    assert alert == {
        "code": "rival",
        "severity": "critical",
        "since": "2026-11-22T12:03:00.000+03:00",
        "message": "another client has taken the session",
        "what_to_do": "find the other bridge or client that uses this bridge's name, and stop it or give it a name of "
        "its own",
        "kkt": None,
    }
    ops.rival = None
    look(ops, 300)
    assert raised(ops) == []


def test_the_set_outlives_a_restart_with_its_times(ops):
    leave_in_doubt(ops)
    look(ops, 1)
    before = raised(ops)
    ops.restart()
    look(ops, 60)
    assert raised(ops) == before


def test_the_worst_and_the_oldest_come_first(ops):
    ops.session = replace(ops.session, unroutable=Occurrences(1, "kkt/v1/b"))
    look(ops)
    ops.rival = "another client"
    look(ops)
    leave_in_doubt(ops)
    look(ops)
    assert [alert["code"] for alert in raised(ops)] == ["rival", "unsettled_doubt", "unroutable"]


def test_the_set_is_shown_while_the_journal_takes_nothing(ops):
    look(ops)
    break_disk(ops.shop.journal)
    ops.shop.sell(receipt())
    look(ops)
    assert [alert["code"] for alert in raised(ops)] == ["storage"]
    mend_disk(ops.shop.journal)
    ops.shop.journal.write(lambda tx: None)
    look(ops)
    assert raised(ops) == []


def test_what_an_earlier_process_had_raised_is_no_news_when_the_journal_is_read_late(ops, monkeypatch):
    ops.rival = "another client"
    look(ops)
    ops.restart()
    read = ops.shop.journal.read

    def unreadable(_query):
        raise StorageUnavailable("the disk is away")

    monkeypatch.setattr(ops.shop.journal, "read", unreadable)
    look(ops, 60)
    assert raised(ops)[0]["code"] == "rival"
    monkeypatch.setattr(ops.shop.journal, "read", read)
    look(ops)
    assert [(code, state) for code, state, _ in told(ops) if code == "rival"] == [("rival", "raised")]
    assert next(a for a in raised(ops) if a["code"] == "rival")["since"] == "2026-11-22T12:03:00.500+03:00"


def test_what_becomes_worse_is_told_again_and_what_becomes_better_is_not(open_ops):
    ops = open_ops(buffer={"capacity": 10})
    shop = ops.shop
    for level, sales in ((80, 8), (90, 1), (100, 1)):
        for _ in range(sales):
            shop.sell(receipt())
        look(ops)
        assert str(level if level < 100 else "full") in raised(ops)[0]["message"]
    assert told(ops) == [("buffer_fill", "raised", None)] * 3
    assert [event["severity"] for event in shop.events("alert")] == ["warning", "critical", "critical"]
    assert len({event["since"] for event in shop.events("alert")}) == 1, "one story"
    assert ops.state("health")["components"]["buffer"]["status"] == "unhealthy"
    shop.print_all()
    documents = shop.journal.read(lambda connection: ready_documents(connection, "kkt-1", 0, 100))
    for document in documents[:2]:
        shop.journal.write(lambda tx, document=document: record_sent(tx, document, 1))
    look(ops)
    assert raised(ops)[0]["severity"] == "warning"
    assert len(told(ops)) == 3
    for document in documents[2:6]:
        shop.journal.write(lambda tx, document=document: record_sent(tx, document, 1))
    look(ops)
    assert told(ops)[3:] == [("buffer_fill", "cleared", None)]


def test_dead_letters_are_raised_until_each_is_decided_on(ops):
    shop = ops.shop
    for _ in range(2):
        shop.sell(receipt())
    shop.print_all()
    for document in shop.journal.read(lambda connection: ready_documents(connection, "kkt-1", 0, 100)):
        shop.journal.write(lambda tx, document=document: dead_letter(tx, document, reason="refused", error="422"))
    look(ops)
    (alert,) = raised(ops)
    assert (alert["code"], alert["kkt"]) == ("dead_letters", "kkt-1")
    assert "2 fiscal documents of kkt-1 wait for a decision" in alert["message"]
    state = ops.state("health")
    assert (state["status"], state["components"]["dead_letters"]["status"]) == ("degraded", "degraded")
    register = ops.state("kkt/kkt-1")
    assert (register["ofd_unsent"], register["ofd_first_unsent_at"]) == (2, "2026-11-22T12:03:00.000+03:00")
    ops.restart()
    look(ops)
    assert len(told(ops)) == 1
    for letter in shop.journal.read(lambda connection: dead_letters(connection, "kkt-1", 0, 10)):
        shop.journal.write(lambda tx, letter=letter: discard(tx, letter, "told the OFD by hand"))
    look(ops)
    assert told(ops)[1:] == [("dead_letters", "cleared", "kkt-1")]
    assert ops.state("health")["components"]["dead_letters"]["status"] == "healthy"
    assert (ops.state("kkt/kkt-1")["ofd_unsent"], ops.state("kkt/kkt-1")["ofd_first_unsent_at"]) == (0, None)


def test_what_heals_by_itself_is_told_only_when_it_lasts(ops):
    flag = {"on": True}

    def look_at(_fact):
        yield Finding("kkt-1", "busy" if flag["on"] else None)

    shop = ops.shop
    alerts = Alerts(
        journal=shop.journal,
        topics=ops.retained_state._topics,
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


def test_a_condition_that_fails_silences_no_other(ops, caplog):
    def fail(_fact):
        raise KeyError("odd")
        yield

    shop = ops.shop
    alerts = Alerts(
        journal=shop.journal,
        topics=ops.retained_state._topics,
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

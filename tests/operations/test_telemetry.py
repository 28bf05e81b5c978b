"""What the bridge shows of itself: counts, ages, forecasts, health."""

from dataclasses import replace

import pytest
from support.receipts import receipt, small_receipt
from support.stages import break_disk, meddle, mend_disk

from kkt_bridge.journal.document_queue import dead_letter, ready_documents, record_sent
from kkt_bridge.mqtt.refused_publications import Occurrences
from kkt_bridge.operations.component_report import ComponentReport
from kkt_bridge.operations.health import WELL
from kkt_bridge.operations.telemetry import INTERVAL_S

NOON = "2026-11-22T12:03:00.000+03:00"


def sell(ops, count=1):
    for _ in range(count):
        ops.shop.sell(receipt())


def due(ops):
    return ops.shop.journal.read(lambda c: ready_documents(c, "kkt-1", 0, 100))


# -- buffer ----------------------------------------------------------------------------------------------


def test_an_empty_bridge(ops):
    assert ops.state("buffer") == {
        "capacity": 200,
        "pending": 0,
        "percent_full": 0.0,
        "accepting": True,
        "paused": False,
        "oldest_pending_at": None,
        "full_at": None,
        "dlq_size": 0,
        "by_status": {"buffered": 0, "printing": 0, "printed": 0, "synced": 0, "rejected": 0, "dead": 0},
        "at": NOON,
    }


def test_the_buffer_counts_by_status_without_counting(ops):
    shop = ops.shop
    shop.break_register(refuse_names=["дефект"])
    shop.sell(small_receipt({"name": "дефект"}))
    sell(ops, 4)
    shop.print_all()
    documents = due(ops)
    shop.journal.write(lambda tx: record_sent(tx, documents[0], 1))
    shop.journal.write(lambda tx: dead_letter(tx, documents[1], reason="refused", error="422"))
    shop.occupy()
    sell(ops)
    state = ops.state("buffer")
    assert state["by_status"] == {"buffered": 1, "printing": 0, "printed": 2, "synced": 1, "rejected": 1, "dead": 1}
    assert (state["pending"], state["percent_full"], state["dlq_size"]) == (3, 1.5, 1)


def test_a_full_buffer_and_a_pause_are_shown(open_ops):
    ops = open_ops(buffer={"capacity": 2})
    sell(ops, 3)
    state = ops.state("buffer")
    assert (state["accepting"], state["percent_full"], state["paused"]) == (False, 100.0, False)
    ops.shop.admission.set_paused(ops.shop.journal, paused=True)
    assert ops.state("buffer")["paused"]


def test_the_oldest_pending_receipt_is_shown_whatever_its_state(ops):
    sell(ops)
    ops.shop.print_all()
    ops.shop.clock.advance(60)
    sell(ops)
    assert ops.state("buffer")["oldest_pending_at"] == NOON
    (document,) = due(ops)
    ops.shop.journal.write(lambda tx: record_sent(tx, document, 1))
    assert ops.state("buffer")["oldest_pending_at"] == "2026-11-22T12:04:00.000+03:00"


def test_a_growing_buffer_says_when_it_will_be_full(ops):
    for _ in range(60):
        ops.shop.clock.advance(10)
        sell(ops)
        ops.telemetry.collect()
    state = ops.state("buffer")
    assert state["pending"] == 60
    assert state["full_at"][:16] in {"2026-11-22T12:36", "2026-11-22T12:35"}, "140 more, one in ten seconds"
    ops.shop.clock.advance(1)
    assert ops.state("buffer")["full_at"] == state["full_at"], "not another forecast every second"


def test_a_buffer_that_does_not_grow_is_never_full(ops):
    sell(ops, 5)
    for _ in range(100):
        ops.shop.clock.advance(10)
        ops.telemetry.collect()
    assert ops.state("buffer")["full_at"] is None


# -- registers -------------------------------------------------------------------------------------------


def test_a_register_before_it_was_reached(ops):
    state = ops.state("kkt/kkt-1")
    assert (state["ready"], state["mode"], state["problem"], state["serial"]) == (False, None, "not_yet_reached", None)


def test_a_register_at_work(ops):
    sell(ops, 2)
    ops.shop.print_all()
    ops.shop.clock.advance(60)
    sell(ops)
    state = ops.state("kkt/kkt-1")
    assert (state["ready"], state["mode"], state["paper"], state["problem"]) == (True, "shift_open", "ok", None)
    assert (state["last_fd_number"], state["ofd_unsent"], state["queue"]) == (4, 2, 1)
    assert state["ofd_first_unsent_at"] == NOON
    assert state["shift"] == {"number": 1, "open": True, "opened_at": "2026-11-22T12:03:00+03:00"}
    assert state["fn_number"].startswith("9999")
    assert state["driver"] == "virtual"


def test_a_register_in_trouble_keeps_what_is_known_of_it(ops):
    sell(ops)
    ops.shop.print_all()
    ops.shop.break_register(paper_out=True)
    ops.shop.occupy()
    sell(ops)
    ops.shop.clock.advance(60)
    ops.shop.lane.step()
    state = ops.state("kkt/kkt-1")
    assert (state["ready"], state["problem"], state["paper"], state["queue"]) == (False, "paper_out", "out", 1)
    assert state["serial"]


# -- the way to the OFD ----------------------------------------------------------------------------------


def test_an_open_breaker_says_since_when_and_until_when(ops):
    sell(ops, 5)
    ops.shop.print_all()
    ops.shop.sync.run()
    state = ops.state("breaker")
    assert (state["state"], state["failures"], state["fail_max"]) == ("open", 5, 5)
    assert (state["opened_at"], state["next_probe_at"]) == (NOON, "2026-11-22T12:04:00.000+03:00")
    assert "Connection refused" in state["last_error"]


def test_sync_counts_and_rates(ops):
    state = ops.state("sync")
    assert (state["network"], state["in_progress"], state["last_success_at"]) == ("online", False, None)
    assert (state["sent_total"], state["failed_total"], state["rate_per_s"]) == (0, 0, 0.0)
    ops.shop.sync.delivery.outcomes.sent_total = 120
    ops.shop.clock.advance(30)
    assert ops.state("sync")["rate_per_s"] == 4.0


# -- health ----------------------------------------------------------------------------------------------


def health(ops):
    ops.shop.print_all()
    state = ops.state("health")
    return state["status"], {name: part["reason"] for name, part in state["components"].items() if part["reason"]}


def test_all_is_well(ops):
    assert health(ops) == ("healthy", {})


def test_a_journal_that_takes_nothing_is_unhealthy(ops):
    break_disk(ops.shop.journal)
    sell(ops)
    status, reasons = health(ops)
    assert status == "unhealthy"
    assert "readonly" in reasons["journal"]


def test_a_full_buffer_is_unhealthy(open_ops):
    ops = open_ops(buffer={"capacity": 1})
    sell(ops)
    assert health(ops) == ("unhealthy", {"buffer": "full: receipts are refused"})


def test_a_pause_is_degraded(ops):
    ops.shop.admission.set_paused(ops.shop.journal, paused=True)
    assert health(ops) == ("degraded", {"buffer": "paused by an operator"})


def test_an_ofd_out_of_reach_is_degraded_not_unhealthy(ops):
    sell(ops, 5)
    ops.shop.print_all()
    ops.shop.sync.run()
    status, reasons = health(ops)
    assert status == "degraded"
    assert reasons["ofd"].startswith("breaker open: ")


def test_one_register_of_two_away_is_a_shop_that_still_sells(open_ops):
    ops = open_ops(registers=("kkt-1", "kkt-2"))
    ops.shop.break_register("kkt-1", offline=True)
    status, reasons = health(ops)
    assert (status, set(reasons)) == ("degraded", {"kkt/kkt-1"})
    ops.shop.break_register("kkt-2", paper_out=True)
    ops.shop.clock.advance(60)
    status, reasons = health(ops)
    assert (status, set(reasons)) == ("unhealthy", {"kkt/kkt-1", "kkt/kkt-2"})
    assert reasons["kkt/kkt-2"].startswith("paper_out")


# -- looking ---------------------------------------------------------------------------------------------


def test_every_state_is_said_once_and_then_only_what_changes(ops):
    ops.shop.print_all()
    ops.telemetry.step()
    assert {name for name, _ in ops.states_sent()} == {"buffer", "breaker", "sync", "kkt/kkt-1", "health", "alerts"}
    sell(ops)
    ops.shop.clock.advance(1)
    ops.telemetry.step()
    assert {name for name, _ in ops.states_sent()} == {"buffer", "kkt/kkt-1"}


def test_it_keeps_its_own_pace_however_often_it_is_woken(ops, monkeypatch):
    looks = []
    collect = ops.telemetry.collect
    monkeypatch.setattr(ops.telemetry, "collect", lambda: looks.append(1) or collect())
    for _ in range(100):
        wait = ops.telemetry.step()
        assert 0 <= wait <= INTERVAL_S
        ops.shop.clock.advance(0.01)
    assert len(looks) <= 3


def test_status_is_every_state_in_one_answer(ops):
    ops.shop.print_all()
    answer = ops.telemetry.status()
    assert set(answer) == {"online", "alerts", "buffer", "breaker", "sync", "health", "kkt"}
    assert answer["kkt"]["kkt-1"]["ready"]
    assert answer["online"]["boot_id"] == "boot"


# -- what is broken --------------------------------------------------------------------------------------


class Oracle:
    """A component that cannot be looked at for a while."""

    is_dark = True

    def report(self):
        if self.is_dark:
            raise RuntimeError("it has gone dark")
        return ComponentReport(WELL)


def test_a_component_that_fails_is_shown_and_silences_no_other(ops, caplog):
    oracle = Oracle()
    ops.components["oracle"] = oracle.report
    ops.shop.print_all()
    sell(ops)
    for _ in range(5):
        ops.shop.clock.advance(1)
        ops.telemetry.step()
    state = ops.state("health")
    assert state["components"]["oracle"] == {
        "status": "unhealthy",
        "reason": "cannot be looked at: RuntimeError: it has gone dark",
    }
    assert state["status"] == "degraded", "the shop sells"
    assert ops.state("buffer")["pending"] == 1
    assert [alert["code"] for alert in ops.state("alerts")["alerts"]] == ["component_failed"]
    complaints = [record for record in caplog.records if "cannot be looked at" in record.message and record.exc_info]
    assert len(complaints) == 1
    oracle.is_dark = False
    assert ops.state("alerts")["alerts"] == []


def test_health_and_alerts_come_first(ops):
    ops.shop.print_all()
    ops.telemetry.step()
    assert [name for name, _ in ops.states_sent()][:2] == ["health", "alerts"]


def test_a_journal_without_one_of_its_tables_still_shows_everything_it_can(ops, tmp_path):
    sell(ops)
    ops.telemetry.collect()
    meddle(tmp_path, "ALTER TABLE receipts RENAME TO lost")
    ops.telemetry.collect()
    health = ops.state("health")
    assert health["status"] == "unhealthy"
    assert "no such table: receipts" in health["components"]["journal"]["reason"]
    buffer = ops.state("buffer")
    assert (buffer["accepting"], buffer["pending"], buffer["oldest_pending_at"]) == (False, 1, None)
    assert ops.state("kkt/kkt-1")["queue"] == 1
    assert "storage" in [alert["code"] for alert in ops.state("alerts")["alerts"]]
    meddle(tmp_path, "ALTER TABLE lost RENAME TO receipts")


def test_nothing_is_accepted_while_the_journal_takes_nothing(ops):
    sell(ops)
    assert ops.state("buffer")["accepting"]
    break_disk(ops.shop.journal)
    sell(ops)
    assert not ops.state("buffer")["accepting"]
    mend_disk(ops.shop.journal)
    ops.shop.journal.write(lambda tx: None)
    assert ops.state("buffer")["accepting"]


def test_a_pause_accepts_nothing(ops):
    ops.shop.admission.set_paused(ops.shop.journal, paused=True)
    assert not ops.state("buffer")["accepting"]


def test_what_the_broker_refuses_is_degraded(ops):
    ops.shop.print_all()
    ops.session = replace(ops.session, refused_topics=Occurrences(1, "pos-1/reply: not authorized"))
    state = ops.state("health")
    assert (state["status"], state["components"]["broker"]["status"]) == ("degraded", "degraded")
    assert "pos-1/reply: not authorized" in state["components"]["broker"]["reason"]


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({"bridge_refused": "401"}, "refuses this bridge: 401"),
        ({"refuses_all": "422"}, "refuses every document: 422"),
        ({"takes_nothing_since": 0.0}, "takes nothing"),
        ({"unsendable": {"kkt-1": 2}}, "2 documents cannot be put together for it"),
    ],
)
def test_an_ofd_that_takes_nothing_is_degraded_whatever_breaker_and_network_say(ops, evidence, words):
    ops.shop.print_all()
    ops.evidence = evidence
    state = ops.state("health")
    assert state["status"] == "degraded"
    assert words in state["components"]["ofd"]["reason"]
    assert len(ops.state("alerts")["alerts"]) == 1
    ops.evidence = {"unsendable": {"kkt-1": 0}}
    assert ops.state("health")["status"] == "healthy"
    assert ops.state("alerts")["alerts"] == []


def test_documents_that_cannot_be_sent_are_counted(ops):
    ops.evidence = {"unsendable": {"kkt-1": 2, "kkt-2": 1}}
    assert ops.state("sync")["unsendable"] == 3


def test_receipts_for_a_register_that_is_gone_are_degraded(open_ops):
    ops = open_ops(registers=("kkt-1", "kkt-2"))
    ops.shop.break_register("kkt-2", offline=True)
    ops.shop.sell(receipt(kkt="kkt-2"))
    ops.shop.settings = ops.shop.settings.model_copy(update={"kkt": ops.shop.settings.kkt[:1]})
    ops.restart()
    ops.shop.print_all()
    state = ops.state("health")
    assert state["status"] == "degraded"
    assert "receipts wait for kkt-2, which is not configured" in state["components"]["journal"]["reason"]


def test_a_pause_that_the_ofd_asked_for_is_shown(ops):
    ops.evidence = {"paused_until": ops.shop.clock.monotonic() + 60}
    assert ops.state("sync")["paused_until"] == "2026-11-22T12:04:00.000+03:00"

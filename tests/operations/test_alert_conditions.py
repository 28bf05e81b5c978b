"""The table of alerts: each condition is found where it holds, over where it does not, unknown where nobody looked."""

from dataclasses import replace
from datetime import date, datetime

import pytest
from support.stages import ZONE

from kkt_bridge.mqtt.messages import SessionStatus
from kkt_bridge.mqtt.refused_publications import Occurrences
from kkt_bridge.operations.alert_table import CONDITIONS
from kkt_bridge.operations.clock_watch import ADVICE, ClockVerdict
from kkt_bridge.operations.component_report import (
    BrokenParts,
    BrokerFacts,
    BufferFacts,
    FloodFacts,
    JournalFacts,
    RegisterFacts,
)
from kkt_bridge.operations.components import fill_level
from kkt_bridge.registers.base import RegisterStatus
from kkt_bridge.stages.delivery.delivery import DeliveryStatus
from kkt_bridge.stages.intake.flood import FloodStatus
from kkt_bridge.stages.printing.status import InDoubtReceipt, LaneStatus, UnreadHistory

BY_CODE = {condition.code: condition for condition in CONDITIONS}
STATUS = RegisterStatus(
    model="Virtual KKT",
    serial="0000000000012345",
    registration_number="0000000001047959",
    fn_number="9999078900000001",
    fn_expires=date(2027, 10, 1),
    last_fd_number=412,
    mode="shift_open",
    shift_number=12,
    shift_opened_at=None,
    paper="ok",
    clock=datetime(2026, 11, 22, 14, 3, tzinfo=ZONE),
    problem=None,
)
VIEW = LaneStatus("kkt-1", "virtual", status=STATUS, problem=None, doubts=())
DOUBT = InDoubtReceipt(None, 1, 20050, 0, "it does not show the document")
PARKED = replace(DOUBT, parked=True, reason="KeyError")
SESSION = SessionStatus(online=True)
WELL = [
    JournalFacts(None, {"kkt-1": 0}, {"kkt-1": 0}),
    BufferFacts(3, 200, 0),
    RegisterFacts(VIEW, fn_days_left=300),
    DeliveryStatus(unsendable={"kkt-1": 0}),
    BrokerFacts(SESSION),
    FloodFacts(None),
    ClockVerdict(),
]


def register(**changes):
    return RegisterFacts(replace(VIEW, **changes))


def found(code, fact):
    return BY_CODE[code].findings([fact])


HOLDING = {
    "storage": (JournalFacts("the disk is full"), None, "the disk is full"),
    "buffer_fill": (BufferFacts(162, 200, 80, "2026-11-22T16:25:00.000+03:00"), None, "81 % full"),
    "dead_letters": (JournalFacts(None, {"kkt-1": 3}), "kkt-1", "3 fiscal documents of kkt-1 wait for a decision"),
    "orphaned_queue": (JournalFacts(None, {}, {"kkt-9": 1}), "kkt-9", "1 receipt for kkt-9 waits"),
    "ofd_refuses_bridge": (DeliveryStatus(bridge_refused="401 Unauthorized"), None, "401 Unauthorized"),
    "ofd_refuses_all": (DeliveryStatus(refuses_all="422: bad tag"), None, "422: bad tag"),
    "ofd_takes_nothing": (DeliveryStatus(takes_nothing_since=900), None, "has taken none"),
    "unsendable_documents": (DeliveryStatus(unsendable={"kkt-1": 2}), "kkt-1", "2 documents of kkt-1 cannot be put"),
    "unsent_documents": (RegisterFacts(VIEW, 6, 5.2), "kkt-1", "6 documents of kkt-1 did not reach the OFD for 5 days"),
    "replies_refused": (
        BrokerFacts(replace(SESSION, refused_topics=Occurrences(2, "pos-1/reply: not authorized"))),
        None,
        "2 topics: pos-1/reply: not authorized",
    ),
    "subscription_refused": (
        BrokerFacts(replace(SESSION, refused_subscriptions=("kkt/v1/b/command/+",))),
        None,
        "kkt/v1/b/command/+",
    ),
    "messages_parked": (BrokerFacts(replace(SESSION, parked=Occurrences(1, "event/receipt"))), None, "event/receipt"),
    "unroutable": (
        BrokerFacts(replace(SESSION, unroutable=Occurrences(5, "kkt/v1/a/b")), unroutable_now=1),
        None,
        "kkt/v1/a/b",
    ),
    "rival": (BrokerFacts(replace(SESSION, rival="another client")), None, "another client"),
    "flood": (FloodFacts(FloodStatus("pos-1", 1234.5, 0)), None, "pos-1 sends more than a shop sells"),
    "unsettled_doubt": (register(problem="unsettled_doubt", doubts=(DOUBT,)), "kkt-1", "1 receipt was printed"),
    "unreadable_document": (
        register(problem="unsettled_doubt", detail="FD 7; `kkt-bridge settle pass --fn 1 --fd 7`"),
        "kkt-1",
        "settle pass --fn 1 --fd 7",
    ),
    "receipts_parked": (register(doubts=(PARKED,)), "kkt-1", "1 receipt is set aside on kkt-1"),
    "journal_behind": (register(journal_behind=10, journal_behind_detail="FD 3 to 12"), "kkt-1", "by 10 receipts"),
    "history_unread": (
        register(unread=UnreadHistory("9999078900000001", 812)),
        "kkt-1",
        "history of FN 9999078900000001 was not read before FD 812: receipts printed before are not known",
    ),
    "register_offline": (register(problem="offline", detail="no answer"), "kkt-1", "offline: no answer"),
    "paper_out": (register(problem="paper_out"), "kkt-1", "paper_out"),
    "fn_exhausted": (register(problem="fn_exhausted"), "kkt-1", "fn_exhausted"),
    "fn_lost_documents": (register(problem="fn_lost_documents"), "kkt-1", "fn_lost_documents"),
    "internal_error": (register(problem="internal_error", detail="KeyError"), "kkt-1", "KeyError"),
    "register_not_ready": (register(problem="blocked"), "kkt-1", "blocked"),
    "fn_expires": (RegisterFacts(VIEW, fn_days_left=30), "kkt-1", "expires in 30 days (2027-10-01)"),
    "clock": (ClockVerdict(alert=f"the system clock jumped: {ADVICE}"), None, "the system clock jumped"),
    "component_failed": (BrokenParts({"buffer": "KeyError: 'x'"}), None, "buffer (KeyError: 'x')"),
}
"""For each condition a fact in which it holds, the register that it is about, and some words of what is said."""


def test_every_condition_is_looked_at_here():
    assert set(HOLDING) == set(BY_CODE)


@pytest.mark.parametrize("code", HOLDING)
def test_a_condition_that_holds_says_what_and_where(code):
    fact, kkt, words = HOLDING[code]
    (finding,) = found(code, fact)
    assert finding.kkt == kkt
    assert words in finding.message
    assert "\n" not in finding.message


@pytest.mark.parametrize("code", sorted(set(HOLDING) - {"component_failed"}))
def test_a_condition_that_does_not_hold_says_so_and_not_nothing(code):
    findings = BY_CODE[code].findings(WELL)
    assert findings
    assert [finding.message for finding in findings] == [None] * len(findings)


@pytest.mark.parametrize("code", sorted(set(HOLDING) - {"component_failed"}))
def test_what_could_not_be_looked_at_is_neither_raised_nor_cleared(code):
    assert BY_CODE[code].findings([]) == []


def test_every_part_works_where_none_is_broken():
    (finding,) = BY_CODE["component_failed"].findings([*WELL, BrokenParts({})])
    assert finding.message is None


@pytest.mark.parametrize("code", HOLDING)
def test_what_to_do_is_said_in_one_line(code):
    condition = BY_CODE[code]
    assert len(condition.what_to_do) > 20
    assert "\n" not in condition.what_to_do
    assert condition.over


def test_a_register_that_was_not_reached_yet_says_nothing_of_its_troubles():
    before = RegisterFacts(LaneStatus("kkt-1", "virtual"))
    untold = ("register_offline", "paper_out", "register_not_ready", "unsettled_doubt", "unreadable_document")
    for code in (*untold, "history_unread", "fn_expires"):
        assert found(code, before) == []


def test_what_is_in_the_way_is_told_by_the_alert_of_its_cause():
    """A register that is away meanwhile is no news of the document."""
    (finding,) = found("unreadable_document", register(problem="unsettled_doubt", doubts=(DOUBT,)))
    assert finding.message is None
    (finding,) = found("unreadable_document", register(problem="unsettled_doubt", doubts=(PARKED,)))
    assert finding.message is not None
    assert found("unreadable_document", register(problem="offline")) == []


def test_a_receipt_that_is_set_aside_stops_nothing():
    (finding,) = found("unsettled_doubt", register(doubts=(PARKED,)))
    assert finding.message is None
    (finding,) = found("receipts_parked", register(problem="unsettled_doubt", doubts=(DOUBT,)))
    assert finding.message is None


def test_one_trouble_is_told_by_one_alert():
    for problem in ("offline", "paper_out", "fn_exhausted", "fn_lost_documents", "internal_error", "unsettled_doubt"):
        (finding,) = found("register_not_ready", register(problem=problem))
        assert finding.message is None


@pytest.mark.parametrize(
    ("days", "level", "severity", "words"),
    [
        (0.9, 0, None, None),
        (1.0, 1, "warning", "for 1 day: in 29 days"),
        (4.9, 1, "warning", "for 4 days: in 26 days"),
        (5.0, 5, "warning", "in 25 days"),
        (20.0, 20, "critical", "in 10 days"),
        (27.5, 27, "critical", "in 3 days"),
        (40.0, 27, "critical", "the fiscal storage blocks itself"),
    ],
)
def test_documents_that_stay_away_from_the_ofd_are_told_in_steps(days, level, severity, words):
    (finding,) = found("unsent_documents", RegisterFacts(VIEW, 6, days))
    assert (finding.level, finding.severity) == (level, severity)
    assert (finding.message is None) if words is None else (words in finding.message)


@pytest.mark.parametrize(
    ("left", "level", "severity"),
    [(31, 0, None), (30, 1, "warning"), (8, 1, "warning"), (7, 2, "critical"), (0, 3, "critical"), (-5, 3, "critical")],
)
def test_a_fiscal_storage_that_expires_is_told_in_steps(left, level, severity):
    (finding,) = found("fn_expires", RegisterFacts(VIEW, fn_days_left=left))
    assert (finding.level, finding.severity) == (level, severity)


@pytest.mark.parametrize(
    ("pending", "level", "severity", "words"),
    [(160, 80, "warning", "80 % full"), (180, 90, "critical", "90 % full"), (200, 100, "critical", "is full, new")],
)
def test_a_buffer_that_fills_is_told_in_steps(pending, level, severity, words):
    (finding,) = found("buffer_fill", BufferFacts(pending, 200, level))
    assert (finding.level, finding.severity) == (level, severity)
    assert words in finding.message


def test_how_long_the_buffer_lasts_is_said_with_the_setting_that_helps():
    (finding,) = found("buffer_fill", BufferFacts(170, 200, 80, "2026-11-22T16:25:00.000+03:00"))
    assert "full about 2026-11-22T16:25" in finding.message
    assert "buffer.capacity" in BY_CODE["buffer_fill"].what_to_do


@pytest.mark.parametrize(
    ("percent", "before", "level"),
    [
        (79.9, 0, 0),
        (80, 0, 80),
        (89.9, 80, 80),
        (90, 80, 90),
        (100, 80, 100),
        (99, 100, 100),
        (94.9, 100, 90),
        (86, 90, 90),
        (84.9, 90, 80),
        (76, 80, 80),
        (74.9, 80, 0),
        (10, 100, 0),
    ],
)
def test_a_threshold_is_left_only_when_the_buffer_is_well_below_it(percent, before, level):
    assert fill_level(percent, before) == level

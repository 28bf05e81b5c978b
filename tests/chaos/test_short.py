"""A short campaign with real kills; and, on what it left behind, proof that the judge would see anything wrong."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from chaos.campaign import Report, run
from chaos.evidence import Evidence, Paper, Row, Verify
from chaos.plan import BRIDGE, BROKER, OFD, Plan
from chaos.records import PRINTED, Sale, Till
from chaos.verdict import judge, papers_by_requisite
from support.brokers import mosquitto_program

KILLS = 14
PLAN = Plan(kills=KILLS, seed=11, terminals=4, gap_s=0.25, unready_share=0.3, minutes=0.75, calm_s=20)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    mosquitto_program()
    return run(PLAN, tmp_path_factory.mktemp("chaos"), print)


def test_acknowledged_is_one_final_reply_one_document_and_one_delivery(report: Report) -> None:
    assert not report.findings, "\n".join([*map(str, report.findings), *report.histories, *report.summary.lines()])


def test_the_kills_were_real_and_hit_receipts_on_their_way(report: Report) -> None:
    summary = report.summary
    assert summary.kills_total >= KILLS
    assert set(summary.kills) == {BRIDGE, BROKER, OFD}
    assert summary.faults["line cut"]
    assert sum(summary.faults.values()) > summary.faults["line cut"]
    assert summary.printed > KILLS
    assert summary.doubts > 0
    assert summary.told_again > 0
    assert summary.bridge_starts >= 5


def test_the_journal_was_put_back_to_a_backup_and_then_taken_away(report: Report) -> None:
    """And every receipt repeated: the checks above hold over both."""
    first, second = report.evidence.losses
    repeated = [sale for sale in report.evidence.sales() if sale.sends[0].at < first and sale.is_printed]
    assert len(repeated) > KILLS
    for sale in repeated:
        told = [reply.at for reply in sale.verdicts]
        assert any(first < at < second for at in told)
        assert any(second < at for at in told)


# -- the judge -----------------------------------------------------------------------------------------------


def a_printed(evidence: Evidence) -> Sale:
    return next(sale for sale in evidence.tills[0].sales.values() if sale.expected == PRINTED)


def a_refused(evidence: Evidence) -> Sale:
    return next(sale for till in evidence.tills for sale in till.sales.values() if sale.expected != PRINTED)


def paper_of(evidence: Evidence, sale: Sale) -> Paper:
    fiscal = sale.verdicts[0].content["fiscal"]
    return next(
        paper
        for papers in papers_by_requisite(evidence).values()
        for paper in papers
        if (paper.fn_number, paper.document.fd_number) == (fiscal["fn_number"], fiscal["fd_number"])
    )


def without_paper(evidence: Evidence) -> dict[str, Any]:
    paper = paper_of(evidence, a_printed(evidence))
    return {"papers": tuple(other for other in evidence.papers if other is not paper)}


def printed_again(evidence: Evidence) -> dict[str, Any]:
    return {"papers": (*evidence.papers, paper_of(evidence, a_printed(evidence)))}


def another_document(evidence: Evidence) -> dict[str, Any]:
    paper = paper_of(evidence, a_printed(evidence))
    signed = dataclasses.replace(paper.document, fiscal_sign="1")
    changed = dataclasses.replace(paper, document=signed)
    return {"papers": tuple(changed if other is paper else other for other in evidence.papers)}


def paper_of_an_unknown_receipt(evidence: Evidence) -> dict[str, Any]:
    paper = paper_of(evidence, a_printed(evidence))
    body = dataclasses.replace(paper.document.body, requisite_1192="A" * 16)
    return {
        "papers": (
            *evidence.papers,
            dataclasses.replace(paper, document=dataclasses.replace(paper.document, body=body)),
        )
    }


def torn_storage(_evidence: Evidence) -> dict[str, Any]:
    return {"bad_storages": ("kkt-1.fn: line 7 is document 8",)}


def ofd_without(evidence: Evidence) -> dict[str, Any]:
    return {"ofd_received": {**evidence.ofd_received, "documents": evidence.ofd_received["documents"][1:]}}


def ofd_with_another_document(evidence: Evidence) -> dict[str, Any]:
    first, *rest = evidence.ofd_received["documents"]
    return {"ofd_received": {**evidence.ofd_received, "documents": [first | {"fd_number": 1}, *rest]}}


def ofd_with_an_unknown_document(evidence: Evidence) -> dict[str, Any]:
    documents = evidence.ofd_received["documents"]
    unknown = documents[-1] | {"key": f"pos-1:{'0' * 8}-0000-4000-8000-{'0' * 12}"}
    return {"ofd_received": {**evidence.ofd_received, "documents": [*documents, unknown]}}


def ofd_with_a_conflict(evidence: Evidence) -> dict[str, Any]:
    conflict = {"key": ":".join(a_printed(evidence).key), "accepted": {}, "refused": {}, "at": ""}
    return {"ofd_received": {**evidence.ofd_received, "conflicts": [conflict]}}


def ofd_in_disorder(evidence: Evidence) -> dict[str, Any]:
    """The last document of a register comes first, and nothing explains it."""
    documents = copy.deepcopy(evidence.ofd_received["documents"])
    documents[-1]["order"] = 0
    rows = {key: dataclasses.replace(row, attempts=0) for key, row in evidence.rows.items()}
    return {
        "ofd_received": {**evidence.ofd_received, "documents": documents},
        "rows": rows,
        "outages": (),
        "losses": (),
    }


def without_replies(evidence: Evidence) -> dict[str, Any]:
    tills = copy.deepcopy(evidence.tills)
    next(iter(tills[0].sales.values())).replies.clear()
    return {"tills": tills}


def told_two_things(evidence: Evidence) -> dict[str, Any]:
    return {"tills": retold(evidence, {"printed_at": "2026-01-01T00:00:00.000+03:00"})}


def told_another_document_after_a_loss(evidence: Evidence) -> dict[str, Any]:
    fiscal = a_printed(evidence).verdicts[0].content["fiscal"]
    return {"tills": retold(evidence, {"fiscal": {**fiscal, "fiscal_sign": "1"}}, at=evidence.losses[-1] + 1)}


def told_another_correlation(evidence: Evidence) -> dict[str, Any]:
    return {"tills": retold(evidence, {}, correlation=b"of another")}


def told_another_time_of_the_ofd(evidence: Evidence) -> dict[str, Any]:
    tills = evidence.tills
    for time in (1, 2):
        sale = a_printed(dataclasses.replace(evidence, tills=tills))
        hlc = sale.verdicts[0].content["hlc"] | {"server_time": time}
        tills = retold(dataclasses.replace(evidence, tills=tills), {"hlc": hlc})
    return {"tills": tills}


def only_repeats(evidence: Evidence) -> dict[str, Any]:
    tills = copy.deepcopy(evidence.tills)
    sale = a_printed(dataclasses.replace(evidence, tills=tills))
    last = sale.verdicts[-1]
    sale.replies[:] = [dataclasses.replace(last, content={**last.content, "duplicate": True})]
    sale.sends[:] = [send for send in sale.sends if send.what == "receipt"]
    tills[0].broken_at.clear()
    return {"tills": tills}


def told_nobody(evidence: Evidence) -> dict[str, Any]:
    tills = copy.deepcopy(evidence.tills)
    tills[0].strange.append("{}")
    return {"tills": tills}


def refused_a_good_one(evidence: Evidence) -> dict[str, Any]:
    tills = copy.deepcopy(evidence.tills)
    a_printed(dataclasses.replace(evidence, tills=tills)).expected = "invalid_receipt"
    return {"tills": tills}


def retold(evidence: Evidence, changes: dict[str, Any], **fields: Any) -> tuple[Till, ...]:
    """The terminals' records with one more reply to a printed sale, with these changes."""
    tills = copy.deepcopy(evidence.tills)
    sale = a_printed(dataclasses.replace(evidence, tills=tills))
    reply = sale.verdicts[0]
    sale.replies.append(dataclasses.replace(reply, content={**reply.content, **changes}, **fields))
    return tills


def row_missing(evidence: Evidence) -> dict[str, Any]:
    key = a_printed(evidence).key
    return {"rows": {other: row for other, row in evidence.rows.items() if other != key}}


def row_unsynced(evidence: Evidence) -> dict[str, Any]:
    key = a_printed(evidence).key
    return {"rows": {**evidence.rows, key: dataclasses.replace(evidence.rows[key], status="dead")}}


def row_of_a_refused(evidence: Evidence) -> dict[str, Any]:
    return {"rows": {**evidence.rows, a_refused(evidence).key: Row("rejected", "kkt-1", None, 0)}}


def set_to(**fields: Any) -> Callable[[Evidence], dict[str, Any]]:
    return lambda _evidence: fields


@pytest.mark.parametrize(
    ("tamper", "seen"),
    [
        (without_paper, {"not printed", "wrong delivery"}),
        (printed_again, {"printed twice"}),
        (another_document, {"wrong document"}),
        (paper_of_an_unknown_receipt, {"unknown document"}),
        (torn_storage, {"fiscal storage"}),
        (ofd_without, {"not delivered"}),
        (ofd_with_another_document, {"wrong delivery"}),
        (ofd_with_an_unknown_document, {"unknown delivery"}),
        (ofd_with_a_conflict, {"OFD conflict"}),
        (ofd_in_disorder, {"order"}),
        (without_replies, {"lost"}),
        (told_two_things, {"verdicts differ"}),
        (told_another_document_after_a_loss, {"verdicts differ"}),
        (told_another_correlation, {"correlation"}),
        (told_another_time_of_the_ofd, {"server time"}),
        (only_repeats, {"reply lost"}),
        (told_nobody, {"strange reply"}),
        (refused_a_good_one, {"wrong verdict", "printed though refused", "delivered though refused", "journal"}),
        (row_missing, {"journal"}),
        (row_unsynced, {"journal"}),
        (row_of_a_refused, {"journal"}),
        (set_to(quick_check="row 7 missing from index"), {"journal"}),
        (set_to(outbox=1), {"journal"}),
        (set_to(deaths=("the bridge ended by itself with status 1",)), {"process"}),
        (set_to(complaints=("bridge.log:7: Traceback",)), {"log"}),
        (set_to(stop="SIGTERM: still running after 10 s"), {"stop"}),
        (set_to(verify=Verify(1, ("printed_twice",), (), {})), {"verify"}),
        (set_to(verify=Verify(0, (), ("OFD: it does not answer",), {})), {"verify"}),
    ],
)
def test_the_judge_sees(report: Report, tamper: Callable[[Evidence], dict[str, Any]], seen: set[str]) -> None:
    evidence = report.evidence
    tampered = dataclasses.replace(evidence, **tamper(evidence))
    known = {str(finding) for finding in judge(evidence)}
    assert {finding.check for finding in judge(tampered) if str(finding) not in known} >= seen

"""The verdict: acknowledged = one final reply = one fiscal document = delivered once in effect, for all.

Each check reads the evidence and names what is wrong; together they leave no receipt unlooked at.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from chaos.evidence import Evidence, Paper
from chaos.plan import BRIDGE, OFD
from chaos.records import PRINTED, Reply, Sale
from chaos.trade import total_of

from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.registers.virtual.fiscal_document import CORRECTION, RECEIPT

REPLY_S: Final = 10.0
"""On a line that holds, the bridge's own word must come within this time of the verdict."""

SYNCED = "synced"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must never happen; `key` where it happened to a receipt."""

    check: str
    text: str
    key: ReceiptKey | None = None

    def __str__(self) -> str:
        return f"{self.check}: {self.text}" + (f" [{':'.join(self.key)}]" if self.key else "")


Check = Callable[[Evidence], Iterator[Finding]]


def judge(evidence: Evidence) -> list[Finding]:
    """Everything that is wrong; empty where all agrees."""
    return [finding for check in CHECKS for finding in check(evidence)]


# -- terminals -----------------------------------------------------------------------------------------------


def one_final_reply(evidence: Evidence) -> Iterator[Finding]:
    """Each request has a verdict, always the same one, and the right one."""
    for sale in evidence.sales():
        verdicts = sale.verdicts
        if not verdicts:
            yield Finding("lost", f"{sale.kind}: no final reply", sale.key)
            continue
        if not _agree(verdicts, evidence.losses):
            yield Finding("verdicts differ", f"{sale.kind}: final replies that are not the same", sale.key)
        if {reply.verdict for reply in verdicts} != {sale.expected}:
            told = ", ".join(sorted({reply.verdict for reply in verdicts}))
            yield Finding("wrong verdict", f"{sale.kind}: {told} instead of {sale.expected}", sale.key)


def _agree(verdicts: Sequence[Reply], losses: Sequence[float]) -> bool:
    """Return whether they say the same. The bridge's memory of when it came goes with its journal."""
    eras = _eras(verdicts, losses)
    of_each = [era[0] for era in eras]
    return all(reply.comparable() == era[0].comparable() for era in eras for reply in era) and all(
        (reply.verdict, reply.content["fiscal"]) == (of_each[0].verdict, of_each[0].content["fiscal"])
        for reply in of_each
    )


def _eras(replies: Sequence[Reply], losses: Sequence[float]) -> list[list[Reply]]:
    """The replies between one loss of the journal and the next."""
    eras: dict[int, list[Reply]] = defaultdict(list)
    for reply in replies:
        eras[sum(at < reply.at for at in losses)].append(reply)
    return list(eras.values())


def replies_are_in_order(evidence: Evidence) -> Iterator[Finding]:
    """Nobody is told what he did not ask; correlation comes back; the OFD's time is filled in once."""
    for till in evidence.tills:
        for text in till.strange:
            yield Finding("strange reply", f"{till.pos_id} was told what it never asked: {text[:300]}")
    for sale in evidence.sales():
        if {reply.correlation for reply in sale.replies} - {None, sale.correlation}:
            yield Finding("correlation", "a reply with somebody else's correlation data", sale.key)
        for era in _eras(sale.replies, evidence.losses):
            times = {reply.content["hlc"]["server_time"] for reply in era if reply.content["hlc"]} - {None}
            if len(times) > 1:
                yield Finding("server time", f"the OFD's time of one receipt changed: {sorted(times)}", sale.key)


def bridge_speaks_unasked(evidence: Evidence) -> Iterator[Finding]:
    """On a connection that held, the verdict itself came, not only the answer to a repeat."""
    for till in evidence.tills:
        for sale in till.sales.values():
            asked = any(send.what == "query" for send in sale.sends)
            lost_at = till.broken_at.get(sale.connection, float("inf"))
            verdicts = sale.verdicts
            held = bool(verdicts) and lost_at > verdicts[0].at + REPLY_S
            if held and not asked and sale.is_printed and all(reply.content["duplicate"] for reply in verdicts):
                yield Finding("reply lost", "only repeats were answered, the verdict itself never came", sale.key)


# -- papers --------------------------------------------------------------------------------------------------


def storages_are_whole(evidence: Evidence) -> Iterator[Finding]:
    """FD numbers without gaps, each line a document."""
    for problem in evidence.bad_storages:
        yield Finding("fiscal storage", problem)


def one_document(evidence: Evidence) -> Iterator[Finding]:
    """Check that a printed receipt has one document, the one that its reply names, and a refused one none."""
    papers = papers_by_requisite(evidence)
    known: set[str | None] = set()
    for till in evidence.tills:
        for sale in till.sales.values():
            requisite = requisite_1192(sale.key)
            known.add(requisite)
            yield from _judge_papers(sale, papers.get(requisite, []))
    for unknown, found in papers.items():
        if unknown not in known:
            where = ", ".join(f"{paper.kkt} FD {paper.document.fd_number}" for paper in found)
            yield Finding("unknown document", f"{where}: no terminal ever sold this ({unknown})")


def papers_by_requisite(evidence: Evidence) -> dict[str | None, list[Paper]]:
    """The receipts and corrections on all registers, by what recognises them."""
    papers: dict[str | None, list[Paper]] = defaultdict(list)
    for paper in evidence.papers:
        if paper.document.body.form in {RECEIPT, CORRECTION}:
            papers[paper.document.body.requisite_1192].append(paper)
    return papers


def _judge_papers(sale: Sale, papers: Sequence[Paper]) -> Iterator[Finding]:
    if len(papers) > 1:
        where = ", ".join(f"{paper.kkt} FD {paper.document.fd_number}" for paper in papers)
        yield Finding("printed twice", f"{len(papers)} fiscal documents: {where}", sale.key)
    if sale.expected != PRINTED:
        if papers:
            yield Finding("printed though refused", f"expected {sale.expected}", sale.key)
        return
    if not papers:
        yield Finding("not printed", "no fiscal document", sale.key)
        return
    if papers[0].document.body.total != int(total_of(sale.request) * 100):
        yield Finding("wrong document", f"its total is {papers[0].document.body.total} kopecks", sale.key)
    for reply in sale.verdicts:
        if reply.verdict == PRINTED and not _names(reply, papers[0]):
            yield Finding("wrong document", f"the reply names {reply.content['fiscal']}", sale.key)


def _names(reply: Reply, paper: Paper) -> bool:
    fiscal, document = reply.content["fiscal"], paper.document
    return (
        fiscal["kkt"],
        fiscal["fn_number"],
        fiscal["fd_number"],
        fiscal["fiscal_sign"],
        fiscal["shift_number"],
        fiscal["receipt_number"],
        datetime.fromisoformat(fiscal["datetime"]),
    ) == (
        paper.kkt,
        paper.fn_number,
        document.fd_number,
        document.fiscal_sign,
        document.shift_number,
        document.receipt_number,
        document.at,
    )


# -- the OFD -------------------------------------------------------------------------------------------------


def delivered_once(evidence: Evidence) -> Iterator[Finding]:
    """The OFD has each document under its own key, and nothing else."""
    for conflict in evidence.ofd_received["conflicts"]:
        yield Finding("OFD conflict", f"two documents under one key: {conflict}", _key(conflict))
    entries = {_key(entry): entry for entry in evidence.ofd_received["documents"]}
    papers = papers_by_requisite(evidence)
    for till in evidence.tills:
        for sale in till.sales.values():
            entry = entries.pop(sale.key, None)
            if sale.expected != PRINTED:
                if entry is not None:
                    yield Finding("delivered though refused", f"the OFD has {entry}", sale.key)
            elif entry is None:
                yield Finding("not delivered", "the OFD does not have it", sale.key)
            elif (entry["fn_number"], entry["fd_number"]) not in {
                (paper.fn_number, paper.document.fd_number) for paper in papers[requisite_1192(sale.key)]
            }:
                yield Finding("wrong delivery", f"the OFD has {entry}", sale.key)
    for key, entry in entries.items():
        yield Finding("unknown delivery", f"the OFD has what no terminal ever sold: {entry}", key)


def delivered_in_order(evidence: Evidence) -> Iterator[Finding]:
    """First arrivals follow the FD numbers of each register, but for documents that met an error of their own."""
    printed_at = {sale.key: _printed_at(sale) for sale in evidence.sales() if sale.is_printed}
    last: dict[str, int] = {}
    for entry in sorted(evidence.ofd_received["documents"], key=lambda entry: int(entry["order"])):
        key, kkt, fd_number = _key(entry), str(entry["kkt"]), int(entry["fd_number"])
        if _met_an_error(evidence, key, printed_at.get(key, 0.0), _at(entry["first_at"])):
            continue
        if fd_number < last.get(kkt, 0):
            yield Finding("order", f"FD {fd_number} of {kkt} came to the OFD after FD {last[kkt]}", key)
        last[kkt] = max(fd_number, last.get(kkt, 0))


def _met_an_error(evidence: Evidence, key: ReceiptKey, since: float, until: float) -> bool:
    """Return whether a try failed: by the journal, or the OFD was away and the bridge died before it could say so."""
    row = evidence.rows.get(key)
    if row is not None and row.attempts:
        return True
    if until < max(evidence.losses, default=0.0):
        return True  # nobody remembers
    return any(
        outage.name == OFD
        and outage.since < until
        and outage.until > since
        and any(kill.name == BRIDGE and outage.since < kill.since < until for kill in evidence.outages)
        for outage in evidence.outages
    )


# -- the bridge ----------------------------------------------------------------------------------------------


def journal_agrees(evidence: Evidence) -> Iterator[Finding]:
    """The journal is sound, owes nothing, and holds just what was taken."""
    if evidence.quick_check != "ok":
        yield Finding("journal", f"quick_check: {evidence.quick_check}")
    if evidence.outbox:
        yield Finding("journal", f"{evidence.outbox} messages were never published")
    taken = {sale.key for till in evidence.tills for sale in till.sales.values() if sale.expected == PRINTED}
    for key in taken - evidence.rows.keys():
        yield Finding("journal", "it is not in the journal", key)
    for key, row in evidence.rows.items():
        if key not in taken:
            yield Finding("journal", "what was refused is in the journal all the same", key)
        elif row.status != SYNCED:
            yield Finding("journal", f"it ended as {row.status}", key)


def bridge_is_well(evidence: Evidence) -> Iterator[Finding]:
    """No process ended by itself, no bug showed in a log, the last stop was a clean one."""
    for death in evidence.deaths:
        yield Finding("process", death)
    for complaint in evidence.complaints[:10]:
        yield Finding("log", complaint)
    if evidence.stop is not None:
        yield Finding("stop", evidence.stop)


def verify_agrees(evidence: Evidence) -> Iterator[Finding]:
    """The bridge's own verdict on the same records, and its sums."""
    verify = evidence.verify
    if verify.status != 0:
        yield Finding("verify", f"exit status {verify.status}")
    for text in (*verify.differences, *(f"not checked: {what}" for what in verify.not_checked)):
        yield Finding("verify", text)
    printed = sum(sale.is_printed for sale in evidence.sales())
    expected = {"taken": printed, "printed": printed, "fiscal_documents": printed, "at_ofd": printed, "pending": 0}
    counted = {name: verify.sums.get(name) for name in expected}
    if counted != expected:
        yield Finding("verify", f"it counts {counted}, the terminals {printed} printed receipts")


CHECKS: Final[tuple[Check, ...]] = (
    one_final_reply,
    replies_are_in_order,
    bridge_speaks_unasked,
    storages_are_whole,
    one_document,
    delivered_once,
    delivered_in_order,
    journal_agrees,
    bridge_is_well,
    verify_agrees,
)


def _key(entry: Mapping[str, Any]) -> ReceiptKey:
    pos_id, _, receipt_id = str(entry["key"]).partition(":")
    return ReceiptKey(pos_id, receipt_id)


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _printed_at(sale: Sale) -> float:
    return min(_at(reply.content["printed_at"]) for reply in sale.verdicts if reply.verdict == PRINTED)

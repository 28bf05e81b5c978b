"""The figures of a campaign, for a screen and as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from chaos.evidence import Evidence
from chaos.verdict import Finding

TWICE = frozenset({"printed twice", "OFD conflict"})
LOST = frozenset({"lost", "not printed", "not delivered", "reply lost"})


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a campaign: what was done to the shop, and what came of it."""

    seed: int
    kills: dict[str, int]
    kills_total: int
    faults: dict[str, int]
    duration_s: float
    requests: int
    acknowledged: int
    printed: int
    refused: int
    fiscal_documents: int
    ofd_documents: int
    sends: int
    replies: int
    told_again: int
    """Final replies beyond the first of each request: to repeats, to redelivered requests, or published twice."""
    ofd_repeats: int
    bridge_starts: int
    doubts: int
    doubts_found: int
    doubts_proven_absent: int
    duplicates: int
    lost: int
    findings: int
    throughput_per_s: float
    longest_gap_s: float
    """Without a verdict for anybody."""
    slowest_s: float
    """From the first send of a request to its verdict."""
    stop_s: float | None
    verify: str

    @property
    def agrees(self) -> bool:
        """Return whether nothing at all was found wrong."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Every figure, and the verdict."""
        return asdict(self) | {"agrees": self.agrees}

    def lines(self) -> list[str]:
        """One screen."""
        killed = ", ".join(f"{name} {count}" for name, count in self.kills.items())
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items())) or "none"
        return [
            f"kills            {self.kills_total} ({killed}) in {self.duration_s:.0f} s, seed {self.seed}",
            f"other faults     {sum(self.faults.values())} ({faults})",
            f"requests         {self.requests} ({self.acknowledged} acknowledged by the broker), {self.sends} messages",
            f"verdicts         {self.printed} printed, {self.refused} refused as they should be",
            f"told again       {self.told_again} final replies beyond the first, of {self.replies} replies",
            f"documents        {self.fiscal_documents} on the registers, {self.ofd_documents} at the OFD",
            f"delivered again  {self.ofd_repeats} documents that the OFD had already",
            f"doubts settled   {self.doubts}: {self.doubts_found} found, {self.doubts_proven_absent} proven absent",
            f"starts           {self.bridge_starts} of the bridge that got as far as working",
            f"duplicates       {self.duplicates}",
            f"lost             {self.lost}",
            f"throughput       {self.throughput_per_s:.1f} verdicts a second under fire",
            f"longest gap      {self.longest_gap_s:.1f} s without a verdict; slowest request {self.slowest_s:.1f} s",
            f"clean stop       {'failed' if self.stop_s is None else f'{self.stop_s:.1f} s'}",
            f"verify           {self.verify}",
            f"verdict          {'everything agrees' if self.agrees else f'{self.findings} FINDINGS'}",
        ]


@dataclass(frozen=True, slots=True)
class Course:
    """The course of the campaign, by the monotonic clock."""

    began: float
    fire_ended: float
    answered_at: Sequence[float]
    stop_s: float | None


def summed_up(
    evidence: Evidence,
    findings: Sequence[Finding],
    course: Course,
    *,
    seed: int,
    kills: Counter[str],
    faults: Counter[str],
) -> Summary:
    """Count everything."""
    sales = list(evidence.sales())
    under_fire = sorted(at for at in course.answered_at if at <= course.fire_ended)
    duration_s = course.fire_ended - course.began
    marks = [course.began, *under_fire, course.fire_ended]
    return Summary(
        seed=seed,
        kills=dict(kills),
        kills_total=kills.total(),
        faults=dict(faults),
        duration_s=round(duration_s, 1),
        requests=len(sales),
        acknowledged=sum(sale.was_acknowledged for sale in sales),
        printed=sum(sale.is_printed for sale in sales),
        refused=sum(bool(sale.verdicts) and not sale.is_printed for sale in sales),
        fiscal_documents=sum(paper.document.receipt_number is not None for paper in evidence.papers),
        ofd_documents=evidence.ofd_received["total"],
        sends=sum(len(sale.sends) for sale in sales),
        replies=sum(len(sale.replies) for sale in sales),
        told_again=sum(max(0, len(sale.verdicts) - 1) for sale in sales),
        ofd_repeats=evidence.ofd_received["duplicates"],
        bridge_starts=evidence.log["starts"],
        doubts=evidence.log["found"] + evidence.log["absent"],
        doubts_found=evidence.log["found"],
        doubts_proven_absent=evidence.log["absent"],
        duplicates=_receipts(findings, TWICE),
        lost=_receipts(findings, LOST),
        findings=len(findings),
        throughput_per_s=round(len(under_fire) / duration_s, 1),
        longest_gap_s=round(max(later - sooner for sooner, later in pairwise(marks)), 1),
        slowest_s=round(max((sale.verdicts[0].at - sale.sends[0].at for sale in sales if sale.verdicts), default=0), 1),
        stop_s=course.stop_s,
        verify=_verify(evidence),
    )


def _receipts(findings: Sequence[Finding], checks: frozenset[str]) -> int:
    """Receipts of which one of these was found."""
    return len({finding.key for finding in findings if finding.check in checks})


def _verify(evidence: Evidence) -> str:
    differences = len(evidence.verify.differences)
    return f"exit status {evidence.verify.status}, {differences or 'no'} differences"

"""The counts of POS terminals, bridge, fiscal storage and OFD, and whether they agree."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.registers.virtual.fiscal_document import FiscalDocument
from kkt_bridge.simulators.pos import Tally


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold."""

    words: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """All counts of a demo that is over."""

    counts: dict[str, Any]
    """As printed by `--json`."""
    asked: int
    """Receipts that were to be sold."""

    @property
    def checks(self) -> list[Check]:
        """The conditions for the demo to have gone well."""
        counts = self.counts
        answered = counts["printed"] + counts["rejected"]
        on_paper = counts["printed"] + counts["guests"]
        return [
            Check("every receipt has its final reply", self.asked == counts["published"] == answered),
            Check("every receipt on paper is in the fiscal storage", on_paper == counts["fiscal_documents"]),
            Check("no receipt is there twice", counts["duplicates"] == 0),
            Check("every document was delivered", on_paper == counts["synced"] == counts["ofd_documents"]),
            Check("the OFD has none twice", counts["ofd_duplicates"] == 0),
            Check("nothing is lost", counts["lost"] == 0),
        ]

    @property
    def agrees(self) -> bool:
        """True if every count agrees."""
        return all(check.holds for check in self.checks)


def summarize(
    asked: int,
    tally: Tally,
    synced: int,
    fiscal: Iterable[FiscalDocument],
    ofd: dict[str, Any],
    guests: Collection[tuple[str, str]] = (),
) -> Summary:
    """Compare the terminals' tally, the bridge's count, the fiscal storages and what the OFD received.

    `guests` are receipts (POS, receipt id) that were printed for somebody else than the demo's terminals.
    """
    report = tally.report()
    requisites = Counter(document.body.requisite_1192 for document in fiscal)
    documents = ofd["documents"]
    delivered = {document["key"] for document in documents}
    kept = [
        f"{pos_id}:{receipt_id}" in delivered and requisite_1192(ReceiptKey(pos_id, receipt_id)) in requisites
        for pos_id, receipt_id in (*tally.printed, *guests)
    ]
    numbers = Counter((document["fn_number"], document["fd_number"]) for document in documents)
    return Summary(
        {
            "published": report["published"],
            "printed": report["printed"],
            "rejected": report["rejected"],
            "guests": len(guests),
            "synced": synced,
            "fiscal_documents": requisites.total(),
            "ofd_documents": ofd["total"],
            "duplicates": requisites.total() - len(requisites),
            "ofd_duplicates": len(ofd["conflicts"]) + numbers.total() - len(numbers),
            "ofd_repeats": ofd["duplicates"],
            "lost": kept.count(False) + report["unanswered"],
            "unanswered": report["unanswered"],
            "retries": report["retries"],
            "latencies": report["latencies"],
        },
        asked,
    )

"""All books against each other: what does not agree, and the sums."""

from collections.abc import Collection, Iterator

from kkt_bridge.audit.deliveries import claimed_deliveries, late_arrivals, unclaimed_deliveries
from kkt_bridge.audit.differences import Difference
from kkt_bridge.audit.documents import claimed_papers, doubts, repeated_papers, unclaimed_papers
from kkt_bridge.audit.snapshot import ScratchDatabase


def differences(ledger: ScratchDatabase, registers: Collection[str], *, running: bool) -> Iterator[Difference]:
    """Everything that does not agree between the books.

    They were read in this order: journal, storages, OFD, journal again. A bridge that runs goes on meanwhile. So what
    the journal claimed at first must be found in what was read after, and what was found must be known to the journal
    as it was at last: nothing in between is a difference. `registers` are those of the configuration.
    """
    yield from repeated_papers(ledger)
    yield from claimed_papers(ledger)
    yield from unclaimed_papers(ledger)
    yield from doubts(ledger, running=running)
    yield from _left_behind(ledger, registers)
    yield from _counts(ledger)
    if ledger.entries_known:
        yield from claimed_deliveries(ledger)
        yield from unclaimed_deliveries(ledger)
        yield from late_arrivals(ledger)


def _left_behind(ledger: ScratchDatabase, registers: Collection[str]) -> Iterator[Difference]:
    """What waits for registers that were taken out of the configuration, or got another name."""
    query = (
        "SELECT kkt, status, count(*) FROM {after} WHERE status IN ('buffered', 'printing', 'printed') GROUP BY 1, 2"
    )
    for kkt, status, count in ledger.rows(query):
        if kkt not in registers:
            what = f"{count} receipts are {status} there, and the settings have no such register"
            yield Difference("no_register", what, kkt=kkt)


def _counts(ledger: ScratchDatabase) -> Iterator[Difference]:
    kept, true = ledger.kept_counts, ledger.true_counts
    for kkt, kind in sorted(kept.keys() | true.keys()):
        if kept.get((kkt, kind), 0) != true.get((kkt, kind), 0):
            what = f"{kind}: the counter says {kept.get((kkt, kind), 0)}, there are {true.get((kkt, kind), 0)}"
            yield Difference("counts_differ", what, kkt=kkt)

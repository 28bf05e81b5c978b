"""The audit behind `kkt-bridge verify`: read journal, storages and OFD in the right order, and compare them."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kkt_bridge.audit.deliveries import claimed_deliveries, late_arrivals, unclaimed_deliveries
from kkt_bridge.audit.differences import Difference
from kkt_bridge.audit.documents import (
    claimed_documents,
    receipts_in_doubt,
    repeated_documents,
    unclaimed_documents,
)
from kkt_bridge.audit.journal_claims import read_claims
from kkt_bridge.audit.ofd_documents import read_ofd
from kkt_bridge.audit.scratch_database import ScratchDatabase
from kkt_bridge.audit.sums import Totals, sum_up
from kkt_bridge.errors import JournalDamaged
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.registers.stored_documents import document_sources
from kkt_bridge.settings import Settings


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The outcome of an audit."""

    findings: Sequence[Difference]
    sums: Totals | None
    """None where the journal cannot be read."""
    not_checked: Sequence[str]
    """Parts that could not be read, each with the reason: no differences."""

    @property
    def differences(self) -> list[Difference]:
        """Return the findings that are no notes."""
        return [finding for finding in self.findings if not finding.is_note]

    @property
    def notes(self) -> list[Difference]:
        """Return the findings that are as they should be."""
        return [finding for finding in self.findings if finding.is_note]


def audit(settings: Settings, journal: Path, extra: Sequence[Path], *, running: bool) -> AuditReport:
    """Compare journal, storages and OFD; `extra` are files of storages that were replaced.

    `running`: a bridge is at work on the journal; it is not delayed.
    Errors: JournalError where there is no journal to read, StorageUnreadable.
    """
    with ScratchDatabase() as scratch:
        damage = _add_journal(scratch, journal, held=running, again=False)
        sources = document_sources(settings, extra)
        of_storages = [found for source in sources for found in scratch.add_storage(source)]
        ofd_silence = read_ofd(scratch, settings.ofd)
        if damage is None and running:
            damage = _add_journal(scratch, journal, held=True, again=True)
        if damage is not None:
            why = f"OFD: {ofd_silence or 'there is no journal to hold it against'}"
            return AuditReport(
                list(_without_journal(damage, scratch, of_storages)), None, [why, "journal: it cannot be read"]
            )
        registers = {kkt.id for kkt in settings.kkt}
        found = [*of_storages, *differences(scratch, registers, running=running)]
        return AuditReport(found, sum_up(scratch, running=running), [f"OFD: {ofd_silence}"] if ofd_silence else [])


def differences(scratch: ScratchDatabase, registers: Collection[str], *, running: bool) -> Iterator[Difference]:
    """Return everything that does not agree.

    The order of reading was journal, storages, OFD, journal again. A bridge that runs goes on meanwhile. So what
    the journal claimed at first must be found in what was read after, and what was found must be known to the journal
    as it was at last: nothing in between is a difference. `registers` are those of the configuration.
    """
    yield from repeated_documents(scratch)
    yield from claimed_documents(scratch)
    yield from unclaimed_documents(scratch)
    yield from receipts_in_doubt(scratch, running=running)
    yield from _left_behind(scratch, registers)
    yield from _counts(scratch)
    if scratch.ofd_known:
        yield from claimed_deliveries(scratch)
        yield from unclaimed_deliveries(scratch)
        yield from late_arrivals(scratch)


def _left_behind(scratch: ScratchDatabase, registers: Collection[str]) -> Iterator[Difference]:
    """Find receipts that wait for registers which the configuration does not have (any more)."""
    query = "SELECT kkt, status, count(*) FROM {after} WHERE status IN (?, ?, ?) GROUP BY 1, 2"
    for kkt, status, count in scratch.rows(query, Status.BUFFERED, Status.PRINTING, Status.PRINTED):
        if kkt not in registers:
            what = f"{count} receipts are {status} there, and the settings have no such register"
            yield Difference("no_register", what, kkt=kkt)


def _counts(scratch: ScratchDatabase) -> Iterator[Difference]:
    kept, true = scratch.kept_counts, scratch.true_counts
    for kkt, kind in sorted(kept.keys() | true.keys()):
        if kept.get((kkt, kind), 0) != true.get((kkt, kind), 0):
            what = f"{kind}: the counter says {kept.get((kkt, kind), 0)}, there are {true.get((kkt, kind), 0)}"
            yield Difference("counts_differ", what, kkt=kkt)


def _add_journal(scratch: ScratchDatabase, journal: Path, *, held: bool, again: bool) -> str | None:
    """Read the journal; return how it is damaged, if it is."""
    try:
        with read_claims(journal, held=held) as claims:
            scratch.add_claims(claims, again=again)
    except JournalDamaged as damage:
        return str(damage)
    return None


def _without_journal(damage: str, scratch: ScratchDatabase, of_storages: Sequence[Difference]) -> Iterator[Difference]:
    """Return what can be said of the storages alone."""
    yield Difference("damaged_journal", damage)
    yield from of_storages
    yield from repeated_documents(scratch)

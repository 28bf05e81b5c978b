"""An audit: read the books in the right order, and say what does not agree."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kkt_bridge.audit.compare import differences
from kkt_bridge.audit.differences import Difference
from kkt_bridge.audit.documents import repeated_papers
from kkt_bridge.audit.journal_claims import read_inventory
from kkt_bridge.audit.ofd_documents import enter_ofd
from kkt_bridge.audit.snapshot import ScratchDatabase
from kkt_bridge.audit.sums import Totals, sum_up
from kkt_bridge.errors import JournalDamaged
from kkt_bridge.registers.stored_documents import readers
from kkt_bridge.settings import Settings


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What came of an audit."""

    findings: Sequence[Difference]
    sums: Totals | None
    """None where the journal cannot be read."""
    not_checked: Sequence[str]
    """What could not be looked at, and is no difference."""

    @property
    def differences(self) -> list[Difference]:
        """What does not agree."""
        return [finding for finding in self.findings if not finding.is_note]

    @property
    def notes(self) -> list[Difference]:
        """What is worth telling, and is as it should be."""
        return [finding for finding in self.findings if finding.is_note]


def audit(settings: Settings, journal: Path, extra: Sequence[Path], *, running: bool) -> AuditReport:
    """Hold journal, storages and OFD against each other; `extra` are files of storages that were replaced.

    `running`: a bridge is at work on the journal; it is not delayed.
    Errors: JournalError where there is no journal to read, StorageUnreadable.
    """
    with ScratchDatabase() as ledger:
        damage = _enter_journal(ledger, journal, held=running, again=False)
        of_storages = [found for storage in readers(settings, extra) for found in ledger.enter_storage(storage)]
        silence = enter_ofd(ledger, settings.ofd)
        if damage is None and running:
            damage = _enter_journal(ledger, journal, held=True, again=True)
        if damage is not None:
            why = f"OFD: {silence or 'there is no journal to hold it against'}"
            return AuditReport(
                list(_without_journal(damage, ledger, of_storages)), None, [why, "journal: it cannot be read"]
            )
        registers = {kkt.id for kkt in settings.kkt}
        found = [*of_storages, *differences(ledger, registers, running=running)]
        return AuditReport(found, sum_up(ledger, running=running), [f"OFD: {silence}"] if silence else [])


def _enter_journal(ledger: ScratchDatabase, journal: Path, *, held: bool, again: bool) -> str | None:
    """Read the journal; return how it is damaged, if it is."""
    try:
        with read_inventory(journal, held=held) as inventory:
            ledger.enter_inventory(inventory, again=again)
    except JournalDamaged as damage:
        return str(damage)
    return None


def _without_journal(damage: str, ledger: ScratchDatabase, of_storages: Sequence[Difference]) -> Iterator[Difference]:
    """What can be said of the storages alone."""
    yield Difference("damaged_journal", damage)
    yield from of_storages
    yield from repeated_papers(ledger)

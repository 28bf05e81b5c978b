"""An audit: read the books in the right order, and say what does not agree."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kkt_bridge.errors import JournalDamaged
from kkt_bridge.journal.inventory import Inventory, take_inventory
from kkt_bridge.settings import Settings
from kkt_bridge.verification.books import Difference, StorageBook
from kkt_bridge.verification.compare import Books, differences, sums
from kkt_bridge.verification.ofd_book import OfdAnswer, ask_ofd
from kkt_bridge.verification.papers import Papers, repeated_papers, storage_differences
from kkt_bridge.verification.storages import read_storages
from kkt_bridge.verification.sums import Sums


@dataclass(frozen=True, slots=True)
class Report:
    """What came of an audit."""

    findings: Sequence[Difference]
    sums: Sums | None
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


def audit(settings: Settings, journal: Path, extra: Sequence[Path], *, running: bool) -> Report:
    """Hold journal, storages and OFD against each other; `extra` are files of storages that were replaced.

    `running`: a bridge is at work on the journal; it is not delayed.
    Errors: JournalError where there is no journal to read, StorageUnreadable.
    """
    before = _inventory(journal, held=running)
    storages = [file.book() for file in read_storages(settings, extra)]
    ofd = ask_ofd(settings.ofd)
    not_checked = [f"OFD: {ofd.reason}"] if ofd.reason else []
    after = _inventory(journal, held=running) if running else before
    if isinstance(before, Inventory) and isinstance(after, Inventory):
        books = Books(before, storages, ofd.entries, after, running)
        return Report(list(differences(books)), sums(books), not_checked)
    damage = before if isinstance(before, JournalDamaged) else after
    return Report(list(_without_journal(str(damage), storages)), None, [*_why(ofd), "journal: it cannot be read"])


def _inventory(journal: Path, *, held: bool) -> Inventory | JournalDamaged:
    try:
        return take_inventory(journal, held=held)
    except JournalDamaged as damage:
        return damage


def _without_journal(damage: str, storages: Sequence[StorageBook]) -> Iterator[Difference]:
    """What can be said of the storages alone."""
    yield Difference("damaged_journal", damage)
    papers = Papers(storages)
    yield from storage_differences(papers)
    yield from repeated_papers(papers, {})


def _why(ofd: OfdAnswer) -> list[str]:
    return [f"OFD: {ofd.reason or 'there is no journal to hold it against'}"]

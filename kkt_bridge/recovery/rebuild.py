"""`kkt-bridge verify --rebuild`: a new journal from the rows of an old one, and from the fiscal storages.

The rows are those of the journal that is there (an old copy, say), or of the newest file that was moved aside. The new
one is built beside the place of the journal and moved there whole, so a rebuild that is interrupted has changed
nothing. What rows are saved from is only read; a journal that is there is moved aside.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import JournalError, StorageUnavailable
from kkt_bridge.journal.bulk_load import load_rows
from kkt_bridge.journal.copying import require_whole
from kkt_bridge.journal.database import Database
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.lock import JournalLock, lock_of
from kkt_bridge.journal.quarantine import all_quarantined, finish_quarantine, quarantine
from kkt_bridge.journal.readonly import open_readonly
from kkt_bridge.journal.recovered import RecoveredDocument, insert_recovered, record_recovered
from kkt_bridge.journal.settings import HELD_PREFIX
from kkt_bridge.journal.tombstones import keys_of
from kkt_bridge.journal.transaction import FD_MARK, Transaction
from kkt_bridge.receipts.checks import print_warnings
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.recovery.plan import DatedDocument, RecoveryPlan, RecoveryPlanner, task_of
from kkt_bridge.recovery.replace import one_file, put_in_place, working_folder
from kkt_bridge.recovery.salvage import Salvage, salvage
from kkt_bridge.registers.base import UnreadableDocument
from kkt_bridge.registers.stored_documents import DocumentSource, document_sources
from kkt_bridge.settings import Settings
from kkt_bridge.stages import replies
from kkt_bridge.wire.topics import Topics

_KEPT_SETTINGS: Final = frozenset({"steps_published"})
"""A pause is not among them: a bridge that comes back takes receipts."""

_MINUTE_MS: Final = 60_000
"""Documents carry whole minutes."""

_BATCH: Final = 200
"""Recovered documents written in one commit."""

_RECEIPT_TABLES: Final = ("receipts", "tombstones", "recovered")
"""Tables with a row for each receipt that the journal has ever known."""


@dataclass(slots=True)
class Rebuilt:
    """The outcome of a rebuild."""

    damaged: str | None
    """The file that rows were saved from, moved aside or the journal itself; None where there was none."""
    last_write_ms: int | None = None
    """When the journal in that file took its last receipt or step, in ms since 1970; None where that cannot be read."""
    moved: Sequence[str] = ()
    """The names that the files which stood in the journal's place have now."""
    receipts: int = 0
    waiting: int = 0
    """Of the receipts: still to be printed, or in doubt; the bridge goes on with them."""
    found_printed: int = 0
    """Of the receipts: waiting by their rows, but a fiscal storage has their document."""
    tombstones: int = 0
    awaited: int = 0
    """Documents in the storages whose receipts are gone: a repeat is answered with them."""
    lost: Sequence[str] = ()
    unmarked: Sequence[str] = ()
    unread_storages: Sequence[str] = ()
    """Fiscal storages that the rows name, and that nobody gave."""
    unread_tables: Sequence[str] = field(default_factory=list)
    """Tables with rows that could not be read."""


def rebuild(settings: Settings, journal: Path, extra: Sequence[Path], clock: Clock) -> Rebuilt:
    """Make a new journal and put it in place; `extra` are files of fiscal storages that were replaced.

    Errors: JournalInUse; JournalError where there is nothing to make it from; StorageUnreadable.
    """
    storages = document_sources(settings, extra)
    lock = JournalLock(journal)
    lock.take()
    try:
        source = _find_source(journal, lock)
        if source is None and not storages:
            raise JournalError(_nothing_left(journal, lock))
        with working_folder(journal, "rebuild") as folder:
            made, rebuilt = _build(settings, storages, source, folder, clock)
            one_file(made)
            rebuilt.moved = put_in_place(made, journal, lock.generations)
        lock.remember(frozenset())  # the next start gives it its generation
        return rebuilt
    except OSError as error:
        raise StorageUnavailable(f"{journal}: cannot be made anew: {error}") from error
    finally:
        lock.release()


def _nothing_left(journal: Path, lock: JournalLock) -> str:
    what = f"{journal}: nothing is left to make it from: "
    if lock.is_known:
        return f"{what}only if a new, empty one is really to begin, remove {lock_of(journal).name} and start the bridge"
    return f"{what}start the bridge, it begins an empty one"


def _find_source(journal: Path, lock: JournalLock) -> Path | None:
    """Return the file to take rows from: the journal that is there and has some, else the newest set aside that has."""
    if not journal.exists():
        finish_quarantine(journal, lock.generations)
        return _newest_quarantined(journal)
    try:
        rows = _count_rows(journal)
    except sqlite3.OperationalError as error:
        raise StorageUnavailable(f"{journal}: cannot be read: {error}") from None
    except sqlite3.DatabaseError as error:
        if not lock.is_known:
            raise JournalError(f"{journal}: is no journal: name another file in journal.url") from error
        return quarantine(journal)
    return journal if rows else _newest_quarantined(journal)


def _newest_quarantined(journal: Path) -> Path | None:
    """Return the newest file that was moved aside, one without receipts only where all are whole and have none."""
    aside = all_quarantined(journal)[::-1]
    return next((path for path in aside if not _is_empty(path)), next(iter(aside), None))


def _is_empty(path: Path) -> bool:
    try:
        return _count_rows(path) == 0
    except sqlite3.Error:
        return False


def _count_rows(journal: Path) -> int:
    """Count the receipts of a journal, purged and lost ones included; sqlite3.DatabaseError if it is damaged."""
    if journal.stat().st_size == 0:
        raise sqlite3.DatabaseError("the file is empty")
    with closing(open_readonly(journal, held=False)) as connection:
        require_whole(connection)
        return sum(int(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]) for name in _RECEIPT_TABLES)  # noqa: S608 (names of our own)


def _build(
    settings: Settings, storages: Sequence[DocumentSource], source: Path | None, folder: Path, clock: Clock
) -> tuple[Path, Rebuilt]:
    """Build the new journal in the working folder; return its path and the outcome."""
    made = folder / "journal.db"
    database = Database(f"sqlite:///{made}", anew=True)
    database.open()
    database.close()
    saved = salvage(source, made, folder) if source is not None else Salvage()
    found, marks = _documents(storages)
    tombstones = saved.rows.get("tombstones", [])
    topics = Topics(settings.mqtt.topic_root, settings.bridge_id)
    plan = RecoveryPlanner(found, topics.reply).plan(saved, keys_of(tombstones))
    for document in plan.disputed:  # its lane comes upon it before it prints, and stands still
        fn_number = document.mark.fn_number
        marks[fn_number] = min(marks[fn_number], document.mark.fd_number - 1)
    database.open()
    settings_rows = _settings(saved) | _storages_held(saved, storages)
    load_rows(database, _rows(saved, plan), settings_rows, _newest_ms(saved, found), _marks(saved, marks))
    database.close()
    journal = Journal(database, clock)
    journal.open()
    _record_adopted(journal, plan, settings)
    awaited = list(plan.awaited.values())
    for start in range(0, len(awaited), _BATCH):
        journal.write(partial(_insert_batch, awaited[start : start + _BATCH]))
    journal.close()
    return made, _outcome(source, saved, plan, {storage.fn_number for storage in storages})


def _documents(storages: Sequence[DocumentSource]) -> tuple[dict[str, DatedDocument], dict[str, int]]:
    """Return every receipt and correction of ours in the storages by requisite 1192; of two with one the receipt's own.

    And, by the number of each storage, up to which document it could be read without a gap.
    """
    found: dict[str, DatedDocument] = {}
    marks: dict[str, int] = {}
    for storage in storages:
        marks[storage.fn_number] = 0
        for document in storage.documents():
            if isinstance(document, UnreadableDocument):
                continue
            if document.fd_number == marks[storage.fn_number] + 1:
                marks[storage.fn_number] += 1
            if document.mark is None or document.requisite is None:
                continue
            assert document.operation is not None
            assert document.total is not None
            ours = RecoveredDocument(
                document.requisite, storage.kkt, document.form, document.operation, document.total, document.mark
            )
            known = found.get(ours.requisite)
            if known is None or ours.supersedes(known.document):
                found[ours.requisite] = DatedDocument(ours, int(document.at.timestamp() * 1000))
    return found, marks


def _rows(saved: Salvage, plan: RecoveryPlan) -> dict[str, list[dict[str, object]]]:
    """Return the rows of the new journal by table; of the steps only those of receipts that are there."""
    kept = {row["id"] for row in plan.receipts}
    sent_on = {row["id"] for row in plan.documents}
    return {
        "storages": saved.rows.get("storages", []),
        "tombstones": saved.rows.get("tombstones", []),
        "receipts": plan.receipts,
        "requests": plan.requests,
        "documents": plan.documents,
        "bodies": [row for row in saved.rows.get("bodies", []) if row["document"] in sent_on],
        "steps": [row for row in saved.rows.get("steps", []) if row["receipt"] is None or row["receipt"] in kept],
        "outbox": saved.rows.get("outbox", []),
        "commands": saved.rows.get("commands", []),
    }


def _settings(saved: Salvage) -> dict[str, str]:
    kept = {name: value for name, value in saved.settings.items() if name in _KEPT_SETTINGS}
    if "steps_published" not in kept:
        # What was told and what was not is lost: events are not told twice.
        kept["steps_published"] = str(max((row["id"] for row in saved.rows.get("steps", [])), default=0))
    return kept


def _storages_held(saved: Salvage, storages: Sequence[DocumentSource]) -> dict[str, str]:
    """Return which storage each register held by the rows; where that one was read just now, the one it holds now.

    The registers' own storages come first among `storages`. What waits and may stand on a storage that was not read is
    left to a person by its lane (see `kkt_bridge.journal.settings`).
    """
    held = {name: value for name, value in saved.settings.items() if name.startswith(HELD_PREFIX)}
    read = {storage.fn_number for storage in storages}
    now = {HELD_PREFIX + storage.kkt: storage.fn_number for storage in reversed(storages)}
    return {
        name: f"0 {now[name]}" if name in now and value.partition(" ")[2] in read else value
        for name, value in held.items()
    }


def _marks(saved: Salvage, read: Mapping[str, int]) -> dict[str, int]:
    """Return up to which document each storage is known: by the old journal, or by what has been read just now."""
    known = {
        name.removeprefix(FD_MARK): value
        for name, value in saved.figures.items()
        if name.startswith(FD_MARK) and value > 0
    }
    return {fn_number: max(known.get(fn_number, 0), read.get(fn_number, 0)) for fn_number in known.keys() | read.keys()}


def _newest_ms(saved: Salvage, found: dict[str, DatedDocument]) -> int:
    """Return the time, in ms since 1970, behind which the order of receipts must not go back."""
    documents = (document.at_ms + _MINUTE_MS - 1 for document in found.values())
    tombstones = (row["hlc_wall_ms"] for row in saved.rows.get("tombstones", []))
    return max([*documents, *tombstones, saved.figures.get("hlc_wall_ms", 0)], default=0)


def _record_adopted(journal: Journal, plan: RecoveryPlan, settings: Settings) -> None:
    """Record receipts that wait, or are in doubt, and have a document as printed, and tell their POS."""
    for row, receipt, document in plan.adopted:
        warnings = print_warnings(receipt)
        task = task_of(row, receipt)

        def operation(tx: Transaction) -> None:
            printing = record_recovered(tx, task, document, warnings)  # noqa: B023 (run before the next turn)
            reply = replies.printed(printing, document.mark, warnings, tx.instant.wall_ms, settings.zone)  # noqa: B023
            tx.publish(task.reply_topic, reply.payload(), task.correlation)  # noqa: B023

        journal.write(operation)


def _insert_batch(documents: Sequence[RecoveredDocument], tx: Transaction) -> None:
    for document in documents:
        insert_recovered(tx, document)


def _outcome(source: Path | None, saved: Salvage, plan: RecoveryPlan, given: set[str]) -> Rebuilt:
    adopted = {row["id"] for row, _, _ in plan.adopted}
    waiting = [
        row for row in plan.receipts if row["status"] in {Status.BUFFERED, Status.PRINTING} and row["id"] not in adopted
    ]
    named = {row["fn_number"] for row in plan.documents} | {row["fn_before"] for row in waiting}
    return Rebuilt(
        damaged=source.name if source is not None else None,
        last_write_ms=saved.figures.get("hlc_wall_ms"),
        receipts=len(plan.receipts),
        waiting=len(waiting),
        found_printed=len(plan.adopted),
        tombstones=len(saved.rows.get("tombstones", [])),
        awaited=len(plan.awaited),
        lost=sorted(plan.lost),
        unmarked=sorted(plan.unmarked),
        unread_storages=sorted(number for number in named - given if number is not None),
        unread_tables=[name for name, gaps in saved.gaps.items() if gaps],
    )

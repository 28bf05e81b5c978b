"""All books in one scratch database, so that what is compared takes room on the disk and not in memory.

It is a temporary database of SQLite's own: a file without a name, gone with the connection.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Self

from kkt_bridge.audit.differences import Difference, OfdEntry
from kkt_bridge.audit.journal_claims import Claim, JournalClaims
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.registers.base import SALE_FORMS, StoredDocument, UnreadableDocument
from kkt_bridge.registers.stored_documents import DocumentSource

PRINTED: Final = (Status.PRINTED, Status.SYNCED, Status.DEAD)
"""A receipt with one of these has a fiscal document, says the journal."""

_CLAIM: Final = (
    "pos_id, receipt_id, kkt, status, type, total, operation, fn_number, fd_number, fiscal_sign, attempts, document"
)
_CLAIMS: Final = """
CREATE TABLE {name} (
    pos_id TEXT, receipt_id TEXT, kkt TEXT, status TEXT, type TEXT, total INTEGER, operation TEXT,
    fn_number TEXT, fd_number INTEGER, fiscal_sign TEXT, attempts INTEGER, document INTEGER,
    requisite TEXT, key TEXT
);
CREATE TABLE {name}_recovered (requisite TEXT PRIMARY KEY, fn_number TEXT, fd_number INTEGER) WITHOUT ROWID;
CREATE INDEX {name}_recovered_place ON {name}_recovered (fn_number, fd_number);
"""
# Made when the rows are in: sorting them once is cheaper than finding a place for each.
_CLAIM_INDEXES: Final = """
CREATE INDEX {name}_requisite ON {name} (requisite);
CREATE INDEX {name}_key ON {name} (key);
"""
_BOOKS: Final = """
PRAGMA journal_mode = OFF;
PRAGMA cache_size = -16384;
CREATE TABLE storages (fn_number TEXT PRIMARY KEY, kkt TEXT);
CREATE TABLE papers (
    fn_number TEXT, fd_number INTEGER, kkt TEXT, form INTEGER, operation TEXT, total INTEGER, requisite TEXT,
    fiscal_sign TEXT, UNIQUE (fn_number, fd_number)
);
CREATE INDEX papers_requisite ON papers (requisite) WHERE requisite IS NOT NULL;
CREATE TABLE entries (key TEXT PRIMARY KEY, fn_number TEXT, fd_number INTEGER, arrival INTEGER) WITHOUT ROWID;
"""


class ScratchDatabase:
    """The books of one audit; `connection` is for the queries of the comparisons."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect("", isolation_level=None)
        self.connection.executescript(_BOOKS)
        self.connection.executescript(_CLAIMS.format(name="before"))
        self.kept_counts: Mapping[tuple[str, str], int] = {}
        self.true_counts: Mapping[tuple[str, str], int] = {}
        self.entries_known = False
        """Whether the OFD told what it has."""
        self.after = "before"
        """The table of the later inventory; the same one where nobody was at work in between."""

    def close(self) -> None:
        """Give its room back."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enter_inventory(self, inventory: JournalClaims, *, again: bool = False) -> None:
        """The journal as it was at first; `again`, as it was at last."""
        if again:
            self.after = "after"
            self.connection.executescript(_CLAIMS.format(name="after"))
        self._fill(f"INSERT INTO {self.after} VALUES ({_places(14)})", map(_claim_row, inventory.claims))  # noqa: S608 (names of our own)
        self._fill(f"INSERT OR REPLACE INTO {self.after}_recovered VALUES (?, ?, ?)", inventory.recovered)  # noqa: S608 (names of our own)
        self.connection.executescript(_CLAIM_INDEXES.format(name=self.after))
        self.kept_counts, self.true_counts = inventory.kept_counts, inventory.true_counts

    def enter_storage(self, storage: DocumentSource) -> list[Difference]:
        """A fiscal storage; what is wrong with it in itself comes back. Errors: StorageUnreadable."""
        found: list[Difference] = []
        self.connection.execute("INSERT INTO storages VALUES (?, ?)", (storage.fn_number, storage.kkt))
        self._fill(f"INSERT OR IGNORE INTO papers VALUES ({_places(8)})", _paper_rows(storage, found))  # noqa: S608 (names of our own)
        return found

    def enter_entries(self, entries: Iterable[OfdEntry]) -> None:
        """What the OFD has. Errors: what reading them raises, and then none is kept."""
        try:
            self._fill(
                "INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?)",
                ((entry.key, entry.fn_number, entry.fd_number, entry.order) for entry in entries),
            )
        except BaseException:
            self.connection.execute("DELETE FROM entries")
            raise
        self.entries_known = True

    def rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """What a query brings, row by row; `{after}` and `{printed}` in it are filled in."""
        yield from self.connection.execute(self._filled(query), values)

    def claims(self, query: str, *values: Any) -> Iterator[tuple[Claim, tuple[Any, ...]]]:
        """The same for a query that begins with the columns of a claim, `{claim:b}` for those of table `b`."""
        for row in self.rows(query, *values):
            yield claim_of(row), row[12:]

    def number(self, query: str, *values: Any) -> int:
        """The one number that a query brings."""
        return int(self.connection.execute(self._filled(query), values).fetchone()[0] or 0)

    def _filled(self, query: str) -> str:
        printed = ", ".join(f"'{status}'" for status in PRINTED)
        for table in ("a", "b"):
            columns = ", ".join(f"{table}.{name}" for name in _CLAIM.split(", "))
            query = query.replace(f"{{claim:{table}}}", columns)
        return query.replace("{after}", self.after).replace("{printed}", f"({printed})")

    def _fill(self, statement: str, rows: Iterable[Any]) -> None:
        self.connection.execute("BEGIN")
        try:
            self.connection.executemany(statement, rows)
        finally:
            self.connection.execute("COMMIT")


def claim_of(row: tuple[Any, ...]) -> Claim:
    """The claim in the first columns of a row."""
    pos_id, receipt_id, kkt, status, *rest = row[:12]
    return Claim(ReceiptKey(pos_id, receipt_id), kkt, Status(status), *rest)


def _claim_row(claim: Claim) -> tuple[Any, ...]:
    return (
        *claim.key,
        claim.kkt,
        claim.status.value,
        claim.type,
        claim.total,
        claim.operation,
        claim.fn_number,
        claim.fd_number,
        claim.fiscal_sign,
        claim.attempts,
        claim.document,
        requisite_1192(claim.key),
        str(claim.key),
    )


def _paper_rows(storage: DocumentSource, found: list[Difference]) -> Iterator[tuple[Any, ...]]:
    """A row for each document that can be read; what is wrong on the way is added to `found`."""
    expected, is_whole = 1, True
    for document in storage.documents():
        if isinstance(document, UnreadableDocument):
            is_whole = False
            what = f"document {document.fd_number} cannot be read"
            found.append(Difference("damaged_storage", what, kkt=storage.kkt, fn_number=storage.fn_number))
            continue
        if document.fd_number != expected and is_whole:
            what = f"after FD {expected - 1} comes FD {document.fd_number}"
            found.append(
                Difference("fd_gap", what, kkt=storage.kkt, fn_number=storage.fn_number, fd_number=document.fd_number)
            )
        expected = document.fd_number + 1
        yield _paper_row(storage, document)


def _paper_row(storage: DocumentSource, document: StoredDocument) -> tuple[Any, ...]:
    sign = document.mark.fiscal_sign if document.mark is not None else None
    operation = None if document.operation is None else str(document.operation)
    # Of the other forms (reports of shifts, say) only the number matters.
    requisite = document.requisite if document.form in SALE_FORMS else None
    place = (storage.fn_number, document.fd_number, storage.kkt)
    return (*place, document.form, operation, document.total, requisite, sign)


def _places(count: int) -> str:
    return ", ".join("?" * count)

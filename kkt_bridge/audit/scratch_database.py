"""Journal, fiscal storages and OFD in one scratch database: an audit takes room on the disk and not in memory.

It is a temporary database of SQLite's own: a file without a name, gone with the connection.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Self

from kkt_bridge.audit.differences import Difference
from kkt_bridge.audit.journal_claims import Claim, JournalClaims
from kkt_bridge.receipts.ffd_codes import SALE_FORMS
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.registers.base import StoredDocument, UnreadableDocument
from kkt_bridge.registers.stored_documents import DocumentSource

PRINTED: Final = (Status.PRINTED, Status.SYNCED, Status.DEAD)
"""A receipt with one of these has a fiscal document, says the journal."""

_CLAIM_COLUMNS: Final = (*ReceiptKey._fields, *Claim._fields[1:])
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
_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
PRAGMA cache_size = -16384;
CREATE TABLE storages (fn_number TEXT PRIMARY KEY, kkt TEXT);
CREATE TABLE stored (
    fn_number TEXT, fd_number INTEGER, kkt TEXT, form INTEGER, operation TEXT, total INTEGER, requisite TEXT,
    fiscal_sign TEXT, UNIQUE (fn_number, fd_number)
);
CREATE INDEX stored_requisite ON stored (requisite) WHERE requisite IS NOT NULL;
CREATE TABLE ofd_documents (key TEXT PRIMARY KEY, fn_number TEXT, fd_number INTEGER, arrival INTEGER) WITHOUT ROWID;
"""


class OfdDocument(NamedTuple):
    """A document that the OFD took. `arrival` is its place in the order of first arrivals."""

    key: str
    fn_number: str
    fd_number: int
    arrival: int


class ScratchDatabase:
    """All that one audit has read; the comparisons query it."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.executescript(_SCHEMA)
        self._connection.executescript(_CLAIMS.format(name="before"))
        self.kept_counts: Mapping[tuple[str, str], int] = {}
        self.true_counts: Mapping[tuple[str, str], int] = {}
        self.ofd_known = False
        """False where the OFD does not list its documents."""
        self.after = "before"
        """The table of the second reading of the journal; the first one's where no bridge was running."""

    def close(self) -> None:
        """Give its room back."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_claims(self, claims: JournalClaims, *, again: bool = False) -> None:
        """Store the journal as it is read first; `again`: as it is read last."""
        if again:
            self.after = "after"
            self._connection.executescript(_CLAIMS.format(name="after"))
        rows = ((*key, *rest, requisite_1192(key), str(key)) for key, *rest in claims.claims)
        self._fill(f"INSERT INTO {self.after} VALUES ({_places(14)})", rows)  # noqa: S608 (names of our own)
        self._fill(f"INSERT OR REPLACE INTO {self.after}_recovered VALUES (?, ?, ?)", claims.recovered)  # noqa: S608 (names of our own)
        self._connection.executescript(_CLAIM_INDEXES.format(name=self.after))
        self.kept_counts, self.true_counts = claims.kept_counts, claims.true_counts

    def add_storage(self, storage: DocumentSource) -> list[Difference]:
        """Store a fiscal storage; return what is wrong with it in itself. Errors: StorageUnreadable."""
        found: list[Difference] = []
        self._connection.execute("INSERT INTO storages VALUES (?, ?)", (storage.fn_number, storage.kkt))
        self._fill(f"INSERT OR IGNORE INTO stored VALUES ({_places(8)})", _document_rows(storage, found))  # noqa: S608 (names of our own)
        return found

    def add_ofd_documents(self, documents: Iterable[OfdDocument]) -> None:
        """Store what the OFD has. Errors: what reading them raises, and then none is kept."""
        try:
            self._fill("INSERT OR IGNORE INTO ofd_documents VALUES (?, ?, ?, ?)", documents)
        except BaseException:
            self._connection.execute("DELETE FROM ofd_documents")
            raise
        self.ofd_known = True

    def rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Run a query, row by row; `{after}` and `{printed}` in it are filled in."""
        yield from self._connection.execute(self._filled(query), values)

    def claims(self, query: str, *values: Any) -> Iterator[tuple[Claim, tuple[Any, ...]]]:
        """The same for a query that begins with the columns of a claim, `{claim:b}` for those of table `b`."""
        for row in self.rows(query, *values):
            yield claim_of(row), row[12:]

    def number(self, query: str, *values: Any) -> int:
        """Return the one number of a query."""
        return int(self._connection.execute(self._filled(query), values).fetchone()[0] or 0)

    def _filled(self, query: str) -> str:
        printed = ", ".join(f"'{status}'" for status in PRINTED)
        for table in ("a", "b"):
            columns = ", ".join(f"{table}.{name}" for name in _CLAIM_COLUMNS)
            query = query.replace(f"{{claim:{table}}}", columns)
        return query.replace("{after}", self.after).replace("{printed}", f"({printed})")

    def _fill(self, statement: str, rows: Iterable[Any]) -> None:
        self._connection.execute("BEGIN")
        try:
            self._connection.executemany(statement, rows)
        finally:
            self._connection.execute("COMMIT")


def claim_of(row: tuple[Any, ...]) -> Claim:
    """Return the claim in the first columns of a row."""
    pos_id, receipt_id, kkt, status, *rest = row[:12]
    return Claim(ReceiptKey(pos_id, receipt_id), kkt, Status(status), *rest)


def _document_rows(storage: DocumentSource, found: list[Difference]) -> Iterator[tuple[Any, ...]]:
    """Return a row for each document that can be read; add what is wrong on the way to `found`."""
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
        yield _document_row(storage, document)


def _document_row(storage: DocumentSource, document: StoredDocument) -> tuple[Any, ...]:
    sign = document.mark.fiscal_sign if document.mark is not None else None
    operation = None if document.operation is None else str(document.operation)
    # Of the other forms (reports of shifts, say) only the number matters.
    requisite = document.requisite if document.form in SALE_FORMS else None
    place = (storage.fn_number, document.fd_number, storage.kkt)
    return (*place, document.form, operation, document.total, requisite, sign)


def _places(count: int) -> str:
    return ", ".join("?" * count)

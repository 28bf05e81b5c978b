"""The claims of a journal about every receipt, read in one snapshot, for an audit."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from kkt_bridge.errors import JournalDamaged, JournalError, StorageUnavailable
from kkt_bridge.journal.copying import require_whole
from kkt_bridge.journal.migrate import known_schema, schema_of
from kkt_bridge.journal.readonly import open_readonly
from kkt_bridge.journal.recovered import REMARK
from kkt_bridge.journal.tombstones import SUMMARY_SQL, summary_of
from kkt_bridge.journal.transaction import DLQ, CountKey
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import DeliveryState, Status


class Claim(NamedTuple):
    """One receipt of the journal with its document, if it has one. `total` is in kopecks."""

    key: ReceiptKey
    kkt: str
    status: Status
    type: str
    total: int
    operation: str | None
    """None where it is no longer known."""
    fn_number: str | None
    fd_number: int | None
    fiscal_sign: str | None
    attempts: int | None
    """Attempts to send its document that failed; None where it is no longer known, as after a journal was lost."""
    document: int | None
    """The row of the document: the order in which documents were recorded. None once purged."""


@dataclass(frozen=True, slots=True)
class JournalClaims:
    """A journal at one moment."""

    claims: Iterable[Claim]
    """Purged receipts, then the others, read as they are asked for."""
    recovered: Iterable[tuple[str, str, int]]
    """Requisite 1192, fiscal storage and number of each document whose receipt was lost with an earlier journal."""
    kept_counts: Mapping[CountKey, int]
    """The stored counters, by register and status."""
    true_counts: Mapping[CountKey, int]
    """The rows counted."""


@contextmanager
def read_claims(path: Path, *, held: bool) -> Iterator[JournalClaims]:
    """Check a journal's file, then read it in one snapshot, open for the block. `held`: a bridge runs on it.

    Errors, also of what is read within the block: JournalDamaged, JournalError (there is none, or it is of another
    release), StorageUnavailable.
    """
    with closing(open_readonly(path, held=held)) as connection:
        try:
            require_whole(connection)
            _require_schema(connection, path)
            connection.execute("BEGIN")
            yield _read(connection)
        except sqlite3.OperationalError as error:
            if "malformed" in str(error):
                raise JournalDamaged(f"{path}: {error}") from None
            raise StorageUnavailable(f"{path}: cannot be read: {error}: run this as the bridge's user") from None
        except (sqlite3.DatabaseError, ValueError) as error:
            raise JournalDamaged(f"{path}: {error}") from None


def _require_schema(connection: sqlite3.Connection, path: Path) -> None:
    schema = schema_of(connection)
    if schema != known_schema():
        advice = "start the bridge of this release once" if schema < known_schema() else "use the newer kkt-bridge"
        raise JournalError(f"{path}: has schema {schema}, this program reads {known_schema()}: {advice}")


def _read(connection: sqlite3.Connection) -> JournalClaims:
    counts: Counter[CountKey] = Counter()
    for kkt, status, count in connection.execute("SELECT kkt, status, count(*) FROM receipts GROUP BY kkt, status"):
        counts[kkt, status] = count
    for kkt, dead in connection.execute(
        "SELECT kkt, count(*) FROM documents WHERE delivery = ? GROUP BY kkt", (DeliveryState.DEAD,)
    ):
        counts[kkt, DLQ] = dead
    figures = connection.execute("SELECT kkt, name, value FROM figures WHERE kkt != '' AND value != 0")
    return JournalClaims(
        claims=chain(
            (Claim(*summary_of(row), attempts=None, document=None) for row in connection.execute(SUMMARY_SQL)),
            (
                Claim(ReceiptKey(pos_id, receipt_id), kkt, Status(status), *rest)
                for pos_id, receipt_id, kkt, status, *rest in connection.execute(_LIVE, (REMARK,))
            ),
        ),
        recovered=connection.execute("SELECT requisite, fn_number, fd_number FROM recovered"),
        kept_counts={(kkt, name): value for kkt, name, value in figures},
        true_counts=counts,
    )


_LIVE = """
SELECT r.pos_id, r.receipt_id, r.kkt, r.status, r.type, r.total,
    CASE r.type
        WHEN 'correction' THEN (SELECT json_extract(body, '$.correction.operation') FROM requests WHERE receipt = r.id)
        ELSE r.type
    END,
    d.fn_number, d.fd_number, json_extract(d.mark, '$.fiscal_sign'),
    CASE WHEN EXISTS (SELECT 1 FROM steps WHERE receipt = r.id AND error = ?) THEN NULL ELSE d.attempts END,
    d.id
FROM receipts AS r LEFT JOIN documents AS d ON d.id = r.document
"""

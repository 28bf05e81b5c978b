"""The records of all at the end: terminals, fiscal storages, OFD, journal, and the bridge's log."""

import json
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chaos.records import Sale, Till
from chaos.site import Outage, Site

from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.registers.virtual.fiscal_document import FiscalDocument, Registration
from kkt_bridge.registers.virtual.storage_file import StorageError, read_documents

VERIFY_TIMEOUT_S: Final = 120.0

LOG_SIGN: Final = re.compile(
    r"(?P<start>: bridge \S+ is up)|(?P<doubt>: in doubt whether it was printed)"
    r"|(?P<absent>: no document came of it: it waits again)|(?P<printed>: printed as FD)"
)
RECEIPT_ID: Final = re.compile(r"receipt_id=(\S+)")


@dataclass(frozen=True, slots=True)
class Row:
    """A receipt in the journal; `attempts` at the OFD that failed."""

    status: str
    kkt: str
    fd_number: int | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Paper:
    """A fiscal document and the storage that holds it."""

    kkt: str
    fn_number: str
    document: FiscalDocument


@dataclass(frozen=True, slots=True)
class Verify:
    """The outcome of `kkt-bridge verify`."""

    status: int
    differences: tuple[str, ...]
    not_checked: tuple[str, ...]
    sums: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is judged; nothing of it asks the bridge for its opinion but `verify`."""

    tills: tuple[Till, ...]
    papers: tuple[Paper, ...]
    bad_storages: tuple[str, ...]
    ofd_received: Mapping[str, Any]
    rows: Mapping[ReceiptKey, Row]
    quick_check: str
    outbox: int
    log: Counter[str]
    complaints: tuple[str, ...]
    """Tracebacks and errors in the logs, the first lines."""
    deaths: tuple[str, ...]
    stop: str | None
    """The fault of the last stop, which must be clean."""
    verify: Verify
    outages: tuple[Outage, ...] = ()
    losses: tuple[float, ...] = ()
    """When the bridge lost its journal, or the end of it, by the wall clock."""

    def sales(self) -> Iterator[Sale]:
        """Every request of every terminal."""
        for till in self.tills:
            yield from till.all()


def gather(site: Site, tills: tuple[Till, ...], stop: str | None) -> Evidence:
    """Read all records; the bridge has stopped, the OFD still answers."""
    papers, bad = read_papers(site.registers)
    return Evidence(
        tills=tills,
        papers=tuple(papers),
        bad_storages=tuple(bad),
        ofd_received=site.ofd.received(),
        rows=read_rows(site.journal),
        quick_check=ask_journal(site.journal, "PRAGMA quick_check")[0][0],
        outbox=ask_journal(site.journal, "SELECT count(*) FROM outbox")[0][0],
        log=count_signs(site.bridge.log),
        complaints=tuple(complaints(site.bridge.log)) + tuple(complaints(site.ofd.log)),
        deaths=tuple(site.deaths),
        stop=stop,
        verify=run_verify(site.bridge.file),
        outages=tuple(site.outages),
        losses=tuple(site.losses),
    )


def read_papers(registers: Mapping[str, Path]) -> tuple[list[Paper], list[str]]:
    """Every fiscal document, and what is wrong with storages that cannot be read to their ends: a gap, say."""
    papers: list[Paper] = []
    bad: list[str] = []
    for kkt, path in registers.items():
        fn_number = ""
        try:
            for document in read_documents(path):
                fn_number = fn_number or Registration.of(document).fn_number
                papers.append(Paper(kkt, fn_number, document))
        except StorageError as error:
            bad.append(str(error))
    return papers, bad


def ask_journal(path: Path, sql: str) -> list[Any]:
    """Rows of the journal, which may be in use; sqlite3.Error if it cannot be read."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def pending(path: Path) -> int:
    """Receipts that have not come to their end, and messages that the broker does not have."""
    sql = (
        "SELECT (SELECT count(*) FROM receipts WHERE status IN ('buffered', 'printing', 'printed'))"
        " + (SELECT count(*) FROM outbox)"
    )
    return int(ask_journal(path, sql)[0][0])


def read_rows(path: Path) -> dict[ReceiptKey, Row]:
    """Every receipt that was taken."""
    sql = (
        "SELECT r.pos_id, r.receipt_id, r.status, r.kkt, d.fd_number, coalesce(d.attempts, 0)"
        " FROM receipts r LEFT JOIN documents d ON d.id = r.document"
    )
    return {(pos_id, receipt_id): Row(*rest) for pos_id, receipt_id, *rest in ask_journal(path, sql)}


def read_steps(path: Path, key: ReceiptKey) -> list[Any]:
    """The life of one receipt as the journal tells it."""
    sql = (
        "SELECT at_ms, from_status, to_status, fd_number, error FROM steps WHERE receipt ="
        f" (SELECT id FROM receipts WHERE pos_id = '{key[0]}' AND receipt_id = '{key[1]}') ORDER BY id"
    )
    return ask_journal(path, sql)


def count_signs(log: Path) -> Counter[str]:
    """Count by its log how often the bridge started, and how its doubts ended: `found`, or `absent`."""
    counts: Counter[str] = Counter()
    doubtful: set[str] = set()
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if sign := LOG_SIGN.search(line):
                _count(counts, doubtful, str(sign.lastgroup), RECEIPT_ID.findall(line))
    return counts


def _count(counts: Counter[str], doubtful: set[str], sign: str, ids: list[str]) -> None:
    if sign == "start":
        counts["starts"] += 1
        doubtful.clear()
    elif sign == "doubt":
        doubtful.update(ids)
    elif sign == "absent":
        counts["absent"] += 1
        doubtful.difference_update(ids)
    elif doubtful.intersection(ids):
        counts["found"] += 1
        doubtful.difference_update(ids)


EXCUSED: Final = "the broker cuts the connection when it is published"
"""The bridge's suspicion where line after line is cut under the same message: here it is the campaign that cuts."""


def complaints(log: Path) -> Iterator[str]:
    """Lines that no kill and no cut line excuses."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if "Traceback" in line or " ERROR " in line or " CRITICAL " in line:
                if EXCUSED in line:
                    continue
                yield f"{log.name}:{number}: {line.strip()}"


def run_verify(config: Path) -> Verify:
    """Ask the bridge's own `verify` about the same records."""
    command = [sys.executable, "-m", "kkt_bridge", "verify", "--config", str(config), "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=VERIFY_TIMEOUT_S, check=False)
    try:
        told = json.loads(ran.stdout)
    except ValueError:
        return Verify(ran.returncode, (f"no JSON: {ran.stdout}{ran.stderr}",), (), {})
    return Verify(ran.returncode, tuple(map(str, told["differences"])), tuple(told["not_checked"]), told["sums"] or {})


def lines_about(log: Path, wanted: Callable[[str], bool]) -> list[str]:
    """The lines of a log that are wanted."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        return [line.rstrip() for line in lines if wanted(line)]

"""The sums of journal, storages and OFD in one line: they should be equal."""

from dataclasses import dataclass
from typing import Final

from kkt_bridge.audit.deliveries import UNKNOWN_AT_OFD
from kkt_bridge.audit.scratch_database import ScratchDatabase
from kkt_bridge.receipts.ffd_codes import SALE_FORMS
from kkt_bridge.receipts.lifecycle import Status


@dataclass(frozen=True, slots=True)
class Totals:
    """The numbers of receipts and documents."""

    taken: int
    rejected: int
    waiting: int
    """Not printed yet."""
    printed: int
    """Receipts that the journal says have a fiscal document."""
    fiscal_documents: int
    """Documents with a requisite 1192; beside a running bridge, none of those that are in progress."""
    unknown_documents: int
    """Of these: the journal has no receipt of theirs."""
    foreign_documents: int
    """Receipts and corrections without a requisite 1192: another program's."""
    at_ofd: int | None
    """Of our storages; None where the OFD could not be asked."""
    unknown_at_ofd: int | None
    """Of these: the journal has no receipt of theirs."""
    dead: int
    pending: int
    """Printed, and neither at the OFD nor dead."""

    def __str__(self) -> str:
        told = f"taken {self.taken} = printed {self.printed}"
        if self.rejected or self.waiting:
            told += f" + rejected {self.rejected}" if self.rejected else ""
            told += f" + waiting {self.waiting}" if self.waiting else ""
            told += f"; printed {self.printed}"
        told += f" {_sign(self.printed, self.fiscal_documents)} fiscal documents {self.fiscal_documents}"
        told += _unknown(self.unknown_documents)
        if self.at_ofd is None:
            told += "; at the OFD: not checked"
        else:
            told += f" {_sign(self.printed, self.at_ofd + self.pending + self.dead)} at the OFD {self.at_ofd}"
            told += _unknown(self.unknown_at_ofd or 0)
            told += f" + to be sent {self.pending}" if self.pending else ""
            told += f" + dead letters {self.dead}" if self.dead else ""
        return told + (f"; {self.foreign_documents} documents of other programs" if self.foreign_documents else "")


def sum_up(scratch: ScratchDatabase, *, running: bool) -> Totals:
    """Count, by the journal as it was before the storages and the OFD were read."""
    statuses = dict(scratch.rows("SELECT status, count(*) FROM before GROUP BY status"))
    printed = scratch.number("SELECT count(*) FROM before WHERE status IN {printed}")
    in_progress = (Status.BUFFERED, Status.PRINTING) if running else ()
    known = scratch.number(_KNOWN_DOCUMENTS.format(places=", ".join("?" * len(in_progress))), *in_progress)
    unknown = scratch.number(_UNKNOWN_DOCUMENTS)
    lacking = dict(scratch.rows(_LACKING))
    unknown_at_ofd = scratch.number(f"SELECT count(*) {UNKNOWN_AT_OFD}") if scratch.ofd_known else None
    return Totals(
        taken=sum(statuses.values()),
        rejected=statuses.get(Status.REJECTED, 0),
        waiting=statuses.get(Status.BUFFERED, 0) + statuses.get(Status.PRINTING, 0),
        printed=printed,
        fiscal_documents=known + unknown,
        unknown_documents=unknown,
        foreign_documents=scratch.number(_FOREIGN),
        at_ofd=None if unknown_at_ofd is None else printed - sum(lacking.values()) + unknown_at_ofd,
        unknown_at_ofd=unknown_at_ofd,
        dead=lacking.get(Status.DEAD, 0),
        pending=lacking.get(Status.PRINTED, 0),
    )


def _sign(one: int, other: int) -> str:
    return "=" if one == other else "≠"


def _unknown(count: int) -> str:
    return f" ({count} unknown)" if count else ""


_KNOWN_DOCUMENTS: Final = """
SELECT count(*) FROM stored AS d JOIN before AS b ON b.requisite = d.requisite
WHERE b.status NOT IN ({places})
"""
_UNKNOWN_DOCUMENTS: Final = """
SELECT count(*) FROM stored AS d
LEFT JOIN before AS b ON b.requisite = d.requisite LEFT JOIN {after} AS a ON a.requisite = d.requisite
WHERE d.requisite IS NOT NULL AND b.requisite IS NULL AND a.requisite IS NULL
"""
_FOREIGN: Final = f"SELECT count(*) FROM stored WHERE requisite IS NULL AND form IN {tuple(SALE_FORMS)}"  # noqa: S608 (constants)
_LACKING: Final = """
SELECT b.status, count(*) FROM before AS b LEFT JOIN ofd_documents AS o ON o.key = b.key
WHERE b.status IN {printed} AND o.key IS NULL GROUP BY b.status
"""

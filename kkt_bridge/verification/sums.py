"""The sums of the books in one line: they should be equal."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from kkt_bridge.journal.inventory import Inventory
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.verification.deliveries import key_of
from kkt_bridge.verification.papers import PRINTED, Papers


@dataclass(frozen=True, slots=True)
class Sums:
    """How many there are of each."""

    taken: int
    rejected: int
    waiting: int
    """Not printed yet."""
    printed: int
    """Receipts that the journal says have a fiscal document."""
    fiscal_documents: int
    """Documents with the requisite of a receipt of ours; of those in progress beside a running bridge none counts."""
    foreign_documents: int
    """Receipts and corrections without a requisite 1192: another program's."""
    at_ofd: int | None
    """Of the printed ones; None where the OFD could not be asked."""
    dead: int
    pending: int
    """Printed, and neither at the OFD nor dead."""

    def __str__(self) -> str:
        parts = [f"taken {self.taken} = printed {self.printed}"]
        parts += [f" + rejected {self.rejected}"] * bool(self.rejected) + [f" + waiting {self.waiting}"] * bool(
            self.waiting
        )
        if self.rejected or self.waiting:
            parts.append(f"; printed {self.printed}")
        parts.append(f" {_sign(self.printed, self.fiscal_documents)} fiscal documents {self.fiscal_documents}")
        if self.at_ofd is None:
            parts.append("; at the OFD: not checked")
        else:
            parts.append(self._deliveries(self.at_ofd))
        if self.foreign_documents:
            parts.append(f"; {self.foreign_documents} documents of other programs")
        return "".join(parts)

    def _deliveries(self, at_ofd: int) -> str:
        told = f" {_sign(self.printed, at_ofd + self.pending + self.dead)} at the OFD {at_ofd}"
        told += f" + to be sent {self.pending}" if self.pending else ""
        return told + (f" + dead letters {self.dead}" if self.dead else "")


def sum_up(inventory: Inventory, papers: Papers, at_ofd: Collection[str] | None, *, running: bool) -> Sums:
    """Count. `inventory` is the one read before the storages and the OFD, `at_ofd` the keys that the OFD has."""
    claims = inventory.claims.values()
    statuses = Counter(claim.status for claim in claims)
    in_progress = {Status.BUFFERED, Status.PRINTING} if running else frozenset[Status]()
    lacking = [claim for claim in claims if claim.status in PRINTED and key_of(claim) not in (at_ofd or ())]
    printed = sum(statuses[status] for status in PRINTED)
    return Sums(
        taken=len(inventory.claims),
        rejected=statuses[Status.REJECTED],
        waiting=statuses[Status.BUFFERED] + statuses[Status.PRINTING],
        printed=printed,
        fiscal_documents=sum(len(papers.of(claim.key)) for claim in claims if claim.status not in in_progress),
        foreign_documents=papers.foreign,
        at_ofd=None if at_ofd is None else printed - len(lacking),
        dead=sum(claim.status == Status.DEAD for claim in lacking),
        pending=sum(claim.status == Status.PRINTED for claim in lacking),
    )


def _sign(one: int, other: int) -> str:
    return "=" if one == other else "≠"

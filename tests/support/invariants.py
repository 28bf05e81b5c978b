"""The invariants of any outage: judged from the outside, from papers, replies and events alone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from kkt_bridge.registers.virtual.fiscal_document import FiscalDocument

NEXT_STATUSES: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"buffered"}),
    "buffered": frozenset({"printing"}),
    "printing": frozenset({"printed", "rejected", "buffered"}),
    "printed": frozenset({"synced", "dead"}),
    "dead": frozenset({"printed", "dead"}),
    "synced": frozenset(),
    "rejected": frozenset(),
}
"""The life of a receipt as events may tell it: `buffered` again where nothing came of the printing, `printed` again
where a dead letter is requeued, `dead` twice where it is discarded."""


def check_papers(documents: Iterable[FiscalDocument]) -> None:
    """No receipt has two fiscal documents, on whichever registers."""
    papers: dict[str, list[int]] = defaultdict(list)
    for document in documents:
        if document.body.requisite_1192 is not None:
            papers[document.body.requisite_1192].append(document.fd_number)
    assert {key: numbers for key, numbers in papers.items() if len(numbers) > 1} == {}, "printed twice"


def check_verdicts(replies: Iterable[Mapping[str, Any]]) -> None:
    """Every reply to a receipt that says `printed` names the same fiscal document."""
    verdicts: dict[tuple[str, str | None], set[tuple[str, int]]] = defaultdict(set)
    for reply in replies:
        if reply["status"] == "printed":
            fiscal = reply["fiscal"]
            verdicts[reply["pos_id"], reply["receipt_id"]].add((fiscal["fn_number"], fiscal["fd_number"]))
    assert {key: papers for key, papers in verdicts.items() if len(papers) > 1} == {}, "told two documents"


def check_lives(steps: Iterable[Mapping[str, Any]]) -> None:
    """Each step begins where the last one ended. A step told again counts once; a refusal is no part of a life."""
    lives: dict[tuple[str, str | None], list[Mapping[str, Any]]] = defaultdict(list)
    for step in steps:
        if step["from"] is None and step["to"] == "rejected":
            continue
        life = lives[step["pos_id"], step["receipt_id"]]
        status = life[-1]["to"] if life else None
        # Two steps of one kind in the same millisecond look like one told twice: what goes on with the life is news.
        if step["from"] == status:
            assert step["to"] in NEXT_STATUSES[status], (step, life)
            life.append(step)
        else:
            assert step in life, (step, life)

"""3. Every request gets exactly one final verdict; it is repeated for repeats, and it is the truth."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from kkt_bridge.journal.commands import ANSWERS_KEPT_MS, ONLY_ASK
from simulation.broker import QueuedMessage
from simulation.invariants.invariant import Invariant
from simulation.terminals import CONTRADICTING_TOTAL, CONTRADICTION, Sale

_REFUSALS_BEFORE_TAKING = frozenset(
    {
        "buffer_full",
        "storage_unavailable",
        "paused",
        "unknown_kkt",
        "fn_exhausted",
        "original_not_found",
        "original_not_synced",
        "refund_exceeds_original",
        "idempotency_conflict",
    }
)
"""After these the same receipt may be sent again and be judged afresh."""


class OneVerdict(Invariant):
    """A verdict on a receipt that was taken never changes, whatever its POS asks, and agrees with the document."""

    name = "one verdict"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._refused_by_disk: set[int] = set()
        """Garbled messages that came while the disk took nothing, by their identity."""

    def acknowledged(self, queued: QueuedMessage | None) -> None:
        if queued is not None and isinstance(queued.about, str):
            refusal = self.recorded_refusal(queued)
            if refusal is not None and refusal["error"]["code"] == "storage_unavailable":
                self._refused_by_disk.add(id(queued))

    def answered(self, correlation: bytes, content: dict[str, Any]) -> None:
        """Check that what contradicts a receipt was not taken for it."""
        if correlation == CONTRADICTION and content["status"] == "printed":
            total = content["fiscal"]["total"]
            if total != CONTRADICTING_TOTAL:
                self.fail(f"{content['receipt_id']} over {CONTRADICTING_TOTAL} was told a document over {total}")

    def finish(self) -> None:
        printed = {
            document.body.requisite_1192
            for register in self.world.registers.values()
            for fn, document in register.documents()
            if not self.is_another_sale(fn, document)
        }
        for sale in self.world.sales():
            self._check_verdicts(sale)
            self._check_against_paper(sale, printed=sale.requisite in printed)
        self._check_questions()
        self._check_commands()

    def _check_verdicts(self, sale: Sale) -> None:
        verdicts = {self._verdict(reply) for reply in sale.replies if reply["final"]} - {None}
        if len(verdicts) > 1:
            self.fail(f"{sale.key} was told different things: {sorted(map(str, verdicts))}")
        if sale.reached_the_bridge and not any(reply["final"] for reply in sale.replies):
            self.fail(f"{sale.key} was never told what became of it")

    @staticmethod
    def _verdict(reply: dict[str, Any]) -> object:
        """The verdict on a receipt that was taken; None for the refusal of one that was not."""
        if reply["status"] == "printed":
            return reply["fiscal"]["fn_number"], reply["fiscal"]["fd_number"], tuple(reply["warnings"])
        code = reply["error"]["code"]
        return None if code in _REFUSALS_BEFORE_TAKING else code

    def _check_against_paper(self, sale: Sale, *, printed: bool) -> None:
        verdicts = [reply for reply in sale.replies if reply["final"]]
        told = any(reply["status"] == "printed" for reply in verdicts)
        if told != printed:
            heard = [reply["status"] for reply in verdicts]
            self.fail(f"{sale.key} is {'' if printed else 'not '}printed, and was told {heard}")
        if verdicts and printed and sale.conflict is None and verdicts[-1]["status"] != "printed":
            self.fail(f"{sale.key} is printed, and the last that its POS heard was {verdicts[-1]['error']}")

    def _check_questions(self) -> None:
        """Every question and every garbled message was answered at least once.

        Of garbled messages that are the same to the byte, and came while the disk took nothing, one answer is kept.
        """
        for terminal in self.world.terminals.values():
            answers = len(terminal.heard)
            asked = sum(not queued.lost for _, queued in terminal.queries)
            invalid = [queued for queued in terminal.invalid if not queued.lost]
            asked += sum(id(queued) not in self._refused_by_disk for queued in invalid)
            asked += len({queued.payload for queued in invalid if id(queued) in self._refused_by_disk})
            asked += sum(any(not queued.lost for queued in sale.copies) for sale in terminal.sales.values())
            if answers < asked:
                self.fail(f"{terminal.name} was heard {asked} times, and answered {answers} times")

    def _check_commands(self) -> None:
        operator = self.world.operator
        for command_id, (name, queued) in operator.commands.items():
            answers = operator.results.get(command_id, [])
            # While the disk takes nothing, the bridge can say so but not remember that it did.
            results = {
                str(answer["ok"]) + str(answer["result"]): datetime.fromisoformat(answer["at"])
                for answer in answers
                if (answer["error"] or {}).get("code") != "storage_unavailable"
            }
            if len(results) > 1 and not (name in ONLY_ASK and _are_far_apart(results.values())):
                self.fail(f"the command {name} was answered in different ways: {results}")
            if not answers and not queued.lost:
                self.fail(f"the command {name} was never answered")


def _are_far_apart(moments: Iterable[datetime]) -> bool:
    """Return whether the bridge may have forgotten the question in between: then a late redelivery asks it anew."""
    first, *others = sorted(moments)
    return all(later - first >= timedelta(milliseconds=ANSWERS_KEPT_MS) for later in others)

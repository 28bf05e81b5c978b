"""4. Every printed document reaches the OFD, in FD order per register; a lost answer never makes a new document."""

from collections import defaultdict
from typing import Any

from kkt_bridge.ofd.exchange import AnswerKind
from simulation.invariants.invariant import Invariant
from simulation.ofd import FAILURES
from simulation.registers import is_mixed


class DeliveredInOrder(Invariant):
    """Judged by the OFD's books against the registers' storages."""

    name = "delivered in order"
    outlives_memory = True

    def told(self, topic: list[str], content: dict[str, Any]) -> None:
        """A dead letter is one by proof: the OFD refused it, or it failed while others were taken."""
        if topic == ["event", "breaker"]:
            self._check_breaker(content)
        if topic != ["event", "receipt"] or self.world.memory.was_lost:
            return
        for step in content["steps"]:
            key = f"{step['pos_id']}:{step['receipt_id']}"
            if step["to"] == "dead" and step["error"] == "refused":
                self._check_refused(key)
            # An operator's forced syncs count, outage or not, and requeued letters begin anew.
            if step["error"] == "max_attempts" and "operator" not in self.world.day.kinds:
                self._check_exhausted(key)

    def _check_breaker(self, content: dict[str, Any]) -> None:
        """An OFD that asks for patience is there: the road pauses, the breaker has nothing to do with it."""
        if content["to"] == "open" and (content["last_error"] or "").startswith(("408", "425", "429")):
            self.fail(f"the breaker is open because the OFD asked for patience: {content['last_error']}")

    def _check_refused(self, key: str) -> None:
        kinds = self.world.ofd.told[key]
        misdirected = kinds.count(AnswerKind.BRIDGE_REFUSED) >= 2
        if AnswerKind.DOCUMENT_REFUSED not in kinds and not (misdirected and self._others_were_taken_between(key)):
            self.fail(f"{key} is a dead letter, and the OFD never refused it: {kinds}")

    def _others_were_taken_between(self, key: str) -> bool:
        log = self.world.ofd.log
        first = log.index((key, AnswerKind.BRIDGE_REFUSED))
        return any(kind is AnswerKind.ACCEPTED for _, kind in log[first:])

    def _check_exhausted(self, key: str) -> None:
        ofd = self.world.ofd
        if ofd.own_failures[key] < 2:
            self.fail(f"{key} is a dead letter after {ofd.own_failures[key]} failures of its own")
        taken = [n for n, (_, kind) in enumerate(ofd.log) if kind is AnswerKind.ACCEPTED]
        last = max(n for n, (other, kind) in enumerate(ofd.log) if other == key and kind in FAILURES)
        since = max((n for n in taken if n < last), default=-1)
        before = {other for other, kind in ofd.log[: since + 1] if kind in FAILURES}
        failing = {other for other, kind in ofd.log[since + 1 : last + 1] if kind in FAILURES} - before
        if len(failing) >= 3 and key in failing:
            self.fail(f"{key} is a dead letter, although nothing was taken since {len(failing)} documents failed")

    def finish(self) -> None:
        books = self.world.ofd.books()
        if books["conflicts"]:
            self.fail(f"two documents under one key: {books['conflicts']}")
        at_the_ofd = {entry["key"]: (entry["fn_number"], entry["fd_number"]) for entry in books["documents"]}
        owners = {sale.requisite: sale.key for sale in self.world.sales()}
        on_paper = {
            owners[document.body.requisite_1192]: (fn, document.fd_number)
            for register in self.world.registers.values()
            for fn, document in register.documents()
            if document.body.requisite_1192 in owners and not is_mixed(document)
        }
        if at_the_ofd != on_paper:
            self.fail(f"on paper and at the OFD differ: {set(on_paper.items()) ^ set(at_the_ofd.items())}")
        if "operator" in self.world.day.kinds or self.world.memory.was_lost:
            return  # a forced sync makes documents wait for themselves, outage or not
        arrivals = defaultdict(list)
        for entry in sorted(books["documents"], key=lambda entry: entry["order"]):
            if entry["key"] not in self.world.ofd.failed_keys | self.world.ofd.arrived_by_turns:
                arrivals[entry["fn_number"]].append(entry["fd_number"])
        for fn, numbers in arrivals.items():
            if numbers != sorted(numbers):
                self.fail(f"documents of FN {fn} that never failed arrived as {numbers}")

"""4. Every printed document reaches the OFD, in FD order per register; a lost answer never makes a new document."""

from collections import defaultdict
from typing import Any

from simulation.invariants.invariant import Invariant
from simulation.registers import is_mixed


class DeliveredInOrder(Invariant):
    """Judged by the OFD's books against the registers' storages."""

    name = "delivered in order"
    outlives_memory = True

    def told(self, topic: list[str], content: dict[str, Any]) -> None:
        """An outage is nobody's fault: a dead letter has failed while the OFD was there for others."""
        if topic != ["event", "receipt"] or "operator" in self.world.day.kinds or self.world.memory.was_lost:
            return  # an operator's forced syncs count, outage or not
        for step in content["steps"]:
            key = f"{step['pos_id']}:{step['receipt_id']}"
            if step["error"] == "max_attempts" and self.world.ofd.own_failures[key] < 2:
                self.fail(f"{key} is a dead letter after {self.world.ofd.own_failures[key]} failures of its own")

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
            if entry["key"] not in self.world.ofd.failed_keys:
                arrivals[entry["fn_number"]].append(entry["fd_number"])
        for fn, numbers in arrivals.items():
            if numbers != sorted(numbers):
                self.fail(f"documents of FN {fn} that never failed arrived as {numbers}")

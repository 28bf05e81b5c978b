"""4. Every printed document reaches the OFD, in FD order per register; a lost answer never makes a new document."""

from typing import Any

from kkt_bridge.ofd.exchange import AnswerKind
from simulation.invariants.invariant import Invariant
from simulation.ofd import FAILURES
from simulation.registers import is_mixed


class DeliveredInOrder(Invariant):
    """Judged by what the OFD received against the registers' storages."""

    name = "delivered in order"
    outlives_journal = True

    def told(self, topic: list[str], content: dict[str, Any]) -> None:
        """A dead letter is one by proof: the OFD refused it, or it failed while others were taken."""
        if topic == ["event", "breaker"]:
            self._check_breaker(content)
        if topic != ["event", "receipt"] or self.world.journal.was_lost:
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
        failing = {
            other
            for n, (other, kind) in enumerate(ofd.log[: last + 1])
            if n > since and kind in FAILURES and (other == key or n not in ofd.unheard)
        } - before
        if len(failing) >= 3 and key in failing:
            self.fail(f"{key} is a dead letter, although nothing was taken since {len(failing)} documents failed")

    def finish(self) -> None:
        received = self.world.ofd.received()
        owners = {sale.requisite: sale.key for sale in self.world.sales()}
        own = [
            (owners[document.body.requisite_1192], (fn, document.fd_number), self.is_another_sale(fn, document))
            for register in self.world.registers.values()
            for fn, document in register.documents()
            if document.body.requisite_1192 in owners and not is_mixed(document)
        ]
        # Two sales under one id, each with a document of its own: the OFD has the first, and a person has seen both.
        contested = {key for key, _, is_another in own if is_another}
        if conflicts := [each for each in received["conflicts"] if each["key"] not in contested]:
            self.fail(f"two documents under one key: {conflicts}")
        at_the_ofd = {
            entry["key"]: (entry["fn_number"], entry["fd_number"])
            for entry in received["documents"]
            if entry["key"] not in contested
        }
        on_paper = {key: place for key, place, _ in own if key not in contested}
        if at_the_ofd != on_paper:
            self.fail(f"on paper and at the OFD differ: {set(on_paper.items()) ^ set(at_the_ofd.items())}")
        if not self.world.journal.was_lost:
            self._check_order(at_the_ofd)

    def _check_order(self, places: dict[str, tuple[str, int]]) -> None:
        arrived: set[str] = set()
        for key, length in self.world.ofd.arrivals:
            arrived.add(key)
            fn, fd = places[key]
            of_register = {other: number for other, (its, number) in places.items() if its == fn}
            missing = [other for other, number in of_register.items() if number < fd and other not in arrived]
            overtaken = [other for other in missing if not self._waited_for_itself(other, length)]
            if overtaken and not self._was_tried_out_of_turn(overtaken, missing, length):
                earlier = sorted(of_register[other] for other in overtaken)
                self.fail(f"FD {fd} of FN {fn} arrived before {earlier}, by number {length} of the OFD's answers")

    def _waited_for_itself(self, key: str, length: int) -> bool:
        """Return whether it had a back-off of its own, or was a dead letter, when the OFD had given so many answers."""
        failed: dict[bool, int] = {}
        for n, (other, kind) in enumerate(self.world.ofd.log[:length]):
            if other != key:
                continue
            if kind is AnswerKind.DOCUMENT_REFUSED:
                return True
            is_failure = kind in FAILURES
            # Either says that the OFD is alive, so that the failure counts as the document's own.
            is_alive = self._was_well_about(n, length) or self._took_between(n + 1, length)
            if is_failure and ("operator" in self.world.day.kinds or is_alive):
                return True
            if is_failure or kind is AnswerKind.BRIDGE_REFUSED:
                if is_failure in failed and self._took_between(failed[is_failure], n):
                    return True  # the second time, while others get through
                failed[is_failure] = n
        return False

    def _was_well_about(self, n: int, length: int) -> bool:
        """Return whether the health check was well when it was asked last before this answer, or some time after it."""
        before = [well for well, at in self.world.ofd.health_answers if at <= n][-1:]
        return any(before) or any(well for well, at in self.world.ofd.health_answers if n < at <= length)

    def _took_between(self, begin: int, end: int) -> bool:
        return any(kind is AnswerKind.ACCEPTED for _, kind in self.world.ofd.log[begin:end])

    def _was_tried_out_of_turn(self, overtaken: list[str], missing: list[str], length: int) -> bool:
        """Return whether this is the one attempt that shows whether the oldest documents are bad, or the OFD is away.

        All that it overtakes have failed since anything was taken, and one of its register has failed right before.
        """
        log = self.world.ofd.log[:length]
        since = max((n for n, (_, kind) in enumerate(log) if kind is AnswerKind.ACCEPTED), default=-1)
        failed = {key for key, kind in log[since + 1 :] if kind is not AnswerKind.SLOW_DOWN}
        return bool(log) and log[-1][0] in missing and failed.issuperset(overtaken)

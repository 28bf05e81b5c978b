"""A register driven at random against a list of what was answered: Hypothesis looks for the order that breaks it."""

import itertools
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from registers.bench import CASHIER, VirtualBench, a_job

from kkt_bridge.errors import InDoubt, ReceiptRefused, RegisterAway, RegisterNotReady

FAULTS = st.sampled_from(
    [
        {},
        {"offline": True},
        {"busy_next": 3},
        {"paper_out": True},
        {"paper_out_after": 1},
        {"refuse_next": 1},
        {"fn_exhausted": True},
        {"lose_answer_next": 1},
        {"clock_offset_s": -7200},
        *({"power_cut": {"at": step}} for step in ("open", "line", "before_close", "after_close", "print")),
    ]
)


class RegisterMachine(RuleBasedStateMachine):
    """Whatever happens: no gaps, no going back in time, and every answer is in the storage exactly once."""

    @initialize()
    def switch_on(self):
        self._folder = tempfile.TemporaryDirectory()
        self.bench = VirtualBench(Path(self._folder.name))
        self.bench.register.status()
        self.answered = {}
        self.sold = 0

    def teardown(self):
        if hasattr(self, "bench"):
            self.bench.register.close()
            self._folder.cleanup()

    @rule(faults=FAULTS)
    def break_it(self, faults):
        self.bench.break_with(**faults)

    @rule()
    def heal(self):
        self.bench.heal()

    @rule(seconds=st.sampled_from([1, 60, 3600, 86_400, -30, -7200]))
    def pass_time(self, seconds):
        self.bench.clock.advance(seconds)

    @rule()
    def restart(self):
        self.bench.restart()

    @rule(call=st.sampled_from(["open_shift", "close_shift"]))
    def do_shift(self, call):
        known = len(self.bench.documents())
        try:
            report = getattr(self.bench.register, call)(CASHIER)
        except (RegisterAway, RegisterNotReady):
            assert len(self.bench.documents()) == known
        else:
            self.answered[report.fd_number] = None

    @rule(kind=st.sampled_from(["sale", "refund"]))
    def sell(self, kind):
        self.sold += 1
        job = a_job(type=kind, receipt_id=f"00000000-0000-4000-8000-{self.sold:012x}")
        known = len(self.bench.documents())
        try:
            printed = self.bench.register.print_receipt(job)
        except InDoubt:
            assert len(self.bench.documents()) in {known, known + 1}
        except (RegisterAway, RegisterNotReady, ReceiptRefused):
            assert len(self.bench.documents()) == known, "an answer that nothing was fiscalised"
        else:
            assert printed.mark.fd_number == known + 1
            self.answered[known + 1] = job.requisite

    @rule()
    def cancel(self):
        try:
            self.bench.register.cancel_document()
        except (RegisterAway, RegisterNotReady):
            return
        status = self.bench.register.status()
        assert status.mode != "document_open"

    @invariant()
    def the_storage_is_whole(self):
        documents = self.bench.documents()
        assert [document.fd_number for document in documents] == list(range(1, len(documents) + 1))
        assert all(one.at <= two.at for one, two in itertools.pairwise(documents))
        requisites = [document.body.requisite_1192 for document in documents if document.body.requisite_1192]
        assert len(requisites) == len(set(requisites))
        for fd_number, requisite in self.answered.items():
            assert documents[fd_number - 1].body.requisite_1192 == requisite

    @invariant()
    def shifts_follow_each_other(self):
        number, open_, receipts = 0, False, 0
        for document in self.bench.documents()[1:]:
            if document.body.type == "shift_open":
                assert not open_
                number, open_, receipts = number + 1, True, 0
            elif document.body.type == "shift_close":
                assert open_
                assert document.body.content["receipts"] == receipts
                open_ = False
            else:
                receipts += 1
                assert open_
                assert document.receipt_number == receipts
            assert document.shift_number == number


TestRegisterMachine = RegisterMachine.TestCase
TestRegisterMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

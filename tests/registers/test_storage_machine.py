"""A register driven at random against a list of what was answered: Hypothesis looks for the order that breaks it.

And the file under its fiscal storage, on a disk that tears, takes a part, or takes nothing.
"""

import itertools
import os
import resource
import tempfile
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from registers.bench import CASHIER, VirtualBench, a_job
from support.registers import print_on

from kkt_bridge.errors import InDoubt, ReceiptRefused, RegisterAway, RegisterNotReady
from kkt_bridge.registers.virtual.fiscal_document import RECEIPT, Body, registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.registers.virtual.rules import Refusal
from kkt_bridge.registers.virtual.storage_file import DocumentFile, read_documents

NOON = datetime.fromisoformat("2026-11-22T12:03:00+03:00")

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
            printed = print_on(self.bench.register, job)
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
TestRegisterMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, print_blob=True
)


@contextmanager
def room_for(path, size):
    """A disk that has room for so many bytes more in this file: a write is cut short there, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def a_body(number):
    """A receipt, the longer the higher its number."""
    return Body(
        RECEIPT, "sale", operation="sale", total=number, requisite_1192=f"{number:016X}", content={"x": "я" * number}
    )


class DocumentFileMachine(RuleBasedStateMachine):
    """Whole documents or none: `self.answered` is what the storage said that it has made."""

    @initialize()
    def begin(self):
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "kkt-1.fn"
        self.numbers = itertools.count(1)
        self.open()
        self.answered = [self.storage.last]
        self.make(self.storage.open_shift, {})

    def open(self):
        self.storage = FiscalStorage(self.path)
        self.storage.open(registration_of("kkt-1"), NOON)

    def teardown(self):
        if hasattr(self, "storage"):
            self.storage.close()
            self._folder.cleanup()

    def make(self, command, *arguments):
        self.answered.append(command(*arguments, NOON))

    @rule(count=st.integers(min_value=1, max_value=3))
    def sell(self, count):
        for _ in range(count):
            self.make(self.storage.make_receipt, a_body(next(self.numbers)))

    @rule()
    def change_the_shift(self):
        self.make(self.storage.close_shift, {})
        self.make(self.storage.open_shift, {})

    @rule(size=st.integers(min_value=0, max_value=600), mends=st.booleans())
    def sell_with_little_room(self, size, mends):
        """A document that does not fit is refused, and the file is as it was: also if what was torn cannot be cut."""
        cutting = os.ftruncate if mends else failing_truncate
        with room_for(self.path, size), patch("os.ftruncate", cutting), suppress(OSError, Refusal):
            self.make(self.storage.make_receipt, a_body(next(self.numbers)))

    @rule(part=st.floats(min_value=0, max_value=1, exclude_max=True))
    def tear(self, part):
        """The power of the host fails at any byte of the next document, which nobody was told of."""
        self.storage.close()
        shorter = self.path.with_suffix(".copy")
        shorter.write_bytes(self.path.read_bytes())
        copy = FiscalStorage(shorter)
        copy.open(registration_of("kkt-1"), NOON)
        line = copy.make_receipt(a_body(next(self.numbers)), NOON).to_line()
        copy.close()
        with self.path.open("ab") as file:
            file.write(line[: int(part * len(line))])
        self.open()

    @rule()
    def end(self):
        """The process is killed: nothing is synced, nothing put in order."""
        self.storage._file._release()
        self.open()

    @rule()
    def spoil_what_comes_after(self):
        """A file that holds something else behind its documents is not cut, and not used."""
        self.storage.close()
        whole = self.path.read_bytes()
        self.path.write_bytes(whole + b"these are my notes\n")
        spoilt = DocumentFile(self.path)
        with pytest.raises(Exception, match="move the file away"):
            spoilt.open()
        assert self.path.read_bytes() == whole + b"these are my notes\n"
        self.path.write_bytes(whole)
        self.open()

    @invariant()
    def exactly_what_was_answered_is_there(self):
        if hasattr(self, "storage"):
            assert list(read_documents(self.path)) == self.answered
            assert self.storage.last == self.answered[-1]
            assert self.storage.last_fd_number == len(self.answered)


def failing_truncate(*_):
    raise OSError(5, "Input/output error")


TestDocumentFileMachine = DocumentFileMachine.TestCase
TestDocumentFileMachine.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, derandomize=True, print_blob=True
)

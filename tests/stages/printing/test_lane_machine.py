"""A print lane in any weather: Hypothesis looks for the order of events that prints twice, loses or lies.

The lane, its journal and its register are the real ones. The process may end before and after every call to the
register, before and after every commit, and while paper is running; the register may lose its power, its answers,
its paper; another program may print on it; clocks may show anything.
"""

import shutil
import tempfile
from collections import Counter
from functools import partial
from math import ceil
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.clocks import NOON_MS
from support.receipts import POS, receipt, small_receipt
from support.registers import print_on
from support.stages import ZONE, InProcessBridge, a_print_job, break_disk, check_counts, mend_disk

from kkt_bridge.errors import InDoubt, ReceiptRefused, RegisterAway, RegisterNotReady
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.receipts import find_receipts
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.registers.virtual.driver import VirtualRegister
from kkt_bridge.registers.virtual.rules import NoAnswer, Refusal
from kkt_bridge.registers.virtual.storage_file import read_documents
from kkt_bridge.stages.printing.lane import FOREIGN_DOCUMENT_S

DAY_S = 86_400
YEAR_MS = 365 * DAY_S * 1000
PATIENCE = ceil(FOREIGN_DOCUMENT_S) + 15
"""Looks at a healed register, a second apart, that a lane may need to come to rest: a stranger may be in a document."""

DEFECTIVE = "дефект"
"""What the name of an item has that the register will not print while it is told so."""

FAULTS = st.sampled_from(
    [
        *({"power_cut": {"at": step, "times": times}}
          for step in ("open", "requisites", "line", "subtotal", "before_close", "after_close", "print")
          for times in (1, 3)),
        {"lose_answer_next": 1},
        {"lose_answer_next": 3},
        {"offline": True},
        {"busy": True},
        {"busy_next": 1},
        {"busy_next": 4},
        {"paper_out": True},
        {"paper_out_after": 1},
        {"refuse_next": 1},
        {"refuse_names": [DEFECTIVE]},
        {"fn_exhausted": True},
        {"clock_offset_s": 2 * DAY_S},
        {"print_time_s": 5, "lose_answer_next": 1},
        {"print_time_s": 5},
    ]
)  # fmt: skip
READINGS_MS = st.sampled_from(
    [0, NOON_MS - 10 * YEAR_MS, NOON_MS - DAY_S * 1000, NOON_MS, NOON_MS + DAY_S * 1000, NOON_MS + 10 * YEAR_MS]
)
REQUESTS = {
    "plain": small_receipt,
    "defective": partial(small_receipt, {"name": DEFECTIVE}),
    "longer": receipt,
    "correction": partial(
        small_receipt, type="correction", correction={"operation": "sale", "kind": "voluntary", "date": "2026-11-20"}
    ),
}
OPERATORS_JOBS = {
    "open": lambda register: register.open_shift(None),
    "close": lambda register: register.close_shift(None),
    "report": lambda register: register.x_report(),
    "copy": lambda register: register.print_copy(None),
}


class Killed(BaseException):
    """The end of the process: no handler in the program may catch it."""


def end_of_process():
    raise Killed


class Fate:
    """Lets something happen at the n-th effect from now, once it is told to."""

    def __init__(self):
        self.forget()

    def strike(self, effects, blow=end_of_process):
        self._left = effects
        self._blow = blow

    def forget(self):
        self._left = None

    def pass_by(self):
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self.forget()
                self._blow()


class DoomedRegister:
    """A register whose user meets its fate before any call, or after it."""

    def __init__(self, fate, register):
        self._fate = fate
        self._register = register

    def __getattr__(self, name):
        return partial(self._call, getattr(self._register, name))

    def _call(self, method, *arguments):
        self._fate.pass_by()
        answer = method(*arguments)
        self._fate.pass_by()
        return answer


def doomed_journal(fate):
    class DoomedJournal(Journal):
        def _commit(self, entries):
            fate.pass_by()
            super()._commit(entries)

        def _apply(self, transaction):
            fate.pass_by()
            super()._apply(transaction)

    return DoomedJournal


class DoomedBridge(InProcessBridge):
    """A shop whose fate may also come while paper is running."""

    def __init__(self, folder, fate):
        self.fate = fate
        super().__init__(folder, journal_kind=doomed_journal(fate), wrap_register=partial(DoomedRegister, fate))

    def _wait(self, seconds):
        self.fate.pass_by()
        super()._wait(seconds)


class LaneMachine(RuleBasedStateMachine):
    """`self.taken` holds every receipt that was ever acknowledged as taken."""

    @initialize()
    def open_the_shop(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lane-"))
        self.fate = Fate()
        self.shop = DoomedBridge(self.folder, self.fate)
        self.taken = {}
        self.offer(REQUESTS["plain"]())
        self.shop.print_all()

    def teardown(self):
        if hasattr(self, "shop"):
            try:
                self.come_to_rest()
            finally:
                self.shop.kill()
                shutil.rmtree(self.folder)

    def live(self, deed):
        """Do it as a process that may end over it; then there is a next one."""
        try:
            deed()
        except Killed:
            self.shop.kill()
            self.shop._start()

    @property
    def register(self):
        """The register, for others than the lane."""
        return self.shop.registers["kkt-1"]

    # -- POS terminals -----------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(sorted(REQUESTS)))
    def sell(self, kind):
        self.offer(REQUESTS[kind]())

    @rule(number=st.integers(min_value=0, max_value=9))
    def sell_the_same_again(self, number):
        if self.taken:
            self.offer(list(self.taken.values())[number % len(self.taken)])

    @rule(
        kinds=st.lists(st.sampled_from(sorted(REQUESTS)), min_size=1, max_size=4),
        faults=FAULTS,
        effects=st.none() | st.integers(min_value=0, max_value=60),
    )
    def have_a_bad_moment(self, kinds, faults, effects):
        """Receipts, a fault and a kill at once: apart, they seldom meet."""
        self.shop.break_register(**faults)
        if effects is not None:
            self.fate.strike(effects)
        for kind in kinds:
            self.offer(REQUESTS[kind]())
        self.live(partial(self.shop.print_patiently, 2))

    def offer(self, request):
        """Publish it; the broker delivers it again until it is acknowledged."""
        for attempt in range(3):
            acknowledged = len(self.shop.line.acknowledged)
            self.live(lambda attempt=attempt: self.shop.sell(request, redelivered=attempt > 0))
            if len(self.shop.line.acknowledged) > acknowledged:
                break
        else:
            raise AssertionError("never acknowledged")
        if self.find(request):
            self.taken[request["receipt_id"]] = request
        else:
            assert request["receipt_id"] not in self.taken
            (refusal,) = [reply for reply in self.shop.replies() if reply["receipt_id"] == request["receipt_id"]]
            # Under a clock that is wrong, the day that a correction is about may seem to come yet.
            reasons = {"fn_exhausted"} if request["type"] != "correction" else {"fn_exhausted", "invalid_receipt"}
            assert refusal["error"]["code"] in reasons, "nothing else keeps a receipt from being taken here"

    def find(self, request):
        return self.shop.journal.read(lambda connection: find_receipts(connection, request["receipt_id"]))

    # -- the bridge --------------------------------------------------------------------------------------

    @rule()
    def step(self):
        self.live(self.shop.lane.step)

    @rule()
    def step_until_it_rests(self):
        self.live(self.shop.print_all)

    @rule(effects=st.integers(min_value=0, max_value=25))
    def end_soon(self, effects):
        """The kill falls on whatever comes at that time."""
        self.fate.strike(effects)

    @rule()
    def end_now(self):
        self.shop.restart()

    @rule()
    def stop_in_good_order(self):
        def stop():
            self.shop.lane.close()
            self.shop.journal.close()

        self.live(stop)
        self.shop.restart()

    @rule()
    def tell_of_what_waits(self):
        self.live(self.shop.notices.step)

    @rule(job=st.sampled_from(sorted(OPERATORS_JOBS)))
    def order_a_job(self, job):
        def work():
            done = self.shop.lane.request(OPERATORS_JOBS[job])
            self.shop.clock.advance(1)
            self.shop.lane.step()
            if done.done():
                assert not isinstance(done.exception(), AssertionError)

        self.live(work)

    @rule(kinds=st.lists(st.sampled_from(sorted(REQUESTS)), max_size=2), effects=st.integers(min_value=0, max_value=20))
    def lose_the_disk_for_a_while(self, kinds, effects):
        """At any moment of printing: a document may exist that cannot be written down."""
        for kind in kinds:
            self.offer(REQUESTS[kind]())
        self.fate.strike(effects, lambda: break_disk(self.shop.journal))
        self.live(partial(self.shop.print_patiently, 2))
        self.fate.forget()
        mend_disk(self.shop.journal)

    # -- the register ------------------------------------------------------------------------------------

    @rule(faults=FAULTS)
    def break_the_register(self, faults):
        self.shop.break_register(**faults)

    @rule()
    def heal_the_register(self):
        self.shop.heal_register()

    @rule()
    def switch_the_register_off_and_on(self):
        self.register.close()

    # -- another program on the same register ------------------------------------------------------------

    @rule()
    def have_a_stranger_print(self):
        self.live(partial(strangers_deed, lambda: print_on(self.register, a_print_job())))

    @rule()
    def have_a_stranger_leave_a_document_open(self):
        self.live(partial(strangers_deed, lambda: self.register._switched_on().open_document("sale")))

    @rule(job=st.sampled_from(sorted(OPERATORS_JOBS)))
    def have_a_stranger_do_shift_work(self, job):
        self.live(partial(strangers_deed, lambda: OPERATORS_JOBS[job](self.register)))

    @rule()
    def have_a_stranger_print_while_the_bridge_is_down(self):
        self.shop.kill()
        theirs = VirtualRegister("kkt-1", self.folder / "kkt-1.fn", ZONE, self.shop.clock, 0, wait=lambda _: None)
        for deed in (lambda: theirs.open_shift(None), lambda: print_on(theirs, a_print_job())):
            strangers_deed(deed)
        theirs.close()
        self.shop._start()

    # -- clocks ------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 40, 3600, DAY_S, 3 * DAY_S]))
    def let_time_pass(self, seconds):
        self.shop.clock.advance(seconds)

    @rule(reading=READINGS_MS)
    def set_the_wall_clock(self, reading):
        self.shop.clock.wall_ms = reading

    # -- what must hold ----------------------------------------------------------------------------------

    def papers(self):
        """FD numbers of our receipts by their requisites; the fiscal storage must have no gaps."""
        file = self.folder / "kkt-1.fn"
        documents = list(read_documents(file)) if file.exists() and file.stat().st_size else []
        papers = {}
        for document in documents:
            if requisite := document.body.requisite_1192:
                papers.setdefault(requisite, []).append(document.fd_number)
        return papers

    def lives(self):
        """Status, storage and document of every receipt in the journal."""
        query = (
            "SELECT r.receipt_id, r.status, r.fn_before, r.fd_before, d.fn_number, d.fd_number FROM receipts r "
            "LEFT JOIN documents d ON d.id = r.document"
        )
        return {receipt_id: rest for receipt_id, *rest in self.shop.rows(query)}

    @invariant()
    def the_journal_says_what_the_fiscal_storage_holds(self):
        if not hasattr(self, "shop"):
            return
        papers, lives = self.papers(), self.lives()
        assert lives.keys() == self.taken.keys(), "no receipt is lost, and none is made up"
        for receipt_id, (status, _, fd_before, _, fd_number) in lives.items():
            made = papers.get(requisite_1192(ReceiptKey(POS, receipt_id)), [])
            assert len(made) <= 1, "printed twice"
            match status:
                case "printed":
                    assert made == [fd_number]
                case "printing":
                    assert all(number > fd_before for number in made)
                case _:
                    assert made == [], f"a document of a receipt that is {status}"

    @invariant()
    def every_pos_is_told_the_truth_and_its_verdict_once(self):
        if not hasattr(self, "shop"):
            return
        lives, verdicts, waits = self.lives(), Counter(), Counter()
        for reply in self.shop.replies():
            if (receipt_id := reply["receipt_id"]) not in lives:
                continue
            status, *_, fd_number = lives[receipt_id]
            if reply["final"]:
                assert reply["status"] == status
                assert not reply["fiscal"] or reply["fiscal"]["fd_number"] == fd_number
                verdicts[receipt_id] += not reply["duplicate"]
            else:
                waits[receipt_id] += not reply["duplicate"]
        ended = {receipt_id for receipt_id, (status, *_) in lives.items() if status in {"printed", "rejected"}}
        assert verdicts == dict.fromkeys(ended, 1)
        assert max(waits.values(), default=0) <= 1

    @invariant()
    def the_counts_are_right_and_no_doubt_is_left_to_a_person(self):
        if hasattr(self, "shop"):
            check_counts(self.shop.journal, self.folder)
            assert self.shop.lane.view.problem != "unsettled_doubt"

    def come_to_rest(self):
        """When all is well again, the shop sells on, and each receipt has its end."""
        self.fate.forget()
        self.shop.heal_register()
        self.shop.print_patiently(2)  # what it last knew of its register may still keep receipts out
        self.offer(small_receipt())
        for _ in range(PATIENCE):
            self.shop.print_patiently(1)
            if self.is_at_rest():
                break
        assert self.is_at_rest(), (self.lives(), self.shop.lane.view)
        self.the_journal_says_what_the_fiscal_storage_holds()
        self.every_pos_is_told_the_truth_and_its_verdict_once()

    def is_at_rest(self):
        ended = {status for status, *_ in self.lives().values()} <= {"printed", "rejected"}
        return ended and self.shop.lane.view.problem is None


def strangers_deed(deed):
    """Whatever comes of it is the stranger's business."""
    try:
        deed()
    except (InDoubt, NoAnswer, ReceiptRefused, Refusal, RegisterAway, RegisterNotReady):
        return


TestLaneMachine = LaneMachine.TestCase
TestLaneMachine.settings = settings(
    max_examples=120, stateful_step_count=30, deadline=None, derandomize=True, print_blob=True
)

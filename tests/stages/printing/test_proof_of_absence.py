"""Nothing is printed again before it is proven that it was not, whatever the driver says and however late it is."""

from dataclasses import replace

import pytest
from support.receipts import receipt, small_receipt
from support.registers import print_on
from support.stages import InProcessBridge, a_print_job, check_counts, key_of, meddle

from kkt_bridge.errors import InDoubt, JournalError, ReceiptRefused, RegisterAway, RegisterNotReady
from kkt_bridge.journal.journal import Journal
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.registers.virtual.fiscal_document import registration_of
from kkt_bridge.registers.virtual.fiscal_storage import FiscalStorage
from kkt_bridge.stages.printing import leases
from kkt_bridge.stages.printing.in_doubt import ATTEMPTS_MAX
from kkt_bridge.stages.printing.lane import FOREIGN_DOCUMENT_S, State
from kkt_bridge.stages.printing.manual_resolution import ManualResolution, PrintAgain, SettleRefused

HOUR_S = 3600


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path)
    yield opened
    check_counts(opened.journal, tmp_path)
    opened.kill()


def made_of(shop, request, kkt="kkt-1"):
    """The numbers of the documents that carry a receipt's mark."""
    mark = requisite_1192(key_of(request))
    return [document.fd_number for document in shop.documents(kkt) if document.body.requisite_1192 == mark]


class LateRegister:
    """A register that goes on with a receipt after its driver gave up waiting: the document comes later."""

    def __init__(self, register, *, looks, says_busy):
        self._register = register
        self._looks = looks
        self._says_busy = says_busy
        self._held = None

    def __getattr__(self, name):
        return getattr(self._register, name)

    def status(self):
        if self._held is not None:
            if self._looks == 0:
                held, self._held = self._held, None
                status = self._register.status()
                self._register.print_receipt(*held)
                return status  # asked just before the document came
            self._looks -= 1
            if self._says_busy:
                return replace(self._register.status(), busy=True, problem="busy")
        return self._register.status()

    def print_receipt(self, *what):
        if self._looks is None:
            return self._register.print_receipt(*what)
        if self._held is None and not getattr(self, "_done", False):
            self._held, self._done = what, True
            raise InDoubt("kkt-1: no answer within 8 s")
        return self._register.print_receipt(*what)


@pytest.mark.parametrize(("looks", "says_busy"), [(0, False), (1, True), (3, True)])
def test_a_document_that_comes_after_the_answer_was_given_up_is_found(tmp_path, looks, says_busy):
    shop = InProcessBridge(
        tmp_path, wrap_register=lambda register: LateRegister(register, looks=looks, says_busy=says_busy)
    )
    request, behind = receipt(), receipt()
    shop.sell(request)
    shop.sell(behind)
    shop.print_patiently(8)
    assert [shop.status(one) for one in (request, behind)] == ["printed", "printed"]
    assert made_of(shop, request) == [3]
    assert made_of(shop, behind) == [4]
    shop.kill()


@pytest.mark.parametrize(
    "error",
    [
        ReceiptRefused("kkt_rejected", "33h bad parameters"),
        RegisterNotReady("busy", "50h"),
        RegisterAway("no answer"),
        ValueError("a bug of the driver's"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_driver_says_was_not_done_is_looked_for_all_the_same(shop, monkeypatch, error):
    register, printing = shop.registers["kkt-1"], shop.registers["kkt-1"].print_receipt

    def print_receipt(*what):
        printing(*what)
        monkeypatch.undo()
        raise error

    monkeypatch.setattr(register, "print_receipt", print_receipt)
    request, behind = receipt(), receipt()
    shop.sell(request)
    shop.sell(behind)
    shop.print_patiently(4)
    assert [shop.status(one) for one in (request, behind)] == ["printed", "printed"]
    assert (made_of(shop, request), made_of(shop, behind)) == ([3], [4])


def test_our_mark_on_a_document_of_another_total_is_no_absence(shop, monkeypatch):
    """Another program's line got into our receipt, and the answer was lost."""
    request = small_receipt()
    register, printing = shop.registers["kkt-1"], shop.registers["kkt-1"].print_receipt

    def print_receipt(job, expected):
        printing(replace(a_print_job(receipt()), requisite=job.requisite), expected)
        monkeypatch.undo()
        raise InDoubt("the answer was lost")

    monkeypatch.setattr(register, "print_receipt", print_receipt)
    shop.sell(request)
    shop.print_patiently(4)
    assert (shop.status(request), shop.lane.view.problem) == ("printing", "unsettled_doubt")
    assert "which is another sale" in shop.lane.view.detail
    assert made_of(shop, request) == [3]
    (doubt,) = shop.lane.view.doubts
    shop.lane.settle(ManualResolution(key_of(request), PrintAgain(doubt.number), "the paper is another sale's"))
    shop.print_patiently(2)
    assert shop.status(request) == "printed"
    shop.restart()
    shop.print_patiently(2)
    assert shop.lane.view.problem is None, "what a person passed stays passed"


def test_a_receipt_that_another_lane_leaves_in_doubt_keeps_a_ready_lane_from_printing_the_next(tmp_path):
    """Its mark is on another sale on the other register's storage; its own lane has leased one before it."""
    shop = InProcessBridge(tmp_path, registers=("kkt-1", "kkt-2"), pos={"pos-1": "kkt-1", "pos-2": "kkt-2"})
    shop.sell(receipt())
    shop.sell(receipt(pos_id="pos-2"), pos="pos-2")
    shop.print_all()
    leased, request, behind = receipt(), small_receipt(), receipt()
    print_on(shop.registers["kkt-2"], replace(a_print_job(receipt()), requisite=requisite_1192(key_of(request))))
    shop.clock.advance(HOUR_S)
    shop.lane.step()
    assert shop.lane.state is State.IDLE, "it has just been asked"
    for each in (leased, request, behind):
        shop.sell(each)
    assert [shop.status(each) for each in (leased, request, behind)] == ["printing", "buffered", "buffered"]
    shop.lanes["kkt-2"].step()
    assert shop.status(request) == "printing"
    shop.print_all("kkt-1")
    assert (shop.lane.view.problem, shop.status(behind)) == ("unsettled_doubt", "buffered")
    shop.kill()


def test_a_receipt_whose_mark_is_on_another_sale_is_refused_only_after_a_person_has_passed_that_sale(shop, monkeypatch):
    """Another program's line got into our receipt; whatever the driver says, that paper may be what was sold."""
    request, behind = small_receipt(), small_receipt()
    register, printing = shop.registers["kkt-1"], shop.registers["kkt-1"].print_receipt

    def print_receipt(job, expected):
        printing(replace(a_print_job(receipt()), requisite=job.requisite), expected)
        monkeypatch.undo()
        raise ReceiptRefused("kkt_rejected", "33h bad parameters")

    monkeypatch.setattr(register, "print_receipt", print_receipt)
    shop.sell(request)
    shop.print_patiently(4)
    assert (shop.status(request), shop.lane.view.problem) == ("printing", "unsettled_doubt")
    assert [reply for reply in shop.replies() if reply["final"]] == []

    (doubt,) = shop.lane.view.doubts
    shop.break_register(refuse_next=1)
    shop.lane.settle(ManualResolution(key_of(request), PrintAgain(doubt.number), "the paper is another sale's"))
    shop.print_patiently(3)
    assert shop.status(request) == "rejected"
    shop.heal_register()
    shop.restart()
    shop.sell(request)
    shop.sell(behind)
    shop.print_patiently(3)
    assert (shop.status(request), shop.status(behind)) == ("rejected", "printed")
    assert made_of(shop, request) == [3]
    verdicts = [reply["status"] for reply in shop.replies() if reply["receipt_id"] == request["receipt_id"]]
    assert set(verdicts) - {"buffered"} == {"rejected"}


def swap_storage(shop):
    """A technician exchanges the fiscal storage while the bridge runs."""
    shop.registers["kkt-1"].close()
    file = shop.folder / "kkt-1.fn"
    file.rename(shop.folder / "old.fn")
    storage = FiscalStorage(file)
    storage.open(registration_of("kkt-1", "9999000000000042"), shop.lane.view.status.clock)
    storage.close()


def test_a_document_on_the_storage_that_came_in_between_is_found(shop, monkeypatch):
    """Exchanged between the last look and the receipt, and the answer lost: the document is on the new one."""
    before, request = receipt(), receipt()
    shop.sell(before)
    shop.print_all()
    register, printing = shop.registers["kkt-1"], shop.registers["kkt-1"].print_receipt

    def print_receipt(job, _expected):
        swap_storage(shop)
        register.open_shift(None)
        monkeypatch.undo()
        print_on(register, job)
        raise InDoubt("the answer was lost")

    monkeypatch.setattr(register, "print_receipt", print_receipt)
    shop.sell(request)
    shop.print_patiently(3)
    assert shop.status(request) == "printed"
    assert made_of(shop, request) == [3]
    assert shop.replies()[-1]["fiscal"]["fn_number"] == "9999000000000042"
    assert printing is not None


def test_an_order_to_print_again_looks_at_what_is_there_first(shop):
    request = receipt()
    shop.sell(request)
    shop.break_register(lose_answer_next=1)
    shop.print_all()
    shop.heal_register()
    swap_storage(shop)
    shop.print_patiently(3)
    (doubt,) = shop.lane.view.doubts
    register = shop.registers["kkt-1"]
    register.open_shift(None)
    print_on(register, a_print_job(request))  # somebody typed it in by hand, with its mark
    order = shop.lane.settle(ManualResolution(key_of(request), PrintAgain(doubt.number), "no paper"))
    shop.print_patiently(2)
    assert isinstance(order.exception(0), SettleRefused)
    assert (shop.status(request), made_of(shop, request)) == ("printed", [3])


def test_a_receipt_printed_on_another_storage_than_expected_makes_the_lane_look_again(shop, monkeypatch):
    first, second = receipt(), receipt()
    register = shop.registers["kkt-1"]
    shop.print_all()

    def print_receipt(job, _expected):
        swap_storage(shop)
        register.open_shift(None)
        monkeypatch.undo()
        return print_on(register, job)

    monkeypatch.setattr(register, "print_receipt", print_receipt)
    shop.sell(first)
    shop.sell(second)
    shop.print_patiently(3)
    assert [shop.status(one) for one in (first, second)] == ["printed", "printed"]
    assert (made_of(shop, first), made_of(shop, second)) == ([3], [4])
    shop.restart()
    shop.print_patiently(2)
    assert shop.lane.view.journal_behind == 0


class StubbornJournal(Journal):
    """A journal that will not take some operations."""

    error = None

    def write(self, operation):
        if self.error is not None and "_give_back" in getattr(operation, "__qualname__", ""):
            raise self.error
        return super().write(operation)


@pytest.mark.parametrize("error", [JournalError("no"), MemoryError()], ids=lambda error: type(error).__name__)
def test_receipts_that_could_not_be_given_back_are_not_lost_until_a_restart(tmp_path, error):
    shop = InProcessBridge(tmp_path, journal_kind=StubbornJournal)
    requests = [receipt() for _ in range(5)]
    for request in requests:
        shop.sell(request)
    shop.lane.step()
    assert shop.journal.counts()["kkt-1", "printing"] > 1
    shop.journal.error = error
    shop.break_register(offline=True)
    shop.print_patiently(2)
    shop.heal_register()
    later = receipt()
    shop.sell(later)
    shop.print_patiently(3)
    assert [shop.status(request) for request in (*requests, later)] == ["printed"] * 6
    assert [reply["receipt_id"] for reply in shop.replies() if reply["final"]] == [
        request["receipt_id"] for request in (*requests, later)
    ], "nothing is printed past them"
    shop.kill()


def test_a_full_storage_rejects_nothing_that_was_taken(shop):
    requests = [receipt() for _ in range(2)]
    shop.print_all()
    shop.break_register(fn_exhausted=True)
    for request in requests:
        shop.sell(request)
    shop.print_patiently(3)
    assert "rejected" not in {shop.status(request) for request in requests}
    assert shop.lane.view.problem == "fn_exhausted"
    shop.heal_register()
    shop.print_patiently(3)
    assert [shop.status(request) for request in requests] == ["printed"] * 2


def test_a_receipt_that_always_fails_is_parked_and_the_others_go_on(shop, monkeypatch):
    bad, good = small_receipt(), receipt()
    register, printing = shop.registers["kkt-1"], shop.registers["kkt-1"].print_receipt
    attempts = []

    def print_receipt(job, expected):
        if job.receipt.receipt_id == bad["receipt_id"]:
            attempts.append(1)
            raise ValueError("a bug of the driver's")
        return printing(job, expected)

    monkeypatch.setattr(register, "print_receipt", print_receipt)
    shop.sell(bad)
    shop.sell(good)
    shop.print_all()
    assert shop.lane.view.problem == "internal_error"
    waiting = shop.lane.request(lambda register: register.x_report())
    shop.print_patiently(12)
    assert len(attempts) == ATTEMPTS_MAX
    assert (shop.status(bad), shop.status(good)) == ("printing", "printed")
    assert waiting.done()
    (doubt,) = shop.lane.view.doubts
    assert doubt.parked
    assert "not tried again" in doubt.reason
    assert shop.lane.view.problem is None
    monkeypatch.undo()
    shop.lane.settle(ManualResolution(key_of(bad), PrintAgain(doubt.number), "mended"))
    shop.print_patiently(2)
    assert shop.status(bad) == "printed"
    assert shop.lane.view.doubts == ()


def test_a_row_that_does_not_say_since_when_is_left_to_a_person(shop):
    request = receipt()
    shop.sell(request)
    shop.break_register(lose_answer_next=1)
    shop.print_all()
    shop.kill()
    storage = shop.folder / "kkt-1.fn"
    storage.unlink()  # so that its document is not found either
    meddle(shop.folder, "UPDATE receipts SET fn_before = NULL, fd_before = NULL")
    meddle(shop.folder, "DELETE FROM figures WHERE name LIKE 'fd/%'")
    shop._start()
    shop.print_patiently(3)
    assert shop.lane.view.problem == "unsettled_doubt"
    assert "does not know since which document" in shop.lane.view.detail


def test_an_outcome_that_cannot_be_recorded_does_not_take_the_others_along(shop, monkeypatch):
    requests = [receipt() for _ in range(4)]
    recording = leases.record_outcomes

    def record(tx, outcomes, *how):
        if any(outcome.task.key.receipt_id == requests[1]["receipt_id"] for outcome in outcomes):
            raise ValueError("UNIQUE constraint failed")
        return recording(tx, outcomes, *how)

    monkeypatch.setattr(leases, "record_outcomes", record)
    for request in requests:
        shop.sell(request)
    shop.print_all()
    monkeypatch.undo()
    shop.print_patiently(3)
    assert [shop.status(request) for request in requests] == ["printed"] * 4
    assert [len(made_of(shop, request)) for request in requests] == [1] * 4


def test_a_quick_refusal_makes_a_slow_register_lease_no_more(tmp_path):
    shop = InProcessBridge(tmp_path, print_time_s=1.5)
    shop.break_register(refuse_names=["дефект"])
    for _ in range(3):
        shop.sell(small_receipt({"name": "дефект"}))
        shop.sell(receipt())
    for _ in range(40):
        shop.lane.step()
        assert shop.journal.counts().get(("kkt-1", "printing"), 0) <= 1
    shop.print_patiently(3)
    assert shop.journal.counts()["kkt-1", "printed"] == 3
    shop.kill()


def test_each_document_is_read_once_for_all_doubts(shop):
    requests = [receipt() for _ in range(6)]
    for request in requests:
        shop.sell(request)
    shop.lane.step()
    assert shop.journal.counts()["kkt-1", "printing"] == 5
    shop.kill()
    shop._start()
    register = shop.registers["kkt-1"]
    for _ in range(4):
        print_on(register, a_print_job())
    reading, looked_at = register.read_document, []
    register.read_document = lambda fd_number: looked_at.append(fd_number) or reading(fd_number)
    shop.print_patiently(3)
    assert len(looked_at) == len(set(looked_at))
    assert [len(made_of(shop, request)) for request in requests] == [1] * 6


def test_another_programs_receipt_in_the_making_is_left_to_it(shop):
    shop.print_all()
    shop.registers["kkt-1"].open_shift(None)
    model = shop.registers["kkt-1"]._model
    model.open_document("sale")
    request = receipt()
    shop.clock.advance(shop.settings.telemetry.interval_s)
    shop.sell(request)
    shop.print_patiently(3)
    assert shop.lane.view.problem == "document_open"
    assert model._draft is not None
    shop.clock.advance(FOREIGN_DOCUMENT_S)
    shop.print_patiently(2)
    assert shop.status(request) == "printed"


def test_time_in_which_the_bridge_was_down_counts_for_the_age_of_a_receipt(tmp_path):
    shop = InProcessBridge(tmp_path, print={"max_age_s": 3600})
    shop.break_register(offline=True)
    request = receipt()
    shop.sell(request)
    shop.print_all()
    shop.kill()
    shop.clock.advance(7200)
    shop.clock.monotonic_s -= 7200
    shop.heal_register()
    shop._start()
    shop.print_patiently(3)
    assert shop.status(request) == "rejected"
    assert shop.documents() == []
    shop.kill()

"""What every driver must do behind `FiscalRegister`: a suite to inherit from.

A subclass named `Test...` gives the fixture `bench`: something that behaves as `bench.VirtualBench` does.
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from registers.bench import CASHIER, a_correction, a_job, an_item
from support.registers import expected_on, print_on

from kkt_bridge.errors import InDoubt, ReceiptRefused, RegisterAway, RegisterNotReady
from kkt_bridge.registers.base import StoredDocument, UnreadableDocument

BEFORE_THE_DOCUMENT = ("open", "requisites", "line", "subtotal", "before_close")
CALLS = (
    ("status", lambda register: register.status()),
    ("print_receipt", lambda register: print_on(register, a_job())),
    ("read_document", lambda register: register.read_document(1)),
    ("documents", lambda register: list(register.documents(1, 2))),
    ("cancel_document", lambda register: register.cancel_document()),
    ("open_shift", lambda register: register.open_shift(CASHIER)),
    ("close_shift", lambda register: register.close_shift(CASHIER)),
    ("x_report", lambda register: register.x_report()),
    ("print_copy", lambda register: register.print_copy(None)),
)


class PortContract:
    @pytest.fixture
    def shop(self, bench):
        """A bench whose register has a shift open: documents 1 (registration) and 2 (shift)."""
        bench.register.open_shift(CASHIER)
        return bench

    # Everyday work

    def test_a_new_register_is_registered_and_has_no_shift(self, bench):
        status = bench.register.status()
        assert (status.last_fd_number, status.mode, status.shift_number) == (1, "shift_closed", 0)
        assert (status.paper, status.problem, status.shift_opened_at) == ("ok", None, None)
        assert status.fn_number.isdecimal()
        assert len(status.fn_number) == 16
        assert status.fn_expires > status.clock.date()
        assert status.clock.utcoffset() == timedelta(hours=3)

    def test_documents_are_numbered_without_gaps_and_receipts_from_one_in_each_shift(self, bench):
        register, seen = bench.register, []
        for _ in range(2):
            seen.append((register.open_shift(CASHIER).fd_number, None))
            for _ in range(2):
                mark = print_on(register, a_job()).mark
                seen.append((mark.fd_number, mark.receipt_number))
            seen.append((register.close_shift(CASHIER).fd_number, None))
        assert [fd_number for fd_number, _ in seen] == list(range(2, 10))
        assert [number for _, number in seen if number] == [1, 2, 1, 2]
        assert register.status().shift_number == 2

    def test_a_printed_receipt_carries_the_mark_of_its_document(self, shop):
        printed = print_on(shop.register, a_job())
        mark, status = printed.mark, shop.register.status()
        assert printed.warnings == ()
        assert (mark.kkt, mark.type, mark.total, mark.change) == ("kkt-1", "sale", "17891.00", "109.00")
        assert (mark.fn_number, mark.kkt_serial) == (status.fn_number, status.serial)
        assert mark.registration_number == status.registration_number
        assert (mark.fd_number, mark.shift_number, mark.receipt_number) == (3, 1, 1)
        assert mark.datetime == "2026-11-22T12:03:00+03:00"
        assert mark.qr == (f"t=20261122T1203&s=17891.00&fn={status.fn_number}&i=3&fp={mark.fiscal_sign}&n=1")

    @pytest.mark.parametrize("kind", ["sale", "refund", "purchase", "purchase_refund"])
    def test_each_operation_is_found_again_as_itself(self, shop, kind):
        job = a_job(type=kind)
        mark = print_on(shop.register, job).mark
        document = shop.register.read_document(mark.fd_number)
        assert (document.fn_number, document.fd_number) == (mark.fn_number, 3)
        assert (document.form, document.operation, document.total) == (3, kind, 1789100)
        assert (document.requisite, document.mark.type, document.at.isoformat()) == (job.requisite, kind, mark.datetime)

    @pytest.mark.parametrize("operation", ["sale", "refund", "purchase", "purchase_refund"])
    def test_a_correction_is_a_form_of_its_own_with_the_operation_it_corrects(self, shop, operation):
        mark = print_on(shop.register, a_job(**a_correction(operation))).mark
        document = shop.register.read_document(mark.fd_number)
        assert (document.form, document.operation, mark.type) == (31, operation, "correction")

    def test_an_ordered_correction_is_taken(self, shop):
        job = a_job(**a_correction(kind="ordered", document_number="12-34/5"))
        assert print_on(shop.register, job).mark.type == "correction"

    def test_reports_are_documents_without_operation_total_requisite_and_mark(self, shop):
        shop.register.close_shift(CASHIER)
        for fd_number, form in ((2, 2), (3, 5)):
            document = shop.register.read_document(fd_number)
            assert (document.form, document.operation, document.total, document.shift_number) == (form, None, None, 1)
            assert (document.requisite, document.mark) == (None, None)

    def test_a_receipt_of_a_program_that_marks_none_has_no_requisite(self, shop):
        print_on(shop.register, replace(a_job(), requisite=""))
        assert not shop.register.read_document(3).requisite

    @pytest.mark.parametrize("fd_number", [0, 3, 1_000_000])
    def test_a_document_that_is_not_there_is_none(self, shop, fd_number):
        assert shop.register.read_document(fd_number) is None

    def test_documents_come_in_their_order_and_end_with_the_last(self, shop):
        for _ in range(3):
            print_on(shop.register, a_job())
        assert [document.fd_number for document in shop.register.documents(2, 4)] == [2, 3, 4]
        assert [document.fd_number for document in shop.register.documents(4, 99)] == [4, 5]
        assert list(shop.register.documents(6, 99)) == []

    def test_a_document_that_cannot_be_read_is_there_and_the_ones_around_it_are_read(self, shop):
        for _ in range(3):
            print_on(shop.register, a_job())
        shop.spoil(4)
        assert isinstance(shop.register.read_document(4), UnreadableDocument)
        found = list(shop.register.documents(3, 5))
        assert [(type(document), document.fd_number) for document in found] == [
            (StoredDocument, 3),
            (UnreadableDocument, 4),
            (StoredDocument, 5),
        ]
        assert "\n" not in found[1].reason

    def test_a_document_read_back_is_what_printing_it_gave(self, shop):
        jobs = [a_job(), a_job(type="refund"), a_job(**a_correction()), a_job(items=[an_item("«Ёлка»", "17891.00")])]
        printed = [print_on(shop.register, job) for job in jobs]
        shop.restart()
        for job, before in zip(jobs, printed, strict=True):
            document = shop.register.read_document(before.mark.fd_number)
            assert document.mark_for(job.receipt) == before.mark
            assert document.on_paper

    @pytest.mark.parametrize("change", [{"fd_number": 4}, {"fd_number": 2}, {"fn_number": "9999000000000042"}])
    def test_nothing_is_printed_where_the_next_document_is_not_the_expected_one(self, shop, change):
        expected = replace(expected_on(shop.register), **change)
        with pytest.raises(RegisterNotReady) as error:
            shop.register.print_receipt(a_job(), expected)
        assert error.value.problem == "storage_changed"
        status = shop.register.status()
        assert (status.last_fd_number, status.mode) == (2, "shift_open")

    def test_text_that_the_paper_cannot_show_is_replaced_with_a_warning(self, shop):
        assert print_on(shop.register, a_job(items=[an_item("Оправа «Ray»", "17891.00")])).warnings == (
            "text_replaced",
        )

    def test_every_way_of_paying_is_taken(self, shop):
        ways = ["cash", "card", "prepaid", "credit", "other", "card"]
        payments = [{"type": way, "amount": "100.00"} for way in ways]
        job = a_job(items=[an_item(total="600.00")], payments=payments)
        assert print_on(shop.register, job).mark.total == "600.00"

    def test_a_receipt_without_cashier_and_customer_is_printed(self, shop):
        assert print_on(shop.register, a_job(cashier=None, customer=None)).mark.fd_number == 3

    def test_a_receipt_of_five_hundred_lines_is_printed(self, shop):
        job = a_job(items=[an_item(total="1.00")] * 500, payments=[{"type": "card", "amount": "500.00"}])
        assert print_on(shop.register, job).mark.total == "500.00"

    def test_a_receipt_of_nothing_to_pay_is_printed(self, shop):
        job = a_job(items=[an_item(total="0.00")], payments=[{"type": "cash", "amount": "0"}])
        assert print_on(shop.register, job).mark.total == "0.00"

    def test_reports_and_copies_make_no_document(self, shop):
        print_on(shop.register, a_job())
        shop.register.x_report()
        shop.register.print_copy(None)
        shop.register.print_copy(3)
        assert shop.register.status().last_fd_number == 3

    @pytest.mark.parametrize("fd_number", [0, 99])
    def test_a_copy_of_a_document_that_is_not_there_is_not_printed(self, shop, fd_number):
        with pytest.raises(RegisterNotReady) as error:
            shop.register.print_copy(fd_number)
        assert error.value.problem == "no_document"

    def test_what_it_knows_survives_the_driver(self, shop):
        print_on(shop.register, a_job())
        before = shop.register.status()
        shop.restart()
        assert shop.register.status() == before
        assert print_on(shop.register, a_job()).mark.receipt_number == 2

    def test_a_driver_that_let_go_takes_the_line_again(self, shop):
        shop.register.close()
        shop.register.close()
        assert print_on(shop.register, a_job()).mark.fd_number == 3

    def test_cancelling_with_nothing_open_is_nothing(self, shop):
        shop.register.cancel_document()
        assert shop.register.status().mode == "shift_open"

    # Shifts

    def test_nothing_is_printed_without_a_shift(self, bench):
        with pytest.raises(RegisterNotReady) as error:
            print_on(bench.register, a_job())
        assert error.value.problem == "shift_closed"
        assert bench.register.status().last_fd_number == 1

    def test_a_second_shift_is_not_opened(self, shop):
        with pytest.raises(RegisterNotReady) as error:
            shop.register.open_shift(CASHIER)
        assert error.value.problem == "shift_open"

    @pytest.mark.parametrize("call", ["close_shift", "x_report"])
    def test_what_needs_a_shift_is_not_done_without(self, bench, call):
        arguments = (CASHIER,) if call == "close_shift" else ()
        with pytest.raises(RegisterNotReady) as error:
            getattr(bench.register, call)(*arguments)
        assert error.value.problem == "shift_closed"

    def test_a_shift_of_24_hours_prints_nothing_more_until_it_is_closed(self, shop):
        shop.clock.advance(24 * 3600 - 1)
        print_on(shop.register, a_job())
        shop.clock.advance(1)
        assert shop.register.status().mode == "shift_expired"
        with pytest.raises(RegisterNotReady) as error:
            print_on(shop.register, a_job())
        assert error.value.problem == "shift_expired"
        report = shop.register.close_shift(None)
        assert (report.number, report.open, report.fd_number) == (1, False, 4)
        report = shop.register.open_shift(None)
        assert (report.number, report.open, report.fd_number) == (2, True, 5)
        assert print_on(shop.register, a_job()).mark.receipt_number == 1

    # Time

    def test_documents_never_go_back_in_time(self, shop):
        first = print_on(shop.register, a_job()).mark
        shop.clock.advance(-3600)
        second = print_on(shop.register, a_job()).mark
        assert second.datetime == first.datetime

    def test_a_register_whose_clock_is_wrong_shows_it(self, shop):
        right = shop.register.status().clock
        shop.break_with(clock_offset_s=90)
        assert shop.register.status().clock - right == timedelta(seconds=90)

    # A register that is away, busy or without paper: nothing happens

    @pytest.mark.parametrize("call", [call for _, call in CALLS], ids=[name for name, _ in CALLS])
    def test_a_register_that_does_not_answer_is_away(self, shop, call):
        shop.break_with(offline=True)
        with pytest.raises(RegisterAway):
            call(shop.register)
        shop.heal()
        assert shop.register.status().last_fd_number == 2

    def test_a_busy_register_says_so_and_nothing_was_begun(self, shop):
        shop.break_with(busy=True)
        status = shop.register.status()
        assert (status.problem, status.busy, status.at_rest) == ("busy", True, False)
        with pytest.raises(RegisterNotReady) as error:
            print_on(shop.register, a_job())
        assert error.value.problem == "busy"
        shop.heal()
        assert shop.register.status().mode == "shift_open"

    def test_a_register_busy_for_some_commands_takes_the_next(self, shop):
        shop.break_with(busy_next=2)
        for _ in range(2):
            with pytest.raises(RegisterNotReady):
                print_on(shop.register, a_job())
        assert print_on(shop.register, a_job()).mark.fd_number == 3

    def test_without_paper_nothing_is_begun(self, shop):
        shop.break_with(paper_out=True)
        status = shop.register.status()
        assert (status.paper, status.problem) == ("out", "paper_out")
        for name, call in CALLS:
            if name in {"print_receipt", "close_shift", "x_report", "print_copy"}:
                with pytest.raises(RegisterNotReady) as error:
                    call(shop.register)
                assert error.value.problem == "paper_out"
        shop.heal()
        assert print_on(shop.register, a_job()).mark.fd_number == 3

    def test_paper_that_runs_out_under_a_receipt_leaves_it_printed_and_is_continued(self, shop):
        shop.break_with(paper_out_after=1)
        job = a_job()
        assert print_on(shop.register, job).warnings == ()
        caught = print_on(shop.register, job)
        assert (caught.mark.fd_number, caught.warnings) == (4, ("not_on_paper",))
        assert not shop.register.read_document(4).on_paper
        status = shop.register.status()
        assert (status.paper, status.problem, status.mode) == ("out", "paper_out", "shift_open")
        with pytest.raises(RegisterNotReady) as error:
            print_on(shop.register, job)
        assert error.value.problem == "paper_out"

        shop.heal()
        with pytest.raises(RegisterNotReady) as error:
            print_on(shop.register, job)
        assert error.value.problem == "paper_out", "it still waits to be told to continue"
        status = shop.register.status()
        assert (status.paper, status.problem) == ("ok", None)
        assert print_on(shop.register, job).warnings == ()
        assert shop.register.read_document(4).on_paper

    def test_paper_that_runs_out_under_a_copy_makes_no_copy(self, shop):
        shop.break_with(paper_out_after=0)
        with pytest.raises(RegisterNotReady) as error:
            shop.register.print_copy(None)
        assert error.value.problem == "paper_out"

    # Refusals for good

    def test_a_refused_receipt_leaves_nothing_behind(self, shop):
        shop.break_with(refuse_next=1)
        with pytest.raises(ReceiptRefused) as error:
            print_on(shop.register, a_job())
        assert error.value.code == "kkt_rejected"
        status = shop.register.status()
        assert (status.mode, status.last_fd_number) == ("shift_open", 2)
        assert print_on(shop.register, a_job()).mark.fd_number == 3

    def test_a_receipt_is_refused_by_a_name_on_it_every_time(self, shop):
        shop.break_with(refuse_names=["Оправа"])
        for _ in range(2):
            with pytest.raises(ReceiptRefused) as error:
                print_on(shop.register, a_job())
            assert error.value.code == "kkt_rejected"
        assert print_on(shop.register, a_job(items=[an_item(total="17891.00")])).mark.fd_number == 3

    def test_a_full_fiscal_storage_takes_no_document(self, shop):
        shop.break_with(fn_exhausted=True)
        assert shop.register.status().problem == "fn_exhausted"
        for call in (lambda: print_on(shop.register, a_job()), lambda: shop.register.close_shift(None)):
            with pytest.raises(RegisterNotReady) as error:
                call()
            assert error.value.problem == "fn_exhausted"
        assert len(shop.documents()) == 2

    # Doubt

    @pytest.mark.parametrize("step", BEFORE_THE_DOCUMENT)
    def test_a_power_cut_before_the_document_exists_is_a_doubt_that_the_storage_settles(self, shop, step):
        shop.break_with(power_cut={"at": step})
        with pytest.raises(InDoubt):
            print_on(shop.register, a_job())
        assert shop.register.status().last_fd_number == 2
        shop.register.cancel_document()
        assert shop.register.status().mode == "shift_open"
        assert print_on(shop.register, a_job()).mark.fd_number == 3

    @pytest.mark.parametrize(
        "fault", [{"power_cut": {"at": "after_close"}}, {"power_cut": {"at": "print"}}, {"lose_answer_next": 1}]
    )
    def test_a_document_whose_answer_is_lost_is_a_doubt_that_the_storage_settles(self, shop, fault):
        shop.break_with(**fault)
        job = a_job()
        with pytest.raises(InDoubt):
            print_on(shop.register, job)
        assert shop.register.status().last_fd_number == 3
        document = shop.register.read_document(3)
        assert (document.requisite, document.mark.total) == (job.requisite, "17891.00")
        shop.register.cancel_document()
        assert print_on(shop.register, job).mark.fd_number == 4

    def test_power_fails_as_often_as_told(self, shop):
        shop.break_with(power_cut={"at": "line", "times": 2})
        for _ in range(2):
            with pytest.raises(InDoubt):
                print_on(shop.register, a_job())
        assert print_on(shop.register, a_job()).mark.fd_number == 3

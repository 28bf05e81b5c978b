"""What is refused because of how the bridge stands, and taken again as soon as it stands better."""

import pytest
from support.receipts import receipt, small_receipt
from support.stages import TOPICS, InProcessBridge, check_counts

from kkt_bridge.journal.document_queue import dead_letter, dead_letters, ready_documents, record_sent, requeue


@pytest.fixture
def shop(tmp_path):
    opened = InProcessBridge(tmp_path, registers=("kkt-1", "kkt-2"), pos={"pos-1": "kkt-1", "pos-2": "kkt-2"})
    yield opened
    check_counts(opened.journal, tmp_path)
    opened.kill()


def refusal(shop, request, pos="pos-1"):
    """The error that the request meets; None if it is taken."""
    before = len(shop.replies(pos))
    shop.sell(request, pos=pos)
    fresh = shop.replies(pos)[before:]
    return fresh[0]["error"] if fresh else None


def printed(shop, **changes):
    request = small_receipt(**changes)
    assert refusal(shop, request, request["pos_id"]) is None
    shop.print_all()
    return request


def sync(shop, kkt="kkt-1"):
    """The OFD takes what there is."""
    for due in shop.journal.read(lambda c: ready_documents(c, kkt, 0, 100)):
        shop.journal.write(lambda tx, due=due: record_sent(tx, due, 1))


# -- the buffer ------------------------------------------------------------------------------------------


def test_a_full_buffer_refuses_until_the_ofd_has_taken_one(shop):
    shop.restart(buffer={"capacity": 2})
    printed(shop)
    assert refusal(shop, receipt()) is None
    late = receipt()
    error = refusal(shop, late)
    assert (error["code"], error["retryable"]) == ("buffer_full", True)
    assert "2 receipts" in error["message"]
    assert "nothing was taken" in error["message"]
    shop.print_all()
    assert refusal(shop, late)["code"] == "buffer_full", "printed is not yet delivered"
    sync(shop)
    assert refusal(shop, late) is None


def test_the_capacity_is_exact_within_one_batch(shop):
    shop.restart(buffer={"capacity": 3})
    for _ in range(5):
        shop.arrive(TOPICS.receipt("pos-1"), receipt())
    shop.intake.step()
    assert shop.journal.pending() == 3
    assert [reply["error"]["code"] for reply in shop.replies()] == ["buffer_full"] * 2


def test_the_buffer_is_one_for_all_registers(shop):
    shop.restart(buffer={"capacity": 2})
    assert refusal(shop, receipt()) is None
    assert refusal(shop, receipt(pos_id="pos-2"), "pos-2") is None
    assert refusal(shop, receipt(pos_id="pos-2"), "pos-2")["code"] == "buffer_full"


def test_a_repeat_is_no_new_receipt_for_a_full_buffer(shop):
    shop.restart(buffer={"capacity": 1})
    request = receipt()
    assert refusal(shop, request) is None
    shop.sell(request)
    assert shop.replies()[-1]["duplicate"]


def test_rejected_and_dead_receipts_do_not_fill_the_buffer(shop):
    shop.restart(buffer={"capacity": 1})
    shop.break_register(refuse_next=1)
    assert refusal(shop, receipt()) is None
    shop.print_all()
    assert refusal(shop, receipt()) is None
    shop.print_all()
    (due,) = shop.journal.read(lambda c: ready_documents(c, "kkt-1", 0, 10))
    shop.journal.write(lambda tx: dead_letter(tx, due, reason="refused", error="422"))
    assert refusal(shop, receipt()) is None


def test_a_requeued_letter_fills_the_buffer_again(shop):
    shop.restart(buffer={"capacity": 1})
    printed(shop)
    (due,) = shop.journal.read(lambda c: ready_documents(c, "kkt-1", 0, 10))
    shop.journal.write(lambda tx: dead_letter(tx, due, reason="refused", error="422"))
    (letter,) = shop.journal.read(lambda c: dead_letters(c, "kkt-1", 0, 10))
    shop.journal.write(lambda tx: requeue(tx, letter))
    assert refusal(shop, receipt())["code"] == "buffer_full"


# -- pause -----------------------------------------------------------------------------------------------


def test_a_paused_bridge_refuses_and_goes_on_printing(shop):
    waiting = receipt()
    shop.sell(waiting)
    shop.admission.set_paused(shop.journal, paused=True)
    error = refusal(shop, receipt())
    assert (error["code"], error["retryable"]) == ("paused", True)
    shop.sell(waiting)
    assert shop.replies()[-1]["duplicate"], "what was taken is still answered"
    shop.print_all()
    assert shop.status(waiting) == "printed"
    shop.admission.set_paused(shop.journal, paused=False)
    assert refusal(shop, receipt()) is None


def test_a_pause_outlives_a_restart(shop):
    shop.admission.set_paused(shop.journal, paused=True)
    shop.restart()
    assert shop.admission.paused
    assert not shop.admission.accepting(0)
    shop.admission.set_paused(shop.journal, paused=False)
    shop.restart()
    assert not shop.admission.paused


# -- registers -------------------------------------------------------------------------------------------


def test_a_receipt_goes_to_the_register_of_its_pos_or_to_the_one_it_names(shop):
    mapped, named = receipt(pos_id="pos-2"), receipt(kkt="kkt-2")
    shop.sell(mapped, pos="pos-2")
    shop.sell(named)
    assert {shop.stored(request["receipt_id"]).kkt for request in (mapped, named)} == {"kkt-2"}


@pytest.mark.parametrize(
    ("pos", "kkt", "words"), [("pos-1", "kkt-9", "no register kkt-9"), ("pos-9", None, "mapped to no register")]
)
def test_an_unknown_register_is_refused_with_the_known_ones(shop, pos, kkt, words):
    error = refusal(shop, receipt(pos_id=pos, kkt=kkt), pos)
    assert (error["code"], error["retryable"]) == ("unknown_kkt", False)
    assert words in error["message"]
    assert "kkt-1, kkt-2" in error["message"]
    assert error["fields"][0]["path"] == "kkt"


def test_an_exhausted_fiscal_storage_takes_nothing_new(shop):
    shop.break_register("kkt-1", fn_exhausted=True)
    shop.print_all()
    error = refusal(shop, receipt())
    assert error["code"] == "fn_exhausted"
    assert refusal(shop, receipt(pos_id="pos-2"), "pos-2") is None, "the other register sells on"
    shop.heal_register("kkt-1")
    shop.print_patiently(2)
    assert refusal(shop, receipt()) is None


# -- refunds ---------------------------------------------------------------------------------------------


def a_refund(sale, **changes):
    return small_receipt(type="refund", original_receipt_id=sale["receipt_id"], **changes)


def test_a_refund_of_an_unknown_sale_is_refused(shop):
    error = refusal(shop, a_refund(receipt()))
    assert (error["code"], error["retryable"]) == ("original_not_found", False)
    assert error["fields"][0]["path"] == "original_receipt_id"


@pytest.mark.parametrize("is_printed", [False, True])
def test_a_refund_waits_until_the_ofd_has_the_sale(shop, is_printed):
    sale = small_receipt()
    shop.sell(sale)
    if is_printed:
        shop.print_all()
    refund = a_refund(sale)
    error = refusal(shop, refund)
    assert (error["code"], error["retryable"]) == ("original_not_synced", True)
    shop.print_all()
    sync(shop)
    assert refusal(shop, refund) is None


def test_a_refund_of_a_rejected_sale_is_refused(shop):
    shop.break_register(refuse_next=1)
    sale = printed(shop)
    assert refusal(shop, a_refund(sale))["code"] == "original_not_found"


def test_a_refund_of_a_dead_sale_may_be_tried_again_later(shop):
    sale = printed(shop)
    (due,) = shop.journal.read(lambda c: ready_documents(c, "kkt-1", 0, 10))
    shop.journal.write(lambda tx: dead_letter(tx, due, reason="refused", error="422"))
    error = refusal(shop, a_refund(sale))
    assert (error["code"], error["retryable"]) == ("original_not_synced", True)


def test_refunds_together_may_not_exceed_the_sale(shop):
    sale = printed(shop, position={"price": "25.00", "total": "25.00"}, payments=[{"type": "cash", "amount": "25"}])
    sync(shop)
    assert refusal(shop, a_refund(sale)) is None
    assert refusal(shop, a_refund(sale)) is None
    error = refusal(shop, a_refund(sale))
    assert (error["code"], error["retryable"]) == ("refund_exceeds_original", False)
    assert "5.00 can still be refunded" in error["message"]


def test_refunds_in_one_batch_see_each_other(shop):
    sale = printed(shop)
    sync(shop)
    for _ in range(2):
        shop.arrive(TOPICS.receipt("pos-1"), a_refund(sale))
    shop.intake.step()
    assert shop.replies()[-1]["error"]["code"] == "refund_exceeds_original"
    assert shop.journal.pending() == 1


def test_a_rejected_refund_gives_its_sum_back(shop):
    sale = printed(shop)
    sync(shop)
    shop.break_register(refuse_next=1)
    assert refusal(shop, a_refund(sale)) is None
    shop.print_all()
    assert refusal(shop, a_refund(sale)) is None


def test_a_refund_means_the_sale_of_its_own_pos_where_several_used_the_id(shop):
    small = printed(shop)
    large = printed(
        shop,
        pos_id="pos-2",
        receipt_id=small["receipt_id"],
        position={"price": "90.00", "total": "90.00"},
        payments=[{"type": "cash", "amount": "90"}],
    )
    sync(shop)
    sync(shop, "kkt-2")
    for pos, sale, total in (("pos-2", large, "90.00"), ("pos-1", small, "10.00")):
        refund = a_refund(
            sale,
            pos_id=pos,
            position={"price": total, "total": total},
            payments=[{"type": "cash", "amount": total}],
        )
        assert refusal(shop, refund, pos) is None
        again = refusal(shop, {**refund, "receipt_id": receipt()["receipt_id"]}, pos)
        assert again["code"] == "refund_exceeds_original"
        assert " 0.00 can still be refunded" in again["message"]


def test_a_sale_of_another_pos_can_be_refunded(shop):
    sale = printed(shop, pos_id="pos-2")
    sync(shop, "kkt-2")
    assert refusal(shop, a_refund(sale)) is None


def test_a_refund_that_names_none_is_taken(shop):
    assert refusal(shop, small_receipt(type="refund")) is None

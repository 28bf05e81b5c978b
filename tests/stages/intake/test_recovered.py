"""Receipts that come again after the journal was lost: answered with the document that there is."""

import pytest
from support.clocks import ManualClock
from support.receipts import changed, full_receipt, item, receipt, small_receipt
from support.stages import TOPICS, InProcessBridge, check_counts, key_of

from kkt_bridge.journal.recovered import RecoveredDocument, insert_recovered
from kkt_bridge.receipts.identity import requisite_1192
from kkt_bridge.registers.virtual.document import fiscal_mark
from kkt_bridge.registers.virtual.fiscal_document import Registration
from kkt_bridge.registers.virtual.storage_file import read_documents
from kkt_bridge.stages.intake.decide import Adopt, understand


@pytest.fixture
def shop(tmp_path):
    shop = InProcessBridge(tmp_path, clock=ManualClock())
    yield shop
    shop.kill()


def print_and_lose(shop, *requests):
    """Print these, lose the journal, and begin a new one with what the fiscal storage tells; the replies given."""
    for request in requests:
        shop.sell(request)
    shop.print_all()
    told = shop.replies()
    shop.kill()
    for path in shop.folder.glob("journal.db*"):
        path.unlink()
    shop._start()
    for document in documents_in(shop.folder / "kkt-1.fn"):
        shop.journal.write(lambda tx, document=document: insert_recovered(tx, document))
    return told


def documents_in(path):
    documents = list(read_documents(path))
    registration = Registration.of(documents[0])
    return [
        RecoveredDocument(
            requisite=document.body.requisite_1192,
            kkt="kkt-1",
            form=document.body.form,
            operation=document.body.operation,
            total=document.body.total,
            mark=fiscal_mark("kkt-1", registration, document),
        )
        for document in documents
        if document.body.requisite_1192
    ]


@pytest.mark.parametrize("make", [receipt, full_receipt, lambda: small_receipt({"name": "— «Ёлка» 👓"})])
def test_a_receipt_that_comes_again_gets_the_reply_of_before_and_no_paper(shop, make):
    request = make()
    (told,) = print_and_lose(shop, request)
    shop.sell(request)
    shop.print_all()
    (reply,) = shop.replies()
    assert (reply["status"], reply["duplicate"]) == ("printed", True)
    assert (reply["fiscal"], reply["warnings"]) == (told["fiscal"], told["warnings"])
    assert len(shop.documents()) == 1
    assert shop.status(request) == "printed"
    check_counts(shop.journal, shop.folder)


def test_an_adopted_receipt_goes_through_every_status_and_to_the_ofd(shop):
    request = receipt()
    (told,) = print_and_lose(shop, request)
    shop.sell(request)
    number = told["fiscal"]["fd_number"]
    assert shop.rows("SELECT from_status, to_status, fd_number FROM steps ORDER BY id") == [
        (None, "buffered", None),
        ("buffered", "printing", None),
        ("printing", "printed", number),
    ]
    assert shop.rows("SELECT fn_number, fd_number, delivery FROM documents") == [
        (told["fiscal"]["fn_number"], number, "ready")
    ]
    assert shop.rows("SELECT * FROM recovered") == []


def test_once_adopted_it_is_a_receipt_like_all_others(shop):
    request = receipt()
    print_and_lose(shop, request)
    for _ in range(3):
        shop.sell(request)
    assert [reply["duplicate"] for reply in shop.replies()] == [True] * 3
    assert len({reply["fiscal"]["fd_number"] for reply in shop.replies()}) == 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("items", [item(price="11", total="11")]),
        ("type", "refund"),
        ("correction", {"operation": "sale", "kind": "voluntary", "date": "2026-11-20"}),
    ],
)
def test_another_sale_under_its_key_is_a_conflict_and_is_not_printed(shop, path, value):
    request = small_receipt()
    print_and_lose(shop, request)
    other = changed(request, path, value) | ({"type": "correction"} if path == "correction" else {})
    shop.sell(other | {"payments": [{"type": "cash", "amount": "11"}]})
    shop.print_all()
    (reply,) = shop.replies()
    assert (reply["status"], reply["error"]["code"]) == ("rejected", "idempotency_conflict")
    assert len(shop.documents()) == 1
    shop.sell(request)
    assert shop.replies()[-1]["status"] == "printed"


def test_other_receipts_are_printed(shop):
    print_and_lose(shop, receipt())
    other = receipt()
    shop.sell(other)
    shop.print_all()
    assert len(shop.documents()) == 2
    assert shop.rows("SELECT count(*) FROM recovered") == [(1,)]


def test_nothing_that_stands_in_the_way_of_printing_stands_in_the_way_of_the_answer(shop):
    request = receipt()
    print_and_lose(shop, request)
    shop.admission.set_paused(shop.journal, paused=True)
    shop.sell(request)
    assert shop.replies()[0]["status"] == "printed"


def test_an_adoption_that_was_not_committed_is_made_again(shop):
    """What the bridge remembers of the table must not run ahead of the journal."""
    request = receipt()
    print_and_lose(shop, request)
    arrived = understood(shop, request)

    def fail_after(tx):
        assert [type(verdict) for verdict in shop.intake._decide([arrived], tx)] == [Adopt]
        raise KeyError("undo")

    with pytest.raises(KeyError):
        shop.journal.write(fail_after)
    shop.sell(request)
    shop.print_all()
    assert (shop.replies()[0]["duplicate"], len(shop.documents())) == (True, 1)


def understood(shop, request):
    shop.arrive(f"kkt/v1/store-017/pos/{request['pos_id']}/receipt", request)
    (message,) = shop.inbox.take(1)
    return understand(TOPICS, message)


def test_a_journal_that_lost_nothing_is_not_asked(shop):
    statements = []
    connection = shop.journal._database.writer.connection.driver_connection
    connection.set_trace_callback(statements.append)
    for _ in range(3):
        shop.arrive(TOPICS.receipt("pos-1"), receipt())
    shop.intake.step()
    assert sum("FROM recovered" in statement for statement in statements) == 0


def test_the_requisite_is_what_the_register_was_given(shop):
    request = receipt()
    print_and_lose(shop, request)
    requisite = requisite_1192(key_of(request))
    assert shop.rows("SELECT requisite FROM recovered") == [(requisite,)]

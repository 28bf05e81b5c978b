"""The counts must not agree when anything is amiss: each way to lose or double a receipt is found."""

from datetime import UTC, datetime

import pytest

from kkt_bridge.demo.summary import summarize
from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192
from kkt_bridge.registers.virtual.fiscal_document import RECEIPT, Body, FiscalDocument
from kkt_bridge.simulators.pos import Tally

POS = "pos-1"
IDS = ["a", "b", "c"]


def a_tally(printed=IDS, unanswered=0, rejected=0):
    tally = Tally()
    for receipt_id in printed:
        tally.note_published()
        tally.note_final({"status": "printed", "pos_id": POS, "receipt_id": receipt_id}, 0.1)
    for _ in range(rejected):
        tally.note_published()
        tally.note_final({"status": "rejected", "error": {"code": "buffer_full"}}, 0.1)
    for _ in range(unanswered):
        tally.note_published()
    return tally


def documents(ids=IDS):
    return [
        FiscalDocument(
            fd_number=number,
            body=Body(RECEIPT, "sale", "sale", 100, requisite_1192(ReceiptKey(POS, receipt_id))),
            at=datetime(2026, 11, 22, 12, 0, tzinfo=UTC),
            shift_number=1,
            receipt_number=number,
            fiscal_sign="1",
        )
        for number, receipt_id in enumerate(ids, start=1)
    ]


def received(ids=IDS, numbers=None, conflicts=(), repeats=0):
    entries = [
        {"key": f"{POS}:{receipt_id}", "fn_number": "9999000000000001", "fd_number": number}
        for receipt_id, number in zip(ids, numbers or range(1, 100), strict=False)
    ]
    return {"documents": entries, "total": len(entries), "conflicts": list(conflicts), "duplicates": repeats}


def summary(asked=3, tally=None, synced=3, fiscal=None, ofd=None, guests=()):
    return summarize(
        asked,
        tally or a_tally(),
        synced,
        documents() if fiscal is None else fiscal,
        received() if ofd is None else ofd,
        guests,
    )


def test_all_is_well():
    result = summary()
    assert result.agrees
    assert result.counts["printed"] == result.counts["ofd_documents"] == 3
    assert result.counts["lost"] == result.counts["duplicates"] == 0


def test_refusals_and_repeats_are_no_loss():
    result = summary(asked=5, tally=a_tally(rejected=2), ofd=received(repeats=4))
    assert result.agrees
    assert (result.counts["rejected"], result.counts["ofd_repeats"]) == (2, 4)


def test_what_others_sold_is_counted_apart():
    result = summary(synced=4, fiscal=documents([*IDS, "x"]), ofd=received([*IDS, "x"]), guests={(POS, "x")})
    assert result.agrees
    assert (result.counts["printed"], result.counts["guests"], result.counts["fiscal_documents"]) == (3, 1, 4)


@pytest.mark.parametrize(
    ("amiss", "count", "words"),
    [
        ({"asked": 4}, {}, "every receipt has its final reply"),
        ({"asked": 4, "tally": a_tally(unanswered=1)}, {"lost": 1, "unanswered": 1}, "nothing is lost"),
        ({"fiscal": documents(["a", "b"])}, {"lost": 1}, "every receipt on paper is in the fiscal storage"),
        ({"fiscal": documents(["a", "b", "c", "c"])}, {"duplicates": 1}, "no receipt is there twice"),
        ({"fiscal": documents(["a", "b", "x"])}, {"lost": 1}, "nothing is lost"),
        ({"synced": 2}, {}, "every document was delivered"),
        ({"ofd": received(["a", "b"])}, {"lost": 1}, "every document was delivered"),
        ({"ofd": received(["a", "b", "x"])}, {"lost": 1}, "nothing is lost"),
        ({"ofd": received(numbers=[1, 2, 2])}, {"ofd_duplicates": 1}, "the OFD has none twice"),
        ({"guests": {(POS, "x")}}, {"lost": 1, "guests": 1}, "every receipt on paper is in the fiscal storage"),
        ({"ofd": received(conflicts=[{}])}, {"ofd_duplicates": 1}, "the OFD has none twice"),
    ],
)
def test_what_is_amiss_is_found(amiss, count, words):
    result = summary(**amiss)
    assert not result.agrees
    assert words in [check.words for check in result.checks if not check.holds]
    assert count.items() <= result.counts.items()

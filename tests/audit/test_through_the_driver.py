"""A storage that is read through its register's driver, as a real one is, holds what its file holds."""

import pytest

from kkt_bridge.errors import StorageUnreadable
from kkt_bridge.registers.base import UnreadableDocument
from kkt_bridge.registers.stored_documents import RegisterDocuments, document_sources


def test_through_the_driver_and_from_the_file_the_documents_are_the_same(shop, sold):
    from_files = document_sources(shop.settings, [])
    assert [source.kkt for source in from_files] == ["kkt-1", "kkt-2"]
    for source in from_files:
        by_driver = RegisterDocuments(source.kkt, shop.registers[source.kkt])
        assert by_driver.fn_number == source.fn_number
        documents = list(by_driver.documents())
        assert documents == list(source.documents())
        assert len(documents) > 2
        assert not any(isinstance(document, UnreadableDocument) for document in documents)


def test_a_register_that_is_away_is_named(shop, sold):
    shop.break_register(offline=True)
    with pytest.raises(StorageUnreadable, match="kkt-1: its fiscal storage cannot be read: "):
        RegisterDocuments("kkt-1", shop.registers["kkt-1"])


def test_a_register_that_goes_away_in_the_middle_is_named(shop, sold):
    source = RegisterDocuments("kkt-1", shop.registers["kkt-1"])
    documents = source.documents()
    next(documents)
    shop.break_register(offline=True)
    with pytest.raises(StorageUnreadable, match="kkt-1: "):
        list(documents)

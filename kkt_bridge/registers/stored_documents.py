"""All documents of the fiscal storages, from the first to the last, for an audit or a rebuild.

A storage is read as the port shows it (`StoredDocument`, `UnreadableDocument`). `RegisterDocuments` reads that of any
register through its driver, while no bridge runs. The package of a driver may offer a source of its own: a virtual
storage is read from its file, beside whoever has it open, also one that is in no register any more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from kkt_bridge.errors import RegisterError, StorageUnreadable
from kkt_bridge.registers.base import FiscalRegister, StoredDocument, UnreadableDocument
from kkt_bridge.registers.virtual.fiscal_document import registration_of
from kkt_bridge.registers.virtual.stored_documents import storage_in
from kkt_bridge.settings import Settings


class DocumentSource(Protocol):
    """One fiscal storage."""

    @property
    def kkt(self) -> str:
        """The register that it belongs to, or belonged to."""
        ...

    @property
    def fn_number(self) -> str:
        """Its number."""
        ...

    def documents(self) -> Iterator[StoredDocument | UnreadableDocument]:
        """Read all of it, in order; each call reads anew. Errors: StorageUnreadable."""
        ...


class RegisterDocuments:
    """The fiscal storage in a register that nobody else speaks to. Errors: StorageUnreadable."""

    def __init__(self, kkt: str, register: FiscalRegister) -> None:
        self.kkt = kkt
        self._register = register
        try:
            status = register.status()
        except RegisterError as error:
            raise StorageUnreadable(f"{kkt}: its fiscal storage cannot be read: {error}") from error
        self.fn_number, self._last_fd_number = status.fn_number, status.last_fd_number

    def documents(self) -> Iterator[StoredDocument | UnreadableDocument]:
        """See `DocumentSource.documents`."""
        try:
            yield from self._register.documents(1, self._last_fd_number)
        except RegisterError as error:
            raise StorageUnreadable(f"{self.kkt}: its fiscal storage cannot be read: {error}") from error


def document_sources(settings: Settings, extra: Sequence[Path]) -> list[DocumentSource]:
    """Return the storages of the configured registers, as far as they were used, and those in the files `extra`.

    Errors: StorageUnreadable.
    """
    kkt_of_serial = {registration_of(kkt.id, shop=settings.bridge_id).kkt_serial: kkt.id for kkt in settings.kkt}
    found = [replace(storage_in(kkt.state, kkt_of_serial), kkt=kkt.id) for kkt in settings.kkt if _is_there(kkt.state)]
    kkt_of_serial |= {storage.registration.kkt_serial: storage.kkt for storage in found}
    own = [storage.path for storage in found]
    found += [
        storage_in(path, kkt_of_serial)
        for path in extra
        if not any(path.exists() and path.samefile(each) for each in own)
    ]
    numbers = [storage.fn_number for storage in found]
    if twice := {number for number in numbers if numbers.count(number) > 1}:
        raise StorageUnreadable(f"FN {min(twice)}: two of the files are of this storage: give only the true one")
    return list(found)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StorageUnreadable(f"{path}: cannot be read: {error.strerror}: run this as the bridge's user") from None

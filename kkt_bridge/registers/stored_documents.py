"""What a fiscal storage holds, read from its first document to its last, for an audit or a rebuild.

A storage is read as the port shows it (`StoredDocument`, `UnreadableDocument`). A virtual one is read beside whoever
has it open, also one that is in no register any more; a real one would be read through its driver, while no bridge
runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.registers.base import StoredDocument, UnreadableDocument
from kkt_bridge.registers.virtual.document import stored_document
from kkt_bridge.registers.virtual.fiscal_document import FiscalDocument, Registration, registration_of
from kkt_bridge.settings import Settings


class StorageUnreadable(KktBridgeError):
    """A fiscal storage cannot be read, or does not say which one it is; the message names it."""


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
        """All of it, in order; each call reads anew. Errors: StorageUnreadable."""
        ...


@dataclass(frozen=True, slots=True)
class VirtualStorage:
    """The file of a virtual fiscal storage."""

    path: Path
    kkt: str
    registration: Registration

    @property
    def fn_number(self) -> str:
        """See `DocumentSource.fn_number`."""
        return self.registration.fn_number

    def documents(self) -> Iterator[StoredDocument | UnreadableDocument]:
        """See `DocumentSource.documents`."""
        for number, line in enumerate(_lines(self.path), start=1):
            try:
                document = FiscalDocument.from_line(line)
                yield stored_document(self.kkt, self.registration, document, on_paper=True)
            except (ValueError, AssertionError, KeyError):
                yield UnreadableDocument(number, "its line holds no document")


def readers(settings: Settings, extra: Sequence[Path]) -> list[DocumentSource]:
    """The storages of the configured registers, as far as they were used, and the virtual ones in the files `extra`.

    Errors: StorageUnreadable.
    """
    found = [_virtual(kkt.state, kkt.id) for kkt in settings.kkt if _is_there(kkt.state)]
    serials = {registration_of(kkt.id, shop=settings.bridge_id).kkt_serial: kkt.id for kkt in settings.kkt}
    serials |= {storage.registration.kkt_serial: storage.kkt for storage in found}
    found += [_virtual(path, None, serials) for path in extra if not _is_among(path, settings)]
    numbers = [storage.fn_number for storage in found]
    if twice := {number for number in numbers if numbers.count(number) > 1}:
        raise StorageUnreadable(f"FN {min(twice)}: two of the files are of this storage: give only the true one")
    return list(found)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StorageUnreadable(f"{path}: cannot be read: {error.strerror}: run this as the bridge's user") from None


def _is_among(path: Path, settings: Settings) -> bool:
    return any(kkt.state.exists() and path.exists() and path.samefile(kkt.state) for kkt in settings.kkt)


def _virtual(path: Path, kkt: str | None, serials: dict[str, str] | None = None) -> VirtualStorage:
    try:
        registration = Registration.of(FiscalDocument.from_line(next(_lines(path))))
    except (StopIteration, ValueError):
        raise StorageUnreadable(f"{path}: does not begin with the registration of a virtual fiscal storage") from None
    name = kkt or (serials or {}).get(registration.kkt_serial) or registration.kkt_serial
    return VirtualStorage(path, name, registration)


def _lines(path: Path) -> Iterator[bytes]:
    """Every whole line; the last may be being written, or torn and never answered for."""
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line
    except OSError as error:
        raise StorageUnreadable(f"{path}: cannot be read: {error.strerror}") from None

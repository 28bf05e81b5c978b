"""All documents in the file of a virtual fiscal storage; also while a register has it open, or when it is in none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kkt_bridge.errors import StorageUnreadable
from kkt_bridge.registers.base import StoredDocument, UnreadableDocument
from kkt_bridge.registers.virtual.document import stored_document
from kkt_bridge.registers.virtual.fiscal_document import FiscalDocument, Registration


@dataclass(frozen=True, slots=True)
class VirtualStorage:
    """A `DocumentSource` of a file."""

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


def storage_in(path: Path, kkt_of_serial: Mapping[str, str]) -> VirtualStorage:
    """Return the storage in a file; its register is found by the serial number in its registration, or is called so.

    Errors: StorageUnreadable.
    """
    try:
        registration = Registration.of(FiscalDocument.from_line(next(_lines(path))))
    except (StopIteration, ValueError):
        raise StorageUnreadable(f"{path}: does not begin with the registration of a virtual fiscal storage") from None
    return VirtualStorage(path, kkt_of_serial.get(registration.kkt_serial, registration.kkt_serial), registration)


def _lines(path: Path) -> Iterator[bytes]:
    """Return every whole line; the last may be being written, or torn and never answered for."""
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line
    except OSError as error:
        raise StorageUnreadable(f"{path}: cannot be read: {error.strerror}") from None

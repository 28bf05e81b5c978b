"""Reading fiscal storages past their registers, also while those have them open."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.settings import Settings
from kkt_bridge.simulators.fiscal_document import FiscalDocument, Registration, registration_of
from kkt_bridge.verification.books import StorageBook, StoredDocument


class StorageUnreadable(KktBridgeError):
    """A fiscal storage cannot be read, or does not say which one it is; the message names its file."""


@dataclass(frozen=True, slots=True)
class StorageFile:
    """A virtual fiscal storage, whole: to make marks from, where that is needed."""

    kkt: str
    registration: Registration
    documents: Sequence[FiscalDocument]
    unreadable: Sequence[int]

    def book(self) -> StorageBook:
        """What there is to compare."""
        return StorageBook(
            kkt=self.kkt,
            fn_number=self.registration.fn_number,
            documents=[_stored(document) for document in self.documents],
            unreadable=self.unreadable,
        )


def read_storages(settings: Settings, extra: Sequence[Path]) -> list[StorageFile]:
    """The storages of the configured registers, as far as they were used, and those in `extra`.

    Errors: StorageUnreadable.
    """
    files = [_read(kkt.state, kkt.id) for kkt in settings.kkt if kkt.state.exists()]
    serials = {registration_of(kkt.id).kkt_serial: kkt.id for kkt in settings.kkt}
    serials |= {file.registration.kkt_serial: file.kkt for file in files}
    files += [_read(path, None, serials) for path in extra if not _is_among(path, settings)]
    numbers = [file.registration.fn_number for file in files]
    if twice := {number for number in numbers if numbers.count(number) > 1}:
        raise StorageUnreadable(f"FN {min(twice)}: two of the files are of this storage: give only the true one")
    return files


def _is_among(path: Path, settings: Settings) -> bool:
    return any(kkt.state.exists() and path.exists() and path.samefile(kkt.state) for kkt in settings.kkt)


def _read(path: Path, kkt: str | None, serials: dict[str, str] | None = None) -> StorageFile:
    documents: list[FiscalDocument] = []
    unreadable: list[int] = []
    for number, document in enumerate(_lines(path), start=1):
        if document is None:
            unreadable.append(number)
        else:
            documents.append(document)
    try:
        registration = Registration.of(documents[0])
    except (IndexError, ValueError):
        raise StorageUnreadable(f"{path}: does not begin with the registration of a virtual fiscal storage") from None
    return StorageFile(
        kkt=kkt or (serials or {}).get(registration.kkt_serial) or registration.kkt_serial,
        registration=registration,
        documents=documents,
        unreadable=unreadable,
    )


def _lines(path: Path) -> Iterator[FiscalDocument | None]:
    """Every whole line as the document that it holds; None where it holds none."""
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # else it is being written, or torn and never answered for
                    yield _parsed(line)
    except OSError as error:
        raise StorageUnreadable(f"{path}: cannot be read: {error.strerror}") from None


def _parsed(line: bytes) -> FiscalDocument | None:
    try:
        return FiscalDocument.from_line(line)
    except ValueError:
        return None


def _stored(document: FiscalDocument) -> StoredDocument:
    body = document.body
    return StoredDocument(
        document.fd_number, body.form, body.operation, body.total, body.requisite_1192, document.fiscal_sign
    )

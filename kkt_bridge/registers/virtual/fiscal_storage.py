"""A virtual fiscal storage (FN): numbers and signs documents, and keeps the shift."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from kkt_bridge.registers.virtual.fiscal_document import (
    CORRECTION,
    RECEIPT,
    REGISTRATION,
    SHIFT_CLOSE,
    SHIFT_OPEN,
    Body,
    FiscalDocument,
    Registration,
    fiscal_sign,
)
from kkt_bridge.registers.virtual.rules import Refusal
from kkt_bridge.registers.virtual.storage_file import DocumentFile, StorageDamaged

SHIFT_LIMIT: Final = timedelta(hours=24)
KEY_LIFE: Final = timedelta(days=410)
"""Of a 15-month fiscal storage. Nothing is refused after it: a simulator is to work in any year."""


@dataclass(frozen=True, slots=True)
class Shift:
    """The shift that is open, or the last that was; number 0 before the first."""

    number: int = 0
    opened_at: datetime | None = None
    """None while it is closed."""
    receipts: int = 0

    def is_over(self, now: datetime) -> bool:
        """Return whether it is open and has been for too long."""
        return self.opened_at is not None and now - self.opened_at >= SHIFT_LIMIT


class FiscalStorage:
    """The fiscal storage in one file. Every document is on its way to the disk before it is returned.

    What it cannot do it refuses with the FN's own error codes, and is as it was.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = DocumentFile(path)

    def open(self, registration: Registration, now: datetime) -> None:
        """Take the file; a new one begins with this registration, an old one keeps its own.

        Raises:
            StorageError: The file cannot be used.
            Refusal: A new file did not take the registration.
        """
        self._file.open()
        try:
            if len(self._file):
                self._recall()
            else:
                self._register(registration, now)
        except BaseException:
            self._file.close()
            raise

    def _recall(self) -> None:
        first = self._file.read(1)
        try:
            self.registration = Registration.of(first)
        except ValueError as error:
            raise StorageDamaged(f"{self._path}: line 1: {error}; move the file away") from None
        self.expires = (first.at + KEY_LIFE).date()
        self.last = self._file.read(len(self._file))
        self.shift = self._recall_shift()

    def _recall_shift(self) -> Shift:
        number, form = self.last.shift_number, self.last.body.form
        if form == SHIFT_CLOSE:
            return Shift(number, receipts=self.last.body.content["receipts"])
        if number == 0:
            return Shift()
        numbers = range(1, len(self._file) + 1)
        first = bisect_left(numbers, number, key=lambda fd_number: self._file.read(fd_number).shift_number)
        return Shift(number, self._file.read(numbers[first]).at, self.last.receipt_number or 0)

    def _register(self, registration: Registration, now: datetime) -> None:
        self.registration = registration
        self.expires = (now + KEY_LIFE).date()
        self.shift = Shift()
        content = {"note": "ТЕСТ", "registration": registration.as_json()}
        self._append(Body(REGISTRATION, "registration", content=content), now, Shift())
        self._file.sync()

    @property
    def last_fd_number(self) -> int:
        """The number of the last document."""
        return len(self._file)

    def read(self, fd_number: int) -> FiscalDocument | None:
        """A stored document, or None if there is none of this number."""
        if not 1 <= fd_number <= len(self._file):
            return None
        try:
            return self._file.read(fd_number)
        except (OSError, StorageDamaged) as error:
            raise Refusal(0x03, str(error)) from error

    def open_shift(self, content: Mapping[str, Any], now: datetime) -> FiscalDocument:
        """Begin the next shift [FF0B]."""
        if self.shift.opened_at is not None:
            raise Refusal(0x02, "a shift is open")
        at = _whole_minute(now)
        return self._append(Body(SHIFT_OPEN, "shift_open", content=content), at, Shift(self.shift.number + 1, at))

    def make_receipt(self, body: Body, now: datetime) -> FiscalDocument:
        """Make a receipt or a correction in the open shift [the FN's part of FF45]."""
        assert body.form in {RECEIPT, CORRECTION}
        shift = self.shift
        if shift.opened_at is None:
            raise Refusal(0x02, "no shift is open")
        if shift.is_over(now):
            raise Refusal(0x16)
        return self._append(body, now, Shift(shift.number, shift.opened_at, shift.receipts + 1))

    def close_shift(self, content: Mapping[str, Any], now: datetime) -> FiscalDocument:
        """End the shift, however long it was [FF43]."""
        if self.shift.opened_at is None:
            raise Refusal(0x02, "no shift is open")
        shift = Shift(self.shift.number, receipts=self.shift.receipts)
        body = Body(SHIFT_CLOSE, "shift_close", content={**content, "receipts": shift.receipts})
        document = self._append(body, now, shift)
        self._file.sync()
        return document

    def _append(self, body: Body, now: datetime, shift: Shift) -> FiscalDocument:
        at, fd_number = _whole_minute(now), len(self._file) + 1
        if fd_number > 1 and at < self.last.at:
            raise Refusal(0x07, f"{at.isoformat()} is before the last document")
        document = FiscalDocument(
            fd_number=fd_number,
            body=body,
            at=at,
            shift_number=shift.number,
            receipt_number=shift.receipts if body.form in {RECEIPT, CORRECTION} else None,
            fiscal_sign=fiscal_sign(self.registration.fn_number, fd_number, body, at),
        )
        try:
            self._file.append(document)
        except OSError as error:
            raise Refusal(0x03, str(error)) from error
        self.last = document
        self.shift = shift
        return document

    def close(self) -> None:
        """Hand everything to the disk, and let another process have the file."""
        self._file.close()


def _whole_minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0)

"""A fiscal document as the virtual fiscal storage keeps it, and the registration it belongs to.

The signs are of a test kind, an HMAC with a public key: they have no legal meaning, which is why every
FN number here starts with 9999, the range of test storages.
"""

import binascii
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, Literal, Self

from pydantic_core import to_json

from kkt_bridge.receipts.ffd_codes import OPERATION_CODES, Operation, ReceiptType

REGISTRATION: Final = 1
SHIFT_OPEN: Final = 2
RECEIPT: Final = 3
SHIFT_CLOSE: Final = 5
CORRECTION: Final = 31
"""The FFD's form codes."""

TEST_FN_PREFIX: Final = "9999"
TEST_KEY: Final = b"TEST-FN-EMULATOR-KEY"
TEST_INN: Final = "9900000017"
"""Of a user that does not exist; its check digit is right."""

DocumentType = Literal["registration", "shift_open", "shift_close"] | ReceiptType


@dataclass(frozen=True, slots=True)
class Body:
    """The content of a document, as a register gives it to its fiscal storage."""

    form: int
    type: DocumentType
    operation: Operation | None = None
    total: int | None = None
    """Kopecks; None where the form has none."""
    requisite_1192: str | None = None
    content: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the form holds, as JSON."""


@dataclass(frozen=True, slots=True)
class FiscalDocument:
    """A document with its number and sign: one line of the file."""

    fd_number: int
    body: Body
    at: datetime
    """With an offset; whole minutes, as fiscal storages keep it."""
    shift_number: int
    receipt_number: int | None
    """Of a receipt within its shift, from 1."""
    fiscal_sign: str

    def to_line(self) -> bytes:
        """The document as a line of UTF-8 JSON, line feed included."""
        values = {
            "fd_number": self.fd_number,
            "form": self.body.form,
            "type": self.body.type,
            "operation": self.body.operation,
            "total": self.body.total,
            "datetime": self.at.isoformat(timespec="seconds"),
            "shift_number": self.shift_number,
            "receipt_number": self.receipt_number,
            "fiscal_sign": self.fiscal_sign,
            "requisite_1192": self.body.requisite_1192,
            "content": self.body.content,
        }
        return to_json(values) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """The document in a line; ValueError if it holds none."""
        try:
            values = json.loads(line)
            return cls(
                fd_number=values["fd_number"],
                body=Body(
                    form=values["form"],
                    type=values["type"],
                    operation=values["operation"],
                    total=values["total"],
                    requisite_1192=values["requisite_1192"],
                    content=values["content"],
                ),
                at=datetime.fromisoformat(values["datetime"]),
                shift_number=values["shift_number"],
                receipt_number=values["receipt_number"],
                fiscal_sign=values["fiscal_sign"],
            )
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"no fiscal document: {error!r}") from None


@dataclass(frozen=True, slots=True)
class Registration:
    """The owner of a fiscal storage, as document 1 holds it (FFD tags 1041, 1013, 1037, 1018)."""

    fn_number: str
    kkt_serial: str
    registration_number: str
    inn: str

    def __post_init__(self) -> None:
        if not (self.fn_number.startswith(TEST_FN_PREFIX) and len(self.fn_number) == 16 and self.fn_number.isdecimal()):
            raise ValueError(f"not a test FN number: {self.fn_number!r}; expected 16 digits that start with 9999")

    @classmethod
    def of(cls, document: FiscalDocument) -> Self:
        """The registration in a document 1; ValueError if it holds none."""
        try:
            return cls(**document.body.content["registration"])
        except (LookupError, TypeError) as error:
            raise ValueError(f"no registration: {error!r}") from None

    def as_json(self) -> dict[str, str]:
        """The registration as document 1 holds it."""
        return {name: getattr(self, name) for name in self.__slots__}


def registration_of(kkt_id: str, fn_number: str | None = None, *, shop: str = "") -> Registration:
    """The registration of the virtual register with this id in this shop: always the same one, another for any other.

    `shop` is the bridge's id: a `kkt-1` stands in every shop, and no two registers have the same fiscal storage.
    """
    name = f"{shop}/{kkt_id}" if shop else kkt_id
    digest = int.from_bytes(blake2b(name.encode(), digest_size=16).digest())
    serial = f"{digest % 10**10:016d}"
    record = f"{digest % 10**7:010d}"
    return Registration(
        fn_number=fn_number or f"{TEST_FN_PREFIX}{digest % 10**12:012d}",
        kkt_serial=serial,
        registration_number=record + registration_check(record, TEST_INN, serial),
        inn=TEST_INN,
    )


def registration_check(record: str, inn: str, kkt_serial: str) -> str:
    """The six check digits of a registration number: CRC-16/CCITT-FALSE over the padded record, INN and serial."""
    padded = f"{record:0>10}{inn:0>12}{kkt_serial:0>20}".encode("ascii")
    return f"{binascii.crc_hqx(padded, 0xFFFF):06d}"


_KEYED: Final = hmac.new(TEST_KEY, digestmod="sha256")


def fiscal_sign(fn_number: str, fd_number: int, body: Body, at: datetime) -> str:
    """The printed fiscal sign of a document (FFD tag 1077): ten digits, of the test kind."""
    operation = OPERATION_CODES[body.operation] if body.operation else 0
    signed = f"{fn_number}|{fd_number}|{body.form}|{at:%Y%m%d%H%M}|{operation}|{body.total or 0}"
    code = _KEYED.copy()
    code.update(signed.encode("ascii"))
    return f"{int.from_bytes(code.digest()[:4]):010d}"

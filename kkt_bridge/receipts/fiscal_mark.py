"""The fiscal mark of a receipt: the numbers and signs that a register gives a document; the text of the QR code."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kkt_bridge.receipts.amounts import Kopecks, format_kopecks
from kkt_bridge.receipts.ffd_codes import OPERATION_CODES, Operation, ReceiptType

MoneyText = Annotated[str, Field(pattern=r"^[0-9]{1,8}\.[0-9]{2}$")]
"""Roubles as the bridge writes them: always two decimals."""


class FiscalMark(BaseModel):
    """The fiscal document of a receipt, as printed and as answered to the POS."""

    model_config = ConfigDict(frozen=True)

    kkt: str
    kkt_serial: str
    registration_number: str
    fn_number: Annotated[str, Field(pattern=r"^[0-9]{16}$")]
    fd_number: Annotated[int, Field(ge=1)]
    fiscal_sign: Annotated[str, Field(pattern=r"^[0-9]{1,10}$")]
    datetime: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """The register's own clock, RFC 3339 with the shop's offset."""
    shift_number: int
    receipt_number: int
    """The receipt's number within the shift, from 1."""
    type: ReceiptType
    total: MoneyText
    change: MoneyText
    qr: str


def qr_text(
    *, datetime: str, total: Kopecks, fn_number: str, fd_number: int, fiscal_sign: str, operation: Operation
) -> str:
    """Return the text of the QR code (FFD tag 1196); `datetime` is RFC 3339."""
    minute = datetime[:16].replace("-", "").replace(":", "")
    return (
        f"t={minute}&s={format_kopecks(total)}&fn={fn_number}&i={fd_number}"
        f"&fp={fiscal_sign}&n={OPERATION_CODES[operation]}"
    )
